//! `run`

use std::io::BufRead;
use std::io::BufReader;
use std::process::Child;
use std::process::Command;

use crate::database::Database;
use crate::program::ID;
use crate::program::finish;
use crate::program::program;
use crate::program::run;
use crate::program::signal;
use crate::program::start;
use crate::sim::sim;

const KEY: &str = "fth_test_sekret";

/// The daemon on this database and API, without an admin listener.
pub(crate) fn daemon(url: &str, base_url: &str, arguments: &[&str]) -> Command {
    let mut command = program(&[&["run"], arguments].concat());
    command.env("DATABASE_URL", url);
    command.env("FEATHER_BASE_URL", base_url);
    command.env("FEATHER_API_KEY", KEY);
    command.env("FEATHER_SYNC__ADMIN__LISTEN", "off");
    command
}

/// Where nothing listens, for what never gets so far.
pub(crate) const NOWHERE: &str = "http://127.0.0.1:1";

fn stop(child: Child) {
    signal(&child, "TERM");
    finish(child).done();
}

#[test]
fn until_empty_syncs_all_that_was_enqueued_and_ends() {
    let db = Database::migrated();
    let (sim, address) = sim(&["--tools", "3"]);
    let other = "11111111-2222-3333-4444-555555555555";
    db.feather_sync(&["enqueue", ID, other]).done();
    let mut command = daemon(
        &db.url(),
        &format!("http://{address}"),
        &["--until-empty", "--timeout", "60s"],
    );
    let outcome = run(&mut command);
    assert!(!outcome.err.contains(KEY), "{outcome:?}");
    assert_eq!(outcome.done(), "");
    stop(sim);
    assert_eq!(
        db.value("SELECT count(*) FROM feather.connections WHERE _finalized_at IS NOT NULL"),
        "2"
    );
    assert_eq!(db.value("SELECT count(*) FROM feather.tools"), "6");
    let page = db.feather_sync(&["show", ID]).done();
    assert!(
        page.contains("idle") && page.contains("Tools: 3") && page.contains("synced"),
        "{page}"
    );
}

#[test]
fn an_empty_queue_needs_no_api() {
    let db = Database::migrated();
    run(&mut daemon(
        &db.url(),
        NOWHERE,
        &["--until-empty", "--timeout", "60s"],
    ))
    .done();
}

#[test]
fn what_is_left_at_the_timeout_is_named() {
    let db = Database::migrated();
    db.feather_sync(&["enqueue", ID, "--at", "+1h"]).done();
    let error = run(&mut daemon(
        &db.url(),
        NOWHERE,
        &["--until-empty", "--timeout", "1s"],
    ))
    .failed(1);
    let last = error.lines().last().unwrap();
    assert!(
        last.contains("cannot go on") && last.contains("1s") && last.contains("1 job(s) waiting"),
        "{error}"
    );
}

#[test]
fn work_of_paused_accounts_alone_ends_it_too() {
    let db = Database::migrated();
    db.feather_sync(&["enqueue", ID]).done();
    db.feather_sync(&["pause", "default"]).done();
    let error = run(&mut daemon(
        &db.url(),
        NOWHERE,
        &["--until-empty", "--timeout", "60s"],
    ))
    .failed(1);
    assert!(error.contains("feather-sync resume"), "{error}");
}

#[test]
fn what_waiting_cannot_cure_ends_it_and_says_what_to_do() {
    let empty = Database::empty();
    let nowhere = empty.url().replace(empty.name(), "nowhere");
    for (url, what) in [
        (empty.url(), "feather-sync migrate"),
        (nowhere, "create it"),
        (empty.url_as("nobody_here"), "check the user"),
    ] {
        let error = run(&mut daemon(&url, NOWHERE, &[])).failed(1);
        assert!(error.contains(what), "{url}: {error}");
    }
    let db = Database::migrated();
    let error = run(daemon(&db.url(), NOWHERE, &[]).env_remove("FEATHER_BASE_URL")).failed(78);
    assert!(error.contains("FEATHER_BASE_URL"), "{error}");
    let error = run(&mut daemon(&db.url(), "http://api.example.com", &[])).failed(78);
    assert!(error.contains("https"), "{error}");
}

#[test]
fn a_database_that_is_not_there_is_waited_for_until_a_signal() {
    let url = "postgres://app:sekret@127.0.0.1:1/app";
    let mut child = start(&mut daemon(url, NOWHERE, &[]));
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = log
        .by_ref()
        .map(Result::unwrap)
        .find(|line| line.contains("database"))
        .expect("a line that says why it waits");
    assert!(!line.contains("sekret"), "{line}");
    stop(child);
}
