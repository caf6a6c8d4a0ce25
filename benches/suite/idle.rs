//! A daemon with nothing to do: what it asks of the database and of the machine.

use crate::report::Report;
use crate::report::Target;
use crate::report::median;
use crate::stage::Stage;
use std::time::Duration;
use std::time::Instant;

/// A round's length in seconds; upkeep of every kind comes several times in it.
const WINDOW: usize = 60;
/// What a start takes is over after so many.
const SETTLED: usize = 10;

/// What a second of one round came to.
#[derive(Clone, Copy)]
struct Rest {
    statements: f64,
    cpu: f64,
    server_cpu: f64,
    wal_kib: f64,
}

pub async fn measure(stage: &Stage) -> Report {
    let api = stage.api("").await;
    let mut conn = stage.fresh_database().await;
    let window = Duration::from_secs(stage.size(WINDOW) as u64);
    let settled = Duration::from_secs(stage.size(SETTLED) as u64);
    tokio::time::sleep(settled).await;
    let alone = stage.server_cpu();
    tokio::time::sleep(window).await;
    let alone = (stage.server_cpu() - alone) / window.as_secs_f64();

    let daemon = stage.daemon(&api, &[], &[]);
    stage.listening(&mut conn).await;
    tokio::time::sleep(settled).await;
    let mut rounds = Vec::new();
    for _ in 0..stage.rounds {
        let (began, cpu) = (Instant::now(), daemon.cpu());
        let before = stage.work(&mut conn).await;
        tokio::time::sleep(window).await;
        let work = stage.work(&mut conn).await - before;
        let seconds = began.elapsed().as_secs_f64();
        rounds.push(Rest {
            statements: work.statements / seconds,
            cpu: (daemon.cpu() - cpu) / seconds,
            server_cpu: work.cpu / seconds,
            wal_kib: work.wal_bytes / 1024.0 / seconds,
        });
    }
    let peak = daemon.peak_mib();
    daemon.stop().await;

    let of = |part: fn(&Rest) -> f64| median(&rounds.iter().map(part).collect::<Vec<_>>());
    let mut report = Report::new("idle");
    report.figure(
        "statements a second",
        of(|r| r.statements),
        Target::AtMost(2.0, 0.5),
    );
    report.figure(
        "CPU % of a core, the daemon",
        of(|r| r.cpu) * 1e2,
        Target::AtMost(0.5, 0.1),
    );
    report.ratio(
        "CPU % of a core, Postgres; floor: alone",
        alone * 1e2,
        of(|r| r.server_cpu) * 1e2,
        None,
    );
    report.figure("WAL KiB a second", of(|r| r.wal_kib), None);
    report.figure("peak memory MiB", peak, None);
    report
}
