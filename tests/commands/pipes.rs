//! Readers that go away, and disks that are full.

use std::fs::OpenOptions;
use std::process::Stdio;

use crate::database::Database;
use crate::program::ID;
use crate::program::finish;
use crate::program::program;

/// A pipe that nobody reads any more.
fn closed_pipe() -> Stdio {
    let (_, writer) = std::io::pipe().unwrap();
    writer.into()
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let db = Database::migrated();
    for arguments in [
        &["config", "default"][..],
        &["completions", "bash"],
        &["man"],
        &["status"],
        &["status", "--json"],
        &["status", "--watch", "--json"],
        &["enqueue", ID],
        &["show", ID],
        &["--help"],
        &["status", "--help"],
        &["--version"],
    ] {
        let child = db
            .program(arguments)
            .stdout(closed_pipe())
            .stderr(Stdio::piped())
            .spawn();
        let outcome = finish(child.unwrap());
        assert_eq!(
            (outcome.code, outcome.err.as_str()),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
    assert_eq!(db.value("SELECT count(*) FROM feather.sync_requests"), "1");
}

#[test]
fn an_error_that_nobody_reads_is_still_an_exit_code() {
    let child = program(&["status"])
        .stderr(closed_pipe())
        .stdout(Stdio::piped())
        .spawn();
    assert_eq!(finish(child.unwrap()).code, Some(78));
}

#[test]
fn a_full_disk_is_a_failure() {
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
        return;
    };
    let child = program(&["config", "default"])
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn();
    let error = finish(child.unwrap()).failed(1);
    assert!(error.contains("cannot write to standard output"), "{error}");
}
