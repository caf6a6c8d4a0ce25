//! `status`

use std::io::BufRead;
use std::io::BufReader;

use feather_sync::local_postgres::LocalPostgres;
use feather_sync::local_postgres::Options;
use feather_sync::local_postgres::Shutdown;
use serde_json::Value;
use serde_json::json;

use crate::database::Database;
use crate::program::ID;
use crate::program::finish;
use crate::program::program;
use crate::program::run;
use crate::program::signal;
use crate::program::start;

#[track_caller]
fn look(db: &Database) -> Value {
    serde_json::from_str(&db.feather_sync(&["status", "--json"]).done()).unwrap()
}

/// A daemon that serves `default`, 600 calls a minute, and gave a sign of life just now.
fn with_a_daemon() -> Database {
    let db = Database::migrated();
    db.run(
        "INSERT INTO feather.sync_replicas (worker, version, accounts) VALUES ('w', '1.2.3', '{default}');
         UPDATE feather.sync_accounts SET requests_per_minute = 600, configured_at = now()",
    );
    db
}

#[test]
fn status_of_a_fresh_schema_shows_the_default_account() {
    let db = Database::migrated();
    let page = db.feather_sync(&["status"]).done();
    for part in [
        "No daemon is running, and nothing is synced: start one",
        "Queue",
        "default",
        "Due for longest\n nothing is due",
        "Accounts",
        "Daemons\n none is running",
        "Errors of the last hour\n none",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let status = look(&db);
    assert_eq!(status["health"][0]["account"], "default");
    assert_eq!(status["health"][0]["pending"], 0);
    assert_eq!(status["accounts"][0]["account"], "default");
    for none in ["replicas", "errors_last_hour", "oldest_due"] {
        assert_eq!(status[none], Value::Array(vec![]), "{none}");
    }
    assert_eq!(status["oldest_request"], Value::Null);
    assert_eq!(status["accounts"][0]["rate_used_ratio"], Value::Null);
}

#[test]
fn status_counts_jobs_and_errors_and_names_accounts_that_nobody_serves() {
    let db = Database::migrated();
    db.run(
        "INSERT INTO feather.sync_throughput (account, minute, worker, synced, failed, failed_by_class)
         VALUES ('default', date_trunc('minute', now()), 'w', 0, 1, '{\"invalid_request\": 1}'),
                ('default', now() - interval '2 hours', 'w', 0, 1, '{\"invalid_request\": 1}');
         INSERT INTO feather.sync_jobs (connection_id, account, state, priority, run_at, wanted_at, attempt, error_class)
         VALUES (gen_random_uuid(), 'default', 'dead', 3, now(), now(), 1, 'invalid_request');
         SELECT feather.enqueue(gen_random_uuid(), 'acme')",
    );
    let status = look(&db);
    let health = |account: &str| {
        let rows = status["health"].as_array().unwrap();
        rows.iter()
            .find(|row| row["account"] == account)
            .unwrap()
            .clone()
    };
    assert_eq!(health("default")["dead"], 1);
    assert_eq!(health("acme")["requests_waiting"], 1);
    assert_eq!(health("acme")["paused_reason"], "unknown_account");
    assert_eq!(
        status["errors_last_hour"][0]["error_class"],
        "invalid_request"
    );
    assert_eq!(status["errors_last_hour"][0]["failures"], 1);
    let page = db.feather_sync(&["status"]).done();
    assert!(
        page.contains("a daemon that has this account in its configuration"),
        "{page}"
    );
    assert!(page.contains("invalid_request"), "{page}");
}

#[test]
fn watching_as_json_prints_a_line_per_look_until_it_is_told_to_stop() {
    let db = Database::migrated();
    let mut child = start(&mut db.program(&["status", "--watch", "--json"]));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let look: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert!(look["health"].is_array());
    }
    signal(&child, "INT");
    let outcome = finish(child);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
}

#[test]
fn watching_goes_on_through_a_restart_of_the_database() {
    let postgres = LocalPostgres::start(Options::default()).unwrap();
    let url = postgres.url("postgres");
    run(program(&["migrate"]).env("DATABASE_URL", &url)).done();
    let mut child = start(program(&["status", "--watch", "--json"]).env("DATABASE_URL", &url));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut remarks = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    postgres.shut_down(Shutdown::Immediate);
    let remark = remarks.next().unwrap().unwrap();
    assert!(remark.contains("trying again"), "{remark}");
    postgres.start_again().unwrap();
    let look: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(look["health"][0]["account"], "default");
    signal(&child, "TERM");
    assert_eq!(finish(child).code, Some(0));
}

#[test]
fn status_says_on_top_that_all_is_well_and_of_a_pause_how_to_end_it() {
    let db = with_a_daemon();
    let page = db.feather_sync(&["status"]).done();
    assert!(
        page.starts_with("All is well: 1 daemon at work, 0 jobs due.\n\nQueue"),
        "{page}"
    );
    assert_eq!(look(&db)["concerns"], json!([]));
    db.feather_sync(&["pause", "default"]).done();
    let page = db.feather_sync(&["status"]).done();
    let first = page.lines().next().unwrap();
    assert!(
        first.starts_with("Account default has been paused by ")
            && first.ends_with("`feather-sync resume default` lets its work go on."),
        "{page}"
    );
    let status = look(&db);
    assert_eq!(status["summary"], first);
    assert_eq!(status["concerns"][0]["account"], "default");
    db.feather_sync(&["resume", "default"]).done();
    assert_eq!(look(&db)["concerns"], json!([]));
}

#[test]
fn the_rate_in_use_counts_the_calls_of_all_replicas_that_began_within_a_minute() {
    let db = with_a_daemon();
    // Within the minute: one that ended, one that ended deferred, one that runs, one cancelled while it ran.
    db.run(
        "INSERT INTO feather.sync_attempts (account, connection_id, kind, attempt, worker, started_at, finished_at, outcome)
         SELECT 'default', gen_random_uuid(), 'finalize', 1, worker, now() - began, now() - ended, outcome
         FROM (VALUES ('a', interval '50 s', interval '49 s', 'synced'), ('b', '40 s', '1 s', 'deferred'),
                      ('c', '30 s', '20 s', 'cancelled'), ('d', '20 s', '20 s', 'cancelled'),
                      ('a', '61 s', '1 s', 'synced'), ('b', '2 hours', '2 hours', 'retry'))
              AS attempts (worker, began, ended, outcome);
         INSERT INTO feather.sync_jobs (connection_id, account, state, priority, run_at, wanted_at, attempt, worker,
             lease_token, lease_until, started_at)
         SELECT gen_random_uuid(), 'default', 'running', 0, now(), now(), 1, 'b', gen_random_uuid(),
                now() + interval '90 s' - began, now() - began
         FROM (VALUES (interval '5 s'), ('70 s')) AS running (began);
         INSERT INTO feather.sync_accounts (account) VALUES ('idle')",
    );
    let accounts = look(&db)["accounts"].clone();
    assert_eq!(accounts[0]["account"], "default");
    assert_eq!(accounts[0]["requests_per_minute"], 600);
    assert_eq!(accounts[0]["calls_last_minute"], 4);
    assert_eq!(accounts[0]["rate_used_ratio"], 4.0 / 600.0);
    assert_eq!(accounts[1]["calls_last_minute"], 0);
}

#[test]
fn the_job_that_is_due_for_longest_is_found_in_whatever_lane_it_is() {
    let db = with_a_daemon();
    // The oldest of `default` settles, with the larger priority; nothing of `later` is due.
    db.run(&format!(
        "INSERT INTO feather.sync_jobs (connection_id, account, state, phase, priority, run_at, wanted_at, attempt,
             settle_deadline, finalize_started_at, error_class)
         SELECT id, account, CASE WHEN dead THEN 'dead' ELSE 'pending' END, phase, priority, now() + due, now(), 3,
                CASE WHEN phase = 'settle' THEN now() END, CASE WHEN phase = 'settle' THEN now() END,
                CASE WHEN dead THEN 'upstream' END
         FROM (VALUES (gen_random_uuid(), 'default', 'finalize', 0, interval '-10 min', false),
                      ('{ID}', 'default', 'settle', 5, '-20 min', false),
                      (gen_random_uuid(), 'default', 'settle', 5, '-19 min', false),
                      (gen_random_uuid(), 'default', 'settle', 0, '5 min', false),
                      (gen_random_uuid(), 'default', 'finalize', 0, '-3 hours', true),
                      (gen_random_uuid(), 'later', 'finalize', 0, '1 hour', false),
                      (gen_random_uuid(), 'other', 'finalize', -3, '-30 s', false))
              AS jobs (id, account, phase, priority, due, dead)"
    ));
    let status = look(&db);
    let oldest = status["oldest_due"].as_array().unwrap();
    let accounts: Vec<_> = oldest.iter().map(|row| &row["account"]).collect();
    assert_eq!(accounts, ["default", "other"]);
    assert_eq!(oldest[0]["connection_id"], ID);
    assert_eq!(oldest[0]["phase"], "settle");
    assert_eq!(oldest[0]["attempt"], 3);
    assert!(oldest[0]["due_seconds"].as_f64().unwrap() >= 1_200.0);
    let page = db.feather_sync(&["status"]).done();
    assert!(
        page.starts_with("Account default has had work due for 20m"),
        "{page}"
    );
    let row = page.lines().find(|line| line.contains(ID)).unwrap();
    assert!(row.contains("settle") && row.contains("20m"), "{row}");
}

#[test]
fn a_request_that_is_not_taken_in_while_a_daemon_runs_is_the_worst_of_all() {
    let db = with_a_daemon();
    db.feather_sync(&["pause", "default"]).done();
    db.run(&format!(
        "INSERT INTO feather.sync_requests (connection_id, requested_at) VALUES ('{ID}', now() - interval '10 min');
         SELECT feather.enqueue(gen_random_uuid())"
    ));
    let status = look(&db);
    assert_eq!(status["oldest_request"]["connection_id"], ID);
    let first = status["summary"].as_str().unwrap();
    assert!(
        first.starts_with("Requests have not been taken in for 10m")
            && first.ends_with("(and 1 lesser thing, below)."),
        "{first}"
    );
}

#[test]
fn a_queue_that_is_too_long_to_be_counted_is_shown_as_it_was_counted_last() {
    let db = Database::migrated();
    // 16 MiB and more, of jobs that nobody counts: no daemon runs.
    db.run(
        "INSERT INTO feather.sync_jobs (connection_id, account, priority, run_at, wanted_at, worker)
         SELECT gen_random_uuid(), 'default', 0, now(), now(), NULL FROM generate_series(1, 120000)",
    );
    assert_eq!(look(&db)["health"], json!([]));
    let page = db.feather_sync(&["status"]).done();
    assert!(
        page.contains("Queue\n too long to be counted here"),
        "{page}"
    );
    db.run(
        "INSERT INTO feather.sync_counts (account, pending_finalize, pending_settle, running_finalize, running_settle,
             dead_finalize, dead_settle, due, requests_waiting, as_of)
         VALUES ('default', 7, 1, 0, 0, 2, 0, 5, 4, now() - interval '2 hours')",
    );
    let health = look(&db)["health"].clone();
    assert_eq!(health[0]["account"], "default");
    for (count, expected) in [
        ("pending", 8),
        ("settling", 1),
        ("dead", 2),
        ("due", 5),
        ("requests_waiting", 4),
    ] {
        assert_eq!(health[0][count], expected, "{count}");
    }
    assert_eq!(look(&db)["oldest_due"][0]["account"], "default");
}
