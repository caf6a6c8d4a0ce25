//! The worker: a loop that only waits, and a [`tick`](Worker::tick) that takes in, claims and starts.
//!
//! What was started runs in `execute`, one task per job, and ends in the committer of `commit`, which writes
//! batches. Slots are acquired before jobs are claimed: what is claimed starts at once. `slots` says how many results
//! can pile up.
//!
//! Beside the queue stands `inventory`: what the API's list of an account says, into the tables. `reconcile` does that now
//! and then, and `refresh` puts what has become old into the queue. `actions` does what people have asked for on many jobs
//! at a time.

mod account;
mod actions;
mod agenda;
mod commit;
mod execute;
mod gather;
mod inbox;
mod inventory;
mod listen;
mod lone;
mod outage;
mod progress;
mod reconcile;
mod refresh;
mod refusal;
mod slots;
mod tally;
mod tick;
mod unheard;
mod upkeep;
mod waits;

pub use account::Account;
pub use account::AccountSettings;
pub use inventory::Asking;
pub use inventory::Found;
pub use inventory::Inventory;
pub use inventory::InventoryError;
pub use outage::Outage;
pub use progress::Progress;
pub use tally::Tally;
pub use tick::Again;
pub use tick::Tick;

use crate::domain::AccountName;
use crate::domain::Clock;
use crate::domain::Dice;
use crate::domain::RetryPolicy;
use crate::domain::SettleRule;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::store::Db;
use crate::store::StoreError;
use crate::worker::agenda::Agenda;
use crate::worker::gather::Ended;
use crate::worker::inbox::Inbox;
use crate::worker::listen::Heard;
use crate::worker::lone::Ease;
use crate::worker::slots::Slots;
use crate::worker::unheard::Leases;
use crate::worker::unheard::Unheard;
use crate::worker::waits::Waits;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// How far polling slows down while nothing happens and wake-ups are heard.
const IDLE_FACTOR: u32 = 5;
/// What becomes due one by one is gathered this long.
const DUE_STEP: Duration = Duration::from_millis(10);
/// Between failed operations on the database, at first and at most.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

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
    /// How long attempts are kept.
    pub keep_attempts: Duration,
    /// How long statistics by the minute are kept.
    pub keep_minutes: Duration,
    /// How long the change feed is kept.
    pub keep_events: Duration,
    /// How long former versions of connections and tools are kept.
    pub keep_history: Duration,
    /// `[retry]`.
    pub retry: RetryPolicy,
    /// `[settle]`.
    pub settle: SettleRule,
    /// How often to compare the API's lists with the tables; `None`: never.
    pub reconcile: Option<Duration>,
    /// How old tools may become before they are refreshed; `None`: any age.
    pub refresh_after: Option<Duration>,
    /// The part of an account's budget that refreshes may take, `0.0..=1.0`.
    pub budget_share: f64,
}

/// Everything that works on the queue in this process.
pub struct Worker {
    settings: WorkerSettings,
    db: Db,
    accounts: Vec<Account>,
    metrics: Arc<Metrics>,
    clock: Clock,
    dice: Dice,
    slots: Slots,
    waking: Notify,
    agenda: Mutex<Agenda>,
    /// Something has become due sooner than what the loop waits for.
    sooner: Notify,
    /// What somebody says there is to do.
    heard: Heard,
    stirring: Notify,
    /// A lease has run out.
    expired: Notify,
    /// Somebody has asked for an action on all jobs of a filter.
    asked: Notify,
    /// Connections that the last look into the inbox passed over, because they were worked on.
    passed_over: Mutex<HashSet<Uuid>>,
    /// Batches written so far.
    commits: AtomicU64,
    /// Wake-ups are heard, so polling may slow down.
    listening: AtomicBool,
    /// Rows of the queue when they were last counted.
    queued: AtomicI64,
    /// More history is past its time than one round of upkeep deletes.
    history_left: AtomicBool,
    /// Not all partitions are as they ought to be.
    partitions_left: AtomicBool,
    turn: AtomicUsize,
    progress: Mutex<Progress>,
    /// What was told of trouble with the database.
    outage: Mutex<Outage>,
    /// Accounts whose counts were last shown.
    counted: Mutex<Vec<String>>,
    /// What this replica has leased and has heard of.
    leases: Mutex<Leases>,
}

/// The parts of a running worker that outlive a tick.
pub struct Running {
    tasks: TaskTracker,
    ended: mpsc::Sender<Ended>,
    lifecycle: Lifecycle,
    ease: Ease,
    inbox: Inbox,
    /// The inbox is left alone until then.
    inbox_rests_until: Option<Instant>,
    /// Nothing more was in it: until then only a stir is worth a look.
    inbox_quiet_until: Option<Instant>,
    /// What was in the way of a claim or a look into the inbox is not tried before.
    hindered_until: Option<Instant>,
    /// Between ticks that fail, and how many have failed in a row.
    waits: Waits,
    failed: u32,
    /// A claim's answer was lost.
    unheard: Option<Unheard>,
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
            slots: Slots::new(settings.concurrency as usize, settings.batch_size),
            settings,
            db,
            accounts,
            metrics,
            clock,
            dice,
            waking: Notify::new(),
            agenda: Mutex::default(),
            sooner: Notify::new(),
            heard: Heard::new(),
            stirring: Notify::new(),
            expired: Notify::new(),
            asked: Notify::new(),
            passed_over: Mutex::default(),
            commits: AtomicU64::new(0),
            counted: Mutex::default(),
            leases: Mutex::default(),
            listening: AtomicBool::new(false),
            queued: AtomicI64::new(i64::MAX),
            history_left: AtomicBool::new(false),
            partitions_left: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
            progress: Mutex::new(Progress::new(now)),
            outage: Mutex::default(),
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

    /// Looks at everything anew that could have changed outside: keys, pauses, the inbox.
    pub fn look_anew(&self) {
        for account in &self.accounts {
            account.refresh_key();
        }
        self.be_woken();
    }

    /// Goes by these limits from now on, for the accounts that it knows.
    ///
    /// # Errors
    /// When the database does not learn of them; the old ones hold then.
    pub async fn set_limits(&self, limits: &[(AccountName, u32)]) -> Result<(), StoreError> {
        let limit_of = |account: &Account| {
            let new = limits.iter().find(|(name, _)| *name == account.name);
            new.map(|(_, limit)| *limit)
                .filter(|limit| *limit != account.limit())
        };
        let changed: Vec<_> = self
            .accounts
            .iter()
            .filter_map(|account| Some((account, limit_of(account)?)))
            .collect();
        let registered: Vec<_> = changed
            .iter()
            .map(|(account, limit)| (account.name.clone(), *limit))
            .collect();
        self.db.register_accounts(&registered).await?;
        for (account, limit) in changed {
            account.set_limit(limit);
            tracing::info!(account = %account.name, requests_per_minute = limit, "a new rate limit holds");
        }
        Ok(())
    }

    /// Works until a stop, then lets calls under way finish, or abandons them when the lifecycle aborts, and
    /// writes down what they came to.
    ///
    /// # Errors
    /// When a part of it failed, which nothing here expects: the process had better start anew.
    pub async fn run(self: Arc<Self>, lifecycle: Lifecycle) -> Result<(), JoinError> {
        let (ended, results) = mpsc::channel(self.slots.results());
        let stop = || lifecycle.stop.clone();
        let parts = [
            tokio::spawn(
                self.clone()
                    .commit_until_closed(results, lifecycle.abort.clone()),
            ),
            tokio::spawn(self.clone().listen_until(stop())),
            tokio::spawn(self.clone().keep_up_until(stop())),
            tokio::spawn(self.clone().reconcile_until(stop())),
            tokio::spawn(self.clone().refresh_until(stop())),
            tokio::spawn(self.clone().act_until(stop())),
        ];
        let has_failed = || parts.iter().any(JoinHandle::is_finished);

        let mut running = Running {
            tasks: TaskTracker::new(),
            ended,
            lifecycle: lifecycle.clone(),
            ease: Ease::default(),
            inbox: Inbox::default(),
            inbox_rests_until: None,
            inbox_quiet_until: None,
            hindered_until: None,
            waits: Waits::new(FIRST_WAIT, LONGEST_WAIT),
            failed: 0,
            unheard: None,
        };
        let mut active_at = self.clock.now();
        while !lifecycle.stop.is_cancelled() && !has_failed() {
            let tick = self.tick(&mut running).await;
            let now = self.clock.now();
            if tick.taken_in > 0 || tick.claimed > 0 {
                active_at = now;
            }
            let quiet = now.saturating_duration_since(active_at) > self.settings.poll_interval;
            self.wait(tick.again, quiet, &running).await;
        }

        // Either way: a part that failed stops the others.
        lifecycle.stop.cancel();
        running.tasks.close();
        running.tasks.wait().await;
        lifecycle
            .abort
            .run_until_cancelled(self.give_back_unheard_at_last(&mut running))
            .await;
        drop(running);
        // The committer ends when the last sender is gone.
        let mut ended = Ok(());
        for part in parts {
            ended = ended.and(part.await);
        }
        ended
    }

    async fn wait(&self, again: Again, quiet: bool, running: &Running) {
        let lifecycle = &running.lifecycle;
        let longest = match again {
            Again::NotBefore(delay) => {
                lifecycle
                    .stop
                    .run_until_cancelled(tokio::time::sleep(delay))
                    .await;
                return;
            }
            Again::After(delay) => delay.min(self.settings.poll_interval),
            Again::Idle => self.poll_delay(quiet),
        };
        self.give_sign(tick::WHAT, longest);
        let mut latest = self.clock.now() + longest;
        // Kept over the rounds: it has heard of slots that the next would wait for.
        let enough = self.slots.enough();
        tokio::pin!(enough);
        loop {
            let now = self.clock.now();
            // What became due since the last tick began may have been overlooked by it.
            let ticked_at = self.lock_progress().ticked_at;
            let next_due = self.lock_agenda().next_after(ticked_at);
            let at = next_due.map_or(latest, |due| latest.min(due + DUE_STEP));
            tokio::select! {
                () = tokio::time::sleep(at.saturating_duration_since(now)) => return,
                () = self.waking.notified() => return,
                // While the inbox rests there is no hurry.
                () = self.stirring.notified() => match running.inbox_rests_until {
                    Some(until) if until > self.clock.now() => latest = latest.min(until),
                    _ => return,
                },
                () = &mut enough => return,
                () = lifecycle.stop.cancelled() => return,
                () = self.sooner.notified() => {}
            }
        }
    }

    /// Notes that a job is due after so long.
    fn note_due(&self, due_in: Duration) {
        if self.lock_agenda().note(self.clock.now() + due_in) {
            self.sooner.notify_one();
        }
    }

    /// Jittered, so that replicas do not poll together; slower while nothing happens, as long as wake-ups are heard.
    fn poll_delay(&self, quiet: bool) -> Duration {
        let slower = if quiet && self.listening.load(Ordering::Relaxed) {
            IDLE_FACTOR
        } else {
            1
        };
        (self.settings.poll_interval * slower).mul_f64(0.75 + 0.25 * self.dice.roll())
    }

    fn lock_agenda(&self) -> std::sync::MutexGuard<'_, Agenda> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_passed_over(&self) -> std::sync::MutexGuard<'_, HashSet<Uuid>> {
        self.passed_over
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_counted(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
