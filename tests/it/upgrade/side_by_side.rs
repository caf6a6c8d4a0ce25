//! The real program of the last release and this one on one schema, in both directions of a rolling deploy.
//! `make test-upgrade` builds the old one and names it in `FEATHER_SYNC_LAST_RELEASE`.

use crate::upgrade::kept;
use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Scenario;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use uuid::Uuid;

/// Per minute; each bucket of it holds 1/100.
const LIMIT: u64 = 3_000;

/// Slow enough to be killed in, with failures of every retryable kind, tools that take their time, and a second
/// finalize that changes tools.
const SCENARIO: &str = "
tools = 3
latency = \"5ms..40ms\"
settle = \"0s..300ms\"
churn = 0.5
[[fault]]
kind = \"status\"
code = 503
rate = 0.05
[[fault]]
kind = \"reset\"
rate = 0.03
";

struct Replica(Child);

impl Replica {
    fn start(world: &World, program: &PathBuf) -> Self {
        let mut command = Command::new(program);
        command
            .arg("run")
            .env_clear()
            .envs(world.env())
            .stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    async fn stop(mut self) {
        let pid = self.0.id().to_string();
        let told = Command::new("kill").args(["-s", "TERM", &pid]).status();
        assert!(told.unwrap().success());
        let ended = tokio::task::spawn_blocking(move || self.0.wait().unwrap());
        assert_eq!(ended.await.unwrap().code(), Some(0));
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn programs() -> (PathBuf, PathBuf) {
    let Some(old) = std::env::var_os("FEATHER_SYNC_LAST_RELEASE") else {
        panic!("FEATHER_SYNC_LAST_RELEASE names no program; run `make test-upgrade`");
    };
    (old.into(), env!("CARGO_BIN_EXE_feather-sync").into())
}

async fn world() -> World {
    world_with(SCENARIO).await
}

async fn world_with(scenario: &str) -> World {
    let mut world = kept::world_with(Scenario::from_toml(scenario).unwrap()).await;
    world
        .set("FEATHER_SYNC__WORKER__LEASE", "3s")
        .set("FEATHER_SYNC__API__REQUEST_TIMEOUT", "2s")
        .set("FEATHER_SYNC__API__CONNECT_TIMEOUT", "1s")
        .set("FEATHER_SYNC__RETRY__MAX_ATTEMPTS", "100")
        .set(
            "FEATHER_SYNC__ACCOUNTS__DEFAULT__REQUESTS_PER_MINUTE",
            &LIMIT.to_string(),
        );
    world
}

async fn migrate(world: &World, program: &PathBuf) {
    let mut command = Command::new(program);
    command.arg("migrate").env_clear().envs(world.env());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

async fn calls(world: &World, at_least: usize) {
    world
        .until(&format!(
            "SELECT count(*) >= {at_least} FROM feather.sync_attempts"
        ))
        .await;
}

async fn all_served(world: &World) {
    world
        .until(
            "SELECT NOT EXISTS (SELECT FROM feather.sync_requests) AND NOT EXISTS (SELECT FROM feather.sync_jobs)",
        )
        .await;
}

/// Nothing lost, everything as the API says, each call recorded, no two at once, and never above the budget.
async fn check(world: &World, ids: &[Uuid]) {
    for id in ids {
        world.equals_truth(*id).await.unwrap();
        let calls = world.sim.calls_for(*id);
        let attempts: i64 = world
            .value(&format!(
                "SELECT count(*) FROM feather.sync_attempts WHERE connection_id = '{id}'"
            ))
            .await;
        assert!(
            i64::try_from(calls.len()).unwrap() <= attempts,
            "{id}: {} calls, {attempts} attempts",
            calls.len()
        );
        assert!(!calls.iter().any(|call| call.in_flight_overlap), "{id}");
    }
    let served: i64 = world
        .value(
            "SELECT count(*) FROM feather.sync_status
             WHERE state = 'idle' AND last_outcome = 'synced' AND last_success_started_at IS NOT NULL",
        )
        .await;
    assert_eq!(served, i64::try_from(ids.len()).unwrap());
    let at: Vec<u64> = world.sim.calls().iter().map(|call| call.at_ms).collect();
    let width = 5_000;
    // A bucket of 1/100 of the limit, five seconds of it, and half a second for what was on its way: a little more
    // than `Budget::per_minute` gives out in that time.
    let most = LIMIT / 100 + LIMIT * (width + 500) / 60_000;
    for (index, begin) in at.iter().enumerate() {
        let calls = at[index..].partition_point(|at| at - begin < width);
        assert!(calls as u64 <= most, "{calls} calls in {width} ms");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the program of the last release: make test-upgrade"]
async fn a_rolling_upgrade_under_load_loses_nothing() {
    let (old, new) = programs();
    let world = world().await;
    let ids = ids(400);

    let first = Replica::start(&world, &old);
    let second = Replica::start(&world, &old);
    world.enqueue(&ids[..200]).await;
    calls(&world, 40).await;
    migrate(&world, &new).await;

    let third = Replica::start(&world, &new);
    let fourth = Replica::start(&world, &new);
    world
        .until("SELECT count(*) = 4 FROM feather.sync_replicas")
        .await;
    world.enqueue(&ids[150..]).await;
    calls(&world, 200).await;
    first.kill();
    third.kill();
    let third = Replica::start(&world, &new);
    world.enqueue(&ids[..100]).await;
    calls(&world, 400).await;
    let workers: i64 = world
        .value("SELECT count(DISTINCT worker) FROM feather.sync_attempts")
        .await;
    assert!(workers >= 4, "{workers} of four replicas have worked");

    second.stop().await;
    world.enqueue(&ids[300..]).await;
    all_served(&world).await;
    check(&world, &ids).await;
    third.stop().await;
    fourth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the program of the last release: make test-upgrade"]
async fn the_last_release_goes_on_alone_after_a_rollback() {
    let (old, new) = programs();
    let world = world().await;
    let ids = ids(300);
    migrate(&world, &new).await;

    let newer = [Replica::start(&world, &new), Replica::start(&world, &new)];
    world.enqueue(&ids[..200]).await;
    calls(&world, 100).await;
    let older = [Replica::start(&world, &old), Replica::start(&world, &old)];
    world
        .until("SELECT count(*) = 4 FROM feather.sync_replicas")
        .await;
    world.enqueue(&ids[100..]).await;
    calls(&world, 200).await;
    let [killed, stopped] = newer;
    // Work of the new program is found by the old one: settling, retrying, and with leases that run out.
    killed.kill();
    stopped.stop().await;
    world.enqueue(&ids[..50]).await;
    all_served(&world).await;
    check(&world, &ids).await;
    for replica in older {
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the program of the last release: make test-upgrade"]
async fn the_last_release_leaves_refreshes_alone_and_a_request_for_one_alone_is_served_by_it() {
    let (old, new) = programs();
    let mut world = world().await;
    let ids = ids(3);
    migrate(&world, &new).await;
    let older = Replica::start(&world, &old);
    world.enqueue(&ids).await;
    all_served(&world).await;
    world
        .execute(
            "INSERT INTO feather.sync_jobs
                 (connection_id, account, phase, priority, run_at, wanted_at, finalize_started_at)
             SELECT id, 'default', 'refresh', 1000, now(), now(), now() FROM feather.integration_connections",
        )
        .await;
    world.enqueue(&ids[..1]).await;
    world
        .until("(SELECT count(*) FROM feather.sync_jobs) = 2 AND NOT EXISTS (SELECT FROM feather.sync_requests)")
        .await;
    // It has looked into all lanes since, several times.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let left: i64 = world
        .value("SELECT count(*) FROM feather.sync_jobs WHERE phase = 'refresh' AND state = 'pending' AND attempt = 0")
        .await;
    assert_eq!(left, 2);
    world.set("FEATHER_SYNC__RECONCILE__REFRESH_AFTER", "1h");
    let newer = Replica::start(&world, &new);
    all_served(&world).await;
    check(&world, &ids).await;
    let refreshed: i64 = world
        .value("SELECT count(*) FROM feather.sync_attempts WHERE kind = 'reconcile'")
        .await;
    assert!(refreshed >= 2, "{refreshed}");
    older.stop().await;
    newer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the program of the last release: make test-upgrade"]
async fn a_lost_refresh_that_the_last_release_finds_first_becomes_one_finalize_behind_all_others() {
    let (old, new) = programs();
    let world = world_with("tools = 3").await;
    let id = ids(1)[0];
    migrate(&world, &new).await;
    let older = Replica::start(&world, &old);
    world.enqueue(&[id]).await;
    all_served(&world).await;
    // Of a newer one that was killed in its call.
    world
        .execute(&format!(
            "INSERT INTO feather.sync_jobs
                 (connection_id, account, phase, priority, run_at, wanted_at, finalize_started_at, state, attempt, started_at,
                  worker, lease_token, lease_until)
             VALUES ('{id}', 'default', 'refresh', 1000, now(), now(), now(), 'running', 1, now(),
                     'a newer one', gen_random_uuid(), now())"
        ))
        .await;
    all_served(&world).await;
    older.stop().await;
    assert_eq!(
        world.story(id).await,
        ["synced", "crashed/lease_lost", "synced"]
    );
    assert_eq!(world.finalizes(id), 2);
    world.equals_truth(id).await.unwrap();
    world.assert_invariants().await;
    let counted: (i64, i64) = world
        .row(
            "SELECT count(*) FILTER (WHERE kind = 'finalize'), count(*) FILTER (WHERE kind = 'reconcile')
             FROM feather.sync_attempts",
        )
        .await;
    // The lost refresh is on record as a finalize.
    assert_eq!(counted, (3, 0));
}
