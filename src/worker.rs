//! The worker: a loop that only waits, and a [`tick`](Worker::tick) that takes in, claims and starts.
//!
//! What was started runs in [`execute`], one task per job, and ends in the committer of [`commit`], which writes
//! batches. Slots are acquired before jobs are claimed and given back only when the result is committed: what is
//! claimed starts at once, and no more results can pile up than there are slots.

mod account;
mod agenda;
mod commit;
mod execute;
mod listen;
mod upkeep;

pub use account::Account;
pub use account::AccountSettings;

use crate::domain::Clock;
use crate::domain::Dice;
use crate::domain::Phase;
use crate::domain::RetryPolicy;
use crate::domain::SettleRule;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::metrics::OfAccount;
use crate::metrics::OfKind;
use crate::store::Claim;
use crate::store::ClaimRequest;
use crate::store::Db;
use crate::store::StoreError;
use crate::worker::agenda::Agenda;
use crate::worker::commit::Ended;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::Notify;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

/// Requests folded by one statement: some 20 ms of work, so that claims in between are not kept waiting.
const TAKE_IN: u32 = 1_000;
/// Under load the inbox is looked into this often; claims alone come more often.
const TAKE_IN_EVERY: Duration = Duration::from_millis(50);
/// When the budget is the limit, claims are gathered this long rather than made one by one.
const BUDGET_STEP: Duration = Duration::from_millis(40);
/// A paused account is looked at again this often, in case the pause was ended by hand.
const PAUSE_STEP: Duration = Duration::from_secs(5);
/// How far polling slows down while nothing happens and wake-ups are heard.
const IDLE_FACTOR: u32 = 5;
/// One claim in so many prefers polls over finalizes, so that a backlog of new work cannot keep settling
/// connections waiting for ever.
const POLL_SHARE: f64 = 0.25;

/// What the worker goes by.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Name of this replica.
    pub name: String,
    /// Most calls at a time.
    pub concurrency: u32,
    /// How long a lease lasts.
    pub lease: Duration,
    /// How often to look for work.
    pub poll_interval: Duration,
    /// Most attempts committed together.
    pub batch_size: usize,
    /// How long history is kept.
    pub keep_attempts: Duration,
    /// `[retry]`.
    pub retry: RetryPolicy,
    /// `[settle]`.
    pub settle: SettleRule,
}

/// Everything that works on the queue in this process.
pub struct Worker {
    settings: WorkerSettings,
    db: Db,
    accounts: Vec<Account>,
    metrics: Arc<Metrics>,
    clock: Clock,
    dice: Dice,
    slots: Arc<Semaphore>,
    wake: Notify,
    agenda: Mutex<Agenda>,
    /// Wake-ups are heard, so polling may slow down.
    listening: AtomicBool,
    turn: AtomicUsize,
    progress: Mutex<Progress>,
}

/// Signs of life of the loops, and the last trouble.
#[derive(Clone, Debug)]
pub struct Progress {
    /// When the worker's loop last came round.
    pub ticked_at: Instant,
    /// When the committer last came round, and whether it holds work.
    pub committed_at: Instant,
    /// Attempts that wait to be committed.
    pub uncommitted: usize,
    /// When the upkeep last came round.
    pub upkept_at: Instant,
    /// The database trouble that is not over.
    pub trouble: Option<String>,
}

/// What one tick did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Requests taken in.
    pub taken_in: u64,
    /// Jobs claimed and started.
    pub claimed: usize,
    /// When to tick again, unless woken.
    pub again: Again,
}

/// When to tick again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Again {
    /// There is more.
    Now,
    /// After this long.
    After(Duration),
    /// When a slot becomes free or a poll is due.
    Idle,
}

/// The parts of a running worker that outlive a tick.
pub struct Running {
    tasks: TaskTracker,
    ended: mpsc::Sender<Ended>,
    lifecycle: Lifecycle,
    looked_in_at: Option<Instant>,
}

impl Worker {
    /// Puts a worker together. Nothing runs yet.
    pub fn new(
        settings: WorkerSettings,
        db: Db,
        accounts: Vec<Account>,
        metrics: Arc<Metrics>,
        clock: Clock,
        dice: Dice,
    ) -> Self {
        let now = clock.now();
        Self {
            slots: Arc::new(Semaphore::new(settings.concurrency as usize)),
            settings,
            db,
            accounts,
            metrics,
            clock,
            dice,
            wake: Notify::new(),
            agenda: Mutex::default(),
            listening: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
            progress: Mutex::new(Progress {
                ticked_at: now,
                committed_at: now,
                uncommitted: 0,
                upkept_at: now,
                trouble: None,
            }),
        }
    }

    /// Name of this replica.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The database.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Signs of life.
    pub fn progress(&self) -> Progress {
        self.lock_progress().clone()
    }

    fn lock_progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until a stop, then lets calls under way finish, or abandons them when the lifecycle aborts, and
    /// writes down what they came to.
    pub async fn run(self: Arc<Self>, lifecycle: Lifecycle) {
        let (ended, results) = mpsc::channel(self.settings.concurrency as usize + 1);
        let committer = tokio::spawn(
            self.clone()
                .commit_until_closed(results, lifecycle.abort.clone()),
        );
        let helpers = TaskTracker::new();
        helpers.spawn(self.clone().listen_until(lifecycle.stop.clone()));
        helpers.spawn(self.clone().keep_up_until(lifecycle.stop.clone()));
        helpers.close();

        let mut running = Running {
            tasks: TaskTracker::new(),
            ended,
            lifecycle,
            looked_in_at: None,
        };
        let mut quiet = 0;
        while !running.lifecycle.stop.is_cancelled() {
            let tick = self.tick(&mut running).await;
            quiet = match tick {
                Tick {
                    taken_in: 0,
                    claimed: 0,
                    again: Again::Idle,
                } => quiet + 1,
                _ => 0,
            };
            self.wait(tick.again, quiet, &running.lifecycle).await;
        }

        running.tasks.close();
        running.tasks.wait().await;
        drop(running);
        // The committer ends when the last sender is gone.
        if let Err(error) = committer.await {
            tracing::error!(%error, "the committer failed; leases of what it held will run out");
        }
        helpers.wait().await;
    }

    async fn wait(&self, again: Again, quiet: u32, lifecycle: &Lifecycle) {
        let longest = match again {
            Again::Now => return,
            Again::After(delay) => delay.min(self.settings.poll_interval),
            Again::Idle => self.poll_delay(quiet),
        };
        let now = self.clock.now();
        let next_due = self.lock_agenda().next_after(now);
        let delay = next_due.map_or(longest, |at| longest.min(at.saturating_duration_since(now)));
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.wake.notified() => {}
            () = lifecycle.stop.cancelled() => {}
        }
    }

    /// Jittered, so that replicas do not poll together; slower while nothing happens, as long as wake-ups are heard.
    fn poll_delay(&self, quiet: u32) -> Duration {
        let slower = if self.listening.load(Ordering::Relaxed) {
            quiet.clamp(1, IDLE_FACTOR)
        } else {
            1
        };
        (self.settings.poll_interval * slower).mul_f64(0.75 + 0.25 * self.dice.roll())
    }

    /// Takes in, claims and starts: one step of the loop.
    pub async fn tick(self: &Arc<Self>, running: &mut Running) -> Tick {
        self.lock_progress().ticked_at = self.clock.now();
        match self.try_tick(running).await {
            Ok(tick) => {
                self.note_success();
                tick
            }
            Err(error) => {
                self.note_trouble("take in and claim", &error);
                Tick {
                    taken_in: 0,
                    claimed: 0,
                    again: Again::After(Duration::from_millis(500)),
                }
            }
        }
    }

    async fn try_tick(self: &Arc<Self>, running: &mut Running) -> Result<Tick, StoreError> {
        let mut tick = Tick {
            taken_in: 0,
            claimed: 0,
            again: Again::Idle,
        };
        let now = self.clock.now();
        let looked_in = running
            .looked_in_at
            .is_some_and(|at| now.saturating_duration_since(at) < TAKE_IN_EVERY);
        if looked_in {
            tick.again = Again::After(TAKE_IN_EVERY);
        } else {
            running.looked_in_at = Some(now);
            let taken = self.db.take_in(TAKE_IN).await?;
            tick.taken_in = taken.requests;
            if let Some(due_in) = taken.next_due_in {
                self.lock_agenda().note(self.clock.now() + due_in);
            }
            if taken.requests >= u64::from(TAKE_IN) {
                running.looked_in_at = None;
                tick.again = Again::Now;
            }
        }
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        for index in 0..self.accounts.len() {
            let account = &self.accounts[(first + index) % self.accounts.len()];
            let (claimed, again) = self.claim(account, running).await?;
            tick.claimed += claimed;
            tick.again = tick.again.min(again);
        }
        Ok(tick)
    }

    async fn claim(
        self: &Arc<Self>,
        account: &Account,
        running: &Running,
    ) -> Result<(usize, Again), StoreError> {
        if let Some(left) = account.rest(self.clock.now()) {
            return Ok((0, Again::After(left)));
        }
        let slots = self
            .slots
            .available_permits()
            .min(account.slots.available_permits());
        let Some(mut permits) = Permits::acquire(self, account, slots) else {
            return Ok((0, Again::Idle));
        };
        if running.lifecycle.stop.is_cancelled() {
            return Ok((0, Again::Idle));
        }
        let prefer = if self.dice.roll() < POLL_SHARE {
            Phase::Settle
        } else {
            Phase::Finalize
        };
        let claim = self
            .db
            .claim(&ClaimRequest {
                account: &account.name,
                slots: u32::try_from(slots).unwrap_or(u32::MAX),
                budget: account.budget,
                lease: self.settings.lease,
                worker: &self.settings.name,
                prefer,
            })
            .await?;
        let now = self.clock.now();
        Ok(match claim {
            Claim::Nothing => (0, Again::Idle),
            Claim::Budget(delay) => {
                let delay = delay.max(BUDGET_STEP);
                account.rest_until(now + delay);
                self.metrics
                    .rate_wait_seconds
                    .get_or_create(&OfAccount {
                        account: account.name.to_string(),
                    })
                    .inc_by(delay.as_secs_f64());
                (0, Again::After(delay))
            }
            Claim::Paused(delay) => {
                let delay = delay.min(PAUSE_STEP);
                account.rest_until(now + delay);
                (0, Again::After(delay))
            }
            Claim::Jobs(jobs) => {
                let claimed = jobs.len();
                for job in jobs {
                    // Fewer jobs than permits come back, never more.
                    let Some(permit) = permits.split_one() else {
                        break;
                    };
                    let task = self
                        .clone()
                        .execute(job, account.clone(), now, permit, running);
                    running.tasks.spawn(task);
                }
                // Short of slots there may be more, once one is free; then the committer wakes us.
                (
                    claimed,
                    if claimed < slots {
                        Again::After(BUDGET_STEP)
                    } else {
                        Again::Idle
                    },
                )
            }
        })
    }

    fn lock_agenda(&self) -> std::sync::MutexGuard<'_, Agenda> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_success(&self) {
        if self.lock_progress().trouble.take().is_some() {
            tracing::info!("the database is back");
        }
    }

    fn note_trouble(&self, what: &str, error: &StoreError) {
        self.metrics
            .db_errors
            .get_or_create(&OfKind { kind: error.kind() })
            .inc();
        let message = error.to_string();
        let known = self.lock_progress().trouble.replace(message.clone());
        // Once per trouble, not once per poll.
        if known.as_deref() != Some(message.as_str()) {
            tracing::warn!(error = message, "cannot {what}; trying again");
        }
    }
}

/// A slot of the worker and one of the account, together.
pub(crate) struct Permits {
    worker: OwnedSemaphorePermit,
    account: OwnedSemaphorePermit,
}

impl Permits {
    fn acquire(worker: &Worker, account: &Account, slots: usize) -> Option<Self> {
        let n = u32::try_from(slots).ok().filter(|n| *n > 0)?;
        Some(Self {
            worker: worker.slots.clone().try_acquire_many_owned(n).ok()?,
            account: account.slots.clone().try_acquire_many_owned(n).ok()?,
        })
    }

    fn split_one(&mut self) -> Option<Self> {
        Some(Self {
            worker: self.worker.split(1)?,
            account: self.account.split(1)?,
        })
    }
}
