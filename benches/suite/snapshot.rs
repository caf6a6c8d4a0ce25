//! A transaction that somebody leaves open: nothing that was deleted since can be cleared away.

use crate::queue::CALLS;
use crate::queue::Run;
use crate::queue::SCENARIO;
use crate::queue::SMALL;
use crate::queue::Statistics;
use crate::queue::compare;
use crate::queue::drain_some;
use crate::queue::each;
use crate::queue::load;
use crate::report::Report;
use crate::report::Target;
use crate::report::median;
use crate::stage::Api;
use crate::stage::Stage;
use crate::stage::run;
use sqlx::Connection;

pub async fn measure(stage: &Stage) -> Report {
    let api = stage.api(SCENARIO).await;
    let (mut free, mut held) = (Vec::new(), Vec::new());
    for _ in 0..stage.rounds {
        free.push(with_snapshot(stage, &api, false).await);
        held.push(with_snapshot(stage, &api, true).await);
    }
    let mut report = Report::new("snapshot");
    compare(
        &mut report,
        "snapshot held",
        &held,
        ("none", &free),
        Target::AtLeast(0.90, 0.95),
    );
    report.figure(
        "last ÷ first third, snapshot held",
        median(&each(&held, |run| run.last_to_first)),
        Target::AtLeast(0.85, 0.95),
    );
    report.figure(
        "last ÷ first third, none held",
        median(&each(&free, |run| run.last_to_first)),
        None,
    );
    report
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
