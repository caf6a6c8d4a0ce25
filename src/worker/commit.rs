//! The committer: gathers what has ended, at once when idle and up to a batch when busy, and writes it down.

use crate::domain::Finished;
use crate::domain::Job;
use crate::domain::verdict;
use crate::failpoint::Point;
use crate::failpoint::reach;
use crate::metrics::OfAccount;
use crate::metrics::OfChange;
use crate::store::Committed;
use crate::store::StoreError;
use crate::worker::FIRST_WAIT;
use crate::worker::LONGEST_WAIT;
use crate::worker::Permits;
use crate::worker::Worker;
use crate::worker::waits::Waits;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A job whose task is over, with the slot that it frees once this is written down.
pub(super) enum Ended {
    /// The call was made.
    Finished(Box<Finished>, Permits),
    /// The call was not made.
    Unstarted(Job, Permits),
}

/// What nobody has heard of may pass; so often it is the row's fault.
const UNKNOWN_TRIES: u32 = 3;
/// When it must end, waits are no longer than this.
const LAST_WAIT: Duration = Duration::from_millis(200);
/// So often, alone, a row whose statement is cut off is at fault itself. One that has used up its time weighs more than
/// one that somebody may have cancelled: twice is enough.
const CUT_OFF_TRIES: u32 = 8;
const CUT_OFF_WEIGHT: u32 = 4;
const USED_UP: Duration = Duration::from_secs(20);
/// A batch is full with so much of answers, too: a statement of their size takes many times as much memory, and must
/// not take longer than a statement may.
const BATCH_BYTES: usize = 16 << 20;
/// After an abort, how long to keep trying to reach the database before leaving the rest to the leases.
const LAST_TRIES: Duration = Duration::from_millis(1_500);

impl Worker {
    pub(super) async fn commit_until_closed(
        self: Arc<Self>,
        mut ended: mpsc::Receiver<Ended>,
        abort: CancellationToken,
    ) {
        while let Some(first) = ended.recv().await {
            let (mut finished, mut unstarted, mut permits) = (Vec::new(), Vec::new(), Vec::new());
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(item) = next {
                match item {
                    Ended::Finished(attempt, permit) => {
                        let stored = attempt.verdict.stored.as_ref();
                        bytes += stored.map_or(0, |stored| stored.snapshot.bytes);
                        finished.push(*attempt);
                        permits.push(permit);
                    }
                    Ended::Unstarted(job, permit) => {
                        unstarted.push(job);
                        permits.push(permit);
                    }
                }
                next = if permits.len() < self.settings.batch_size && bytes < BATCH_BYTES {
                    ended.try_recv().ok()
                } else {
                    None
                };
            }
            let finished_jobs = finished.iter().map(|f| &f.job);
            let tokens: Vec<_> = finished_jobs
                .chain(&unstarted)
                .map(|job| job.lease_token)
                .collect();
            reach(Point::Gathered);
            self.note_uncommitted(finished.len());
            if !unstarted.is_empty() {
                self.release(&unstarted, &abort).await;
            }
            if !finished.is_empty() {
                self.metrics
                    .store_batch_jobs
                    .observe(f64::from(u32::try_from(finished.len()).unwrap_or(u32::MAX)));
                self.commit(finished, &abort).await;
            }
            self.note_uncommitted(0);
            self.let_go(&tokens);
            drop(permits);
            self.wake.notify_one();
        }
    }

    /// Gives leases back, so that the attempts are not counted. Safe to repeat: what was given back no longer holds
    /// its lease token.
    async fn release(&self, unstarted: &[Job], abort: &CancellationToken) {
        const WHAT: &str = "give leases back";
        let mut tries = Tries::new(self, abort);
        loop {
            match self.db.release(unstarted).await {
                Ok(()) => return self.note_success(WHAT),
                Err(error) if !error.is_passing() && tries.failed >= UNKNOWN_TRIES => {
                    tracing::error!(jobs = unstarted.len(), %error, "cannot give leases back; they will run out");
                    return self.note_success(WHAT);
                }
                Err(error) if tries.go_on(WHAT, &error).await => {}
                Err(error) => {
                    tracing::error!(jobs = unstarted.len(), %error, "stopping without having given leases back; they will run out");
                    return;
                }
            }
        }
    }

    fn note_uncommitted(&self, uncommitted: usize) {
        let mut progress = self.lock_progress();
        progress.committed_at = self.clock.now();
        progress.uncommitted = uncommitted;
    }

    /// Commits a batch; where Postgres refuses a value or cannot cope, halves it until the poisoned row is alone.
    async fn commit(&self, batch: Vec<Finished>, abort: &CancellationToken) {
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            match self.commit_part(&part, abort).await {
                Part::Committed | Part::GivenUp => {}
                Part::Refused(_) if part.len() > 1 => {
                    let rest = part.split_off(part.len() / 2);
                    parts.push(rest);
                    parts.push(part);
                }
                Part::Refused(why) => {
                    let Some(Finished { job, verdict, took }) = part.pop() else {
                        continue;
                    };
                    let id = job.connection_id;
                    if verdict.stored.is_none() {
                        tracing::error!(connection.id = %id, error = why, "what became of {id} cannot be written down; its lease will run out");
                        continue;
                    }
                    let verdict = verdict::unstorable(&verdict, why);
                    parts.push(vec![Finished { job, verdict, took }]);
                }
            }
        }
    }

    /// Commits, and tries again for as long as that can help. Safe to repeat: what was committed no longer holds its
    /// lease token.
    async fn commit_part(&self, part: &[Finished], abort: &CancellationToken) -> Part {
        const WHAT: &str = "commit";
        let mut tries = Tries::new(self, abort);
        let (mut unknown, mut cut_off) = (0, 0);
        loop {
            let began = self.clock.now();
            let result = self
                .db
                .commit(part, &self.settings.name, self.settings.settle.deadline)
                .await;
            let error = match result {
                Ok(committed) => {
                    self.note_success(WHAT);
                    self.report(part, &committed);
                    return Part::Committed;
                }
                Err(error) => error,
            };
            match &error {
                StoreError::Data(why) => return Part::Refused(why.clone()),
                // Halving is trying again, and comes to an end: whoever is at fault does not hold up the others.
                StoreError::Other(why) | StoreError::CutOff(why) if part.len() > 1 => {
                    return Part::Refused(why.clone());
                }
                StoreError::Other(why) if unknown >= UNKNOWN_TRIES => {
                    return Part::Refused(why.clone());
                }
                StoreError::CutOff(why) => {
                    let took = self.clock.now().saturating_duration_since(began);
                    cut_off += if took < USED_UP { 1 } else { CUT_OFF_WEIGHT };
                    if cut_off >= CUT_OFF_TRIES {
                        return Part::Refused(why.clone());
                    }
                }
                StoreError::Other(_) => unknown += 1,
                _ => {}
            }
            if !tries.go_on(WHAT, &error).await {
                tracing::error!(jobs = part.len(), %error, "stopping without having written down what calls came to; their leases will run out");
                return Part::GivenUp;
            }
        }
    }

    fn report(&self, part: &[Finished], committed: &[Committed]) {
        for (finished, committed) in part.iter().zip(committed) {
            // While the probe was out this replica let the account rest; what it found out changes that.
            if finished.job.probe
                && let Some(account) = self
                    .accounts
                    .iter()
                    .find(|account| account.name == finished.job.account)
            {
                account.stop_resting();
            }
            match committed {
                Committed::Applied {
                    tools,
                    due_in,
                    time_to_sync,
                } => {
                    if let Some(due_in) = due_in {
                        self.lock_agenda().note(self.clock.now() + *due_in);
                    }
                    let account = finished.job.account.as_str();
                    for (change, count) in [
                        ("added", tools.added),
                        ("changed", tools.changed),
                        ("removed", tools.removed),
                    ] {
                        self.metrics
                            .tools_changed
                            .get_or_create(&OfChange {
                                account: account.into(),
                                change,
                            })
                            .inc_by(u64::from(count.unsigned_abs()));
                    }
                    if let Some(elapsed) = time_to_sync {
                        self.metrics
                            .time_to_sync_seconds
                            .get_or_create(&OfAccount {
                                account: account.into(),
                            })
                            .observe(elapsed.as_secs_f64());
                    }
                    self.log(finished, *due_in);
                }
                Committed::LeaseLost => {
                    self.metrics.leases_lost.inc();
                    let id = finished.job.connection_id;
                    tracing::warn!(connection.id = %id, "the lease on {id} was lost; its answer is not written");
                }
            }
        }
    }

    fn log(&self, Finished { job, verdict, took }: &Finished, due_in: Option<Duration>) {
        let kind = job.phase.call();
        self.metrics
            .attempt(job.account.as_str(), kind, verdict.outcome, verdict.class)
            .inc();
        let id = job.connection_id;
        tracing::info!(
            connection.id = %id,
            account = %job.account,
            kind = kind.as_str(),
            outcome = verdict.outcome.as_str(),
            attempt = job.attempt,
            http.status = verdict.http_status,
            error.class = verdict.class.map(|class| class.as_str()),
            error = verdict.error.as_deref(),
            duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            due_in_ms = due_in.map(|due_in| u64::try_from(due_in.as_millis()).unwrap_or(u64::MAX)),
            "{} {id}",
            verdict.outcome.as_str()
        );
    }
}

enum Part {
    Committed,
    /// Postgres refuses a value of it, or it is more than a statement can do.
    Refused(String),
    /// The process stops and the database cannot be reached.
    GivenUp,
}

/// The tries of one write-back.
struct Tries<'a> {
    worker: &'a Worker,
    abort: &'a CancellationToken,
    waits: Waits,
    failed: u32,
    began: Instant,
    last_try: Option<Instant>,
}

impl<'a> Tries<'a> {
    fn new(worker: &'a Worker, abort: &'a CancellationToken) -> Self {
        Self {
            worker,
            abort,
            waits: Waits::new(FIRST_WAIT, LONGEST_WAIT),
            failed: 0,
            began: worker.clock.now(),
            last_try: None,
        }
    }

    /// Waits after a failed try. `false` when the process stops and has tried long enough.
    async fn go_on(&mut self, what: &'static str, error: &StoreError) -> bool {
        let worker = self.worker;
        let now = worker.clock.now();
        let took = now.saturating_duration_since(self.began);
        self.failed += 1;
        if error.is_over_at_once(self.failed, took) {
            tokio::time::sleep(Duration::from_millis(20).mul_f64(worker.dice.roll())).await;
        } else {
            worker.note_trouble(what, error);
            worker.lock_progress().committed_at = now;
            let mut wait = self.waits.next(&worker.dice);
            if self.abort.is_cancelled() {
                if now.saturating_duration_since(*self.last_try.get_or_insert(now)) > LAST_TRIES {
                    return false;
                }
                wait = wait.min(LAST_WAIT);
            }
            tokio::time::sleep(wait).await;
        }
        self.began = worker.clock.now();
        true
    }
}
