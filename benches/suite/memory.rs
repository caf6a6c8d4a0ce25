//! The most memory that a daemon takes: at work, and while it is fed bodies that nobody should send.

use crate::drain;
use crate::report::Report;
use crate::report::Target;
use crate::report::median;
use crate::stage::Stage;
use crate::stage::enqueue;
use crate::stage::ids;

const JOBS: usize = 5_000;
/// Each is called four times before it is given up.
const FED: usize = 100;

const BODIES: [(&str, &str); 3] = [
    ("50 MB bodies", "kind = \"too_large\"\nannounced = true"),
    (
        "50 MB bodies, unannounced",
        "kind = \"too_large\"\nannounced = false",
    ),
    ("gzip bombs of 50 MB", "kind = \"gzip_bomb\""),
];

pub async fn measure(stage: &Stage) -> Report {
    let mut report = Report::new("memory");
    // Some latency keeps all slots taken.
    let api = stage.api("tools = 8\nlatency = \"20ms\"").await;
    let mut peaks = Vec::new();
    for _ in 0..stage.rounds {
        let cost = drain::drain(stage, &api, stage.size(JOBS)).await;
        peaks.push(cost.peak_mib);
    }
    report.figure(
        "peak MiB, at work",
        median(&peaks),
        Target::AtMost(32.0, 20.0),
    );
    for (name, fault) in BODIES {
        let mut peaks = Vec::new();
        for _ in 0..stage.rounds {
            peaks.push(fed(stage, fault).await);
        }
        report.figure(
            format!("peak MiB, fed {name}"),
            median(&peaks),
            Target::AtMost(64.0, 48.0),
        );
    }
    report
}

async fn fed(stage: &Stage, fault: &str) -> f64 {
    let scenario = format!("tools = 8\n[[fault]]\nbytes = 50_000_000\n{fault}");
    let api = stage.api(&scenario).await;
    let mut conn = stage.fresh_database().await;
    enqueue(&mut conn, &ids(stage.size(FED))).await;
    let at_once = [
        ("FEATHER_SYNC__RETRY__INITIAL", "1ms".to_owned()),
        ("FEATHER_SYNC__RETRY__MAX", "1ms".to_owned()),
    ];
    let daemon = stage.daemon(&api, &["--until-empty"], &at_once);
    let peak = daemon.wait().await.peak_mib;
    let counts = api.counts().await;
    assert!(
        !counts["by_fault"].as_object().unwrap().is_empty(),
        "{counts}"
    );
    peak
}
