//! At any moment.

use crate::killed::PATIENCE;
use crate::killed::Process;
use crate::killed::books::Books;
use crate::killed::books::Overlap;
use crate::killed::short_leases;
use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Scenario;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_with_calls_in_flight_nothing_is_lost_and_every_call_is_recorded() {
    let mut world =
        World::with(Scenario::from_toml("tools = 2\nlatency = \"30ms\"").unwrap()).await;
    short_leases(&mut world);
    let ids = ids(150);
    for (round, fresh) in ids.chunks(50).enumerate() {
        let (first, rest) = fresh.split_at(40);
        world.enqueue(first).await;
        let process = Process::start(&world);
        world
            .until(&format!(
                "SELECT count(*) >= {} FROM feather.connections",
                round * 30 + 20
            ))
            .await;
        // So that at least one call is out, however fast the first ones were.
        let (gate, calls) = (world.sim.hold(), world.sim.stats().calls);
        world.enqueue(rest).await;
        world.called(calls + 1).await;
        process.signal("KILL");
        drop(process);
        gate.release();
    }
    let process = Process::start(&world);
    world.until("SELECT count(*) = 150 FROM feather.sync_status WHERE last_outcome = 'synced' AND state = 'idle'").await;
    drop(process);
    for id in &ids {
        let calls = world.sim.calls_for(*id).len() as i64;
        let attempts: i64 = world
            .value(&format!(
                "SELECT count(*) FROM feather.sync_attempts WHERE connection_id = '{id}'"
            ))
            .await;
        assert!(calls <= attempts, "{calls} calls, {attempts} attempts");
        world.equals_truth(*id).await.unwrap();
    }
    let crashed: i64 = world
        .value("SELECT count(*) FROM feather.sync_attempts WHERE outcome = 'crashed'")
        .await;
    assert!(crashed >= 3, "{crashed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_stopped_past_its_lease_writes_nothing_when_it_goes_on() {
    let mut world =
        World::with(Scenario::from_toml("tools = 2\nlatency = \"200ms\"").unwrap()).await;
    short_leases(&mut world);
    let ids = ids(16);
    // So that nothing can be done before it is stopped.
    let gate = world.sim.hold();
    let frozen = Process::start(&world);
    world
        .until("SELECT count(*) = 1 FROM feather.sync_replicas")
        .await;
    world.enqueue(&ids).await;
    world
        .until("SELECT count(*) > 0 FROM feather.sync_jobs WHERE state = 'running'")
        .await;
    frozen.signal("STOP");
    gate.release();
    let other = Process::start(&world);
    world.until("SELECT count(*) = 16 FROM feather.sync_status WHERE last_outcome = 'synced' AND state = 'idle'").await;
    let before: i64 = world
        .value("SELECT count(*) FROM feather.sync_attempts")
        .await;
    frozen.signal("CONT");
    // Once it has ended it writes nothing more.
    frozen.terminate().await;
    let after: i64 = world
        .value("SELECT count(*) FROM feather.sync_attempts")
        .await;
    assert_eq!(before, after);
    let crashed: i64 = world
        .value("SELECT count(*) FROM feather.sync_attempts WHERE outcome = 'crashed'")
        .await;
    assert!(crashed > 0, "no lease was taken over");
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_during_work_ends_with_exit_code_0_and_burns_nothing() {
    let world = World::with(Scenario::from_toml("tools = 2\nlatency = \"100ms\"").unwrap()).await;
    let mut process = Process::start(&world);
    let ids = ids(200);
    let (first, rest) = ids.split_at(100);
    world.enqueue(first).await;
    world
        .until("SELECT count(*) > 10 FROM feather.connections")
        .await;
    // However fast it is, calls are out, and others are there to be left.
    let (gate, calls) = (world.sim.hold(), world.sim.stats().calls);
    world.enqueue(rest).await;
    world.called(calls + 1).await;
    process.signal("TERM");
    gate.release();
    assert_eq!(process.ended().await.code(), Some(0));
    let left: (i64, i32) = world
        .row("SELECT count(*) FILTER (WHERE state <> 'pending'), max(attempt) FROM feather.sync_jobs")
        .await;
    assert_eq!(left, (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_the_api_holds_its_calls_nothing_is_lost() {
    tokio::join!(killed_with_calls_sent(1), killed_with_calls_sent(2));
}

async fn killed_with_calls_sent(replicas: usize) {
    let mut books = Books::open().await;
    let gate = books.world.sim.hold();
    // It must not give up its calls by itself before it is killed.
    books
        .world
        .set("FEATHER_SYNC__WORKER__LEASE", "300s")
        .set("FEATHER_SYNC__API__REQUEST_TIMEOUT", "200s");
    let killed = Process::start(&books.world);
    short_leases(&mut books.world);
    let world = &books.world;
    world.called(12).await;
    let healthy = (replicas > 1).then(|| Process::start(world));
    let holds = killed.holds();
    killed.signal("KILL");
    drop(killed);
    // The API has seen that nobody waits for an answer: until then, any call for one of them meets it there.
    let hung_up = async {
        while world.sim.stats().in_flight > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, hung_up).await.unwrap();
    world
        .execute(&format!(
            "UPDATE feather.sync_jobs SET lease_until = now() WHERE {holds}"
        ))
        .await;
    gate.release();
    let restarted = Process::start(world);
    let asked_last = books.ask_again(&restarted).await;
    books.done().await;
    for process in [Some(restarted), healthy].into_iter().flatten() {
        process.terminate().await;
    }
    books.check(&asked_last, Overlap::Never).await;
    let crashed: i64 = world
        .value("SELECT count(*) FROM feather.sync_attempts WHERE outcome = 'crashed'")
        .await;
    assert!(crashed >= 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_commits_after_its_process_was_killed_is_found_by_its_lease() {
    let books = Books::open().await;
    let world = &books.world;
    let killed = Process::start(world);
    world
        .until("SELECT NOT EXISTS (SELECT FROM feather.sync_requests)")
        .await;
    books.done().await;
    let calls = world.sim.calls().len();
    // The claim waits for the account's row, and commits when the row is free, though nobody waits for its answer.
    let mut account = world.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM feather.sync_accounts FOR UPDATE")
        .execute(&mut *account)
        .await
        .unwrap();
    world.enqueue(&books.ids[5..9]).await;
    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                 AND wait_event_type = 'Lock' AND query LIKE '%WITH RECURSIVE all_lanes%')";
    world.until(waits).await;
    killed.signal("KILL");
    drop(killed);
    account.commit().await.unwrap();
    world
        .until("SELECT count(*) = 4 FROM feather.sync_jobs WHERE state = 'running'")
        .await;
    assert_eq!(world.sim.calls().len(), calls);
    let restarted = Process::start(world);
    let asked_last = books.ask_again(&restarted).await;
    books.done().await;
    restarted.terminate().await;
    books.check(&asked_last, Overlap::Never).await;
}
