//! The act of migrating: a program that is ahead of its schema says so, a fleet at work is not in its way for long,
//! and whatever ends a migration, the next one finds nothing half done.

use crate::upgrade::catalog::catalog;
use crate::upgrade::kept;
use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Scenario;
use sqlx::Connection;
use sqlx::PgConnection;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

pub(crate) fn program(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_feather-sync"));
    command
        .args(arguments)
        .env_clear()
        .envs(world.env())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub(crate) async fn run(world: &World, arguments: &[&str]) -> Output {
    let mut command = program(world, arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

/// A session of its own, whose transaction stays open.
pub(crate) async fn open(world: &World, sql: &'static str) -> PgConnection {
    let mut conn = PgConnection::connect(&world.env()["DATABASE_URL"])
        .await
        .unwrap();
    sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
    conn
}

async fn migrated_wholly(world: &World) {
    let done = run(world, &["migrate"]).await;
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let fresh = World::new().await;
    assert_eq!(catalog(world).await, catalog(&fresh).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_ahead_of_its_schema_says_what_to_run_and_changes_nothing() {
    let world = kept::world_with_data().await;
    let check = run(&world, &["migrate", "--check"]).await;
    if check.status.success() {
        // No migration since the last release: then it is its own newest one that is missing.
        world
            .execute("DELETE FROM feather._sqlx_migrations WHERE version = (SELECT max(version) FROM feather._sqlx_migrations)")
            .await;
    }
    let before = catalog(&world).await;
    for arguments in [
        &["migrate", "--check"][..],
        &["run"],
        &["run", "--until-empty"],
        &["status"],
    ] {
        let refused = run(&world, arguments).await;
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
        let said = said(&refused);
        assert!(
            said.contains("run `feather-sync migrate`"),
            "{arguments:?}: {said}"
        );
    }
    assert_eq!(catalog(&world).await, before);
    assert_eq!(world.sim.calls(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_does_not_get_its_locks_gives_up_says_so_and_goes_through_later() {
    let world = World::from_template("template0", Scenario::default()).await;
    world.execute("CREATE SCHEMA feather").await;
    // The first thing that any migration of ours locks.
    let holder = open(&world, "BEGIN; COMMENT ON SCHEMA feather IS 'in the way'").await;
    let refused = run(&world, &["migrate"]).await;
    assert_eq!(refused.status.code(), Some(1));
    let said = said(&refused);
    assert!(
        said.contains("migration 1") && said.contains("run `feather-sync migrate` again"),
        "{said}"
    );
    holder.close().await.unwrap();
    migrated_wholly(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_killed_in_the_middle_leaves_nothing_half_done() {
    let world = World::from_template("template0", Scenario::default()).await;
    world.execute("CREATE SCHEMA feather").await;
    let holder = open(&world, "BEGIN; COMMENT ON SCHEMA feather IS 'in the way'").await;
    let mut killed = program(&world, &["migrate"]).spawn().unwrap();
    world
        .until(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'object'
                            AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
        )
        .await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    holder.close().await.unwrap();
    // The lock of the killed one goes with its session.
    world
        .until("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'feather-sync' AND datname = current_database())")
        .await;
    let tables: i64 = world
        .value("SELECT count(*) FROM pg_class WHERE relnamespace = 'feather'::regnamespace AND relkind = 'r' AND relname <> '_sqlx_migrations'")
        .await;
    assert_eq!(tables, 0);
    migrated_wholly(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_migrators_from_the_last_release_take_turns() {
    let world = kept::world_with_data().await;
    let children: Vec<_> = (0..10)
        .map(|_| program(&world, &["migrate"]).spawn().unwrap())
        .collect();
    for child in children {
        let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap())
            .await
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
    migrated_wholly(&world).await;
}

/// What the last release does all day, as SQL: enqueue, claim under the account's lock, commit, count.
async fn work(world: &World, stop: &AtomicBool, worst: &AtomicU64) {
    let steps = [
        "INSERT INTO feather.sync_requests (connection_id) VALUES (gen_random_uuid())",
        "WITH r AS (DELETE FROM feather.sync_requests RETURNING *)
         INSERT INTO feather.sync_jobs (connection_id, account, priority, run_at, wanted_at)
         SELECT connection_id, account, priority, run_at, requested_at FROM r ON CONFLICT DO NOTHING",
        "WITH a AS MATERIALIZED (SELECT account FROM feather.sync_accounts WHERE account = 'default' FOR UPDATE)
         UPDATE feather.sync_accounts SET tokens = tokens + 1 WHERE account IN (TABLE a)",
        "WITH done AS (DELETE FROM feather.sync_jobs WHERE connection_id IN
                         (SELECT connection_id FROM feather.sync_jobs LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING *)
         INSERT INTO feather.sync_results (connection_id, account, last_attempt_at, last_outcome)
         SELECT connection_id, account, now(), 'synced' FROM done",
        "INSERT INTO feather.sync_attempts (account, connection_id, kind, attempt, worker, started_at, finished_at, outcome)
         VALUES ('default', gen_random_uuid(), 'finalize', 1, 'old', now(), now(), 'synced')",
        "INSERT INTO feather.sync_throughput AS t (account, minute, worker, synced, failed)
         VALUES ('default', date_trunc('minute', now()), 'old', 1, 0)
         ON CONFLICT (account, minute, worker) DO UPDATE SET synced = t.synced + excluded.synced",
        "SELECT count(*) FROM feather.sync_status",
        "SELECT count(*) FROM feather.sync_health",
    ];
    let mut conn = PgConnection::connect(&world.env()["DATABASE_URL"])
        .await
        .unwrap();
    // As every session of the last release has it.
    sqlx::raw_sql("SET lock_timeout = '10s'; SET statement_timeout = '30s'")
        .execute(&mut conn)
        .await
        .unwrap();
    while !stop.load(Ordering::Relaxed) {
        for step in steps {
            let begun = Instant::now();
            sqlx::query(step).execute(&mut conn).await.unwrap();
            let took = u64::try_from(begun.elapsed().as_millis()).unwrap();
            worst.fetch_max(took, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_at_work_and_long_transactions_hold_a_migration_up_but_never_stop_the_fleet() {
    let world = kept::world().await;
    world.enqueue(&ids(100)).await;
    let reader = open(
        &world,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM feather.sync_status; SELECT count(*) FROM feather.sync_health",
    )
    .await;
    let producer = open(
        &world,
        "BEGIN; INSERT INTO feather.sync_requests (connection_id) VALUES (gen_random_uuid())",
    )
    .await;
    let (stop, worst) = (AtomicBool::new(false), AtomicU64::new(0));
    let migrations = async {
        // With the transactions open it may or may not get its locks; it must not wait for ever.
        let output = tokio::time::timeout(Duration::from_secs(60), run(&world, &["migrate"]))
            .await
            .unwrap();
        if !output.status.success() {
            let said = said(&output);
            assert!(said.contains("run `feather-sync migrate` again"), "{said}");
        }
        reader.close().await.unwrap();
        producer.close().await.unwrap();
        let output = run(&world, &["migrate"]).await;
        assert!(output.status.success(), "{}", said(&output));
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(
        migrations,
        work(&world, &stop, &worst),
        work(&world, &stop, &worst),
        work(&world, &stop, &worst)
    );
    // A waiting ALTER makes others wait behind it, for as long as its lock_timeout (5 s) at most.
    let worst = worst.load(Ordering::Relaxed);
    assert!(worst < 9_000, "the fleet stood still for {worst} ms");
    migrated_wholly(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_whose_building_was_interrupted_is_built_anew() {
    let world = World::new().await;
    world
        .execute(
            "UPDATE pg_index SET indisvalid = false
             WHERE indexrelid = 'feather.integration_connection_tools_changed'::regclass",
        )
        .await;
    migrated_wholly(&world).await;
    let valid: bool = world
        .value(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = 'feather.integration_connection_tools_changed'::regclass",
        )
        .await;
    assert!(valid);
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_at_once_take_turns_and_none_stands_in_the_way_of_an_index() {
    let world = World::new().await;
    world
        .execute("DROP INDEX feather.integration_connection_tools_changed")
        .await;
    let runs = (0..4).map(|_| run(&world, &["migrate"]));
    for done in futures_util::future::join_all(runs).await {
        assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    }
    migrated_wholly(&world).await;
}
