//! The claim's own time, with a large queue and with rows that a snapshot keeps from being removed.

use crate::claiming::claim_of_one;
use crate::world::PATIENCE;
use crate::world::World;
use feather_sync::domain::AccountName;
use feather_sync::store::Claim;
use feather_sync::store::ClaimRequest;
use feather_sync::store::Db;
use feather_sync::store::DbSettings;
use std::time::Duration;
use std::time::Instant;

/// A queue with nobody but this test working on it.
struct Queue {
    world: World,
    db: Db,
    account: AccountName,
}

impl Queue {
    async fn new() -> Self {
        let world = World::new().await;
        let settings = DbSettings {
            url: world.env()["DATABASE_URL"].clone().into(),
            listen_url: None,
            max_connections: 1,
            prepared_statements: true,
        };
        Self {
            world,
            db: Db::new(&settings).unwrap(),
            account: AccountName::from("default"),
        }
    }

    async fn fill(&self, jobs: u32) {
        self.world
            .execute(&format!(
                "INSERT INTO feather.sync_jobs (connection_id, account, priority, run_at, wanted_at)
                 SELECT gen_random_uuid(), 'default', n % 3, now() - n * interval '1 millisecond', now()
                 FROM generate_series(1, {jobs}) AS n"
            ))
            .await;
    }

    /// Claims up to 16 jobs; how many, and how long it took.
    async fn claim(&self) -> (usize, Duration) {
        let request = ClaimRequest {
            slots: 16,
            ..claim_of_one(&self.account)
        };
        let begun = Instant::now();
        let claim = self.db.claim(&request).await.unwrap();
        let took = begun.elapsed();
        match claim {
            Claim::Jobs { jobs, .. } => (jobs.len(), took),
            _ => (0, took),
        }
    }

    /// Claims and ends jobs, as a drain does; the times of the claims.
    async fn drain(&self, most: usize) -> Vec<Duration> {
        let mut times = Vec::new();
        while times.len() < most {
            let (jobs, took) = self.claim().await;
            if jobs == 0 {
                break;
            }
            times.push(took);
            self.world
                .execute("DELETE FROM feather.sync_jobs WHERE state = 'running'")
                .await;
        }
        times
    }
}

/// A plan that is made while the queue is empty expects nothing to read, and is kept when it has filled again.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_reads_what_it_takes_though_the_queue_was_empty_when_it_was_last_counted() {
    let queue = Queue::new().await;
    queue
        .world
        .execute("ALTER TABLE feather.sync_jobs SET (autovacuum_enabled = off)")
        .await;
    queue.fill(50_000).await;
    queue
        .world
        .execute("VACUUM (ANALYZE) feather.sync_jobs")
        .await;
    queue.world.execute("DELETE FROM feather.sync_jobs").await;
    queue
        .world
        .execute("VACUUM (ANALYZE, TRUNCATE off, INDEX_CLEANUP off) feather.sync_jobs")
        .await;
    queue.fill(50_000).await;
    let times = queue.drain(10).await;
    assert_eq!(times.len(), 10);
    let Queue { world, db, .. } = queue;
    // A session says what it has read when it ends.
    drop(db);
    world
        .until("SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'feather-sync'")
        .await;
    let claimed = 10_i64 * 16;
    let (began, mut read) = (Instant::now(), 0_i64);
    while read < claimed {
        assert!(began.elapsed() < PATIENCE, "{read} entries are told of");
        read = sqlx::query_scalar(
            "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname = 'sync_jobs'",
        )
        .fetch_one(&world.pool)
        .await
        .unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Each job is met in its lane, when it is leased and when it is deleted; at most by the dead that went before, and
    // once more where a claim comes again. A claim that reads the whole queue meets thousands for each job.
    assert!(
        read < 200 * claimed,
        "{read} entries of indexes were read for {claimed} jobs"
    );
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[times.len() / 2]
}

async fn claims_from_a_queue_of(jobs: u32) -> Duration {
    let queue = Queue::new().await;
    queue.fill(jobs).await;
    median(&queue.drain(60).await)
}

async fn a_large_queue(jobs: u32) {
    let small = claims_from_a_queue_of(2_000).await;
    let large = claims_from_a_queue_of(jobs).await;
    println!("a claim takes {small:?} of 2,000 jobs, {large:?} of {jobs}");
    assert!(
        large < small * 4 + Duration::from_millis(20),
        "{small:?}, then {large:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_takes_as_long_from_a_large_queue_as_from_a_small_one() {
    a_large_queue(100_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes long: make soak"]
async fn a_claim_takes_as_long_from_a_million_jobs_as_from_two_thousand() {
    a_large_queue(1_000_000).await;
}

async fn a_held_snapshot(jobs: u32, claims: usize) {
    let queue = Queue::new().await;
    queue.fill(jobs).await;
    let mut reader = queue.world.pool.begin().await.unwrap();
    sqlx::raw_sql(
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM feather.sync_jobs",
    )
    .execute(&mut *reader)
    .await
    .unwrap();
    let times = queue.drain(claims).await;
    reader.rollback().await.unwrap();
    let third = times.len() / 3;
    let first = median(&times[..third]);
    let last = median(&times[times.len() - third..]);
    println!(
        "{} claims under a held snapshot: {first:?} in the first third, {last:?} in the last",
        times.len()
    );
    // The dead rows before the first live one are walked over: that may cost 2 ms per thousand of them, no more.
    let walk = Duration::from_millis(u64::from(jobs) / 500);
    assert!(last < first * 4 + walk, "{first:?}, then {last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_stays_quick_while_a_snapshot_keeps_every_dead_row() {
    a_held_snapshot(8_000, 480).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes long: make soak"]
async fn a_claim_stays_quick_while_a_snapshot_keeps_the_dead_rows_of_a_long_drain() {
    a_held_snapshot(200_000, 12_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_changes_while_a_claim_waits_is_claimed_all_the_same() {
    let queue = Queue::new().await;
    let world = &queue.world;
    queue.fill(2).await;
    let mut lock = world.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM feather.sync_accounts FOR UPDATE")
        .execute(&mut *lock)
        .await
        .unwrap();
    let others = async {
        world
            .until("SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%WITH RECURSIVE all_lanes%'")
            .await;
        world
            .execute("UPDATE feather.sync_jobs SET wanted_at = wanted_at WHERE priority = 1")
            .await;
        lock.rollback().await.unwrap();
    };
    let ((jobs, _), ()) = tokio::join!(queue.claim(), others);
    assert_eq!(jobs, 2);
}
