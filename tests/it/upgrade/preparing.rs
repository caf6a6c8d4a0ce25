//! A large table is prepared for its partitions before the migrations: whatever ends `migrate` after that, no table is left
//! that takes no rows one day without anybody knowing, and whatever is in the way is named before anything is done.

use crate::upgrade::kept;
use crate::upgrade::migrating::open;
use crate::upgrade::migrating::program;
use crate::upgrade::migrating::run;
use crate::upgrade::migrating::said;
use crate::upgrade::partitioning::BOUND;
use crate::upgrade::partitioning::INDEX;
use crate::upgrade::partitioning::ROWS;
use crate::upgrade::partitioning::VALIDATED;
use crate::upgrade::partitioning::large;
use crate::upgrade::partitioning::migrated;
use feather_sync::local_postgres::LocalPostgres;
use feather_sync::local_postgres::Options;
use sqlx::AssertSqlSafe;
use sqlx::Connection;
use sqlx::PgConnection;
use std::process::Command;

/// What makes a table take no rows from some day on.
const BOUNDS: &str = "SELECT count(*) FROM pg_constraint WHERE conname = 'before_partitions'";

/// As the last release's daemon does it, a month later.
const LATER: &str = "INSERT INTO feather.sync_attempts
        (account, connection_id, kind, attempt, worker, started_at, finished_at, outcome)
    VALUES ('default', gen_random_uuid(), 'poll', 1, 'later', now(), now() + interval '40 days', 'synced')";

/// In the way of the first migration since the last release, and of nothing before it.
const HELD: &str = "BEGIN; LOCK TABLE feather.sync_throughput IN ACCESS SHARE MODE";

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

async fn execute(conn: &mut PgConnection, statements: &str) {
    let statements = AssertSqlSafe(statements);
    sqlx::raw_sql(statements).execute(conn).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_create_roles_learns_it_before_anything_is_prepared() {
    // Roles belong to the whole server, so this takes one that has none of ours.
    let postgres = LocalPostgres::start(Options::default()).unwrap();
    let mut admin = connect(&postgres.url("postgres")).await;
    let roles = "CREATE ROLE app LOGIN; CREATE ROLE feather_worker; CREATE ROLE feather_enqueuer; CREATE ROLE feather_reporter";
    execute(&mut admin, roles).await;
    execute(&mut admin, "CREATE DATABASE app OWNER app").await;
    let url = postgres.url("app").replace("user=postgres", "user=app");
    let mut app = connect(&url).await;
    execute(&mut app, &kept::schema()).await;
    execute(&mut app, &ROWS.replace("public.", "feather.")).await;
    let mut admin = connect(&postgres.url("app")).await;
    let roles = "DROP OWNED BY feather_worker, feather_enqueuer, feather_reporter;
                 DROP ROLE feather_worker, feather_enqueuer, feather_reporter";
    execute(&mut admin, roles).await;

    let output = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_feather-sync"));
        command
            .arg("migrate")
            .env_clear()
            .env("DATABASE_URL", url)
            .output()
            .unwrap()
    });
    let refused = output.await.unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = said(&refused);
    assert!(said.contains("CREATE ROLE feather_worker"), "{said}");
    let bounds: i64 = sqlx::query_scalar(BOUNDS)
        .fetch_one(&mut app)
        .await
        .unwrap();
    assert_eq!(bounds, 0, "{said}");
    execute(&mut app, LATER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migrate_that_fails_after_it_has_prepared_takes_back_what_would_stop_the_fleet_in_a_month()
 {
    let world = large().await;
    let holder = open(&world, HELD).await;
    let refused = run(&world, &["migrate"]).await;
    assert_eq!(refused.status.code(), Some(1));
    let said = said(&refused);
    assert!(said.contains("did not get its locks"), "{said}");
    assert!(!said.contains("takes no rows"), "{said}");
    assert_eq!(world.value::<i64>(BOUNDS).await, 0);
    world.execute(LATER).await;
    holder.close().await.unwrap();
    migrated(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_back_is_told_with_its_day_until_a_migrate_has_gone_through() {
    let world = large().await;
    for step in [INDEX, BOUND, VALIDATED] {
        world.execute(step).await;
    }
    let holder = open(&world, HELD).await;
    let report = open(&world, "BEGIN; SELECT 1 FROM feather.sync_attempts LIMIT 1").await;
    for arguments in [&["migrate"][..], &["migrate", "--check"], &["doctor"]] {
        let refused = run(&world, arguments).await;
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
        let said = said(&refused);
        assert!(
            said.contains("takes no rows from 2100-01-01")
                && said.contains("DROP CONSTRAINT before_partitions"),
            "{arguments:?}: {said}"
        );
    }
    for session in [holder, report] {
        session.close().await.unwrap();
    }
    migrated(&world).await;
    for arguments in [&["migrate", "--check"][..], &["doctor"]] {
        let said = said(&run(&world, arguments).await);
        assert!(!said.contains("takes no rows"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_is_past_is_taken_back_by_a_migrate_that_fails_and_the_fleet_goes_on() {
    let world = large().await;
    world
        .execute(
            "DELETE FROM feather.sync_attempts WHERE finished_at > now() - interval '3 days';
             ALTER TABLE feather.sync_attempts ADD CONSTRAINT before_partitions CHECK (finished_at < 'yesterday')",
        )
        .await;
    let told = said(&run(&world, &["doctor"]).await);
    assert!(told.contains("takes no rows since"), "{told}");
    let holder = open(&world, HELD).await;
    assert_eq!(run(&world, &["migrate"]).await.status.code(), Some(1));
    world.execute(LATER).await;
    holder.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migrate_that_is_asked_to_stop_takes_it_back_too_wherever_it_is() {
    // While the table is asked for, to name the day; and after all is prepared.
    let report = "BEGIN; SELECT 1 FROM feather.sync_attempts LIMIT 1";
    for (held, relation) in [(report, "sync_attempts"), (HELD, "sync_throughput")] {
        let world = large().await;
        let holder = open(&world, held).await;
        let child = program(&world, &["migrate"]).spawn().unwrap();
        world
            .until(&format!(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'feather.{relation}'::regclass AND NOT granted)"
            ))
            .await;
        let pid = child.id().to_string();
        let told = Command::new("kill").args(["-s", "TERM", &pid]).status();
        assert!(told.unwrap().success());
        if relation == "sync_attempts" {
            holder.close().await.unwrap();
        }
        let stopped = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
        let stopped = stopped.await.unwrap();
        assert_eq!(stopped.status.code(), Some(1), "{stopped:?}");
        let said = said(&stopped);
        assert!(
            said.contains("stopped; run `feather-sync migrate`"),
            "{said}"
        );
        world
            .until("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'feather-sync' AND datname = current_database())")
            .await;
        assert_eq!(world.value::<i64>(BOUNDS).await, 0, "{said}");
        world.execute(LATER).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_migrate_has_taken_back_is_prepared_again_before_the_swap() {
    let world = large().await;
    let turn = open(&world, "SELECT pg_advisory_lock(7305801, 0)").await;
    let child = program(&world, &["migrate"]).spawn().unwrap();
    world
        .until("SELECT EXISTS (SELECT FROM pg_constraint WHERE conname = 'before_partitions' AND convalidated)")
        .await;
    world
        .execute("ALTER TABLE feather.sync_attempts DROP CONSTRAINT before_partitions")
        .await;
    turn.close().await.unwrap();
    let done = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
    let done = done.await.unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    // Not tomorrow, as where it is read in that moment.
    let was_prepared: bool = world
        .value(
            "SELECT until > now() + interval '29 days' FROM feather.partition_bounds('sync_attempts')
             WHERE name = 'sync_attempts_before'",
        )
        .await;
    assert!(was_prepared);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_on_the_time_of_statements_and_transactions_are_not_for_a_migrate() {
    let world = large().await;
    // As a managed database may have them for everybody.
    let limits: Vec<(String,)> = world
        .rows(
            "SELECT format('ALTER DATABASE %I SET %I = ''2s''', current_database(), s.name) FROM pg_settings s
             WHERE s.name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')",
        )
        .await;
    assert!(limits.len() >= 2, "{limits:?}");
    let reader = open(
        &world,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM feather.sync_attempts",
    )
    .await;
    for (limit,) in &limits {
        world.execute(limit).await;
    }
    let child = program(&world, &["migrate"]).spawn().unwrap();
    // The index that is built beside those who write waits for this one.
    world
        .until(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'feather-sync' AND datname = current_database()
                              AND state = 'active' AND clock_timestamp() - query_start > interval '3 s')",
        )
        .await;
    reader.close().await.unwrap();
    let done = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
    let done = done.await.unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leans_on_the_key_that_changes_is_named_before_anything_is_done() {
    let world = large().await;
    world
        .execute(
            "CREATE VIEW public.leaning AS SELECT a.connection_id, a.id, a.outcome, count(*) AS n FROM feather.sync_attempts a
                 GROUP BY a.connection_id, a.id;
             CREATE TABLE public.notes (connection_id uuid, attempt bigint, note text,
                 CONSTRAINT theirs FOREIGN KEY (connection_id, attempt) REFERENCES feather.sync_attempts)",
        )
        .await;
    let refused = run(&world, &["migrate"]).await;
    assert_eq!(refused.status.code(), Some(1));
    let said = said(&refused);
    for part in [
        "view public.leaning",
        "constraint theirs on table public.notes",
        "(connection_id, id, finished_at)",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let untouched: bool = world
        .value("SELECT to_regclass('feather.sync_attempts_before_pkey') IS NULL")
        .await;
    assert!(untouched);
    assert_eq!(world.value::<i64>(BOUNDS).await, 0);
    world
        .execute("DROP VIEW public.leaning; DROP TABLE public.notes")
        .await;
    migrated(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_fails_says_all_that_the_server_says() {
    let world = kept::world().await;
    world
        .execute(
            "CREATE FUNCTION public.forbid() RETURNS event_trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'no' USING DETAIL = E'Not by day,\nnor by night.'; END $$;
             CREATE EVENT TRIGGER forbidden ON ddl_command_start WHEN TAG IN ('CREATE AGGREGATE')
                 EXECUTE FUNCTION public.forbid()",
        )
        .await;
    let refused = said(&run(&world, &["migrate"]).await);
    assert!(
        refused.contains("migration 13 failed") && refused.contains("Not by day, nor by night."),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn views_that_cannot_be_made_anew_and_what_else_is_of_the_old_table_alone_are_named() {
    let world = large().await;
    world
        .execute(
            "CREATE VIEW public.wholes AS SELECT a FROM feather.sync_attempts a;
             CREATE FUNCTION public.worker_of(feather.sync_attempts) RETURNS text LANGUAGE sql AS 'SELECT ($1).worker';
             CREATE VIEW public.applied AS SELECT public.worker_of(a) AS worker FROM feather.sync_attempts a;
             CREATE INDEX theirs_outcome ON feather.sync_attempts (outcome, finished_at);
             CREATE FUNCTION public.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER theirs_trigger AFTER INSERT ON feather.sync_attempts EXECUTE FUNCTION public.nothing();
             CREATE POLICY theirs_policy ON feather.sync_throughput USING (true)",
        )
        .await;
    let done = run(&world, &["migrate"]).await;
    let told = said(&done);
    assert_eq!(done.status.code(), Some(0), "{told}");
    let doctor = said(&run(&world, &["doctor"]).await);
    for (what, of) in [
        ("view public.wholes", "attempts"),
        ("view public.applied", "attempts"),
        ("function public.worker_of(", "attempts"),
        ("theirs_outcome", "attempts"),
        ("trigger theirs_trigger", "attempts"),
        ("policy theirs_policy", "throughput"),
    ] {
        for said in [&told, &doctor] {
            let line = said.lines().find(|line| line.contains(what));
            let line = line.unwrap_or_else(|| panic!("{what}: {said}"));
            assert!(
                line.contains(&format!("feather.sync_{of}_before alone")),
                "{line}"
            );
        }
    }
    // Ours are not among them, nor what was made anew.
    for other in ["_finished", "pkey", "public.theirs", "sync_minutes"] {
        assert!(!told.contains(other), "{other}: {told}");
    }
    // One for the whole table takes in the old one, and is all there is.
    world
        .execute("CREATE INDEX theirs_for_all ON feather.sync_attempts (outcome, finished_at)")
        .await;
    let doctor = said(&run(&world, &["doctor"]).await);
    assert!(!doctor.contains("theirs_outcome"), "{doctor}");
    let of_the_old_part: i64 = world
        .value(
            "SELECT count(*) FROM pg_index WHERE indrelid = 'feather.sync_attempts_before'::regclass
             AND pg_get_indexdef(indexrelid) LIKE '%(outcome, finished_at)'",
        )
        .await;
    assert_eq!(of_the_old_part, 1);
}
