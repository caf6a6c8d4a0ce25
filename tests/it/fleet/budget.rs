//! All replicas together keep to the limit, and use it.

use crate::bystander::Bystander;
use crate::claiming::claim_of_one;
use crate::fleet::Process;
use crate::world::World;
use crate::world::ids;
use chrono::TimeDelta;
use feather_sync::domain::AccountName;
use feather_sync::domain::Budget;
use feather_sync::sim::Call;
use feather_sync::sim::Limit;
use feather_sync::sim::Scenario;
use feather_sync::sim::Window;
use feather_sync::store::Claim;
use feather_sync::store::ClaimRequest;
use feather_sync::store::Db;
use feather_sync::store::DbSettings;
use feather_sync::store::Look;

pub(super) const RATE: &str = "FEATHER_SYNC__ACCOUNTS__DEFAULT__REQUESTS_PER_MINUTE";

pub(super) fn limit(requests_per_minute: u32, window: Window) -> Limit {
    Limit {
        requests_per_minute,
        window,
        retry_after: None,
        retry_after_header: None,
    }
}

/// However short the window: no more than the bucket gives out in it, and half a second for the way, or longer where the
/// machine stalled in the window or just before.
pub(super) fn keeps_to(calls: &[Call], budget: Budget, bystander: &Bystander) {
    for (first, from) in calls.iter().enumerate() {
        for (last, to) in calls.iter().enumerate().skip(first) {
            let window = (to.at - from.at).as_seconds_f64();
            let way = 0.5 + bystander.stalled(from.at - TimeDelta::seconds(2), to.at);
            let most = budget.burst + budget.rate * (window + way) + 1.0;
            let calls = last - first + 1;
            assert!(
                calls as f64 <= most,
                "{calls} calls from {} to {}, at most {most:.0}",
                from.at,
                to.at
            );
        }
    }
}

/// The only test that needs more than a minute: that is the window.
#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_use_a_strict_limit_and_never_exceed_it_in_any_minute() {
    const LIMIT: usize = 600;
    let worlds = [Window::Fixed, Window::Sliding].map(async |window| {
        let mut world =
            World::with(Scenario::from_toml("tools = 0\nlatency = \"5ms..40ms\"").unwrap()).await;
        world
            .sim
            .set_limit(Some(limit(u32::try_from(LIMIT).unwrap(), window)));
        world.set(RATE, "600");
        world.enqueue(&ids(1_000)).await;
        let bystander = Bystander::watch(world.pool.clone());
        let replicas = [world.start(), world.start(), world.start()];
        // 75 seconds' worth.
        world.called(LIMIT as u64 * 75 / 60).await;
        for replica in replicas {
            replica.stop().await;
        }
        let calls = world.sim.calls();
        let refused = calls.iter().filter(|call| call.status == Some(429)).count();
        assert_eq!(refused, 0, "{window:?}");
        let end = calls[calls.len() - 1].at - TimeDelta::minutes(1);
        for from in calls.iter().map(|call| call.at).filter(|at| *at <= end) {
            let minute = from..from + TimeDelta::minutes(1);
            let used = calls.iter().filter(|call| minute.contains(&call.at)).count();
            assert!(used <= LIMIT, "{window:?}: {used} calls in the minute from {from}");
            let stalled = bystander.stalled(from, minute.end);
            let least = LIMIT as f64 * 0.95 * (1.0 - stalled / 60.0);
            assert!(
                used as f64 >= least,
                "{window:?}: {used} calls in the minute from {from}, of which the machine stalled {stalled:.1} s"
            );
        }
        world.check().await;
    });
    futures_util::future::join_all(worlds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_grows_and_is_killed_keeps_to_the_budget_and_uses_it_again() {
    let mut world =
        World::with(Scenario::from_toml("tools = 0\nlatency = \"50ms..200ms\"").unwrap()).await;
    world
        .set(RATE, "1200")
        .set("FEATHER_SYNC__WORKER__LEASE", "3s")
        .set("FEATHER_SYNC__API__REQUEST_TIMEOUT", "2s")
        .set("FEATHER_SYNC__API__CONNECT_TIMEOUT", "1s");
    let ids = ids(400);
    let bystander = Bystander::watch(world.pool.clone());
    world.enqueue(&ids).await;
    let mut fleet = vec![Process::start(&world)];
    for (calls, killed) in [
        (40, false),
        (80, true),
        (120, false),
        (160, true),
        (200, true),
    ] {
        world.called(calls).await;
        if killed {
            // With calls under way, and tokens drawn for others that will never be made.
            fleet.remove(0).kill();
        }
        fleet.push(Process::start(&world));
    }
    world.called(250).await;
    let again_from = world.sim.calls().len();
    world.called(again_from as u64 + 80).await;
    world
        .until("SELECT count(*) = 400 FROM feather.sync_status WHERE last_outcome = 'synced' AND state = 'idle'")
        .await;
    drop(fleet);
    let calls = world.sim.calls();
    let budget = Budget::per_minute(1_200);
    keeps_to(&calls, budget, &bystander);
    let (from, to) = (calls[again_from].at, calls[again_from + 79].at);
    let took = (to - from).as_seconds_f64();
    let stalled = bystander.stalled(from, to);
    let whole = 80.0 / budget.rate;
    assert!(
        took < whole * 1.5 + stalled,
        "80 calls took {took} s, of the whole budget {whole:.0}; the machine stalled {stalled:.1} s"
    );
    let attempts: i64 = world
        .value("SELECT count(*) FROM feather.sync_attempts")
        .await;
    assert!(calls.len() as i64 <= attempts);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_replicas_are_configured_differently_the_last_word_or_the_smaller_one_holds() {
    let mut world = World::with(Scenario::from_toml("tools = 0").unwrap()).await;
    let bystander = Bystander::watch(world.pool.clone());
    world.enqueue(&ids(300)).await;
    // The fleet is told to go slower, one replica after the other.
    world.set(RATE, "60000");
    let gate = world.sim.hold();
    let old = world.start();
    // As many as it calls at a time.
    world.called(16).await;
    world.set(RATE, "120");
    let new = world.start();
    world
        .until("SELECT requests_per_minute = 120 FROM feather.sync_accounts")
        .await;
    let from = world.sim.calls().len();
    gate.release();
    world.called(from as u64 + 6).await;
    old.stop().await;
    new.stop().await;
    // Those that the old one had claimed before are made up for by nobody.
    let calls = world.sim.calls();
    keeps_to(&calls[from..], Budget::per_minute(120), &bystander);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_of_the_database_that_goes_back_stops_nobody() {
    let world = World::with(Scenario::from_toml("tools = 0").unwrap()).await;
    // What a step back by an hour leaves behind.
    world
        .execute("UPDATE feather.sync_accounts SET tokens = 0, tokens_at = now() + interval '1 hour', spare_at = now() + interval '1 hour', pace = 0.5, pace_at = now() + interval '1 hour'")
        .await;
    let replica = world.start();
    world.enqueue(&ids(1)).await;
    world
        .until("SELECT count(*) = 1 FROM feather.connections")
        .await;
    replica.stop().await;
    let sane: bool = world
        .value("SELECT tokens_at <= now() AND spare_at <= now() AND pace_at <= now() AND tokens <= 600 FROM feather.sync_accounts")
        .await;
    assert!(sane);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_given_back_unsent_gives_its_token_back_once() {
    let world = World::new().await;
    let settings = DbSettings {
        url: world.config().database_url().unwrap().clone(),
        listen_url: None,
        max_connections: 2,
        prepared_statements: true,
    };
    let db = Db::new(&settings).unwrap();
    world.enqueue(&ids(5)).await;
    db.take_in(&Look {
        limit: 10,
        from: None,
        running: &[],
    })
    .await
    .unwrap();
    world
        .execute("UPDATE feather.sync_accounts SET requests_per_minute = 1")
        .await;
    let account = AccountName::from("default".to_owned());
    // One token a minute.
    let request = ClaimRequest {
        slots: 5,
        budget: Budget::per_minute(1),
        worker: "w",
        ..claim_of_one(&account)
    };
    for _ in 0..3 {
        let Claim::Jobs { jobs, .. } = db.claim(&request).await.unwrap() else {
            panic!("the token is there");
        };
        assert_eq!(jobs.len(), 1);
        assert!(matches!(
            db.claim(&request).await.unwrap(),
            Claim::Budget(_)
        ));
        // Again, as after an answer that was lost.
        db.release(&jobs).await.unwrap();
        db.release(&jobs).await.unwrap();
        let tokens: f64 = world
            .value("SELECT tokens FROM feather.sync_accounts")
            .await;
        assert!((0.9..1.1).contains(&tokens), "{tokens}");
    }
}
