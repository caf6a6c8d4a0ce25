//! A queue that is filled by hand, and how fast a daemon drains it.

use crate::report::Report;
use crate::report::Target;
use crate::stage::Api;
use crate::stage::Stage;
use crate::stage::number;
use crate::stage::run;
use sqlx::PgConnection;
use std::time::Duration;
use std::time::Instant;

/// The smaller a job, the more the queue counts.
pub const SCENARIO: &str = "tools = 1\nkeep_calls = 0";
/// Jobs of a queue that is not large. Enough for a run that lasts: in one of a second or two a count of a million jobs, which
/// comes every ten, falls or not.
pub const SMALL: usize = 50_000;
pub const LARGE: usize = 1_000_000;
/// Long enough, too, for what a snapshot keeps to pile up.
pub const CALLS: usize = 40_000;
/// Synced before anything is counted.
const WARM_UP: usize = 1_000;

/// What is known of the queue when it is loaded.
#[derive(Clone, Copy, PartialEq)]
pub enum Statistics {
    Fresh,
    /// Those of the empty table, and nobody gathers new ones.
    Stale,
    /// Whatever autovacuum made of it.
    Left,
}

/// How one drain went.
pub struct Run {
    pub rate: f64,
    /// Rate in the last third ÷ in the first.
    pub last_to_first: f64,
    /// Of the server, a job: steadier than the rate where the machine is not.
    pub cpu_ms: f64,
    pub claim_ms: f64,
    pub count_ms: f64,
}

/// What drains `what` cost next to those of the floor, which took turns with them.
pub fn compare(
    report: &mut Report,
    what: &str,
    runs: &[Run],
    (floor, floor_runs): (&str, &[Run]),
    rate: impl Into<Option<Target>>,
) {
    let mut row = |name: &str, part: fn(&Run) -> f64, target: Option<Target>| {
        report.rounds(
            format!("{name}, {what}; floor: {floor}"),
            &each(floor_runs, part),
            &each(runs, part),
            target,
        );
    };
    row("jobs/s", |run| run.rate, rate.into());
    row("CPU ms a job, Postgres", |run| run.cpu_ms, None);
    row("claim ms", |run| run.claim_ms, None);
}

/// One of their figures.
pub fn each(runs: &[Run], part: fn(&Run) -> f64) -> Vec<f64> {
    runs.iter().map(part).collect()
}

/// Jobs as requests of the last hour leave them, one after the other.
pub async fn load(conn: &mut PgConnection, pending: usize, statistics: Statistics) {
    if statistics == Statistics::Stale {
        run(
            conn,
            "ALTER TABLE feather.sync_jobs SET (autovacuum_enabled = off); ANALYZE feather.sync_jobs",
        )
        .await;
    }
    run(
        conn,
        &format!(
            "INSERT INTO feather.sync_jobs (connection_id, account, priority, run_at, wanted_at)
             SELECT gen_random_uuid(), 'default', 0, at, at
             FROM generate_series(1, {pending}) AS n,
                  LATERAL (SELECT now() - interval '1 hour' + n * interval '10 us' AS at) AS t"
        ),
    )
    .await;
    if statistics == Statistics::Fresh {
        run(conn, "VACUUM (ANALYZE) feather.sync_jobs").await;
    }
    // What loading left to be written must not be written while something is measured.
    run(conn, "CHECKPOINT").await;
}

/// Lets a daemon sync so many of what is there, and stops it.
pub async fn drain_some(stage: &Stage, api: &Api, conn: &mut PgConnection, calls: usize) -> Run {
    let synced = "SELECT COALESCE(sum(synced), 0)::float8 FROM feather.sync_throughput";
    let start = number(conn, synced).await + stage.size(WARM_UP) as f64;
    // So that the daemon counts when it starts, whatever the one before it did.
    run(conn, "DELETE FROM feather.sync_counts").await;
    run(conn, "SELECT pg_stat_statements_reset()").await;
    let daemon = stage.daemon(api, &[], &[]);
    let mut seen: Vec<(Instant, f64)> = Vec::new();
    let mut cpu = 0.0;
    let patience = Instant::now();
    loop {
        assert!(
            patience.elapsed() < Duration::from_secs(600),
            "no {calls} jobs were synced"
        );
        let done = number(conn, synced).await;
        // It counts again after a rest that is longer than the calls here.
        let counted = "SELECT count(*)::float8 FROM feather.sync_counts";
        if seen.is_empty() && done >= start && number(conn, counted).await > 0.0 {
            cpu = stage.server_cpu();
            seen.push((Instant::now(), done));
        }
        if let Some((_, first)) = seen.first().copied() {
            seen.push((Instant::now(), done));
            if done >= first + calls as f64 {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let cpu = stage.server_cpu() - cpu;
    daemon.stop().await;
    stage.print_statements(conn).await;
    let at = |part: f64| {
        let least = seen[0].1 + calls as f64 * part;
        seen.iter().copied().find(|(_, done)| *done >= least)
    };
    let last = seen[seen.len() - 1];
    let third = at(1.0 / 3.0).unwrap_or(last);
    let two_thirds = at(2.0 / 3.0).unwrap_or(last);
    Run {
        rate: rate(seen[0], last),
        last_to_first: rate(two_thirds, last) / rate(seen[0], third),
        cpu_ms: cpu * 1e3 / (last.1 - seen[0].1),
        claim_ms: mean_ms(conn, "%RECURSIVE all_lanes%").await,
        count_ms: mean_ms(conn, "%INSERT INTO feather.sync_counts%").await,
    }
}

fn rate(from: (Instant, f64), to: (Instant, f64)) -> f64 {
    (to.1 - from.1) / (to.0 - from.0).as_secs_f64()
}

/// Planning and executing a statement once, on average.
async fn mean_ms(conn: &mut PgConnection, like: &str) -> f64 {
    let sql = format!(
        "SELECT COALESCE(sum(total_plan_time + total_exec_time) / sum(calls), 0)::float8 FROM pg_stat_statements
         WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND query LIKE '{like}' AND query NOT LIKE '%pg_stat_statements%'"
    );
    number(conn, &sql).await
}
