//! Floods of requests in one INSERT, against a real process.

use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Scenario;
use std::fs;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use uuid::Uuid;

struct Process(Child);

impl Process {
    fn start(world: &World) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_feather-sync"));
        command
            .arg("run")
            .env_clear()
            .envs(world.env())
            .env("FEATHER_SYNC__LOG__FILTER", "warn")
            .stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// The most memory that it has ever held, KiB; `None` where the system does not tell.
    fn peak_memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn world() -> World {
    World::with(Scenario::from_toml("tools = 2").unwrap()).await
}

/// With the priority of what nobody asked for.
async fn flood(world: &World, requests: u64, account: &str) {
    world
        .execute(&format!(
            "INSERT INTO feather.sync_requests (connection_id, account, priority)
             SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, '{account}', 1000
             FROM generate_series(1, {requests}) AS n"
        ))
        .await;
}

const TAKEN_IN: &str = "SELECT NOT EXISTS (SELECT FROM feather.sync_requests)";

async fn waiting(world: &World) -> u64 {
    let waiting: i64 = world
        .value("SELECT count(*) FROM feather.sync_requests")
        .await;
    waiting.unsigned_abs()
}

async fn attempts(world: &World) -> f64 {
    let attempts: i64 = world
        .value("SELECT count(*) FROM feather.sync_attempts")
        .await;
    f64::from(i32::try_from(attempts).unwrap())
}

/// Enqueues one urgent request and waits until its connection is there.
async fn sync_one(world: &World, number: u128) -> Duration {
    let id = Uuid::from_u128(0xffff_ffff_0000_4000_8000_0000_0000_0000 + number);
    let begun = Instant::now();
    world.enqueue(&[id]).await;
    world
        .until(&format!(
            "SELECT EXISTS (SELECT FROM feather.connections WHERE id = '{id}')"
        ))
        .await;
    begun.elapsed()
}

/// A flood, fresh requests meanwhile, and how the calls go on. Returns by how much the slowest of them took longer than the
/// slowest before the flood.
async fn fresh_beside_a_flood(requests: u64) -> Duration {
    let world = world().await;
    let process = Process::start(&world);
    let mut alone = Duration::ZERO;
    for number in 20..25 {
        alone = alone.max(sync_one(&world, number).await);
    }
    let idle = process.peak_memory();
    flood(&world, requests, "default").await;

    let (begun, before) = (Instant::now(), attempts(&world).await);
    let mut slowest = Duration::ZERO;
    for number in 1..=5 {
        let took = sync_one(&world, number).await;
        slowest = slowest.max(took);
        let left = waiting(&world).await;
        println!("a fresh request took {took:?}, {left} still in the inbox");
        assert!(
            left > requests / 2,
            "the fresh one waited for the backlog: only {left} of {requests} are left"
        );
    }
    world.until(TAKEN_IN).await;
    let during = (attempts(&world).await - before) / begun.elapsed().as_secs_f64();
    println!("taken in within {:?}", begun.elapsed());
    for number in 6..=10 {
        let took = sync_one(&world, number).await;
        slowest = slowest.max(took);
        println!("a fresh request took {took:?} once all were in the queue");
    }

    let (begun, before) = (Instant::now(), attempts(&world).await);
    world
        .until(&format!(
            "SELECT count(*) > {before} + 500 OR (SELECT count(*) = 0 FROM feather.sync_jobs) FROM feather.sync_attempts"
        ))
        .await;
    let after = (attempts(&world).await - before) / begun.elapsed().as_secs_f64();
    println!("calls a second: {during:.0} while it was taken in, {after:.0} afterwards");
    assert!(during > after / 5.0, "taking in starves the claims");

    if let (Some(idle), Some(peak)) = (idle, process.peak_memory()) {
        println!("memory: {idle} KiB idle, {peak} KiB at most");
        assert!(peak < idle + 16_384, "{idle} KiB idle, {peak} KiB now");
    }
    println!("alone {alone:?} at most, beside the flood {slowest:?}");
    slowest.saturating_sub(alone)
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_requests_overtake_a_backlog_that_is_being_taken_in() {
    let delay = fresh_beside_a_flood(40_000).await;
    // Other tests run meanwhile; `make soak` is alone.
    assert!(delay < Duration::from_secs(5), "{delay:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes long: make soak"]
async fn fresh_requests_overtake_a_million_that_are_being_taken_in() {
    let delay = fresh_beside_a_flood(1_000_000).await;
    assert!(delay < Duration::from_secs(1), "{delay:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_urgent_request_is_taken_in_while_every_slot_is_busy() {
    let mut world = World::with(Scenario::from_toml("tools = 0\nlatency = \"5ms\"").unwrap()).await;
    world.set("FEATHER_SYNC__WORKER__CONCURRENCY", "3");
    world.enqueue(&ids(3_000)).await;
    let replica = world.start();
    world
        .until("SELECT count(*) > 50 FROM feather.sync_attempts")
        .await;
    let urgent = Uuid::from_u128(0xffff_ffff_0000_4000_8000_0000_0000_0000);
    world
        .execute(&format!(
            "SELECT feather.enqueue('{urgent}', priority => -5)"
        ))
        .await;
    world
        .until(&format!(
            "SELECT EXISTS (SELECT FROM feather.connections WHERE id = '{urgent}')"
        ))
        .await;
    let before = attempts(&world).await;
    assert!(before < 1_500.0, "it came after {before} of 3,000 others");
    replica.stop().await;
}

/// Requests for one connection over and over, and one for another.
async fn one_connection_over_and_over(requests: u64) {
    let world = world().await;
    let id = Uuid::from_u128(0x4000_8000_0000_0000_0001);
    world
        .execute(&format!(
            "INSERT INTO feather.sync_requests (connection_id) SELECT '{id}' FROM generate_series(1, {requests})"
        ))
        .await;
    let process = Process::start(&world);
    let begun = Instant::now();
    let other = sync_one(&world, 1).await;
    println!("another connection took {other:?}");
    world.until(TAKEN_IN).await;
    world
        .until("SELECT NOT EXISTS (SELECT FROM feather.sync_jobs)")
        .await;
    let finalizes = world.finalizes(id) as u64;
    println!("{finalizes} calls in {:?}", begun.elapsed());
    assert!(finalizes <= requests / 5_000 + 1, "{finalizes} calls");
    drop(process);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_requests_for_one_connection_become_a_handful_of_syncs() {
    one_connection_over_and_over(20_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes long: make soak"]
async fn a_million_requests_for_one_connection_become_a_few_syncs() {
    one_connection_over_and_over(1_000_000).await;
}

/// A flood for an account that nobody serves, and a request for one that is served.
async fn nobodys_flood(requests: u64) {
    let world = world().await;
    flood(&world, requests, "nobody").await;
    let process = Process::start(&world);
    let took = sync_one(&world, 1).await;
    let left = waiting(&world).await;
    println!("a request of a known account took {took:?}, {left} in the inbox");
    assert!(left > requests / 2, "{left} of {requests} are left");
    world.until(TAKEN_IN).await;
    let took = sync_one(&world, 2).await;
    println!("and {took:?} once all are in the queue");
    let health: (i64, Option<String>) = world
        .row("SELECT pending + requests_waiting, paused_reason FROM feather.sync_health WHERE account = 'nobody'")
        .await;
    println!("sync_health: {health:?}");
    assert_eq!(health.1.as_deref(), Some("unknown_account"));
    drop(process);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_that_nobody_serves_is_in_nobodys_way() {
    nobodys_flood(20_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes long: make soak"]
async fn a_million_that_nobody_serves_are_in_nobodys_way() {
    nobodys_flood(1_000_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_does_not_end_its_transaction_is_in_nobodys_way() {
    let world = world().await;
    let process = Process::start(&world);
    let mut producer = world.pool.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO feather.sync_requests (connection_id) SELECT gen_random_uuid() FROM generate_series(1, 50000)",
    )
    .execute(&mut *producer)
    .await
    .unwrap();
    // All of them have ids smaller than the fresh ones, and none is seen.
    for number in 1..=5 {
        let took = sync_one(&world, number).await;
        println!("{took:?}");
    }
    producer.rollback().await.unwrap();
    assert_eq!(waiting(&world).await, 0);
    assert_eq!(world.sim.calls().len(), 5);
    drop(process);
}

/// Work goes on at the rate of the budget, and fresh requests are served in seconds, while a snapshot is held that
/// keeps every dead row: for `SOAK_SNAPSHOT` seconds.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes long: make soak"]
async fn work_goes_on_at_its_rate_while_a_snapshot_is_held() {
    let seconds = std::env::var("SOAK_SNAPSHOT").map_or(600, |value| value.parse().unwrap());
    let mut world = world().await;
    world.set(
        "FEATHER_SYNC__ACCOUNTS__DEFAULT__REQUESTS_PER_MINUTE",
        "3000",
    );
    let mut reader = world.pool.begin().await.unwrap();
    sqlx::raw_sql(
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM feather.sync_jobs",
    )
    .execute(&mut *reader)
    .await
    .unwrap();
    // More than the budget allows in that time.
    flood(&world, 60 * seconds, "default").await;
    let process = Process::start(&world);
    sync_one(&world, 0).await;
    let begun = Instant::now();
    let mut rates = Vec::new();
    let mut slowest = Duration::ZERO;
    for number in 1.. {
        let (since, before) = (Instant::now(), attempts(&world).await);
        let pause = Duration::from_secs(seconds / 12);
        let took = sync_one(&world, number).await;
        slowest = slowest.max(took);
        tokio::time::sleep(pause.saturating_sub(took)).await;
        let rate = (attempts(&world).await - before) / since.elapsed().as_secs_f64();
        println!(
            "after {:.0?}: {rate:.1} calls a second, a fresh request took {took:.0?}, {} in the inbox",
            begun.elapsed(),
            waiting(&world).await
        );
        rates.push(rate);
        if begun.elapsed() > Duration::from_secs(seconds) {
            break;
        }
    }
    reader.rollback().await.unwrap();
    let third = rates.len() / 3;
    let mean =
        |rates: &[f64]| rates.iter().sum::<f64>() / f64::from(u32::try_from(rates.len()).unwrap());
    let (first, last) = (mean(&rates[..third]), mean(&rates[rates.len() - third..]));
    assert!(last > first * 0.8, "{first} calls a second, then {last}");
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    drop(process);
}
