//! `retry`, `cancel`, `forget`, `pause` and `resume`, by what they leave in the database.

use crate::database::Database;
use crate::program::ID;

const OTHER: &str = "11111111-2222-3333-4444-555555555555";

fn dead_job(db: &Database, id: &str, account: &str, class: &str) {
    db.run(&format!(
        "INSERT INTO feather.sync_jobs (connection_id, account, state, priority, run_at, wanted_at, attempt, error_class)
         VALUES ('{id}', '{account}', 'dead', 0, now() - interval '1 day', now() - interval '1 day', 20, '{class}')"
    ));
}

fn waiting_job(db: &Database, id: &str, not_before: &str) {
    db.run(&format!(
        "INSERT INTO feather.sync_jobs (connection_id, account, priority, run_at, not_before, wanted_at, attempt)
         VALUES ('{id}', 'default', 0, now() + interval '1 hour', {not_before}, now(), 3)"
    ));
}

fn job(db: &Database, id: &str) -> Vec<Vec<String>> {
    db.rows(&format!(
        "SELECT state, attempt, run_at <= now() FROM feather.sync_jobs WHERE connection_id = '{id}'"
    ))
}

/// Who did what to what.
fn audit(db: &Database) -> Vec<Vec<String>> {
    db.rows("SELECT action, account, connection_id, actor LIKE '_%@_%' FROM feather.sync_audit ORDER BY action, connection_id")
}

#[test]
fn a_dead_job_starts_afresh_on_record() {
    let db = Database::migrated();
    dead_job(&db, ID, "default", "upstream");
    assert_eq!(db.feather_sync(&["retry", ID]).done(), "made 1 job due\n");
    assert_eq!(job(&db, ID), [["pending", "0", "t"]]);
    assert_eq!(audit(&db), [["retry", "default", ID, "t"]]);
}

#[test]
fn a_waiting_job_is_brought_forward_but_not_before_the_servers_delay() {
    let db = Database::migrated();
    waiting_job(&db, ID, "NULL");
    waiting_job(&db, OTHER, "now() + interval '30 minutes'");
    db.feather_sync(&["retry", ID, OTHER]).done();
    assert_eq!(job(&db, ID), [["pending", "3", "t"]]);
    let delayed = format!(
        "SELECT run_at = not_before, attempt FROM feather.sync_jobs WHERE connection_id = '{OTHER}'"
    );
    assert_eq!(db.rows(&delayed), [["t", "3"]]);
}

#[test]
fn all_dead_jobs_are_revived_by_account_and_class() {
    let db = Database::migrated();
    let ids: Vec<String> = (0..4)
        .map(|n| format!("00000000-0000-4000-8000-{n:012}"))
        .collect();
    dead_job(&db, &ids[0], "default", "upstream");
    dead_job(&db, &ids[1], "default", "not_found");
    dead_job(&db, &ids[2], "acme", "upstream");
    dead_job(&db, &ids[3], "acme", "not_found");
    let retry = |more: &[&str]| {
        db.feather_sync(&[&["retry", "--dead"], more].concat())
            .done()
    };
    assert_eq!(
        retry(&["--class", "upstream", "--account", "acme"]),
        "revived 1 dead job\n"
    );
    assert_eq!(job(&db, &ids[2]), [["pending", "0", "t"]]);
    assert_eq!(retry(&["--class", "not_found"]), "revived 2 dead jobs\n");
    assert_eq!(retry(&[]), "revived 1 dead job\n");
    assert_eq!(retry(&[]), "revived 0 dead jobs\n");
}

#[test]
fn thousands_of_dead_jobs_are_revived_in_portions() {
    let db = Database::migrated();
    db.run(
        "INSERT INTO feather.sync_jobs (connection_id, account, state, priority, run_at, wanted_at, attempt, error_class)
         SELECT gen_random_uuid(), 'default', 'dead', 0, now(), now(), 20, 'upstream' FROM generate_series(1, 10001)",
    );
    let outcome = db.feather_sync(&["retry", "--dead"]);
    assert!(
        outcome.err.contains("revived 5000\n") && outcome.err.contains("revived 10000\n"),
        "{outcome:?}"
    );
    assert_eq!(outcome.done(), "revived 10001 dead jobs\n");
    assert_eq!(
        db.value("SELECT count(*) FROM feather.sync_jobs WHERE state = 'dead'"),
        "0"
    );
}

#[test]
fn ids_that_are_not_in_the_queue_are_named_and_fail_the_command_only_together() {
    let db = Database::migrated();
    waiting_job(&db, ID, "NULL");
    for action in ["retry", "cancel"] {
        let outcome = db.feather_sync(&[action, ID, OTHER]);
        assert!(
            outcome.err.contains(OTHER) && !outcome.err.contains(ID),
            "{outcome:?}"
        );
        outcome.done();
        let error = db.feather_sync(&[action, OTHER, OTHER]).failed(1);
        assert_eq!(error.matches(OTHER).count(), 1, "{error}");
    }
    let error = db.feather_sync(&["forget", "--yes", OTHER]).failed(1);
    assert!(error.contains(OTHER), "{error}");
}

#[test]
fn a_cancelled_sync_is_gone_from_the_queue_and_on_record() {
    let db = Database::migrated();
    waiting_job(&db, ID, "NULL");
    db.feather_sync(&["enqueue", ID, OTHER]).done();
    assert_eq!(
        db.feather_sync(&["cancel", ID, OTHER]).done(),
        "cancelled 2 syncs\n"
    );
    assert_eq!(db.value("SELECT count(*) FROM feather.sync_jobs"), "0");
    assert_eq!(db.value("SELECT count(*) FROM feather.sync_requests"), "0");
    let history = db.rows("SELECT connection_id, outcome, error LIKE 'cancelled by _%@_%' FROM feather.sync_attempts ORDER BY 1");
    assert_eq!(history, [[OTHER, "cancelled", "t"], [ID, "cancelled", "t"]]);
    assert_eq!(
        audit(&db),
        [
            ["cancel", "default", OTHER, "t"],
            ["cancel", "default", ID, "t"]
        ]
    );
}

#[test]
fn a_forgotten_connection_is_nowhere_but_on_the_record_of_forgetting() {
    let db = Database::migrated();
    waiting_job(&db, ID, "NULL");
    db.feather_sync(&["cancel", ID]).done();
    db.feather_sync(&["enqueue", ID]).done();
    let error = db.feather_sync(&["forget", ID]).failed(2);
    assert!(error.contains("--yes"), "{error}");
    assert_eq!(db.value("SELECT count(*) FROM feather.sync_requests"), "1");

    assert_eq!(
        db.feather_sync(&["forget", "--yes", ID]).done(),
        "forgot 1 connection\n"
    );
    for table in [
        "sync_requests",
        "sync_jobs",
        "sync_attempts",
        "sync_results",
        "sync_status",
    ] {
        assert_eq!(
            db.value(&format!("SELECT count(*) FROM feather.{table}")),
            "0",
            "{table}"
        );
    }
    assert_eq!(audit(&db).last().unwrap()[0], "forget");
    db.feather_sync(&["show", ID]).failed(1);
}

#[test]
fn a_paused_account_stays_paused_until_it_is_resumed() {
    let db = Database::migrated();
    db.run("UPDATE feather.sync_accounts SET requests_per_minute = 60, configured_at = now()");
    let paused = db.feather_sync(&["pause", "default"]);
    assert_eq!(paused.err, "");
    assert_eq!(
        paused.done(),
        "paused default until `feather-sync resume default`\n"
    );
    assert_eq!(
        db.feather_sync(&["pause", "default"]).done(),
        "default was paused already\n"
    );
    assert_eq!(
        db.value("SELECT paused_reason FROM feather.sync_health"),
        "operator"
    );
    let page = db.feather_sync(&["status"]).done();
    assert!(
        page.contains("paused by ") && page.contains("`feather-sync resume`"),
        "{page}"
    );

    assert_eq!(
        db.feather_sync(&["resume", "default"]).done(),
        "resumed default\n"
    );
    assert_eq!(
        db.feather_sync(&["resume", "default"]).done(),
        "default was not paused\n"
    );
    assert_eq!(
        db.value("SELECT paused_reason FROM feather.sync_health"),
        ""
    );
    assert_eq!(
        audit(&db),
        [
            ["pause", "default", "", "t"],
            ["resume", "default", "", "t"]
        ]
    );
}

#[test]
fn a_mistyped_account_is_noticed() {
    let db = Database::migrated();
    let error = db.feather_sync(&["resume", "deafult"]).failed(1);
    assert!(
        error.contains("deafult") && error.contains("known are: default"),
        "{error}"
    );
    let paused = db.feather_sync(&["pause", "deafult"]);
    assert!(
        paused.err.contains("no daemon has been configured"),
        "{paused:?}"
    );
    paused.done();
}
