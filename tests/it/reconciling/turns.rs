//! Turns at comparing: that they end, and what becomes of those that cannot.

use super::*;
use crate::admin::get;
use crate::admin::listening;
use crate::world::PATIENCE;
use std::time::Instant;

/// Nobody is asked after any more: the database refuses it.
async fn refuse_to_ask_after(world: &World) {
    world
        .execute(
            "CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN IF NEW.priority = 1000 THEN RAISE query_canceled; END IF; RETURN NEW; END';
             CREATE TRIGGER no BEFORE INSERT ON feather.sync_jobs FOR EACH ROW EXECUTE FUNCTION public.no()",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_database_ends_the_turn_as_failed_and_it_is_repeated_in_minutes() {
    let mut world = reconciling(4).await;
    let replica = world.start();
    world
        .until("(SELECT count(*) FROM feather.connections) = 4")
        .await;
    one_more(&world).await;
    replica.stop().await;
    world.sim.delete(world.sim.ids()[0]);
    refuse_to_ask_after(&world).await;
    world.reconcile_every(Duration::from_secs(24 * 3_600));
    make_due(&world).await;
    let calls = world.sim.stats().calls;
    let replica = world.start();
    world
        .until("(SELECT outcome = 'failed' FROM feather.sync_reconciles)")
        .await;
    replica.stop().await;
    assert_eq!(world.sim.stats().calls, calls + 1);
    let (free, in_minutes, error): (bool, f64, String) = world
        .row(
            "SELECT worker IS NULL, EXTRACT(epoch FROM due_at - now())::float8 / 60, error
             FROM feather.sync_reconciles",
        )
        .await;
    assert!(free);
    assert!((10.0..20.0).contains(&in_minutes), "{in_minutes}");
    assert!(!error.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_cannot_be_taken_leaves_the_process_ready() {
    let mut world = reconciling(4).await;
    make_due(&world).await;
    world
        .execute(
            "CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE query_canceled; END';
             CREATE TRIGGER no BEFORE UPDATE ON feather.sync_reconciles FOR EACH ROW EXECUTE FUNCTION public.no()",
        )
        .await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let failed = |metrics: &str| {
        metrics
            .lines()
            .filter(|line| line.starts_with("feather_sync_db_errors_total{"))
            .filter_map(|line| line.split_once("} ")?.1.parse::<u64>().ok())
            .sum::<u64>()
    };
    let began = Instant::now();
    let mut errors = 0;
    while errors < 3 {
        assert!(began.elapsed() < PATIENCE, "it does not try again");
        let (status, body) = get(port, "/readyz", "Host: localhost\r\n").await;
        assert_eq!(status, 200, "{body}");
        errors = failed(&get(port, "/metrics", "Host: localhost\r\n").await.1);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    replica.stop().await;
    assert_eq!(held(&world).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_is_due_or_leased_in_a_far_future_is_taken_at_once() {
    for far in [
        "due_at = now() + interval '1 year'",
        "worker = 'lost', lease_token = gen_random_uuid(), lease_until = now() + interval '1 year'",
    ] {
        let mut world = reconciling(4).await;
        world.reconcile_every(Duration::from_secs(3_600));
        make_due(&world).await;
        world
            .execute(&format!("UPDATE feather.sync_reconciles SET {far}"))
            .await;
        let replica = world.start();
        world.until(&format!("({TURNS}) = 1")).await;
        replica.stop().await;
        assert_eq!(outcome(&world).await, "done", "{far}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_midst_of_a_lists_probe_leaves_the_next_probe_to_whoever_comes() {
    let mut world = reconciling(4).await;
    world.reconcile_every(Duration::from_secs(3_600));
    make_due(&world).await;
    world
        .execute(
            "UPDATE feather.sync_accounts SET pause_reason = 'rate_limited', paused_until = now(), pause_step = 1,
                    pause_error = 'HTTP 429' WHERE account = 'default'",
        )
        .await;
    let gate = world.sim.hold();
    let replica = world.start();
    world.called(1).await;
    let held: bool = world
        .value("SELECT paused_until > now() + interval '10 seconds' FROM feather.sync_accounts WHERE account = 'default'")
        .await;
    assert!(held);
    replica.stop().await;
    drop(gate);
    let (free, reason): (bool, String) = world
        .row("SELECT paused_until <= now(), pause_reason FROM feather.sync_accounts WHERE account = 'default'")
        .await;
    assert_eq!((free, reason.as_str()), (true, "rate_limited"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_counts_as_a_call_as_soon_as_it_is_answered_and_what_it_has_polled_as_no_wait() {
    let mut world = reconciling(40).await;
    world.reconcile_every(Duration::from_secs(3_600));
    make_due(&world).await;
    // It waits with its first part read.
    let mut tx = world.pool.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock(7305801, 4)")
        .execute(&mut *tx)
        .await
        .unwrap();
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let lists =
        "feather_sync_api_requests_total{account=\"default\",kind=\"list\",status=\"200\"} 1";
    let began = Instant::now();
    while !get(port, "/metrics", "Host: localhost\r\n")
        .await
        .1
        .contains(lists)
    {
        assert!(began.elapsed() < PATIENCE, "no list is counted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tx.rollback().await.unwrap();
    world.until(&format!("({TURNS}) = 1")).await;
    let now = world.value("SELECT clock_timestamp()").await;
    let asked = world
        .db()
        .ask_after_absent(&"default".into(), now, Duration::from_secs(60))
        .await;
    assert_eq!(asked.unwrap(), 40);
    world
        .until("(SELECT count(*) FROM feather.sync_attempts WHERE outcome = 'synced') = 40")
        .await;
    let metrics = get(port, "/metrics", "Host: localhost\r\n").await.1;
    let waits = "feather_sync_time_to_sync_seconds_count{account=\"default\"} 0";
    assert!(metrics.contains(waits), "{metrics}");
    replica.stop().await;
}
