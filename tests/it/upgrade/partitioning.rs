//! Attempts and minutes that were in plain tables become the first partitions of tables in partitions: all are there
//! before and after, nobody reads them for it while others wait, and wherever it is interrupted, the next `migrate` goes
//! on from there.

use crate::upgrade::kept;
use crate::upgrade::migrating::open;
use crate::upgrade::migrating::program;
use crate::upgrade::migrating::run;
use crate::upgrade::migrating::said;
use crate::world::World;
use sqlx::PgConnection;

/// More than is swapped without being prepared: 8 MB of attempts over a hundred days, and some minutes.
pub(crate) const ROWS: &str = "
INSERT INTO feather.sync_attempts (account, connection_id, kind, attempt, worker, started_at, finished_at, outcome, http_status, tools_status)
SELECT 'default', md5((n % 9000)::text)::uuid, 'finalize', 1, 'old', at, at, 'synced', 200, 'synced'
FROM generate_series(1, 90000) n, LATERAL (SELECT now() - n * interval '100 seconds' AS at) t;
INSERT INTO feather.sync_throughput (account, minute, worker, synced, failed)
SELECT 'default', date_trunc('minute', now()) - m * interval '1 hour', 'old', 1, 0 FROM generate_series(0, 100) m;
CREATE VIEW public.theirs WITH (security_barrier) AS SELECT connection_id, finished_at FROM feather.sync_attempts";

/// What `migrate` does before its migrations, in its steps.
pub(crate) const INDEX: &str = "CREATE UNIQUE INDEX sync_attempts_before_pkey ON feather.sync_attempts (connection_id, id, finished_at)";
pub(crate) const BOUND: &str = "ALTER TABLE feather.sync_attempts ADD CONSTRAINT before_partitions
    CHECK (finished_at < '2100-01-01 00:00+00') NOT VALID";
pub(crate) const VALIDATED: &str =
    "ALTER TABLE feather.sync_attempts VALIDATE CONSTRAINT before_partitions";

const SUM: &str = "SELECT md5(string_agg(concat_ws(' ', id, connection_id, finished_at), ',' ORDER BY id)) FROM feather.sync_attempts WHERE worker = 'old'";

/// The table as it lies on the disk, with what it has been read.
const LIES: &str = "
SELECT c.relname::text || CASE c.relname WHEN 'sync_attempts_finished' THEN '_before' WHEN 'sync_attempts' THEN '_before' ELSE '' END,
       c.relfilenode::bigint, COALESCE(s.seq_scan, 0)::bigint
FROM pg_class c LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE c.relkind IN ('r', 'i') AND c.relname IN ('sync_attempts', 'sync_attempts_before', 'sync_attempts_finished',
                                                'sync_attempts_finished_before', 'sync_attempts_before_pkey')
ORDER BY 1";

pub(crate) async fn large() -> World {
    let world = kept::world().await;
    world.execute(ROWS).await;
    world
}

pub(crate) async fn migrated(world: &World) {
    let done = run(world, &["migrate"]).await;
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let check = run(world, &["migrate", "--check"]).await;
    assert_eq!(check.status.code(), Some(0), "{}", said(&check));
}

/// The first partition holds all there was, and what comes is in one, too.
async fn is_whole(world: &World, sum: &str) {
    assert_eq!(world.value::<String>(SUM).await, sum);
    world
        .execute(
            "INSERT INTO feather.sync_attempts (account, connection_id, kind, attempt, worker, started_at, finished_at, outcome)
             SELECT 'default', gen_random_uuid(), 'poll', 1, 'new', now(), now() + d * interval '1 day', 'synced' FROM generate_series(0, 40) d",
        )
        .await;
    let (kept, numbered, seen, strays): (bool, bool, bool, i64) = world
        .row(
            "SELECT (SELECT count(*) = 90000 FROM feather.sync_attempts_before WHERE worker = 'old'),
                    (SELECT min(id) FILTER (WHERE worker = 'new') > max(id) FILTER (WHERE worker = 'old') FROM feather.sync_attempts),
                    (SELECT count(*) FROM public.theirs) = (SELECT count(*) FROM feather.sync_attempts),
                    (SELECT count(*) FROM feather.sync_attempts_default WHERE finished_at < now() + interval '7 days')",
        )
        .await;
    assert!(kept && numbered && seen, "{kept} {numbered} {seen}");
    assert_eq!(strays, 0);
    let minutes: i64 = world
        .value("SELECT count(*) FROM feather.sync_minutes")
        .await;
    assert_eq!(minutes, 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_the_preparation_was_interrupted_the_next_migrate_goes_on_from_there() {
    let broken = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'feather.sync_attempts_before_pkey'::regclass";
    // The last one was forgotten for a month: the day is tomorrow.
    let near = "ALTER TABLE feather.sync_attempts ADD CONSTRAINT before_partitions CHECK (finished_at < 'tomorrow')";
    let interruptions: [&[&str]; 6] = [
        &[],
        &[INDEX, broken],
        &[INDEX],
        &[INDEX, BOUND],
        &[INDEX, BOUND, VALIDATED],
        &[INDEX, near],
    ];
    for done in interruptions {
        let world = large().await;
        let sum: String = world.value(SUM).await;
        for step in done {
            world.execute(step).await;
        }
        migrated(&world).await;
        is_whole(&world, &sum).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migrate_that_is_killed_while_it_prepares_leaves_a_table_in_use_and_the_next_one_ends_the_work()
 {
    let world = large().await;
    let sum: String = world.value(SUM).await;
    // Whoever builds an index beside writers waits for this one to end.
    let reader = open(
        &world,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM feather.sync_attempts",
    )
    .await;
    let mut killed = program(&world, &["migrate"]).spawn().unwrap();
    world
        .until("SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('feather.sync_attempts_before_pkey') AND NOT indisvalid)")
        .await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    sqlx::Connection::close(reader).await.unwrap();
    world
        .until("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'feather-sync' AND datname = current_database())")
        .await;
    prepared(&world).await;
    migrated(&world).await;
    world
        .execute("DELETE FROM feather.sync_throughput WHERE worker = 'prepared'")
        .await;
    is_whole(&world, &sum).await;
}

/// All sessions have told what they have read. Before Postgres 15 nobody can make them.
async fn told(world: &World) {
    world
        .until("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'feather-sync' AND datname = current_database())")
        .await;
    let version: i32 = world
        .value("SELECT current_setting('server_version_num')::int")
        .await;
    if version < 150_000 {
        return;
    }
    let mut all = Vec::new();
    for _ in 0..world.pool.options().get_max_connections() {
        let mut session = world.pool.acquire().await.unwrap();
        sqlx::raw_sql("SELECT pg_stat_force_next_flush()")
            .execute(&mut *session)
            .await
            .unwrap();
        all.push(session);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_prepared_is_swapped_without_being_read_or_built() {
    let world = large().await;
    let sum: String = world.value(SUM).await;
    for step in [INDEX, BOUND, VALIDATED] {
        world.execute(step).await;
    }
    told(&world).await;
    let before: Vec<(String, i64, i64)> = world.rows(LIES).await;
    assert_eq!(before.len(), 3, "{before:?}");
    migrated(&world).await;
    told(&world).await;
    let after: Vec<(String, i64, i64)> = world.rows(LIES).await;
    assert_eq!(after, before);
    is_whole(&world, &sum).await;
}

/// A session of the last release, whose statements are prepared already.
async fn prepared(world: &World) -> PgConnection {
    open(
        world,
        "PREPARE attempt AS INSERT INTO feather.sync_attempts
             (account, connection_id, kind, attempt, worker, started_at, finished_at, outcome)
             VALUES ('default', gen_random_uuid(), 'poll', 1, 'prepared', now(), now(), 'synced');
         PREPARE minute AS INSERT INTO feather.sync_throughput AS t (account, minute, worker, synced, failed)
             VALUES ('default', date_trunc('hour', now()), 'prepared', 1, 0)
             ON CONFLICT (account, minute, worker) DO UPDATE SET synced = t.synced + excluded.synced;
         PREPARE retention AS WITH old AS (
                 SELECT connection_id, id FROM feather.sync_attempts WHERE finished_at < now() - interval '99 days'
                 ORDER BY finished_at LIMIT 10 FOR UPDATE SKIP LOCKED
             ) DELETE FROM feather.sync_attempts a USING old WHERE a.connection_id = old.connection_id AND a.id = old.id;
         EXECUTE attempt; EXECUTE minute",
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sessions_of_the_last_release_have_prepared_goes_on_and_means_the_new_table() {
    let world = large().await;
    let mut session = prepared(&world).await;
    migrated(&world).await;
    sqlx::raw_sql("EXECUTE attempt; EXECUTE minute; EXECUTE minute; EXECUTE retention")
        .execute(&mut session)
        .await
        .unwrap();
    let counted: (i64, i64, i64) = world
        .row(
            "SELECT (SELECT count(*) FROM feather.sync_attempts WHERE worker = 'prepared'),
                    (SELECT sum(synced)::bigint FROM feather.sync_throughput WHERE worker = 'prepared'),
                    (SELECT 90000 - count(*) FROM feather.sync_attempts WHERE worker = 'old')",
        )
        .await;
    assert!(
        counted.0 == 2 && counted.1 >= 3 && counted.2 == 10,
        "{counted:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_goes_on_holds_the_swap_up_and_keeps_nobody_waiting_meanwhile() {
    let world = large().await;
    for step in [INDEX, BOUND, VALIDATED] {
        world.execute(step).await;
    }
    let report = open(
        &world,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM feather.sync_attempts",
    )
    .await;
    let work = async {
        // For as long as the swap is asked for and not granted.
        world
            .until("SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'feather.sync_attempts'::regclass AND NOT granted)")
            .await;
        let mut session = prepared(&world).await;
        let mut worst = std::time::Duration::ZERO;
        for _ in 0..60 {
            let begun = std::time::Instant::now();
            sqlx::raw_sql(
                "EXECUTE attempt; SELECT count(*) FROM feather.sync_health; EXECUTE minute",
            )
            .execute(&mut session)
            .await
            .unwrap();
            worst = worst.max(begun.elapsed());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        sqlx::Connection::close(report).await.unwrap();
        worst
    };
    let (_, worst) = tokio::join!(migrated(&world), work);
    assert!(worst.as_secs() < 5, "{worst:?}");
    let sum: String = world.value(SUM).await;
    world
        .execute("DELETE FROM feather.sync_throughput WHERE worker = 'prepared'")
        .await;
    is_whole(&world, &sum).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_of_somebody_else_is_named_and_does_not_stand_in_the_way() {
    let world = large().await;
    let another =
        "CREATE MATERIALIZED VIEW public.kept AS SELECT connection_id FROM feather.sync_attempts";
    world.execute(another).await;
    let done = run(&world, &["migrate"]).await;
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let said = said(&done);
    assert!(
        said.contains("materialized view public.kept") && said.contains("create it anew"),
        "{said}"
    );
    let sum: String = world.value(SUM).await;
    is_whole(&world, &sum).await;
}
