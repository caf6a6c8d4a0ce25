//! An account whose API refuses calls below the configured limit goes slower, and faster again with time.

use super::budget::RATE;
use super::budget::keeps_to;
use super::budget::limit;
use crate::bystander::Bystander;
use crate::world::World;
use crate::world::ids;
use feather_sync::domain::Budget;
use feather_sync::sim::Call;
use feather_sync::sim::Scenario;
use feather_sync::sim::Window;
use std::time::Duration;

const PACE: &str = "SELECT pace FROM feather.sync_accounts";
const PAUSED: &str = "SELECT pause_reason = 'rate_limited' FROM feather.sync_accounts";
const WORKS: &str = "SELECT pause_reason IS NULL FROM feather.sync_accounts";

async fn probe_now(world: &World) {
    world
        .execute("UPDATE feather.sync_accounts SET paused_until = now(); NOTIFY feather_sync")
        .await;
}

fn near(pace: f64, expected: f64) -> bool {
    (pace - expected).abs() < 0.02
}

#[tokio::test(flavor = "multi_thread")]
async fn each_round_of_refusals_slows_the_account_once_and_refused_probes_do_not() {
    let mut world =
        World::with(Scenario::from_toml("tools = 0\nlatency = \"50ms\"").unwrap()).await;
    world.set("FEATHER_SYNC__WORKER__CONCURRENCY", "32");
    world.sim.set_limit(Some(limit(20, Window::Sliding)));
    world.enqueue(&ids(400)).await;
    let replicas = [world.start(), world.start(), world.start()];
    let refused = || {
        let calls = world.sim.calls();
        calls.iter().filter(|call| call.status == Some(429)).count()
    };
    for expected in [0.8, 0.64] {
        let before = refused();
        world.until(PAUSED).await;
        world
            .until("SELECT count(*) = 0 FROM feather.sync_jobs WHERE state = 'running'")
            .await;
        let round = refused() - before;
        assert!(round > 1, "{round} refusals in the round");
        let pace: f64 = world.value(PACE).await;
        assert!(
            near(pace, expected),
            "{pace} after a round of {round}, not {expected}"
        );
        // A probe that finds the window still full.
        probe_now(&world).await;
        world
            .until("SELECT pause_step > 1 AND paused_until > now() FROM feather.sync_accounts")
            .await;
        let pace: f64 = world.value(PACE).await;
        assert!(near(pace, expected), "{pace} after a probe, not {expected}");
        // The next minute: the probe succeeds, and calls go on until that one is full too.
        world.sim.advance(Duration::from_secs(61));
        let done: i64 = world
            .value("SELECT count(*) FROM feather.connections")
            .await;
        probe_now(&world).await;
        world
            .until(&format!(
                "SELECT count(*) > {done} FROM feather.connections"
            ))
            .await;
    }
    for replica in replicas {
        replica.stop().await;
    }
    world.check().await;
    let burned: i64 = world
        .value("SELECT count(*) FROM feather.sync_attempts WHERE attempt > 1")
        .await;
    assert_eq!(burned, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slowed_account_draws_its_part_of_the_budget_and_all_of_it_when_it_has_climbed_back() {
    let mut world = World::with(Scenario::from_toml("tools = 0").unwrap()).await;
    world
        .set(RATE, "1200")
        .set("FEATHER_SYNC__ADMIN__LISTEN", "off");
    let bystander = Bystander::watch(world.pool.clone());
    let replicas = [world.start(), world.start()];
    world
        .until("SELECT requests_per_minute = 1200 FROM feather.sync_accounts")
        .await;
    world
        .execute("UPDATE feather.sync_accounts SET pace = 0.1, pace_at = now(), tokens = 0")
        .await;
    world.enqueue(&ids(500)).await;
    world.called(10).await;
    let slow = world.sim.calls();
    let budget = Budget::per_minute(1_200);
    keeps_to(&slow, budget.at_pace(0.1), &bystander);
    let took = |first: &Call, last: &Call| {
        let stalled = bystander.stalled(first.at, last.at);
        (last.at - first.at).as_seconds_f64() - stalled
    };
    let took_slow = took(&slow[0], &slow[9]);
    assert!(
        took_slow < 12.0,
        "10 calls at 2 a second took {took_slow} s"
    );
    // As after an hour and a half.
    world
        .execute("UPDATE feather.sync_accounts SET pace_at = now() - interval '90 minutes'; NOTIFY feather_sync")
        .await;
    let from = world.sim.calls().len();
    world.called(from as u64 + 100).await;
    let fast = world.sim.calls();
    let took_fast = took(&fast[from], &fast[from + 99]);
    assert!(
        took_fast < 15.0,
        "100 calls at 20 a second took {took_fast} s"
    );
    keeps_to(&fast[from..], budget, &bystander);
    for replica in replicas {
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_pause_does_not_bring_the_pace_back_and_a_new_limit_begins_at_full_pace() {
    let mut world = World::with(Scenario::from_toml("tools = 0").unwrap()).await;
    let mut strict = limit(5, Window::Sliding);
    strict.retry_after = Some(3_000);
    world.sim.set_limit(Some(strict));
    world.enqueue(&ids(40)).await;
    let replica = world.start();
    world.until(PAUSED).await;
    world
        .until("SELECT count(*) = 0 FROM feather.sync_jobs WHERE state = 'running'")
        .await;
    let (pace, frozen): (f64, bool) = world
        .row("SELECT pace, pace_at >= paused_until FROM feather.sync_accounts")
        .await;
    assert!(near(pace, 0.8) && frozen, "{pace}");
    // The pause is over an hour later.
    world
        .execute("UPDATE feather.sync_accounts SET paused_until = paused_until - interval '1 hour', pace_at = pace_at - interval '1 hour'; NOTIFY feather_sync")
        .await;
    world.sim.set_limit(None);
    world.until(WORKS).await;
    let (pace, climbs_from_now): (f64, bool) = world
        .row("SELECT pace, pace_at > now() - interval '1 minute' FROM feather.sync_accounts")
        .await;
    assert!(near(pace, 0.8) && climbs_from_now, "{pace}");
    replica.stop().await;

    world.set(RATE, "50000");
    world.drain().await;
    assert_eq!(world.value::<f64>(PACE).await, 1.0);
    world.check().await;
}
