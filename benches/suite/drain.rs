//! A preloaded queue, from the start of the program to its end.

use crate::process::Used;
use crate::report::Report;
use crate::report::Target;
use crate::report::median;
use crate::stage::Api;
use crate::stage::BATCH;
use crate::stage::CONCURRENCY;
use crate::stage::Stage;
use crate::stage::Work;
use crate::stage::enqueue;
use crate::stage::ids;
use crate::stage::lines;

const JOBS: usize = 20_000;

/// What one run came to, per job.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub rate: f64,
    pub cpu_ms: f64,
    pub server_ms: f64,
    pub wal_kib: f64,
    pub statements: f64,
    pub peak_mib: f64,
}

impl Cost {
    pub fn of(jobs: usize, used: Used, work: Work) -> Self {
        let jobs = jobs as f64;
        Self {
            rate: jobs / used.wall,
            cpu_ms: used.cpu * 1e3 / jobs,
            server_ms: work.cpu * 1e3 / jobs,
            wal_kib: work.wal_bytes / 1024.0 / jobs,
            statements: work.statements / jobs,
            peak_mib: used.peak_mib,
        }
    }
}

pub async fn measure(stage: &Stage) -> Report {
    let mut report = Report::new("drain");
    let latencies: &[_] = if stage.is_simulated() {
        &[("0s", "0 ms"), ("50ms", "50 ms")]
    } else {
        &[("", "as the API has it")]
    };
    for (latency, name) in latencies {
        let api = stage
            .api(&format!("tools = 8\nlatency = \"{latency}\""))
            .await;
        let jobs = stage.size(JOBS);
        let (mut floor, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..stage.rounds {
            floor.push(drain_floor(stage, &api, jobs).await);
            ours.push(drain(stage, &api, jobs).await);
        }
        let each = |costs: &[Cost], part: fn(&Cost) -> f64| -> Vec<f64> {
            costs.iter().map(part).collect()
        };
        let mut both = |what: &str, part: fn(&Cost) -> f64, target: Option<Target>| {
            report.rounds(
                format!("{what}, latency {name}"),
                &each(&floor, part),
                &each(&ours, part),
                target,
            );
        };
        both("jobs/s", |c| c.rate, Some(Target::AtLeast(0.60, 0.75)));
        both(
            "CPU ms a job, the program",
            |c| c.cpu_ms,
            Some(Target::AtMost(2.0, 1.5)),
        );
        both(
            "CPU ms a job, Postgres",
            |c| c.server_ms,
            Some(Target::AtMost(1.6, 1.3)),
        );
        both("WAL KiB a job", |c| c.wal_kib, None);
        report.figure(
            format!("statements a job, latency {name}"),
            median(&each(&ours, |c| c.statements)),
            Target::AtMost(0.5, 0.2),
        );
        report.figure(
            format!("peak memory MiB, latency {name}"),
            median(&each(&ours, |c| c.peak_mib)),
            Target::AtMost(32.0, 20.0),
        );
    }
    report
}

async fn drain_floor(stage: &Stage, api: &Api, jobs: usize) -> Cost {
    let mut conn = stage.fresh_database().await;
    let before = stage.work(&mut conn).await;
    let mut floor = stage.floor(api, CONCURRENCY, BATCH);
    floor.feed(&lines(&ids(jobs)));
    let used = floor.wait().await;
    Cost::of(jobs, used, stage.work(&mut conn).await - before)
}

pub async fn drain(stage: &Stage, api: &Api, jobs: usize) -> Cost {
    let mut conn = stage.fresh_database().await;
    enqueue(&mut conn, &ids(jobs)).await;
    let before = stage.work(&mut conn).await;
    let used = stage.daemon(api, &["--until-empty"], &[]).wait().await;
    let cost = Cost::of(jobs, used, stage.work(&mut conn).await - before);
    stage.print_statements(&mut conn).await;
    cost
}
