//! Turns at comparing: that they end, and what becomes of those that cannot.

use super::*;
use crate::admin::get;
use crate::admin::listening;

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
    let mut errors = 0;
    while errors < 3 {
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
