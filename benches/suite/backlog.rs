//! A queue that holds far more than is being done: whether that makes anything slower.

use crate::queue::CALLS;
use crate::queue::LARGE;
use crate::queue::Run;
use crate::queue::SCENARIO;
use crate::queue::SMALL;
use crate::queue::Statistics;
use crate::queue::compare;
use crate::queue::drain_some;
use crate::queue::load;
use crate::queue::of;
use crate::report::Report;
use crate::report::Target;
use crate::stage::Api;
use crate::stage::Stage;

const HUGE: usize = 10_000_000;
/// In so many parts the queues are drained, one after the other: what else the machine does meanwhile meets all.
const TURNS: usize = 4;

pub async fn measure(stage: &Stage) -> Report {
    let api = stage.api(SCENARIO).await;
    let mut queues = vec![
        Queue::new(stage, "small", SMALL, Statistics::Fresh),
        Queue::new(stage, "large", LARGE, Statistics::Fresh),
        Queue::new(stage, "stale", LARGE, Statistics::Stale),
    ];
    if stage.huge {
        queues.push(Queue::new(stage, "huge", HUGE, Statistics::Fresh));
    }
    for _ in 0..stage.rounds {
        drain_in_turns(&mut queues, &api).await;
    }
    let mut report = Report::new("backlog");
    let sizes = [
        ("1 M", Target::AtLeast(0.95, 1.0)),
        ("1 M, statistics stale", Target::AtLeast(0.95, 1.0)),
        ("10 M", Target::AtLeast(0.90, 1.0)),
    ];
    let small = &queues[0].runs;
    for (Queue { runs, .. }, (name, target)) in queues[1..].iter().zip(sizes) {
        compare(
            &mut report,
            &format!("pending {name}"),
            runs,
            ("50 k", small),
            target,
        );
        report.ratio(
            format!("counting ms, pending {name}; floor: 50 k"),
            of(small, |r| r.count_ms),
            of(runs, |r| r.count_ms),
            None,
        );
    }
    report
}

/// A database of its own, with so many jobs.
struct Queue {
    stage: Stage,
    pending: usize,
    statistics: Statistics,
    /// One a turn.
    runs: Vec<Run>,
}

impl Queue {
    fn new(stage: &Stage, name: &str, pending: usize, statistics: Statistics) -> Self {
        Self {
            stage: stage.beside(name),
            pending: stage.size(pending),
            statistics,
            runs: Vec::new(),
        }
    }
}

/// Fills the queues anew, and drains a part of each in turn.
async fn drain_in_turns(queues: &mut [Queue], api: &Api) {
    let mut connections = Vec::new();
    for queue in queues.iter() {
        let mut conn = queue.stage.fresh_database().await;
        load(&mut conn, queue.pending, queue.statistics).await;
        connections.push(conn);
    }
    for _ in 0..TURNS {
        for (queue, conn) in queues.iter_mut().zip(&mut connections) {
            let calls = queue.stage.size(CALLS / TURNS);
            queue
                .runs
                .push(drain_some(&queue.stage, api, conn, calls).await);
        }
    }
    for queue in queues {
        queue.stage.drop_database().await;
    }
}
