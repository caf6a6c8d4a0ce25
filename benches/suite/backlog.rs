//! A queue that holds far more than is being done: whether that makes anything slower.

use crate::report::Report;
use crate::report::Target;
use crate::report::median;
use crate::stage::Api;
use crate::stage::Stage;
use crate::stage::number;
use crate::stage::run;
use sqlx::Connection;
use sqlx::PgConnection;
use std::time::Duration;
use std::time::Instant;

/// The smaller a job, the more the queue counts.
const SCENARIO: &str = "tools = 1\nkeep_calls = 0";
/// Enough for a run that lasts: in one of a second or two a count of a million jobs, which comes every ten, falls or not.
const SMALL: usize = 50_000;
const LARGE: usize = 1_000_000;
const HUGE: usize = 10_000_000;
/// Synced before anything is counted.
const WARM_UP: usize = 1_000;
/// Long enough, too, for what a snapshot keeps to pile up.
const CALLS: usize = 40_000;

/// What is known of the queue when it is loaded.
#[derive(Clone, Copy, PartialEq)]
enum Statistics {
    Fresh,
    /// Those of the empty table, and nobody gathers new ones.
    Stale,
    /// Whatever autovacuum made of it.
    Left,
}

/// How one drain went.
struct Run {
    rate: f64,
    /// Rate in the last third ÷ in the first.
    last_to_first: f64,
    /// Of the server, a job: steadier than the rate where the machine is not.
    cpu_ms: f64,
    claim_ms: f64,
    count_ms: f64,
}

pub async fn measure(stage: &Stage) -> Report {
    let api = stage.api(SCENARIO).await;
    let mut small = Vec::new();
    let (mut large, mut stale, mut huge) = (Vec::new(), Vec::new(), Vec::new());
    let (mut free, mut held) = (Vec::new(), Vec::new());
    let (mut drained_now, mut vacuumed, mut anew) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..stage.rounds {
        small.push(with_pending(stage, &api, SMALL, Statistics::Fresh).await);
        large.push(with_pending(stage, &api, LARGE, Statistics::Fresh).await);
        stale.push(with_pending(stage, &api, LARGE, Statistics::Stale).await);
        if stage.huge {
            huge.push(with_pending(stage, &api, HUGE, Statistics::Fresh).await);
        }
        free.push(with_snapshot(stage, &api, false).await);
        held.push(with_snapshot(stage, &api, true).await);
        let drained = after_a_drain(stage).await;
        drained_now.push(drained.at_once);
        vacuumed.push(drained.vacuumed);
        anew.push(drained.anew);
    }
    let of =
        |runs: &[Run], part: fn(&Run) -> f64| median(&runs.iter().map(part).collect::<Vec<_>>());
    let flat = Target::AtLeast(0.95, 1.0);
    let mut report = Report::new("backlog");
    let mut sizes = vec![
        ("1 M", &large, flat),
        ("1 M, statistics stale", &stale, flat),
    ];
    if stage.huge {
        sizes.push(("10 M", &huge, Target::AtLeast(0.90, 1.0)));
    }
    for (name, runs, target) in &sizes {
        report.ratio(
            format!("jobs/s, pending {name}; floor: 50 k"),
            of(&small, |r| r.rate),
            of(runs, |r| r.rate),
            *target,
        );
        report.ratio(
            format!("CPU ms a job, Postgres, pending {name}; floor: 50 k"),
            of(&small, |r| r.cpu_ms),
            of(runs, |r| r.cpu_ms),
            None,
        );
        report.ratio(
            format!("claim ms, pending {name}; floor: 50 k"),
            of(&small, |r| r.claim_ms),
            of(runs, |r| r.claim_ms),
            None,
        );
        report.ratio(
            format!("counting ms, pending {name}; floor: 50 k"),
            of(&small, |r| r.count_ms),
            of(runs, |r| r.count_ms),
            None,
        );
    }
    report.ratio(
        "jobs/s, snapshot held; floor: none",
        of(&free, |r| r.rate),
        of(&held, |r| r.rate),
        Target::AtLeast(0.90, 0.95),
    );
    report.ratio(
        "CPU ms a job, Postgres, snapshot held; floor: none",
        of(&free, |r| r.cpu_ms),
        of(&held, |r| r.cpu_ms),
        None,
    );
    report.ratio(
        "claim ms, snapshot held; floor: none",
        of(&free, |r| r.claim_ms),
        of(&held, |r| r.claim_ms),
        None,
    );
    report.figure(
        "last ÷ first third, snapshot held",
        of(&held, |r| r.last_to_first),
        Target::AtLeast(0.85, 0.95),
    );
    report.figure(
        "last ÷ first third, none held",
        of(&free, |r| r.last_to_first),
        None,
    );
    let many = drained(stage);
    for (when, runs) in [("right after", &drained_now), ("vacuumed after", &vacuumed)] {
        report.ratio(
            format!("jobs/s, {when} a drain of {many}; floor: the same rows, no bloat"),
            of(&anew, |r| r.rate),
            of(runs, |r| r.rate),
            flat,
        );
        report.ratio(
            format!("CPU ms a job, Postgres, {when} a drain of {many}; floor: no bloat"),
            of(&anew, |r| r.cpu_ms),
            of(runs, |r| r.cpu_ms),
            None,
        );
        report.ratio(
            format!("claim ms, {when} a drain of {many}; floor: no bloat"),
            of(&anew, |r| r.claim_ms),
            of(runs, |r| r.claim_ms),
            None,
        );
    }
    report.ratio(
        format!("jobs/s, with {many} connections stored, no bloat; floor: with none"),
        of(&small, |r| r.rate),
        of(&anew, |r| r.rate),
        None,
    );
    report
}

async fn with_pending(stage: &Stage, api: &Api, pending: usize, statistics: Statistics) -> Run {
    let mut conn = stage.fresh_database().await;
    load(&mut conn, stage.size(pending), statistics).await;
    drain_some(stage, api, &mut conn, stage.size(CALLS)).await
}

async fn with_snapshot(stage: &Stage, api: &Api, held: bool) -> Run {
    let mut conn = stage.fresh_database().await;
    load(&mut conn, stage.size(SMALL), Statistics::Fresh).await;
    let mut other = stage.connect().await;
    if held {
        run(
            &mut other,
            "BEGIN ISOLATION LEVEL REPEATABLE READ; TABLE feather.sync_accounts",
        )
        .await;
    }
    let run = drain_some(stage, api, &mut conn, stage.size(CALLS)).await;
    other.close().await.unwrap();
    run
}

fn drained(stage: &Stage) -> usize {
    stage.size(if stage.huge { LARGE } else { SMALL })
}

/// Drains after a large one.
struct Drained {
    /// While autovacuum is at work on what it left.
    at_once: Run,
    /// Once it has been through.
    vacuumed: Run,
    /// The same rows in tables and indexes that are written anew: what is slower than this is slower for bloat, and not
    /// because each row's place is among a million others.
    anew: Run,
}

async fn after_a_drain(stage: &Stage) -> Drained {
    // Its own: a simulator keeps in memory whom it has been asked for.
    let api = stage.api(SCENARIO).await;
    let mut conn = stage.fresh_database().await;
    load(&mut conn, drained(stage), Statistics::Fresh).await;
    stage.daemon(&api, &["--until-empty"], &[]).wait().await;
    let at_once = after(stage, &api, &mut conn).await;
    run(&mut conn, "VACUUM (ANALYZE)").await;
    let vacuumed = after(stage, &api, &mut conn).await;
    run(&mut conn, "VACUUM (FULL, ANALYZE)").await;
    let anew = after(stage, &api, &mut conn).await;
    Drained {
        at_once,
        vacuumed,
        anew,
    }
}

async fn after(stage: &Stage, api: &Api, conn: &mut PgConnection) -> Run {
    load(conn, stage.size(SMALL), Statistics::Left).await;
    run(conn, "SELECT pg_stat_statements_reset()").await;
    drain_some(stage, api, conn, stage.size(CALLS)).await
}

/// Jobs as requests of the last hour leave them, one after the other.
async fn load(conn: &mut PgConnection, pending: usize, statistics: Statistics) {
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
async fn drain_some(stage: &Stage, api: &Api, conn: &mut PgConnection, calls: usize) -> Run {
    let synced = "SELECT COALESCE(sum(synced), 0)::float8 FROM feather.sync_throughput";
    let start = number(conn, synced).await + stage.size(WARM_UP) as f64;
    let daemon = stage.daemon(api, &[], &[]);
    let mut seen: Vec<(Instant, f64)> = Vec::new();
    let mut cpu = 0.0;
    loop {
        let done = number(conn, synced).await;
        // A daemon counts when it starts and then seldom; with a large queue that takes longer than the calls here.
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
