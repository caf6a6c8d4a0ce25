//! The committer: writes down what has been gathered.

use crate::domain::AccountName;
use crate::domain::Finished;
use crate::domain::Job;
use crate::domain::verdict;
use crate::failpoint::Point;
use crate::failpoint::reach;
use crate::metrics::OfAccount;
use crate::metrics::OfChange;
use crate::store::Committed;
use crate::store::StoreError;
use crate::worker::Account;
use crate::worker::FIRST_WAIT;
use crate::worker::LONGEST_WAIT;
use crate::worker::Worker;
use crate::worker::gather::Batch;
use crate::worker::gather::Ended;
use crate::worker::gather::Gathered;
use crate::worker::refusal::Refusals;
use crate::worker::refusal::Step;
use crate::worker::waits::Waits;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What the committer does, and trouble keeps from being done.
const WHAT: &str = "commit";
/// When it must end, waits are no longer than this.
const LAST_WAIT: Duration = Duration::from_millis(200);
/// After an abort, how long to keep trying to reach the database before leaving the rest to the leases.
const LAST_TRIES: Duration = Duration::from_millis(1_500);

impl Worker {
    pub(super) async fn commit_until_closed(
        self: Arc<Self>,
        mut ended: mpsc::Receiver<Ended>,
        abort: CancellationToken,
    ) {
        while let Some(first) = ended.recv().await {
            let Gathered {
                batch,
                unstarted,
                unused,
                ..
            } = self.gather(first, &mut ended, &abort).await;
            reach(Point::Gathered);
            self.give_sign(WHAT, Duration::ZERO);
            if !unstarted.is_empty() {
                self.release(&unstarted, &abort).await;
                self.slots.free(unused);
                self.stir();
            }
            if !batch.finished.is_empty() {
                self.metrics.store_batch_jobs.observe(f64::from(
                    u32::try_from(batch.finished.len()).unwrap_or(u32::MAX),
                ));
                self.commit(batch, &abort).await;
            }
            self.fall_idle(WHAT);
        }
    }

    /// Gives leases back, so that the attempts are not counted. Safe to repeat: what was given back no longer holds
    /// its lease token.
    async fn release(&self, unstarted: &[Job], abort: &CancellationToken) {
        const GIVE_BACK: &str = "give leases back";
        let mut tries = Tries::new(self, abort);
        let mut refusals = Refusals::default();
        loop {
            let error = match self.db.release(unstarted).await {
                Ok(()) => {
                    self.let_go(unstarted);
                    return self.note_success(GIVE_BACK);
                }
                Err(error) => error,
            };
            let step = refusals.judge(&error, 1, tries.took());
            if step != Step::Again {
                // Given up for this reason: what was noted of it before would otherwise stay.
                self.note_success(GIVE_BACK);
            }
            if step != Step::Again || !tries.go_on(GIVE_BACK, &error).await {
                tracing::error!(jobs = unstarted.len(), %error, "cannot give leases back; they will run out");
                return self.let_go(unstarted);
            }
        }
    }

    /// Commits a batch; where Postgres refuses a value or cannot cope, in ever smaller parts, until the poisoned row is
    /// alone. Parts take turns, so that the others do not wait for it.
    async fn commit(&self, batch: Batch, abort: &CancellationToken) {
        let mut parts = VecDeque::from([batch]);
        while let Some(mut part) = parts.pop_front() {
            self.give_sign(WHAT, Duration::ZERO);
            match self.commit_part(&part.finished, abort).await {
                Part::Committed => {
                    self.let_go(part.finished.iter().map(|finished| &finished.job));
                    self.slots.free(part);
                }
                Part::TooMuch(step) => parts.extend(part.split(&step)),
                Part::Refused(why) => {
                    part.finished.retain_mut(|Finished { job, verdict, .. }| {
                        let id = job.connection_id;
                        let has_answer = verdict.stored.is_some();
                        if has_answer {
                            *verdict = verdict::unstorable(verdict, why.clone());
                        } else {
                            tracing::error!(connection.id = %id, account = %job.account, error = why, "what became of {id} cannot be written down; its lease will run out");
                            self.leave([&*job]);
                        }
                        has_answer
                    });
                    if part.finished.is_empty() {
                        self.slots.free(part);
                    } else {
                        parts.push_back(part);
                    }
                }
                Part::Left => {
                    self.leave(part.finished.iter().map(|finished| &finished.job));
                    self.slots.free(part);
                }
            }
        }
    }

    /// Commits, and tries again for as long as that can help. Safe to repeat: what was committed no longer holds its
    /// lease token.
    async fn commit_part(&self, part: &[Finished], abort: &CancellationToken) -> Part {
        let mut tries = Tries::new(self, abort);
        let mut refusals = Refusals::default();
        loop {
            let result = self
                .db
                .commit(
                    part,
                    &self.settings.name,
                    self.settings.settle.deadline,
                    self.clock.now(),
                )
                .await;
            let error = match result {
                Ok(committed) => {
                    self.note_success(WHAT);
                    self.report(part, &committed);
                    self.commits.fetch_add(1, Ordering::SeqCst);
                    let passed_over = self.lock_passed_over();
                    if part
                        .iter()
                        .any(|f| passed_over.contains(&f.job.connection_id))
                    {
                        self.stir();
                    }
                    return Part::Committed;
                }
                Err(error) => error,
            };
            match refusals.judge(&error, part.len(), tries.took()) {
                Step::Again => {}
                step @ (Step::Halve | Step::PartLargest) => return Part::TooMuch(step),
                Step::Blame(why) => return Part::Refused(why),
                Step::Leave => {
                    for Finished { job, .. } in part {
                        let (id, account) = (job.connection_id, &job.account);
                        tracing::error!(connection.id = %id, %account, %error, "somebody holds the row of {id}; its lease will run out");
                    }
                    return Part::Left;
                }
            }
            if !tries.go_on(WHAT, &error).await {
                tracing::error!(jobs = part.len(), %error, "stopping without having written down what calls came to; their leases will run out");
                return Part::Left;
            }
        }
    }

    fn report(&self, part: &[Finished], committed: &[Committed]) {
        for (finished, committed) in part.iter().zip(committed) {
            // While the probe was out, or a refusal not yet written, this replica let the account rest.
            if (finished.job.probe || finished.verdict.refuses_account())
                && let Some(account) = self.account(&finished.job.account)
            {
                account.stop_resting();
                account.refusal_is_written();
                self.wake();
            }
            match committed {
                Committed::Applied {
                    tools,
                    due_in,
                    time_to_sync,
                    held,
                } => {
                    let instead = finished.if_held().filter(|_| *held);
                    let finished = instead.as_ref().unwrap_or(finished);
                    if let Some(due_in) = due_in {
                        self.note_due(*due_in);
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
                    if let Some(account) = self.account(&finished.job.account) {
                        account.note_word(&finished.verdict.account);
                    }
                }
                Committed::LeaseLost => {
                    self.metrics.leases_lost.inc();
                    let id = finished.job.connection_id;
                    let account = &finished.job.account;
                    tracing::warn!(connection.id = %id, %account, "the lease on {id} was lost; its answer is not written");
                }
            }
        }
    }

    fn account(&self, name: &AccountName) -> Option<&Account> {
        self.accounts.iter().find(|account| account.name == *name)
    }

    fn log(
        &self,
        Finished {
            job, verdict, took, ..
        }: &Finished,
        due_in: Option<Duration>,
    ) {
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
    /// In parts it may get through, made like this.
    TooMuch(Step),
    /// Postgres refuses its one row.
    Refused(String),
    /// It cannot be written now.
    Left,
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

    /// How long the try under way has lasted.
    fn took(&self) -> Duration {
        self.worker
            .clock
            .now()
            .saturating_duration_since(self.began)
    }

    /// Waits after a failed try. `false` when the process stops and has tried long enough.
    async fn go_on(&mut self, what: &'static str, error: &StoreError) -> bool {
        let worker = self.worker;
        let took = self.took();
        let now = worker.clock.now();
        self.failed += 1;
        if error.is_over_at_once(self.failed, took) {
            tokio::time::sleep(Duration::from_millis(20).mul_f64(worker.dice.roll())).await;
        } else {
            worker.note_trouble(what, error);
            let mut wait = self.waits.next(&worker.dice);
            if self.abort.is_cancelled() {
                if now.saturating_duration_since(*self.last_try.get_or_insert(now)) > LAST_TRIES {
                    return false;
                }
                wait = wait.min(LAST_WAIT);
            }
            worker.give_sign(WHAT, wait);
            tokio::time::sleep(wait).await;
        }
        self.began = worker.clock.now();
        worker.give_sign(WHAT, Duration::ZERO);
        true
    }
}
