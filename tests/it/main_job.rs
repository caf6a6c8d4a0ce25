//! The main job: ids go in by plain SQL, both tables hold what the API said.

use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Scenario;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_connections_are_finalized_once_each_and_stored_to_the_last_column() {
    let world = World::with(Scenario::from_toml("tools = 8").unwrap()).await;
    let ids = ids(200);
    world.sync(&ids).await;
    for id in &ids {
        assert_eq!(world.sim.calls_for(*id).len(), 1);
        world.equals_truth(*id).await.unwrap();
    }
    let tools: i64 = world.value("SELECT count(*) FROM feather.tools").await;
    assert_eq!(tools, 1600);
    let (states, outcomes): (Vec<String>, Vec<String>) = world
        .row("SELECT array_agg(DISTINCT state), array_agg(DISTINCT last_outcome) FROM feather.sync_status")
        .await;
    assert_eq!(
        (states, outcomes),
        (vec!["idle".into()], vec!["synced".into()])
    );
    let added: i64 = world
        .value("SELECT sum(tools_added)::bigint FROM feather.sync_attempts")
        .await;
    assert_eq!(added, 1600);
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_that_settle_late_are_polled_by_get_until_they_have() {
    let world = World::with(Scenario::from_toml("tools = 3\nsettle = \"300ms\"").unwrap()).await;
    let ids = ids(5);
    world.sync(&ids).await;
    for id in &ids {
        world.equals_truth(*id).await.unwrap();
        let calls = world.sim.calls_for(*id);
        assert_eq!(calls.iter().filter(|call| call.method == "POST").count(), 1);
        assert!(calls.len() >= 2);
        let story = world.story(*id).await;
        assert_eq!(story.last().unwrap(), "synced");
        assert!(
            story[..story.len() - 1]
                .iter()
                .all(|word| word == "settling"),
            "{story:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_tells_that_every_request_committed_before_it_began_is_served() {
    let world = World::new().await;
    let id = ids(1)[0];
    let gate = world.sim.hold();
    world.enqueue(&[id]).await;
    let replica = world.start();
    world.called(1).await;
    // Committed while the call is out: this one is not served by it.
    world.enqueue(&[id]).await;
    let late: chrono::DateTime<chrono::Utc> = world
        .value("SELECT max(requested_at) FROM feather.sync_requests")
        .await;
    gate.release();
    world
        .until(&format!(
            "SELECT last_success_started_at > '{}' FROM feather.sync_status",
            late.to_rfc3339()
        ))
        .await;
    assert_eq!(world.finalizes(id), 2);
    replica.stop().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_is_visible_within_moments_at_idle() {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__WORKER__POLL_INTERVAL", "60s");
    let replica = world.start();
    world
        .until("SELECT count(*) = 1 FROM feather.sync_replicas")
        .await;
    // The first one may be found at the start, by the look that goes before listening.
    for (done, id) in (1..).zip(ids(3)) {
        let began = std::time::Instant::now();
        world.enqueue(&[id]).await;
        world
            .until(&format!(
                "SELECT count(*) = {done} FROM feather.connections"
            ))
            .await;
        // Generous: what is measured exactly is for the benchmarks. Polling alone would take longer.
        assert!(began.elapsed() < Duration::from_secs(30));
    }
    replica.stop().await;
}
