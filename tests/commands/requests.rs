//! Enqueueing by SQL, from any language.

use crate::database::Database;
use crate::program::ID;

#[test]
fn an_insert_needs_nothing_but_the_connection() {
    let db = Database::migrated();
    db.run(&format!(
        "INSERT INTO feather.sync_requests (connection_id) VALUES ('{ID}')"
    ));
    let row = db.rows(
        "SELECT account, priority, run_at <= now(), requested_by = session_user, requested_at <= clock_timestamp()
         FROM feather.sync_requests",
    );
    assert_eq!(row, [["default", "0", "t", "t", "t"]]);
}

#[test]
fn enqueue_returns_the_requests_id_and_takes_its_arguments_by_name() {
    let db = Database::migrated();
    let id = db.value(&format!(
        "SELECT feather.enqueue(connection_id => '{ID}', account => 'acme', priority => -7,
                                run_at => '2030-01-31T08:00:00Z')"
    ));
    let row = db.rows(&format!(
        "SELECT connection_id, account, priority, run_at = '2030-01-31T08:00:00Z'
         FROM feather.sync_requests WHERE id = {id}"
    ));
    assert_eq!(row, [[ID, "acme", "-7", "t"]]);
}

#[test]
fn enqueue_many_returns_how_many() {
    let db = Database::migrated();
    let many = |ids: &str| {
        db.value(&format!(
            "SELECT feather.enqueue_many({ids}, priority => 5)"
        ))
    };
    assert_eq!(
        many(&format!("ARRAY['{ID}', '{ID}', gen_random_uuid()]::uuid[]")),
        "3"
    );
    assert_eq!(many("'{}'"), "0");
    assert_eq!(
        db.rows("SELECT DISTINCT priority, account FROM feather.sync_requests"),
        [["5", "default"]]
    );
}

#[test]
fn what_is_rolled_back_never_was() {
    let db = Database::migrated();
    db.run(&format!("BEGIN; SELECT feather.enqueue('{ID}'); ROLLBACK"));
    assert_eq!(db.value("SELECT count(*) FROM feather.sync_requests"), "0");
}

#[test]
fn what_cannot_be_enqueued_is_refused_with_a_reason() {
    let db = Database::migrated();
    let many = "ARRAY[gen_random_uuid()]";
    let table = [
        (
            format!("SELECT feather.enqueue('{ID}', priority => 32768)"),
            "priority 32768 is out of range",
        ),
        (
            format!("SELECT feather.enqueue('{ID}', priority => -32769)"),
            "use -32768 (soonest) to 32767",
        ),
        (
            format!("SELECT feather.enqueue_many({many}, priority => 99999)"),
            "priority 99999 is out of range",
        ),
        (
            format!("SELECT feather.enqueue('{ID}', run_at => 'infinity')"),
            "run_at_is_finite",
        ),
        (
            format!("SELECT feather.enqueue('{ID}', run_at => '-infinity')"),
            "run_at_is_finite",
        ),
        (
            format!("SELECT feather.enqueue_many({many}, run_at => 'infinity')"),
            "run_at_is_finite",
        ),
        (
            format!("SELECT feather.enqueue('{ID}', '')"),
            "account_is_named",
        ),
        (
            format!("SELECT feather.enqueue('{ID}', repeat('a', 201))"),
            "account_is_named",
        ),
        (
            format!("SELECT feather.enqueue('{ID}', NULL)"),
            "\"account\"",
        ),
        (
            "SELECT feather.enqueue(NULL)".to_owned(),
            "\"connection_id\"",
        ),
        (
            "SELECT feather.enqueue_many(ARRAY[NULL]::uuid[])".to_owned(),
            "\"connection_id\"",
        ),
        (
            "INSERT INTO feather.sync_requests (account) VALUES ('default')".to_owned(),
            "\"connection_id\"",
        ),
        (
            format!(
                "INSERT INTO feather.sync_requests (connection_id, priority) VALUES ('{ID}', 40000)"
            ),
            "smallint out of range",
        ),
        (
            format!(
                "INSERT INTO feather.sync_requests (connection_id, run_at) VALUES ('{ID}', 'infinity')"
            ),
            "run_at_is_finite",
        ),
        (
            format!(
                "INSERT INTO feather.sync_requests (connection_id, account) VALUES ('{ID}', '')"
            ),
            "account_is_named",
        ),
    ];
    for (statement, reason) in table {
        let refusal = db.refusal(&statement);
        assert!(refusal.contains(reason), "{statement}: {refusal}");
    }
    assert_eq!(db.value("SELECT count(*) FROM feather.sync_requests"), "0");
}
