//! `migrate`

use feather_sync::local_postgres::LocalPostgres;
use feather_sync::local_postgres::Options;

use crate::database::Database;
use crate::database::sql;
use crate::program::finish;
use crate::program::program;
use crate::program::run;
use crate::program::start;

#[test]
fn a_second_migrate_changes_nothing() {
    let db = Database::empty();
    let first = db.feather_sync(&["migrate"]).done();
    assert!(first.contains("applied"), "{first}");
    let layout = "SELECT table_name, column_name, data_type FROM information_schema.columns
                  WHERE table_schema = 'feather' ORDER BY 1, 2";
    let before = db.rows(layout);
    let second = db.feather_sync(&["migrate"]).done();
    assert_eq!(second, "the schema is current\n");
    assert_eq!(db.rows(layout), before);
}

#[test]
fn check_fails_before_a_migration_and_passes_after_it_and_changes_nothing() {
    let db = Database::empty();
    let behind = db.feather_sync(&["migrate", "--check"]).failed(1);
    assert!(behind.contains("run `feather-sync migrate`"), "{behind}");
    assert_eq!(
        db.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'feather'"),
        "0"
    );
    db.feather_sync(&["migrate"]).done();
    assert_eq!(
        db.feather_sync(&["migrate", "--check"]).done(),
        "the schema is current\n"
    );
    db.run("DELETE FROM feather._sqlx_migrations WHERE version = (SELECT max(version) FROM feather._sqlx_migrations)");
    let behind = db.feather_sync(&["migrate", "--check"]).failed(1);
    assert!(behind.contains("1 migration"), "{behind}");
}

#[test]
fn a_newer_schema_is_no_obstacle() {
    let db = Database::migrated();
    db.run(
        "INSERT INTO feather._sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'of the future', true, '', 0)",
    );
    db.feather_sync(&["migrate", "--check"]).done();
    db.feather_sync(&["migrate"]).done();
    db.feather_sync(&["status"]).done();
}

#[test]
fn ten_migrations_at_once_take_turns() {
    let db = Database::empty();
    let children: Vec<_> = (0..10)
        .map(|_| start(&mut db.program(&["migrate"])))
        .collect();
    let outputs: Vec<_> = children
        .into_iter()
        .map(|child| finish(child).done())
        .collect();
    let applied = outputs.iter().filter(|out| out.contains("applied")).count();
    assert_eq!(applied, 1, "{outputs:?}");
    db.feather_sync(&["migrate", "--check"]).done();
}

#[test]
fn a_failed_migration_leaves_neither_lock_nor_half_a_schema() {
    let db = Database::empty();
    db.run("CREATE SCHEMA feather; CREATE TABLE feather.sync_jobs (mine integer)");
    let error = db.feather_sync(&["migrate"]).failed(1);
    assert!(
        error.contains("migration 1 failed") && error.contains("sync_jobs"),
        "{error}"
    );
    // Whoever holds the lock would make this fail.
    db.run("SET lock_timeout = '10s'; SELECT pg_advisory_lock(7305801, 0)");
    assert_eq!(
        db.value("SELECT to_regclass('feather.sync_requests') IS NULL"),
        "t"
    );
    db.run("DROP TABLE feather.sync_jobs");
    db.feather_sync(&["migrate"]).done();
    db.feather_sync(&["migrate", "--check"]).done();
}

#[test]
fn a_user_who_may_not_create_roles_learns_what_a_superuser_must_run() {
    // Roles belong to the whole server, so this takes one that has none yet.
    let postgres = LocalPostgres::start(Options::default()).unwrap();
    let superuser = postgres.url("postgres");
    sql(&superuser, "CREATE ROLE app LOGIN").unwrap();
    sql(&superuser, "CREATE DATABASE app OWNER app").unwrap();
    let url = postgres.url("app").replace("user=postgres", "user=app");
    let feather_sync = |arguments: &[&str]| run(program(arguments).env("DATABASE_URL", &url));

    let error = feather_sync(&["migrate"]).failed(1);
    let statements: Vec<_> = error
        .lines()
        .filter(|line| line.contains("CREATE ROLE"))
        .collect();
    assert_eq!(statements.len(), 3, "{error}");
    assert!(error.contains("--without-roles"), "{error}");
    feather_sync(&["migrate", "--check"]).failed(1);

    let without = feather_sync(&["migrate", "--without-roles"]);
    assert!(without.err.contains("feather_worker"), "{without:?}");
    without.done();
    feather_sync(&["migrate", "--check"]).done();
    feather_sync(&["status"]).done();

    sql(&superuser, &statements.join("\n")).unwrap();
    feather_sync(&["migrate"]).done();
    let granted = "SELECT has_table_privilege('feather_reporter', 'feather.connections', 'SELECT')";
    assert_eq!(sql(&postgres.url("app"), granted).unwrap(), [["t"]]);
}

#[test]
fn an_index_that_is_missing_or_was_left_half_built_is_built_by_the_next_migrate() {
    let db = Database::migrated();
    let layout = "SELECT i.indexrelid::regclass, pg_get_indexdef(i.indexrelid), i.indisvalid, obj_description(i.indexrelid)
                  FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid
                  WHERE t.relnamespace = 'feather'::regnamespace ORDER BY i.indexrelid::regclass::text";
    let whole = db.rows(layout);
    db.run("DROP INDEX feather.sync_jobs_deaths");
    db.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'feather.integration_connection_tools_changed'::regclass");
    let broken = db.feather_sync(&["verify"]);
    for index in ["sync_jobs_deaths", "integration_connection_tools_changed"] {
        assert!(broken.out.contains(index), "{broken:?}");
    }
    broken.failed(1);
    let behind = db.feather_sync(&["migrate", "--check"]).failed(1);
    assert!(
        behind.contains(
            "(sync_jobs_deaths, integration_connection_tools_changed); run `feather-sync migrate`"
        ),
        "{behind}"
    );
    db.feather_sync(&["migrate"]).done();
    db.feather_sync(&["migrate", "--check"]).done();
    assert_eq!(db.rows(layout), whole);
    db.feather_sync(&["verify"]).done();
}
