//! How much of the budget refreshes take, and what goes before them.

use super::*;
use crate::bystander::Bystander;
use chrono::TimeDelta;

/// All calls that were made since.
fn since(world: &World, number: u64) -> Vec<Call> {
    let mut calls = world.sim.calls();
    calls.retain(|call| call.number > number);
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn all_replicas_together_keep_to_the_part_of_the_budget_and_use_it() {
    let (mut world, _) = synced_a_day_ago(60).await;
    world
        .set(
            "FEATHER_SYNC__ACCOUNTS__DEFAULT__REQUESTS_PER_MINUTE",
            "600",
        )
        .set("FEATHER_SYNC__RECONCILE__BUDGET_SHARE", "0.2");
    let before = world.sim.stats().calls;
    let bystander = Bystander::watch(world.pool.clone());
    let replicas = [world.start(), world.start(), world.start()];
    world.called(before + 20).await;
    for replica in replicas {
        replica.stop().await;
    }
    let calls = since(&world, before);
    let (from, to) = (calls[0].at, calls[calls.len() - 1].at);
    let took = (to - from).as_seconds_f64();
    let stalled = bystander.stalled(from - TimeDelta::seconds(2), to);
    // Two a second, one at once, and half a second or as long as the machine stalled for what was on its way; each is a
    // refresh and the poll after it.
    let allowed = 2.0 * (took + stalled) + 5.0;
    assert!(
        calls.len() as f64 <= allowed,
        "{} calls in {took} s, of which the machine stalled {stalled:.1} s",
        calls.len()
    );
    assert!(
        took < 30.0 + stalled,
        "{} calls in {took} s, of which the machine stalled {stalled:.1} s",
        calls.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_of_ten_a_minute_still_refreshes_and_serves_a_request_first() {
    let (mut world, _) = synced_a_day_ago(5).await;
    world
        .set("FEATHER_SYNC__ACCOUNTS__DEFAULT__REQUESTS_PER_MINUTE", "10")
        .set("FEATHER_SYNC__RECONCILE__BUDGET_SHARE", "1");
    let before = world.sim.stats().calls;
    let replica = world.start();
    world.called(before + 1).await;
    let fresh = Uuid::from_u128(0xffff_ffff_0000_4000_8000_0000_0000_0001);
    world.enqueue(&[fresh]).await;
    world.called(before + 2).await;
    replica.stop().await;
    let calls = since(&world, before);
    assert_eq!(calls[0].kind, Kind::Refresh);
    assert_eq!(calls[1].connection_id, Some(fresh));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_are_put_into_the_queue_than_the_budget_allows_soon() {
    let (mut world, _) = synced_a_day_ago(60).await;
    world.set("FEATHER_SYNC__ACCOUNTS__DEFAULT__REQUESTS_PER_MINUTE", "60");
    world.db().pause("default", "somebody@here").await.unwrap();
    let replica = world.start();
    for _ in 0..2 {
        let now: String = world.value("SELECT clock_timestamp()::text").await;
        world
            .until(&format!(
                "(SELECT due_at > '{now}'::timestamptz + interval '5 seconds' FROM feather.sync_refreshes)"
            ))
            .await;
    }
    replica.stop().await;
    let waiting: i64 = world.value("SELECT count(*) FROM feather.sync_jobs").await;
    // A second's fifth, twice as many as two steps of five seconds have.
    assert_eq!(waiting, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_refreshes_leave_slots_to_what_is_asked_for() {
    let (mut world, _) = synced_a_day_ago(12).await;
    world
        .set("FEATHER_SYNC__WORKER__CONCURRENCY", "4")
        .set("FEATHER_SYNC__RECONCILE__BUDGET_SHARE", "0.5");
    // No call ends.
    let gate = world.sim.hold();
    let replica = world.start();
    let running =
        "SELECT count(*) FROM feather.sync_jobs WHERE state = 'running' AND phase = 'refresh'";
    world.until(&format!("({running}) >= 2")).await;
    let fresh = Uuid::from_u128(0xffff_ffff_0000_4000_8000_0000_0000_0001);
    world.enqueue(&[fresh]).await;
    world
        .until("(SELECT count(*) FROM feather.sync_jobs WHERE state = 'running' AND phase = 'finalize') = 1")
        .await;
    assert_eq!(world.value::<i64>(running).await, 2);
    drop(gate);
    world.until(NOTHING_LEFT).await;
    replica.stop().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_refresh_begins_once_one_is_over() {
    let (mut world, ids) = synced_a_day_ago(6).await;
    world
        .set("FEATHER_SYNC__WORKER__CONCURRENCY", "2")
        .set("FEATHER_SYNC__RECONCILE__BUDGET_SHARE", "0.5")
        // Longer than anybody waits here.
        .set("FEATHER_SYNC__WORKER__POLL_INTERVAL", "1m");
    // And nothing is due later that would wake it.
    world.sim.set_faults(vec![FaultRule {
        on: On::Refresh,
        ..FaultRule::new(Fault::NotActive)
    }]);
    let replica = world.start();
    world.until("EXISTS (SELECT FROM feather.sync_jobs) OR EXISTS (SELECT FROM feather.sync_attempts WHERE kind = 'reconcile')").await;
    world.until(NOTHING_LEFT).await;
    replica.stop().await;
    let mut refreshed: Vec<_> = refreshes(&world)
        .iter()
        .filter_map(|call| call.connection_id)
        .collect();
    refreshed.sort();
    assert_eq!(refreshed, ids);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_cannot_be_written_down_takes_the_place_of_another_no_longer_than_its_lease()
{
    let (mut world, ids) = synced_a_day_ago(1).await;
    for (key, value) in [
        ("WORKER__CONCURRENCY", "2"),
        ("RECONCILE__BUDGET_SHARE", "0.5"),
        ("WORKER__LEASE", "5s"),
        ("API__REQUEST_TIMEOUT", "2s"),
        ("API__CONNECT_TIMEOUT", "1s"),
    ] {
        world.set(&format!("FEATHER_SYNC__{key}"), value);
    }
    world.sim.script(ids[0], [Fault::status(503)]);
    world
        .execute(
            "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '22000'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON feather.sync_attempts
             FOR EACH ROW WHEN (NEW.outcome = 'retry') EXECUTE FUNCTION public.refuse();",
        )
        .await;
    let replica = world.start();
    world
        .until("EXISTS (SELECT FROM feather.sync_attempts WHERE outcome = 'crashed')")
        .await;
    // One refresh at a time is allowed, and nobody is at the other one any more.
    world.until(NOTHING_LEFT).await;
    replica.stop().await;
    let story = world.story(ids[0]).await;
    assert_eq!(story[..2], ["synced", "crashed/lease_lost"]);
    assert_eq!(story.last().unwrap(), "synced");
    assert_eq!(refreshes(&world).len(), 2);
    world.check().await;
}
