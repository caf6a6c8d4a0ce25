//! What a list leads to: finalizes and polls, behind all fresh work, and none of them twice.

use super::*;
use feather_sync::domain::listed::PRIORITY;

#[tokio::test(flavor = "multi_thread")]
async fn only_what_has_finished_oauth_and_was_never_finalized_is_finalized() {
    let world = World::with(scenario(
        "connections = 60\nauthorized = 0.2\npending = 0.2",
    ))
    .await;
    let tally = backfill(&world).await;
    let authorized: Vec<(Uuid,)> = world
        .rows("SELECT id FROM feather.connections WHERE status = 'authorized' ORDER BY id")
        .await;
    assert!(!authorized.is_empty());
    assert_eq!(tally.finalize, authorized.len() as u64);
    let requested = |(id,): &(Uuid,)| (*id, "requested".into(), "finalize".into(), PRIORITY);
    let expected: Vec<_> = authorized.iter().map(requested).collect();
    assert_eq!(queued(&world).await, expected);

    // Once more: they are in hand.
    assert_eq!(backfill(&world).await.finalize, 0);
    assert_eq!(queued(&world).await, expected);
    world.drain().await;
    world.check().await;
    for id in world.sim.ids() {
        let finalizes = usize::from(authorized.contains(&(id,)));
        assert_eq!(world.finalizes(id), finalizes, "{id}");
    }
    assert_equals_list(&world, &world.sim.ids()).await;
    assert_eq!(backfill(&world).await.finalize, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_still_settling_is_followed_by_polls_alone() {
    let world = World::with(scenario("connections = 8\ntools = 4")).await;
    lists_fail(&world, Fault::NeverSettles);
    let tally = backfill(&world).await;
    assert_eq!((tally.follow, tally.finalize), (8, 0));
    let jobs = queued(&world).await;
    assert_eq!(jobs.len(), 8);
    assert!(jobs.iter().all(|(_, state, phase, priority)| {
        (state.as_str(), phase.as_str(), *priority) == ("pending", "settle", PRIORITY)
    }));
    assert_eq!(backfill(&world).await.follow, 0);
    world.drain().await;
    world.check().await;
    for id in world.sim.ids() {
        assert_eq!(world.story(id).await, ["synced"]);
        assert_eq!(world.finalizes(id), 0);
    }
    assert_equals_list(&world, &world.sim.ids()).await;
    let finalized = "SELECT count(*) FROM feather.connections WHERE _finalized_at IS NOT NULL";
    assert_eq!(world.value::<i64>(finalized).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_connection_that_is_asked_for_is_finalized_after_all() {
    let world = World::with(scenario("connections = 1")).await;
    let id = world.sim.ids()[0];
    world.enqueue(&[id]).await;
    lists_fail(&world, Fault::NeverSettles);
    // The request has it in hand.
    assert_eq!(backfill(&world).await.follow, 0);
    world.execute("DELETE FROM feather.sync_requests").await;
    assert_eq!(backfill(&world).await.follow, 1);
    world.sync(&[id]).await;
    assert_eq!(world.finalizes(id), 1);
    let served =
        "SELECT last_success_started_at > (SELECT min(_first_seen_at) FROM feather.connections)
                  FROM feather.sync_status";
    assert!(world.value::<bool>(served).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_nobody_knows_is_followed_once_and_then_believed() {
    let world = World::with(scenario("connections = 3")).await;
    let odd = Fault::OddStatus {
        word: "in_bloom".into(),
    };
    world.sim.set_faults(
        [On::List, On::Poll]
            .map(|on| FaultRule {
                on,
                ..FaultRule::new(odd.clone())
            })
            .into(),
    );
    assert_eq!(backfill(&world).await.follow, 3);
    world.drain().await;
    let calls = world.sim.stats().calls;
    let tally = backfill(&world).await;
    assert_eq!((tally.follow, tally.unchanged), (0, 3));
    assert!(queued(&world).await.is_empty());
    assert_eq!(world.sim.stats().calls, calls + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_job_stays_dead() {
    let world = World::with(scenario("connections = 1\nauthorized = 1.0")).await;
    let id = world.sim.ids()[0];
    world.sim.script(id, [Fault::Json422]);
    assert_eq!(backfill(&world).await.finalize, 1);
    world.drain().await;
    assert_eq!(world.story(id).await, ["dead/invalid_request"]);
    let tally = backfill(&world).await;
    assert_eq!((tally.finalize, tally.unchanged), (0, 1));
    assert_eq!(queued(&world).await[0].1, "dead");
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_work_goes_first() {
    let mut world = World::with(scenario("connections = 30\nauthorized = 1.0")).await;
    world.set("FEATHER_SYNC__WORKER__CONCURRENCY", "1");
    backfill(&world).await;
    let fresh = crate::world::ids(3);
    world.sync(&fresh).await;
    let first: Vec<_> = world
        .sim
        .calls()
        .into_iter()
        .filter_map(|call| call.connection_id)
        .take(3)
        .collect();
    assert!(fresh.iter().all(|id| first.contains(id)), "{first:?}");
}
