//! A queue that holds far more than is being done: whether that makes anything slower.

use crate::queue::CALLS;
use crate::queue::LARGE;
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
use crate::stage::Api;
use crate::stage::Stage;
use crate::stage::run;

const HUGE: usize = 10_000_000;
/// Of each queue a part is drained, in turn, and so on: what else the machine does meanwhile meets all.
/// Even, since each turns their order round.
const TURNS: usize = 2;

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
        report.rounds(
            format!("counting ms, pending {name}; floor: 50 k"),
            &each(small, |run| run.count_ms),
            &each(runs, |run| run.count_ms),
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

/// Fills the queues, and drains a part of each in turn. Where one is drained further, it has some connections stored, and
/// its pages may have left the server's memory: that counts against it.
async fn drain_in_turns(queues: &mut [Queue], api: &Api) {
    for turn in 0..TURNS {
        // So that none always comes after the same other one.
        queues.reverse();
        for queue in queues.iter_mut() {
            let Queue {
                stage,
                pending,
                statistics,
                runs,
            } = queue;
            let calls = stage.size(CALLS);
            let mut conn = if turn == 0 || *pending < 2 * TURNS * calls {
                let mut conn = stage.fresh_database().await;
                load(&mut conn, *pending, *statistics).await;
                conn
            } else {
                let mut conn = stage.connect().await;
                run(&mut conn, "CHECKPOINT").await;
                conn
            };
            runs.push(drain_some(stage, api, &mut conn, calls).await);
        }
    }
    for queue in queues {
        queue.stage.drop_database().await;
    }
}
