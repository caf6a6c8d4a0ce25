//! The three roles, by trying what they may and may not.

use crate::database::Database;
use crate::program::ID;

/// What reporting reads.
const REPORTS: [&str; 7] = [
    "integration_connections",
    "integration_connection_tools",
    "sync_attempts",
    "connections",
    "tools",
    "sync_status",
    "sync_health",
];

fn relations(db: &Database) -> Vec<(String, bool)> {
    db.rows(
        "SELECT relname, relkind = 'r' FROM pg_class
         WHERE relnamespace = 'feather'::regnamespace AND relkind IN ('r', 'v') ORDER BY 1",
    )
    .into_iter()
    .map(|row| (row[0].clone(), row[1] == "t"))
    .collect()
}

#[track_caller]
fn assert_denied(db: &Database, user: &str, statement: &str) {
    let refusal = db.as_user(user, statement);
    let error = refusal.expect_err(statement);
    assert!(error.contains("permission denied"), "{statement}: {error}");
}

/// That the user can read just these, and change nothing by hand but what is named.
#[track_caller]
fn assert_reads_only(db: &Database, user: &str, readable: &[&str], insertable: &[&str]) {
    for (relation, is_table) in relations(db) {
        let select = format!("SELECT * FROM feather.{relation} LIMIT 1");
        if readable.contains(&relation.as_str()) {
            db.as_user(user, &select).expect(&select);
        } else {
            assert_denied(db, user, &select);
        }
        if !is_table {
            continue;
        }
        for statement in [
            format!("DELETE FROM feather.{relation} WHERE false"),
            format!("TRUNCATE feather.{relation}"),
            format!("BEGIN; LOCK TABLE feather.{relation} IN ACCESS EXCLUSIVE MODE"),
        ] {
            assert_denied(db, user, &statement);
        }
        if !insertable.contains(&relation.as_str()) {
            assert_denied(
                db,
                user,
                &format!("INSERT INTO feather.{relation} DEFAULT VALUES"),
            );
        }
    }
    assert_denied(db, user, "CREATE TABLE feather.mine (a integer)");
    assert_denied(db, user, "SELECT nextval('feather.sync_requests_id_seq')");
}

#[test]
fn an_enqueuer_enqueues_in_every_documented_way_and_does_nothing_else() {
    let db = Database::migrated();
    let user = db.user(Some("feather_enqueuer"));
    let id = db
        .as_user(
            &user,
            &format!(
                "INSERT INTO feather.sync_requests (connection_id) VALUES ('{ID}') RETURNING id"
            ),
        )
        .unwrap();
    assert_eq!(id.len(), 1);
    db.as_user(
        &user,
        &format!(
            "INSERT INTO feather.sync_requests (connection_id, account, priority, run_at, requested_by)
             VALUES ('{ID}', 'acme', -1, now(), 'an app')"
        ),
    )
    .unwrap();
    db.as_user(&user, &format!("SELECT feather.enqueue('{ID}')"))
        .unwrap();
    db.as_user(
        &user,
        &format!("SELECT feather.enqueue_many(ARRAY['{ID}']::uuid[])"),
    )
    .unwrap();
    let status = db
        .as_user(
            &user,
            "SELECT connection_id, state FROM feather.sync_status",
        )
        .unwrap();
    assert_eq!(status, [[ID, "requested"]]);

    assert_reads_only(&db, &user, &["sync_status"], &["sync_requests"]);
    assert_denied(
        &db,
        &user,
        "SELECT connection_id FROM feather.sync_requests",
    );
    assert_denied(&db, &user, "UPDATE feather.sync_requests SET priority = 1");
    assert_denied(
        &db,
        &user,
        "UPDATE feather.sync_requests SET priority = 1 WHERE id = 1",
    );
    assert_eq!(db.value("SELECT count(*) FROM feather.sync_requests"), "4");
}

#[test]
fn a_request_is_signed_by_the_sessions_user() {
    let db = Database::migrated();
    let user = db.user(Some("feather_enqueuer"));
    db.as_user(&user, &format!("SELECT feather.enqueue('{ID}')"))
        .unwrap();
    assert_eq!(
        db.value("SELECT requested_by FROM feather.sync_requests"),
        user
    );
}

#[test]
fn a_reporter_reads_the_reports_and_does_nothing_else() {
    let db = Database::migrated();
    let user = db.user(Some("feather_reporter"));
    assert_reads_only(&db, &user, &REPORTS, &[]);
    assert_denied(&db, &user, &format!("SELECT feather.enqueue('{ID}')"));
    assert_denied(
        &db,
        &user,
        &format!("SELECT feather.enqueue_many(ARRAY['{ID}']::uuid[])"),
    );
    assert_denied(&db, &user, "SELECT id FROM feather.sync_requests");
}

#[test]
fn a_user_without_a_role_does_nothing_at_all() {
    let db = Database::migrated();
    let user = db.user(None);
    assert_reads_only(&db, &user, &[], &[]);
    assert_denied(&db, &user, &format!("SELECT feather.enqueue('{ID}')"));
}

#[test]
fn no_role_can_log_in_or_is_more_than_a_role() {
    let db = Database::migrated();
    let roles = db.rows(
        "SELECT rolname, rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication
         FROM pg_roles WHERE rolname IN ('feather_worker', 'feather_enqueuer', 'feather_reporter') ORDER BY 1",
    );
    assert_eq!(
        roles,
        [
            ["feather_enqueuer", "f"],
            ["feather_reporter", "f"],
            ["feather_worker", "f"]
        ]
    );
}

#[test]
fn a_worker_can_do_whatever_operators_do_short_of_changing_the_schema() {
    let db = Database::migrated();
    let user = db.user(Some("feather_worker"));
    for arguments in [
        &["migrate", "--check"][..],
        &["enqueue", ID],
        &["status"],
        &["status", "--json"],
        &["show", ID],
        &["verify"],
        &["pause", "default"],
        &["resume", "default"],
        &["retry", "--dead"],
        &["cancel", ID],
        &["forget", "--yes", ID],
    ] {
        db.feather_sync_as(&user, arguments).done();
    }
    assert_denied(&db, &user, "CREATE TABLE feather.mine (a integer)");
    let error = db
        .as_user(&user, "DROP TABLE feather.sync_jobs")
        .unwrap_err();
    assert!(error.contains("must be owner"), "{error}");
}

#[test]
fn commands_work_for_whoever_may_do_what_they_do() {
    let db = Database::migrated();
    let enqueuer = db.user(Some("feather_enqueuer"));
    let reporter = db.user(Some("feather_reporter"));
    db.feather_sync_as(&enqueuer, &["enqueue", ID]).done();
    db.feather_sync_as(&reporter, &["show", ID]).done();
    for (user, arguments) in [
        (&enqueuer, &["retry", ID][..]),
        (&reporter, &["enqueue", ID]),
        (&reporter, &["pause", "default"]),
    ] {
        let error = db.feather_sync_as(user, arguments).failed(1);
        assert!(
            error.contains("permission denied") && error.contains("grant"),
            "{error}"
        );
    }
}
