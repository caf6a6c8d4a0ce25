//! Partitions: made ahead by everybody, dropped whole, in nobody's way.

use crate::world::World;
use crate::world::ids;
use feather_sync::store::Db;
use feather_sync::store::Kept;
use feather_sync::store::Partitioned;
use std::time::Duration;
use std::time::Instant;

const DAY: Duration = Duration::from_secs(86_400);
const MONTH: Duration = Duration::from_secs(30 * 86_400);

/// A stray row of the feed.
fn event(at: &str) -> String {
    format!(
        "INSERT INTO feather.sync_events (at, account, connection_id, kind)
         VALUES ({at}, 'default', '{}', 'connection_changed')",
        ids(1)[0]
    )
}

/// All partitions of the feed are gone, as after a long downtime. No day ends while a test counts them.
async fn world_without_partitions() -> World {
    let world = World::new().await;
    world
        .until("SELECT (now() AT TIME ZONE 'UTC')::time < '23:58'")
        .await;
    let names: Vec<(String,)> = world
        .rows("SELECT name FROM feather.partition_bounds('sync_events')")
        .await;
    for (name,) in names {
        world.execute(&format!("DROP TABLE feather.{name}")).await;
    }
    world
}

async fn keep(db: &Db) -> Kept {
    db.keep_partitions(Partitioned::Events, MONTH)
        .await
        .unwrap()
}

async fn days_ahead(db: &Db) -> f64 {
    let state = db.partitions().await.unwrap();
    let events = state.iter().find(|of| of.relation == "sync_events");
    events.unwrap().ahead_seconds / DAY.as_secs_f64()
}

async fn strays(db: &Db, table: &str) -> bool {
    let state = db.partitions().await.unwrap();
    state.iter().any(|of| of.relation == table && of.strays)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_leaves_partitions_ahead_of_every_table() {
    let world = World::new().await;
    let db = world.db();
    for state in db.partitions().await.unwrap() {
        assert!(state.ahead_seconds > 6.0 * DAY.as_secs_f64(), "{state:?}");
        assert!(!state.strays, "{state:?}");
    }
    let config = world.config();
    for table in Partitioned::ALL {
        let keep = match table {
            Partitioned::Attempts => config.retention.attempts,
            Partitioned::Minutes => config.retention.minutes,
            Partitioned::Events => config.retention.events,
            _ => config.retention.history,
        };
        // Since the migration one day may have ended.
        let kept = db.keep_partitions(table, keep).await.unwrap();
        assert!(kept.made <= 1, "{kept:?}");
        let kept = db.keep_partitions(table, keep).await.unwrap();
        assert_eq!(kept, Kept::default(), "nothing is left to do");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_counted_keeps_no_partition_from_being_made_and_no_history_from_being_deleted()
 {
    let mut world = world_without_partitions().await;
    world.leave_broken();
    world
        .execute(
            "INSERT INTO feather.sync_attempts (account, connection_id, kind, attempt, worker, started_at, finished_at, outcome)
             VALUES ('default', gen_random_uuid(), 'finalize', 1, 'x', now() - interval '1 year', now() - interval '1 year', 'synced');
             CREATE FUNCTION feather.cut_off() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'canceling statement due to statement timeout' USING ERRCODE = '57014'; END $$;
             CREATE TRIGGER cut_off BEFORE INSERT ON feather.sync_counts FOR EACH STATEMENT EXECUTE FUNCTION feather.cut_off()",
        )
        .await;
    let replica = world.start();
    world
        .until("NOT EXISTS (SELECT FROM feather.sync_attempts)")
        .await;
    world
        .until("EXISTS (SELECT FROM feather.partition_bounds('sync_events'))")
        .await;
    let counted: i64 = world
        .value("SELECT count(*) FROM feather.sync_counts")
        .await;
    assert_eq!(counted, 0);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_make_partitions_at_once_make_each_of_them_once() {
    let world = world_without_partitions().await;
    let dbs: Vec<_> = (0..6).map(|_| world.db()).collect();
    let tries = dbs.iter().map(|db| async {
        let mut made = 0;
        while days_ahead(db).await < 7.0 {
            made += keep(db).await.made;
        }
        made
    });
    let made: i32 = futures_util::future::join_all(tries).await.iter().sum();
    let there: i64 = world
        .value("SELECT count(*) FROM feather.partition_bounds('sync_events')")
        .await;
    assert_eq!((made, there), (8, 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_partition_nothing_fails_and_what_came_meanwhile_stays_where_it_is() {
    let world = world_without_partitions().await;
    // The daemon makes them when it starts; this row came before.
    world.execute(&event("now()")).await;
    let db = world.db();
    for day in 1..=7 {
        // Each reads what lies there, and whoever writes waits that long.
        let kept = keep(&db).await;
        assert_eq!((kept.made, kept.unfinished), (1, true), "{day}");
    }
    assert!(!keep(&db).await.unfinished);
    assert_eq!(days_ahead(&db).await, 0.0, "today's rows have no partition");
    assert!(strays(&db, "sync_events").await);

    world.sync(&ids(3)).await;
    let told: Vec<(String,)> = world
        .rows("SELECT kind FROM feather.sync_events WHERE id > 0 ORDER BY id")
        .await;
    assert_eq!(told.len(), 4, "{told:?}");
    let again = keep(&db).await;
    assert_eq!(again, Kept::default(), "nothing more to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_drops_whole_partitions_one_at_a_time_and_deletes_strays() {
    let mut world = World::new().await;
    // Its events are of a connection that never was.
    world.leave_broken();
    for (name, since, until) in [
        ("sync_events_20200101", "2020-01-01", "2020-01-02"),
        ("sync_events_20200102", "2020-01-02", "2020-01-03"),
    ] {
        world
            .execute(&format!(
                "CREATE TABLE feather.{name} PARTITION OF feather.sync_events
                 FOR VALUES FROM ('{since} 00:00+00') TO ('{until} 00:00+00')"
            ))
            .await;
    }
    for at in [
        "'2020-01-01 08:00+00'",
        "'2020-01-02 08:00+00'",
        "'2019-01-01 08:00+00'",
        "now()",
    ] {
        world.execute(&event(at)).await;
    }
    let db = world.db();
    let count = "SELECT count(*) FROM feather.sync_events";
    let first = keep(&db).await;
    assert_eq!((first.dropped, first.deleted), (1, 1));
    assert_eq!(world.value::<i64>(count).await, 2);
    assert_eq!(keep(&db).await.dropped, 1);
    assert_eq!(world.value::<i64>(count).await, 1);
    assert_eq!(keep(&db).await, Kept::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_report_delays_the_drop_and_not_the_queue() {
    let world = World::new().await;
    world
        .execute(
            "CREATE TABLE feather.sync_events_20200101 PARTITION OF feather.sync_events
             FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-01-02 00:00+00')",
        )
        .await;
    let mut report = world.pool.begin().await.unwrap();
    sqlx::query("SELECT count(*) FROM feather.sync_events")
        .execute(&mut *report)
        .await
        .unwrap();

    let db = world.db();
    let began = Instant::now();
    let kept = keep(&db).await;
    assert!(began.elapsed() < Duration::from_secs(60), "{began:?}");
    assert_eq!((kept.dropped, kept.unfinished), (0, true));
    world.sync(&ids(5)).await;
    assert_eq!(
        world
            .value::<i64>("SELECT count(*) FROM feather.sync_events")
            .await,
        5
    );

    report.rollback().await.unwrap();
    assert_eq!(keep(&db).await.dropped, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_longer_retention_makes_longer_partitions_beside_the_ones_that_are_there() {
    let world = World::new().await;
    let db = world.db();
    let year = Duration::from_secs(500 * 86_400);
    let kept = db.keep_partitions(Partitioned::Events, year).await.unwrap();
    assert!(kept.made >= 3 && !kept.unfinished, "{kept:?}");
    let gaps: i64 = world
        .value(
            "SELECT count(*) FROM (
                 SELECT since, lag(until) OVER (ORDER BY since) AS before FROM feather.partition_bounds('sync_events')
             ) AS p WHERE since <> before",
        )
        .await;
    assert_eq!(gaps, 0);
    assert!(days_ahead(&db).await > 60.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_tables_that_are_kept_in_partitions_are_touched() {
    let world = World::new().await;
    let refused = sqlx::query("SELECT feather.keep_partitions('sync_jobs', '0 days')")
        .execute(&world.pool)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("not kept in partitions"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_of_an_old_partition_keeps_it_and_nothing_else_and_is_told() {
    let world = World::new().await;
    // Whatever has ended since the migration.
    keep(&world.db()).await;
    world
        .execute(
            "CREATE TABLE feather.sync_events_20200101 PARTITION OF feather.sync_events
                 FOR VALUES FROM ('2020-01-01') TO ('2020-01-02');
             CREATE TABLE feather.sync_events_20200102 PARTITION OF feather.sync_events
                 FOR VALUES FROM ('2020-01-02') TO ('2020-01-03');
             CREATE TABLE feather.sync_events_20200103 PARTITION OF feather.sync_events
                 FOR VALUES FROM ('2020-01-03') TO ('2020-01-04');
             CREATE VIEW public.theirs AS SELECT * FROM feather.sync_events_20200101",
        )
        .await;
    let last: String = world
        .value(
            "SELECT name FROM feather.partition_bounds('sync_events') ORDER BY until DESC LIMIT 1",
        )
        .await;
    world.execute(&format!("DROP TABLE feather.{last}")).await;
    // One at a time, and the next one is not put off for an hour.
    let first = keep(&world.db()).await;
    assert_eq!((first.made, first.dropped, first.unfinished), (1, 1, true));
    // Nothing but somebody's deed cures the rest: nobody hurries.
    for dropped in [1, 0] {
        let kept = keep(&world.db()).await;
        assert_eq!(
            (kept.dropped, kept.unfinished),
            (dropped, false),
            "{kept:?}"
        );
        let stuck = kept.stuck.join("");
        assert!(
            stuck.contains("feather.sync_events_20200101: view public.theirs depends"),
            "{stuck}"
        );
    }
    world.execute("DROP VIEW public.theirs").await;
    assert_eq!(keep(&world.db()).await.dropped, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_time_before_history_began_nothing_is_told() {
    let world = World::new().await;
    world.sync(&ids(1)).await;
    let told = |moment: &str| format!("SELECT count(*) FROM feather.connections_as_of({moment})");
    let began = "(SELECT min(since) FROM feather.partition_bounds('connection_versions'))";
    world
        .execute(
            "UPDATE feather.integration_connections SET _first_seen_at = now() - interval '2 days'",
        )
        .await;
    let before: i64 = world
        .value(&told(&format!("{began} - interval '1 microsecond'")))
        .await;
    let since: i64 = world.value(&told(began)).await;
    assert_eq!((before, since), (0, 1));
    let tools: i64 = world
        .value(&format!(
            "SELECT count(*) FROM feather.tools_as_of({began} - interval '1 microsecond')"
        ))
        .await;
    assert_eq!(tools, 0);
}

/// An attempt or a minute of that time.
fn old_row(table: &str, at: &str) -> String {
    match table {
        "sync_attempts" => format!(
            "INSERT INTO feather.sync_attempts (account, connection_id, kind, attempt, worker, started_at, finished_at, outcome, error)
             SELECT 'default', gen_random_uuid(), 'finalize', 0, 'me', at, at, 'cancelled', 'me' FROM (SELECT {at} AS at) AS t"
        ),
        _ => format!(
            "INSERT INTO feather.sync_throughput (account, minute, worker, synced, failed) VALUES ('default', {at}, 'me', 1, 0)"
        ),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_before_there_were_partitions_is_deleted_in_portions_and_its_table_dropped_in_the_end()
 {
    let world = World::new().await;
    let db = world.db();
    for (table, of) in [
        ("sync_attempts", Partitioned::Attempts),
        ("sync_throughput", Partitioned::Minutes),
    ] {
        let count = format!("SELECT count(*) FROM feather.{table}");
        for days in [40, 41, 42, 3] {
            world
                .execute(&old_row(table, &format!("now() - interval '{days} days'")))
                .await;
        }
        world.execute(&old_row(table, "now()")).await;
        assert_eq!(db.delete_history(MONTH, MONTH, 2).await.unwrap(), 2);
        assert_eq!(world.value::<i64>(&count).await, 3);
        assert_eq!(db.delete_history(MONTH, MONTH, 2).await.unwrap(), 1);
        assert_eq!(db.delete_history(MONTH, MONTH, 2).await.unwrap(), 0);

        let there = format!("SELECT to_regclass('feather.{table}_before') IS NOT NULL");
        assert_eq!(db.keep_partitions(of, MONTH).await.unwrap().dropped, 0);
        assert!(world.value::<bool>(&there).await);
        // As if it had ended long ago.
        world
            .execute(&format!(
                "DELETE FROM feather.{table}_before;
                 ALTER TABLE feather.{table} DETACH PARTITION feather.{table}_before;
                 ALTER TABLE feather.{table} ATTACH PARTITION feather.{table}_before FOR VALUES FROM (MINVALUE) TO ('2026-01-01 00:00+00')"
            ))
            .await;
        assert_eq!(db.keep_partitions(of, MONTH).await.unwrap().dropped, 1);
        assert!(!world.value::<bool>(&there).await);

        // Without it, nothing is deleted by rows but what no partition covers.
        world
            .execute(&old_row(table, "now() - interval '40 days'"))
            .await;
        assert!(strays(&db, table).await);
        assert_eq!(db.delete_history(MONTH, MONTH, 2).await.unwrap(), 0);
        assert_eq!(db.keep_partitions(of, MONTH).await.unwrap().deleted, 1);
        assert_eq!(world.value::<i64>(&count).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_week_without_any_daemon_attempts_and_minutes_go_to_the_rest_and_are_counted_and_shown()
 {
    let world = World::new().await;
    let names: Vec<(String,)> = world
        .rows(
            "SELECT p.name FROM (VALUES ('sync_attempts'), ('sync_throughput')) AS t (name)
             CROSS JOIN LATERAL feather.partition_bounds(t.name) AS p",
        )
        .await;
    for (name,) in names {
        world.execute(&format!("DROP TABLE feather.{name}")).await;
    }
    // A program that makes none has been here, as the last release's.
    world.execute(&old_row("sync_attempts", "now()")).await;
    world
        .execute(&old_row("sync_throughput", "date_trunc('minute', now())"))
        .await;
    let ids = ids(3);
    world.sync(&ids).await;
    let (attempts, synced): (i64, i64) = world
        .row(
            "SELECT (SELECT count(*) FROM feather.sync_attempts WHERE connection_id IN (SELECT id FROM feather.connections)),
                    (SELECT sum(synced)::bigint FROM feather.sync_minutes)",
        )
        .await;
    assert!(attempts >= 3 && synced == 4, "{attempts} {synced}");
    let db = world.db();
    for table in [Partitioned::Attempts, Partitioned::Minutes] {
        assert!(strays(&db, table.as_str()).await);
        while db.keep_partitions(table, MONTH).await.unwrap().unfinished {}
    }
    let ahead: Vec<(bool,)> = world
        .rows("SELECT max(p.until) > now() + interval '7 days' FROM (VALUES ('sync_attempts'), ('sync_throughput')) AS t (name)
               CROSS JOIN LATERAL feather.partition_bounds(t.name) AS p GROUP BY t.name")
        .await;
    assert_eq!(ahead, [(true,), (true,)]);
}
