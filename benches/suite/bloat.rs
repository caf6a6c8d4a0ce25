//! The time after a large drain: what it left behind, and whether that makes anything slower.

use crate::queue::CALLS;
use crate::queue::LARGE;
use crate::queue::Run;
use crate::queue::SCENARIO;
use crate::queue::SMALL;
use crate::queue::Statistics;
use crate::queue::compare;
use crate::queue::drain_some;
use crate::queue::load;
use crate::report::Report;
use crate::report::Target;
use crate::stage::Api;
use crate::stage::Stage;
use crate::stage::run;
use sqlx::PgConnection;

pub async fn measure(stage: &Stage) -> Report {
    let (mut fresh, mut drained_now) = (Vec::new(), Vec::new());
    let (mut vacuumed, mut anew) = (Vec::new(), Vec::new());
    for _ in 0..stage.rounds {
        let drained = after_a_drain(stage).await;
        fresh.push(drained.fresh);
        drained_now.push(drained.at_once);
        vacuumed.push(drained.vacuumed);
        anew.push(drained.anew);
    }
    let mut report = Report::new("bloat");
    let many = drained(stage);
    let same = ("the same rows, no bloat", &anew[..]);
    for (when, runs) in [("right after", &drained_now), ("vacuumed after", &vacuumed)] {
        compare(
            &mut report,
            &format!("{when} a drain of {many}"),
            runs,
            same,
            Target::AtLeast(0.95, 1.0),
        );
    }
    compare(
        &mut report,
        &format!("with {many} connections stored, no bloat"),
        &anew,
        ("with none", &fresh),
        None,
    );
    report
}

fn drained(stage: &Stage) -> usize {
    stage.size(if stage.huge { LARGE } else { SMALL })
}

/// Drains after a large one.
struct Drained {
    /// Before it.
    fresh: Run,
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
    load(&mut conn, stage.size(SMALL), Statistics::Fresh).await;
    let fresh = drain_some(stage, &api, &mut conn, stage.size(CALLS)).await;
    let mut conn = stage.fresh_database().await;
    load(&mut conn, drained(stage), Statistics::Fresh).await;
    stage.daemon(&api, &["--until-empty"], &[]).wait().await;
    let at_once = after(stage, &api, &mut conn).await;
    run(&mut conn, "VACUUM (ANALYZE)").await;
    let vacuumed = after(stage, &api, &mut conn).await;
    run(&mut conn, "VACUUM (FULL, ANALYZE)").await;
    let anew = after(stage, &api, &mut conn).await;
    Drained {
        fresh,
        at_once,
        vacuumed,
        anew,
    }
}

async fn after(stage: &Stage, api: &Api, conn: &mut PgConnection) -> Run {
    load(conn, stage.size(SMALL), Statistics::Left).await;
    drain_some(stage, api, conn, stage.size(CALLS)).await
}
