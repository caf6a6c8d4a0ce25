//! Stopping: no new work, calls finish or are released, nothing is burned.

use crate::world::World;
use crate::world::ids;

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_calls_under_way_finish_and_begins_no_new_ones() {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__WORKER__CONCURRENCY", "3");
    let gate = world.sim.hold();
    world.enqueue(&ids(20)).await;
    let replica = world.start();
    world.called(3).await;
    let stopping = tokio::spawn({
        let lifecycle = replica.lifecycle.clone();
        async move {
            lifecycle.stop.cancel();
            replica.stop().await;
        }
    });
    gate.release();
    stopping.await.unwrap();
    let synced: i64 = world
        .value("SELECT count(*) FROM feather.sync_status WHERE last_outcome = 'synced'")
        .await;
    assert_eq!(synced, 3);
    let waiting: (i64, i64, i32) = world
        .row("SELECT count(*) FILTER (WHERE state = 'pending'), count(*), max(attempt) FROM feather.sync_jobs")
        .await;
    assert_eq!(waiting, (17, 17, 0));
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_outlast_the_grace_are_released_on_record_without_burning_an_attempt() {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__WORKER__SHUTDOWN_GRACE", "1s");
    let id = ids(1)[0];
    let gate = world.sim.hold();
    world.enqueue(&[id]).await;
    let replica = world.start();
    world.called(1).await;
    replica.stop().await;
    let left: (String, i32, bool) = world
        .row("SELECT state, attempt, run_at <= now() FROM feather.sync_jobs")
        .await;
    assert_eq!(left, ("pending".into(), 0, true));
    assert_eq!(world.story(id).await, ["deferred"]);
    gate.release();
    world.drain().await;
    assert_eq!(world.story(id).await, ["deferred", "synced"]);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_daemon_stops_at_once() {
    let mut world = World::new().await;
    // Whatever it would wait for takes longer than it may.
    world
        .set("FEATHER_SYNC__WORKER__POLL_INTERVAL", "60s")
        .set("FEATHER_SYNC__WORKER__SHUTDOWN_GRACE", "10m");
    let replica = world.start();
    world
        .until("SELECT count(*) = 1 FROM feather.sync_replicas")
        .await;
    let began = std::time::Instant::now();
    replica.stop().await;
    assert!(began.elapsed().as_secs() < 30);
}
