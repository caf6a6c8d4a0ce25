//! Statistics by the minute: the same as the history says, and mergeable.

use crate::world::World;
use crate::world::ids;
use feather_sync::domain::time_to_sync::BOUNDS;
use feather_sync::sim::Fault;
use feather_sync::sim::Scenario;

const SLOW: &str =
    "tools = 1\nsettle = \"0s..200ms\"\n[[fault]]\nkind = \"status\"\ncode = 503\nrate = 0.2\n";

#[tokio::test(flavor = "multi_thread")]
async fn minutes_say_what_the_history_says() {
    let world = World::with(Scenario::from_toml(SLOW).unwrap()).await;
    let ids = ids(40);
    world.sim.script(ids[0], [Fault::NotFound]);
    world.sim.script(ids[1], [Fault::status(429)]);
    world.sync(&ids).await;

    let told: (i64, i64, i64, i64, i64, bool) = world
        .row(
            "SELECT sum(calls)::bigint, sum(synced)::bigint, sum(failed)::bigint, sum(deferred)::bigint,
                    (SELECT sum(n) FROM unnest(feather.histogram_sum(time_to_sync_histogram)) AS n)::bigint,
                    feather.counts_sum(failed_by_class) = (
                        SELECT jsonb_object_agg(error_class, n) FROM (
                            SELECT error_class, count(*) AS n FROM feather.sync_attempts
                            WHERE outcome IN ('retry', 'dead') GROUP BY error_class) AS c)
             FROM feather.sync_minutes WHERE account = 'default'",
        )
        .await;
    let recorded: (i64, i64, i64, i64) = world
        .row(
            "SELECT count(*), count(*) FILTER (WHERE outcome = 'synced'),
                    count(*) FILTER (WHERE outcome IN ('retry', 'dead')), count(*) FILTER (WHERE outcome = 'deferred')
             FROM feather.sync_attempts",
        )
        .await;
    let (calls, synced, failed, deferred) = recorded;
    assert_eq!(told, (calls, synced, failed, deferred, synced, true));
    assert!(
        calls > synced + failed + deferred && failed > 1 && deferred > 0,
        "{recorded:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn percentiles_lie_in_the_bucket_of_those_that_took_so_long() {
    let world = World::new().await;
    let bounds: Vec<f64> = world.value("SELECT feather.time_to_sync_bounds()").await;
    assert_eq!(bounds, BOUNDS);
    // Half of them within 0.05 s, a few within 10 to 30 s, one beyond everything.
    let histogram = "'{50,0,0,0,0,0,0,0,49,0,0,0,0,0,1}'::bigint[]";
    let percentile =
        |fraction: &str| format!("feather.time_to_sync_percentile({histogram}, {fraction})");
    let found: Vec<Option<f64>> = world
        .value(&format!(
            "SELECT ARRAY[{}, {}, {}, {}, feather.time_to_sync_percentile(NULL, 0.5)]",
            percentile("0.25"),
            percentile("0.5"),
            percentile("0.99"),
            percentile("1")
        ))
        .await;
    let expected = [Some(0.025), Some(0.05), Some(30.0), Some(14_400.0), None];
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn minutes_of_several_replicas_and_of_older_ones_are_one_row() {
    let world = World::new().await;
    world
        .execute(
            "INSERT INTO feather.sync_throughput (account, minute, worker, synced, failed)
             VALUES ('default', '2026-01-31 08:00+00', 'of 0.1', 3, 2);
             INSERT INTO feather.sync_throughput
                 (account, minute, worker, synced, failed, deferred, calls, failed_by_class, time_to_sync)
             VALUES ('default', '2026-01-31 08:00+00', 'a', 1, 1, 0, 4, '{\"upstream\": 1}', '{1,0,0,0,0,0,0,0,0,0,0,0,0,0,0}'),
                    ('default', '2026-01-31 08:00+00', 'b', 1, 3, 1, 9, '{\"upstream\": 2, \"timeout\": 1}',
                     '{0,1,0,0,0,0,0,0,0,0,0,0,0,0,0}')",
        )
        .await;
    let row: (i64, i64, i64, i64, String, Vec<i64>) = world
        .row(
            "SELECT synced, failed, deferred, calls, failed_by_class::text, time_to_sync_histogram[1:3]
             FROM feather.sync_minutes WHERE minute = '2026-01-31 08:00+00'",
        )
        .await;
    let classes = r#"{"timeout": 1, "upstream": 3}"#.to_owned();
    assert_eq!(row, (5, 6, 1, 18, classes, vec![1, 1, 0]));
}
