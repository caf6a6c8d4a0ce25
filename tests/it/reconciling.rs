//! Now and then the API's list is compared with the tables: by one replica, and nothing is removed without proof.

use crate::world::World;
use feather_sync::sim::Fault;
use feather_sync::sim::FaultRule;
use feather_sync::sim::On;
use feather_sync::sim::Scenario;
use std::time::Duration;

mod absent;
mod turns;

const TURNS: &str = "SELECT count(*) FROM feather.sync_reconciles WHERE finished_at IS NOT NULL";

/// A world that reconciles all the time, once a daemon runs.
async fn reconciling(connections: u64) -> World {
    let mut world = World::with(Scenario {
        connections,
        ..Scenario::default()
    })
    .await;
    world.reconcile_every(Duration::from_millis(300));
    world
}

/// A turn is due now.
async fn make_due(world: &World) {
    world
        .execute(
            "INSERT INTO feather.sync_reconciles (account, due_at) VALUES ('default', now())
             ON CONFLICT (account) DO UPDATE SET due_at = excluded.due_at",
        )
        .await;
}

fn lists_fail(world: &World, fault: Fault) {
    world.sim.set_faults(vec![FaultRule {
        on: On::List,
        ..FaultRule::new(fault)
    }]);
}

/// Waits for one more comparison, begun after now.
async fn one_more(world: &World) {
    let now: String = world.value("SELECT clock_timestamp()::text").await;
    world
        .until(&format!(
            "SELECT started_at > '{now}' AND finished_at > started_at FROM feather.sync_reconciles"
        ))
        .await;
}

async fn outcome(world: &World) -> String {
    world
        .value("SELECT outcome FROM feather.sync_reconciles")
        .await
}

async fn held(world: &World) -> i64 {
    world
        .value("SELECT count(*) FROM feather.connections")
        .await
}

/// Calls about single connections.
fn polls(world: &World) -> usize {
    let calls = world.sim.calls();
    calls
        .iter()
        .filter(|call| call.connection_id.is_some())
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_changed_or_gone_upstream_is_so_in_the_tables_before_long() {
    let world = reconciling(10).await;
    let replica = world.start();
    world
        .until("(SELECT count(*) FROM feather.connections) = 10")
        .await;
    let ids = world.sim.ids();
    world
        .sim
        .edit(ids[0], |one| one["nickname"] = "Renamed".into());
    world.sim.delete(ids[1]);
    let fresh = crate::world::ids(1)[0];
    world.sim.restore(fresh);
    world
        .until("(SELECT count(*) FROM feather.connections WHERE nickname = 'Renamed') = 1")
        .await;
    world
        .until(&format!(
            "(SELECT _removed_at IS NOT NULL FROM feather.integration_connections WHERE id = '{}')",
            ids[1]
        ))
        .await;
    world
        .until(&format!(
            "EXISTS (SELECT FROM feather.connections WHERE id = '{fresh}')"
        ))
        .await;
    replica.stop().await;
    assert_eq!(world.story(ids[1]).await, ["dead/not_found"]);
    assert_eq!(world.sim.calls_for(ids[1]).len(), 1);
    world.check().await;
    for id in ids.iter().filter(|id| **id != ids[1]) {
        world.equals_truth(*id).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_absent_and_answers_for_itself_stays() {
    let world = reconciling(10).await;
    let replica = world.start();
    world
        .until("(SELECT count(*) FROM feather.connections) = 10")
        .await;
    lists_fail(&world, Fault::ShortList { keep: 0.7 });
    one_more(&world).await;
    one_more(&world).await;
    world
        .until("NOT EXISTS (SELECT FROM feather.sync_jobs)")
        .await;
    replica.stop().await;
    assert!(polls(&world) >= 3);
    assert_eq!(held(&world).await, 10);
    let words: i64 = world
        .value("SELECT count(*) FROM feather.sync_attempts WHERE kind <> 'poll' OR outcome <> 'synced'")
        .await;
    assert_eq!(words, 0);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_empty_truncated_or_failing_list_removes_nothing_and_nobody_is_asked_after() {
    let world = reconciling(10).await;
    let replica = world.start();
    world
        .until("(SELECT count(*) FROM feather.connections) = 10")
        .await;
    for id in world.sim.ids() {
        world.sim.delete(id);
    }
    one_more(&world).await;
    assert_eq!(
        (outcome(&world).await.as_str(), held(&world).await),
        ("short", 10)
    );
    for (fault, expected) in [
        (Fault::ShortList { keep: 0.4 }, "short"),
        (Fault::TruncatedJson, "failed"),
        (Fault::status(500), "failed"),
        (Fault::NotJson, "failed"),
        (Fault::Empty, "failed"),
    ] {
        let kind = fault.kind();
        if expected == "short" {
            world
                .sim
                .ids()
                .into_iter()
                .for_each(|id| world.sim.restore(id));
        }
        lists_fail(&world, fault);
        one_more(&world).await;
        assert_eq!(outcome(&world).await, expected, "{kind}");
        assert_eq!(held(&world).await, 10, "{kind}");
    }
    replica.stop().await;
    assert_eq!(polls(&world), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_that_finds_nothing_writes_nothing_but_sync_times() {
    let world = reconciling(20).await;
    let replica = world.start();
    one_more(&world).await;
    let rows = "SELECT md5(string_agg((to_jsonb(c) - '_synced_at')::text, ',' ORDER BY id)) FROM feather.integration_connections c";
    let places = "SELECT md5(string_agg(ctid::text || xmin::text, ',' ORDER BY id)) FROM feather.integration_connection_tools";
    let before: (String, String) = (world.value(rows).await, world.value(places).await);
    one_more(&world).await;
    assert_eq!(before, (world.value(rows).await, world.value(places).await));
    replica.stop().await;
    assert_eq!(held(&world).await, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_replicas_one_at_a_time_compares() {
    let mut world = reconciling(5).await;
    world.reconcile_every(Duration::from_secs(3_600));
    make_due(&world).await;
    let replicas = [world.start(), world.start(), world.start()];
    world.until(&format!("({TURNS}) = 1")).await;
    assert_eq!(outcome(&world).await, "done");
    for replica in replicas {
        replica.stop().await;
    }
    assert_eq!(world.sim.stats().calls, 1);
    let later: bool = world
        .value("SELECT due_at > now() + interval '50 minutes' AND worker IS NULL FROM feather.sync_reconciles")
        .await;
    assert!(later);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_turn_of_a_replica_that_died_is_taken_over_when_its_lease_is_over() {
    let world = reconciling(5).await;
    world
        .execute(
            "INSERT INTO feather.sync_reconciles (account, due_at, worker, lease_token, lease_until)
             VALUES ('default', now(), 'dead', gen_random_uuid(), now() + interval '2 seconds')",
        )
        .await;
    let until: String = world
        .value("SELECT lease_until::text FROM feather.sync_reconciles")
        .await;
    let replica = world.start();
    world.until(&format!("({TURNS}) = 1")).await;
    replica.stop().await;
    let taken: bool = world
        .value(&format!(
            "SELECT started_at > '{until}' FROM feather.sync_reconciles"
        ))
        .await;
    assert!(taken);
    assert_eq!(held(&world).await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_gives_the_turn_back() {
    let world = reconciling(5).await;
    let gate = world.sim.hold();
    let replica = world.start();
    world.called(1).await;
    replica.stop().await;
    drop(gate);
    let free: bool = world
        .value("SELECT worker IS NULL AND due_at <= now() AND finished_at IS NULL FROM feather.sync_reconciles")
        .await;
    assert!(free);
    assert_eq!(held(&world).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_account_is_not_compared_and_that_counts_as_no_failure() {
    let world = reconciling(5).await;
    world.db().pause("default", "somebody@here").await.unwrap();
    let replica = world.start();
    one_more(&world).await;
    let why: String = world
        .value("SELECT error FROM feather.sync_reconciles")
        .await;
    assert!(why.contains("somebody@here"), "{why}");
    assert_eq!(world.sim.stats().calls, 0);
    world.db().resume("default", "somebody@here").await.unwrap();
    world
        .until("(SELECT count(*) FROM feather.connections) = 5")
        .await;
    replica.stop().await;
}
