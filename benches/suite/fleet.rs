//! Replicas at one queue: how much of the budget they use together, and what more of them bring.

use crate::report::Report;
use crate::report::Target;
use crate::report::median;
use crate::stage::Api;
use crate::stage::Stage;
use crate::stage::enqueue;
use crate::stage::ids;
use std::time::Duration;
use std::time::Instant;

const LIMIT: usize = 6_000;
/// Seconds. One round of it: time is what it is made of, and the machine has little part in it.
const WINDOW: usize = 120;
/// A start and the first burst are over after so many.
const SETTLED: usize = 10;
const JOBS: usize = 10_000;

pub async fn measure(stage: &Stage) -> Report {
    let mut report = Report::new("fleet");
    for replicas in [1, 2, 3, 4] {
        let (used, refused) = budget(stage, replicas).await;
        let target = match replicas {
            1 => Some(Target::AtLeast(0.97, 0.99)),
            3 => Some(Target::AtLeast(0.95, 0.99)),
            _ => None,
        };
        report.figure(
            format!("budget of 6,000/min used, replicas: {replicas}"),
            used,
            target,
        );
        report.figure(
            format!("429s, replicas: {replicas}"),
            refused,
            Target::AtMost(0.0, 0.0),
        );
    }
    let api = stage.api("tools = 8").await;
    let counts = [1, 2, 4];
    let mut rates = counts.map(|_| Vec::new());
    for _ in 0..stage.rounds {
        for (replicas, rates) in counts.iter().zip(&mut rates) {
            rates.push(drain(stage, &api, *replicas).await);
        }
    }
    for (replicas, rates_of) in counts.iter().zip(&rates) {
        report.ratio(
            format!("jobs/s, replicas: {replicas}; floor: one"),
            median(&rates[0]),
            median(rates_of),
            None,
        );
    }
    report
}

/// The part of the budget that is used while work is due, and how many calls were refused.
async fn budget(stage: &Stage, replicas: usize) -> (f64, f64) {
    let scenario = format!("tools = 8\n[limit]\nrequests_per_minute = {LIMIT}");
    let api = stage.api(&scenario).await;
    let mut conn = stage.fresh_database().await;
    let (settled, window) = (stage.size(SETTLED), stage.size(WINDOW));
    enqueue(&mut conn, &ids((settled + window + 10) * LIMIT / 60)).await;
    let limit = [(
        "FEATHER_SYNC__ACCOUNTS__DEFAULT__REQUESTS_PER_MINUTE",
        LIMIT.to_string(),
    )];
    let daemons: Vec<_> = (0..replicas)
        .map(|_| stage.daemon(&api, &[], &limit))
        .collect();
    tokio::time::sleep(Duration::from_secs(settled as u64)).await;
    let (before, since) = (api.counts().await, Instant::now());
    tokio::time::sleep(Duration::from_secs(window as u64)).await;
    let (after, minutes) = (api.counts().await, since.elapsed().as_secs_f64() / 60.0);
    for daemon in daemons {
        daemon.stop().await;
    }
    let calls = after["calls"].as_f64().unwrap() - before["calls"].as_f64().unwrap();
    let refused = after["by_status"]["429"].as_f64().unwrap_or_default();
    (calls / (minutes * LIMIT as f64), refused)
}

/// Jobs a second until all replicas have found the queue empty.
async fn drain(stage: &Stage, api: &Api, replicas: usize) -> f64 {
    let mut conn = stage.fresh_database().await;
    let jobs = stage.size(JOBS);
    enqueue(&mut conn, &ids(jobs)).await;
    let began = Instant::now();
    let daemons: Vec<_> = (0..replicas)
        .map(|_| stage.daemon(api, &["--until-empty"], &[]))
        .collect();
    for daemon in daemons {
        daemon.wait().await;
    }
    jobs as f64 / began.elapsed().as_secs_f64()
}
