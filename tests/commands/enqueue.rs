//! `enqueue`

use std::fmt::Write;

use crate::database::Database;
use crate::program::ID;
use crate::program::run_with_input;

#[test]
fn ids_on_the_command_line_become_requests() {
    let db = Database::migrated();
    let other = "11111111-2222-3333-4444-555555555555";
    let out = db
        .feather_sync(&[
            "enqueue",
            ID,
            other,
            "--priority",
            "-5",
            "--at",
            "2030-01-31T08:00:00+02:00",
        ])
        .done();
    assert_eq!(out, "enqueued 2 requests\n");
    let rows = db.rows(
        "SELECT connection_id, account, priority, run_at = '2030-01-31T06:00:00Z' FROM feather.sync_requests ORDER BY 1",
    );
    assert_eq!(
        rows,
        [[other, "default", "-5", "t"], [ID, "default", "-5", "t"]]
    );
}

#[test]
fn a_delay_counts_from_now() {
    let db = Database::migrated();
    assert_eq!(
        db.feather_sync(&["enqueue", ID, "--at", "+10m"]).done(),
        "enqueued 1 request\n"
    );
    let minutes =
        "SELECT run_at BETWEEN now() + interval '8 minutes' AND now() + interval '11 minutes'
                   FROM feather.sync_requests";
    assert_eq!(db.value(minutes), "t");
}

#[test]
fn a_file_and_ids_go_together() {
    let db = Database::migrated();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ids.txt");
    std::fs::write(
        &file,
        format!("# ours\n\n  {}\r\n{ID}\n", ID.to_uppercase()),
    )
    .unwrap();
    let out = db
        .feather_sync(&["enqueue", ID, "--file", file.to_str().unwrap()])
        .done();
    assert_eq!(out, "enqueued 3 requests\n");
    assert_eq!(
        db.value("SELECT count(DISTINCT connection_id) FROM feather.sync_requests"),
        "1"
    );
}

#[test]
fn a_bad_line_is_named_and_nothing_is_enqueued() {
    let db = Database::migrated();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ids.txt");
    std::fs::write(&file, format!("{ID}\n\n{ID},active\n")).unwrap();
    let path = file.to_str().unwrap();
    let error = db.feather_sync(&["enqueue", ID, "--file", path]).failed(1);
    assert!(
        error.contains(&format!("{path}:3:")) && error.contains("nothing was enqueued"),
        "{error}"
    );

    let input = format!("{ID}\n\u{1b}[31mnonsense\n");
    let error = run_with_input(&mut db.program(&["enqueue", "--file", "-"]), &input).failed(1);
    assert!(
        error.contains("standard input:2:") && !error.contains('\u{1b}'),
        "{error}"
    );
    assert_eq!(db.value("SELECT count(*) FROM feather.sync_requests"), "0");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let db = Database::migrated();
    let error = db
        .feather_sync(&["enqueue", "--file", "/nowhere/ids.txt"])
        .failed(1);
    assert!(error.contains("/nowhere/ids.txt"), "{error}");
}

#[test]
fn many_ids_come_in_through_a_pipe() {
    let db = Database::migrated();
    let mut input = String::new();
    for number in 0..25_000_u32 {
        writeln!(input, "00000000-0000-4000-8000-{number:012}").unwrap();
    }
    let out = run_with_input(&mut db.program(&["enqueue", "--file", "-"]), &input).done();
    assert_eq!(out, "enqueued 25000 requests\n");
    assert_eq!(
        db.value("SELECT count(DISTINCT connection_id) FROM feather.sync_requests"),
        "25000"
    );
}

#[test]
fn more_ids_than_one_transaction_takes_are_reported_on_the_way() {
    let db = Database::migrated();
    let mut input = String::new();
    for number in 0..100_001_u32 {
        writeln!(input, "00000000-0000-4000-8000-{number:012}").unwrap();
    }
    let outcome = run_with_input(&mut db.program(&["enqueue", "--file", "-"]), &input);
    assert!(
        outcome.err.contains("enqueued 100000 of 100001"),
        "{outcome:?}"
    );
    assert_eq!(outcome.done(), "enqueued 100001 requests\n");
    assert_eq!(
        db.value("SELECT count(*) FROM feather.sync_requests"),
        "100001"
    );
}

#[test]
fn no_ids_at_all_are_no_failure() {
    let db = Database::migrated();
    let out = run_with_input(
        &mut db.program(&["enqueue", "--file", "-"]),
        "# none today\n",
    )
    .done();
    assert_eq!(out, "enqueued 0 requests\n");
}

#[test]
fn an_account_that_no_daemon_knows_is_remarked_upon() {
    let db = Database::migrated();
    let outcome = db.feather_sync(&["enqueue", ID, "--account", "deafult"]);
    assert!(outcome.err.contains("deafult"), "{outcome:?}");
    assert_eq!(outcome.done(), "enqueued 1 request\n");
    assert_eq!(
        db.value("SELECT account FROM feather.sync_requests"),
        "deafult"
    );
    let outcome = db.feather_sync(&["enqueue", ID]);
    assert_eq!(outcome.err, "");
    outcome.done();
}
