//! What has ended, gathered into batches: at once when idle, up to a batch when busy.

use crate::domain::Finished;
use crate::domain::Job;
use crate::worker::Worker;
use crate::worker::refusal::Step;
use crate::worker::slots::Hold;
use crate::worker::slots::Permits;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A batch is full with so much of answers, too: a statement of their size takes many times as much memory, and must
/// not take longer than a statement may.
const BATCH_BYTES: usize = 16 << 20;
/// How long results are gathered while many calls are out.
const GATHER: Duration = Duration::from_millis(20);
/// A job whose task is over, with what it frees once this is written down.
pub(super) enum Ended {
    /// The call was made.
    Finished(Box<Finished>, Hold),
    /// The call was not made.
    Unstarted(Job, Permits),
}

/// What has ended and was gathered.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) batch: Batch,
    bytes: usize,
    /// Something in it must not wait: it concerns all calls of its account, or another replica could make the call.
    is_urgent: bool,
    pub(super) unstarted: Vec<Job>,
    pub(super) unused: Vec<Permits>,
}

impl Gathered {
    fn add(&mut self, item: Ended) {
        match item {
            Ended::Finished(attempt, hold) => {
                self.is_urgent |= attempt.verdict.refuses_account() || attempt.job.probe;
                self.bytes += size(&attempt);
                self.batch.finished.push(*attempt);
                self.batch.holds.push(hold);
            }
            Ended::Unstarted(job, permits) => {
                self.is_urgent = true;
                self.unstarted.push(job);
                self.unused.push(permits);
            }
        }
    }

    fn is_full(&self, most: usize) -> bool {
        self.batch.finished.len() + self.unstarted.len() >= most || self.bytes >= BATCH_BYTES
    }
}

impl Worker {
    /// What has ended, and while many calls are out, what ends within a moment: as Postgres delays a commit by
    /// `commit_delay` where `commit_siblings` are at work.
    pub(super) async fn gather(
        &self,
        first: Ended,
        ended: &mut mpsc::Receiver<Ended>,
        abort: &CancellationToken,
    ) -> Gathered {
        let until = tokio::time::Instant::now() + GATHER;
        let mut gathered = Gathered::default();
        gathered.add(first);
        while !gathered.is_full(self.settings.batch_size) {
            let next = match ended.try_recv() {
                Ok(next) => Some(next),
                Err(_) if gathered.is_urgent || !self.slots.are_busy() || abort.is_cancelled() => {
                    None
                }
                Err(_) => tokio::time::timeout_at(until, ended.recv())
                    .await
                    .unwrap_or_default(),
            };
            let Some(next) = next else { break };
            gathered.add(next);
        }
        gathered
    }
}

/// Attempts, and what they free once they are written down.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) finished: Vec<Finished>,
    holds: Vec<Hold>,
}

impl Batch {
    pub(super) fn split(mut self, step: &Step) -> [Self; 2] {
        let at = if *step == Step::PartLargest {
            self.finished.sort_by_key(size);
            self.finished.len() - 1
        } else {
            self.finished.len() / 2
        };
        let rest = Self {
            finished: self.finished.split_off(at),
            // Which of them belongs to which does not matter: all are freed in the end.
            holds: self.holds.split_off(at),
        };
        [self, rest]
    }
}

pub(super) fn size(finished: &Finished) -> usize {
    let stored = finished.verdict.stored.as_ref();
    stored.map_or(0, |stored| stored.snapshot.bytes)
}
