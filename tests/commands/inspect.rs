//! `show`

use serde_json::Value;

use crate::database::Database;
use crate::program::ID;

/// A connection that was received, with a number that no double holds, a tool, and a failed attempt since.
fn with_a_connection() -> Database {
    let db = Database::migrated();
    db.run(&format!(
        "INSERT INTO feather.integration_connections (id, organization_id, integration_key, nickname_slug, nickname,
             vendor, status, tools_status, metadata, created_at, updated_at, _account, _first_seen_at, _synced_at,
             _changed_at, _hash)
         VALUES ('{ID}', gen_random_uuid(), 'slack', 'crm', E'CRM \\x1b[31m', 'nango', 'active', 'synced',
             '{{\"big\": 12345678901234567890.123, \"huge\": 1e400}}', now(), now(), 'default', now(), now(), now(), '');
         INSERT INTO feather.sync_attempts (account, connection_id, kind, attempt, worker, started_at, finished_at,
             outcome, http_status, error_class, error)
         VALUES ('default', '{ID}', 'finalize', 1, 'w', now(), now() + interval '1.5 s', 'dead', 400,
             'invalid_request', E'no\\nsuch\\tthing');
         INSERT INTO feather.sync_results (connection_id, account, last_attempt_at, last_outcome, last_error_class, last_error)
         VALUES ('{ID}', 'default', now(), 'dead', 'invalid_request', E'no\\nsuch\\tthing');
         INSERT INTO feather.sync_jobs (connection_id, account, state, priority, run_at, wanted_at, attempt, error_class)
         VALUES ('{ID}', 'default', 'dead', 3, now(), now(), 1, 'invalid_request')"
    ));
    db
}

#[test]
fn show_says_everything_about_a_connection() {
    let db = with_a_connection();
    let page = db.feather_sync(&["show", ID]).done();
    for part in [
        ID,
        "dead (finalize)",
        "nickname",
        "Tools: 0",
        "Attempts, newest first",
        "1500 ms",
        "invalid_request",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(
        page.contains("no\\nsuch\\tthing") && !page.contains('\u{1b}'),
        "{page}"
    );
}

#[test]
fn show_as_json_keeps_every_digit() {
    let db = with_a_connection();
    let json = db.feather_sync(&["show", "--json", ID]).done();
    assert!(json.contains("12345678901234567890.123"), "{json}");
    assert!(json.contains(&format!("1{}", "0".repeat(400))), "{json}");
    // Numbers beyond a double are fine for jq and Postgres, not for this parser.
    let json = json.replace(&"0".repeat(400), "");
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["status"]["state"], "dead");
    assert_eq!(report["status"]["priority"], 3);
    assert_eq!(report["connection"]["nickname"], "CRM \u{1b}[31m");
    assert_eq!(report["connection"].get("_hash"), None);
    assert_eq!(report["attempts"][0]["http_status"], 400);
    assert_eq!(report["tools"], Value::Array(vec![]));
}

#[test]
fn show_of_an_unknown_connection_fails_and_says_how_to_get_it() {
    let db = Database::migrated();
    for arguments in [&["show", ID][..], &["show", "--json", ID]] {
        let outcome = db.feather_sync(arguments);
        assert_eq!(outcome.out, "");
        let error = outcome.failed(1);
        assert!(
            error.contains(ID) && error.contains("feather-sync enqueue"),
            "{error}"
        );
    }
}

#[test]
fn show_knows_a_request_that_was_not_taken_in_yet() {
    let db = Database::migrated();
    db.feather_sync(&["enqueue", ID, "--account", "acme"])
        .done();
    let page = db.feather_sync(&["show", ID]).done();
    assert!(
        page.contains("requested") && page.contains("unknown_account"),
        "{page}"
    );
    assert!(
        page.contains("nothing yet") && page.contains("none on record"),
        "{page}"
    );
}
