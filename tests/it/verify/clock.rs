//! The database's clock goes back a little, as it does when time is synchronized or after a failover.

use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Fault;
use feather_sync::sim::Scenario;
use serde_json::json;

/// Makes all that is stored half a minute younger, as if the clock had gone back by as much since.
const BACK: &str = "
    UPDATE feather.integration_connections
    SET _first_seen_at = _first_seen_at + interval '30 s', _finalized_at = _finalized_at + interval '30 s',
        _synced_at = _synced_at + interval '30 s', _changed_at = _changed_at + interval '30 s',
        _removed_at = _removed_at + interval '30 s';
    UPDATE feather.integration_connection_tools
    SET _first_seen_at = _first_seen_at + interval '30 s', _changed_at = _changed_at + interval '30 s',
        _removed_at = _removed_at + interval '30 s'";

#[tokio::test(flavor = "multi_thread")]
async fn after_a_clock_that_went_back_times_are_in_order_whatever_is_written() {
    let world = World::with(Scenario::from_toml("tools = 2").unwrap()).await;
    let ids = ids(5);
    world.sync(&ids).await;
    let [unchanged, changed, fewer, gone, waiting] = [ids[0], ids[1], ids[2], ids[3], ids[4]];
    world.sim.edit(changed, |truth| {
        truth["nickname"] = json!("another");
        truth["tools"][0]["display_name"] = json!("another");
    });
    world.sim.edit(fewer, |truth| truth["tools"] = json!([]));
    world.sim.delete(gone);
    world.execute(BACK).await;
    // A check that is no finalize comes to its own times.
    world.sim.script(waiting, [Fault::NotActive]);
    world.sync(&ids).await;
    let stories: Vec<_> = [unchanged, changed, fewer, gone]
        .map(|id| world.story(id))
        .into();
    for story in stories {
        assert_eq!(story.await.len(), 2);
    }
    let removed: i64 = world
        .value("SELECT count(*) FROM feather.integration_connection_tools WHERE _removed_at IS NOT NULL")
        .await;
    assert_eq!(removed, 2);
    // What was removed comes back.
    world.sim.restore(gone);
    world.execute(BACK).await;
    world.sync(&ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_never_comes_before_its_start() {
    let world = World::with(Scenario::from_toml("settle = \"300ms\"").unwrap()).await;
    world.enqueue(&ids(1)).await;
    let replica = world.start();
    world
        .until("SELECT phase = 'settle' FROM feather.sync_jobs")
        .await;
    world
        .execute("UPDATE feather.sync_jobs SET finalize_started_at = now() + interval '30 s'")
        .await;
    world
        .until("SELECT last_outcome = 'synced' FROM feather.sync_status")
        .await;
    replica.stop().await;
    assert!(
        world
            .value::<bool>("SELECT last_success_started_at > now() FROM feather.sync_status")
            .await
    );
}
