//! What has to be done now and then: expire leases, tell the fleet of this replica, refresh counts, delete old history.

use crate::domain::ErrorClass;
use crate::domain::Outcome;
use crate::metrics::OfAccount;
use crate::metrics::OfPause;
use crate::metrics::OfQueue;
use crate::metrics::OfState;
use crate::metrics::PAUSE_REASONS;
use crate::store::AccountCounts;
use crate::store::Partitioned;
use crate::store::StoreError;
use crate::worker::Account;
use crate::worker::Worker;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// What the upkeep is called where it hangs or cannot be done.
const WHAT: &str = "do the upkeep";
const SIGN_ON: &str = "tell the fleet that it is alive";
/// The fleet takes a replica for dead that it has not heard of for 45 s.
const SIGN_ON_EVERY: Duration = Duration::from_secs(10);
/// A lost lease is found within this time after it has run out.
const EXPIRE_EVERY: Duration = Duration::from_secs(5);
const EXPIRE_AGAIN: Duration = Duration::from_secs(1);
const EXPIRE_BATCH: u32 = 200;
/// Counts and a look at the key files come every second round.
const COUNT_EVERY: u32 = 2;
/// From so many rows on the queue is counted in the order of its table.
const MANY_ROWS: i64 = 1_000;
/// History and the oldest transaction are looked at every minute.
const DELETE_EVERY: u32 = 12;
const DELETE_BATCH: u32 = 2_000;
const DELETE_BATCHES: u32 = 10;
/// Partitions are looked at once an hour; every five minutes while something is in the way.
const PARTITION_EVERY: u32 = 720;
const PARTITION_AGAIN: u32 = 60;

impl Worker {
    pub(super) async fn keep_up_until(self: Arc<Self>, stop: CancellationToken) {
        // Before anything is counted: an account is known by those who serve it.
        self.sign_on().await;
        tokio::join!(self.sign_on_until(&stop), self.come_round_until(&stop));
        // Unless it is said, the fleet takes this replica for alive for some time yet.
        if let Err(error) = self.db.deregister(&self.settings.name).await {
            tracing::debug!(%error, "cannot sign off");
        }
    }

    /// Beside the rounds, since one of them may take minutes where the database is slow.
    async fn sign_on_until(&self, stop: &CancellationToken) {
        loop {
            let pause = SIGN_ON_EVERY.mul_f64(0.8 + 0.2 * self.dice.roll());
            self.give_sign(SIGN_ON, pause);
            let pause = tokio::time::sleep(pause);
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
            self.sign_on().await;
        }
    }

    /// Without it the fleet takes this replica for dead.
    async fn sign_on(&self) {
        self.give_sign(SIGN_ON, Duration::ZERO);
        let accounts: Vec<_> = self
            .accounts
            .iter()
            .map(|account| account.name.clone())
            .collect();
        match self.db.heartbeat(&self.settings.name, &accounts).await {
            Ok(()) => self.note_success(SIGN_ON),
            Err(error) => self.note_trouble(SIGN_ON, &error),
        }
    }

    async fn come_round_until(&self, stop: &CancellationToken) {
        let mut round: u32 = 0;
        while !stop.is_cancelled() {
            self.lock_progress().upkept_at = self.clock.now();
            if self.keep_up(round).await {
                self.note_success(WHAT);
            }
            round = round.wrapping_add(1);
            self.give_sign(WHAT, EXPIRE_EVERY);
            let pause = EXPIRE_EVERY.mul_f64(0.8 + 0.2 * self.dice.roll());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.expired.notified() => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Whether all of it could be done. What one part cannot do keeps no other from being done.
    async fn keep_up(&self, round: u32) -> bool {
        let mut works = true;
        if round.is_multiple_of(COUNT_EVERY) {
            // A replica that has been idle meets no refusal that would tell it of a new key.
            self.accounts.iter().for_each(Account::refresh_key);
        }
        if !self.leases_hold() {
            works &= self.told(self.expire_leases().await);
        }
        works &= self.told(self.forget_ended().await);
        if round.is_multiple_of(COUNT_EVERY) {
            works &= self.told(self.bring_counts_up_to_date().await);
        }
        if round.is_multiple_of(DELETE_EVERY) {
            works &= self.told(self.look_at_transactions().await);
        }
        if round.is_multiple_of(DELETE_EVERY) || self.history_left.load(Ordering::Relaxed) {
            works &= self.told(self.delete_history().await);
        }
        let left = self.partitions_left.load(Ordering::Relaxed);
        if round.is_multiple_of(PARTITION_EVERY) || left && round.is_multiple_of(PARTITION_AGAIN) {
            works &= self.told(self.keep_partitions().await);
        }
        works
    }

    /// Tells of trouble at once: what comes after it may take its time.
    fn told(&self, done: Result<(), StoreError>) -> bool {
        done.inspect_err(|error| self.note_trouble(WHAT, error))
            .is_ok()
    }

    async fn bring_counts_up_to_date(&self) -> Result<(), StoreError> {
        self.give_sign(WHAT, Duration::ZERO);
        let many = self.queued.load(Ordering::Relaxed) >= MANY_ROWS;
        self.db.refresh_counts(many).await?;
        self.give_sign(WHAT, Duration::ZERO);
        let counts = self.db.counts().await?;
        let queued = counts.iter().map(AccountCounts::rows).sum();
        self.queued.store(queued, Ordering::Relaxed);
        self.show_counts(&counts);
        Ok(())
    }

    async fn look_at_transactions(&self) -> Result<(), StoreError> {
        self.give_sign(WHAT, Duration::ZERO);
        let oldest = self.db.oldest_transaction().await?;
        self.metrics
            .db_oldest_snapshot_seconds
            .set(oldest.as_secs_f64());
        Ok(())
    }

    /// A bounded part each time: leases must not wait for a long-neglected history.
    async fn delete_history(&self) -> Result<(), StoreError> {
        for _ in 0..DELETE_BATCHES {
            self.give_sign(WHAT, Duration::ZERO);
            let deleted = self
                .db
                .delete_history(
                    self.settings.keep_attempts,
                    self.settings.keep_minutes,
                    DELETE_BATCH,
                )
                .await?;
            let left = deleted >= u64::from(DELETE_BATCH);
            self.history_left.store(left, Ordering::Relaxed);
            if !left {
                break;
            }
        }
        Ok(())
    }

    /// Makes partitions ahead and drops those whose time is over.
    async fn keep_partitions(&self) -> Result<(), StoreError> {
        let (mut left, mut failed) = (false, None);
        for table in Partitioned::ALL {
            self.give_sign(WHAT, Duration::ZERO);
            let keep = match table {
                Partitioned::Attempts => self.settings.keep_attempts,
                Partitioned::Minutes => self.settings.keep_minutes,
                Partitioned::Events => self.settings.keep_events,
                Partitioned::ConnectionVersions | Partitioned::ToolVersions => {
                    self.settings.keep_history
                }
            };
            // What is wrong with one table keeps the others from nothing.
            let kept = match self.db.keep_partitions(table, keep).await {
                Ok(kept) => kept,
                Err(error) => {
                    failed = failed.or(Some(error));
                    left = true;
                    continue;
                }
            };
            left |= kept.unfinished;
            if kept.made > 0 || kept.dropped > 0 {
                let name = table.as_str();
                tracing::info!(
                    relation = name,
                    partitions.made = kept.made,
                    partitions.dropped = kept.dropped,
                    "partitions of {name}: {} made, {} dropped",
                    kept.made,
                    kept.dropped
                );
            }
        }
        self.partitions_left.store(left, Ordering::Relaxed);
        failed.map_or(Ok(()), Err)
    }

    /// What a look into the inbox found: whether any lease has run out. If so, the upkeep comes round, though not faster
    /// than its work can help.
    pub(super) fn note_leases(&self, expired: bool, now: Instant) {
        let mut progress = self.lock_progress();
        if !expired {
            progress.leases_held_at = Some(now);
        } else if now.saturating_duration_since(progress.upkept_at) > EXPIRE_AGAIN {
            progress.leases_held_at = None;
            self.expired.notify_one();
        }
    }

    /// A look into the inbox has lately found that no lease had run out.
    fn leases_hold(&self) -> bool {
        let now = self.clock.now();
        let held_at = self.lock_progress().leases_held_at;
        held_at.is_some_and(|at| now.saturating_duration_since(at) < EXPIRE_EVERY)
    }

    /// Ends attempts whose lease has run out, here or elsewhere.
    pub(super) async fn expire_leases(&self) -> Result<(), StoreError> {
        loop {
            self.give_sign(WHAT, Duration::ZERO);
            let expired = self
                .db
                .expire(self.settings.retry.max_attempts, EXPIRE_BATCH)
                .await?;
            for lease in &expired {
                let id = lease.connection_id;
                tracing::warn!(
                    connection.id = %id, account = lease.account, worker.lost = lease.worker, dead = lease.dead,
                    "the lease on {id} ran out with no word from its worker"
                );
                self.metrics.attempts_crashed.inc();
                self.metrics
                    .attempt(
                        &lease.account,
                        lease.phase.call(),
                        Outcome::Crashed,
                        Some(ErrorClass::LeaseLost),
                    )
                    .inc();
            }
            if !expired.is_empty() {
                self.stir();
            }
            if expired.len() < EXPIRE_BATCH as usize {
                return Ok(());
            }
        }
    }

    fn show_counts(&self, counts: &[AccountCounts]) {
        let known = counts.iter().map(|row| row.account.clone()).collect();
        let before = std::mem::replace(&mut *self.lock_counted(), known);
        let gone = before
            .into_iter()
            .filter(|account| counts.iter().all(|row| row.account != *account));
        // An account that left the database has nothing in the queue; its series stay, at zero.
        let empty: Vec<_> = gone.map(AccountCounts::empty).collect();
        for row in counts.iter().chain(&empty) {
            let jobs = [
                ("pending", "finalize", row.pending_finalize),
                ("pending", "settle", row.pending_settle),
                ("running", "finalize", row.running_finalize),
                ("running", "settle", row.running_settle),
                ("dead", "finalize", row.dead_finalize),
                ("dead", "settle", row.dead_settle),
            ];
            for (state, phase, count) in jobs {
                self.metrics
                    .queue_jobs
                    .get_or_create(&OfQueue {
                        account: row.account.clone(),
                        state,
                        phase,
                    })
                    .set(count);
            }
            self.metrics
                .queue_oldest_due_seconds
                .get_or_create(&OfAccount {
                    account: row.account.clone(),
                })
                .set(row.oldest_due_seconds);
            self.metrics
                .account_pace
                .get_or_create(&OfAccount {
                    account: row.account.clone(),
                })
                .set(row.pace);
            for reason in PAUSE_REASONS {
                self.metrics
                    .account_paused
                    .get_or_create(&OfPause {
                        account: row.account.clone(),
                        reason,
                    })
                    .set(i64::from(row.paused_reason.as_deref() == Some(reason)));
            }
        }
        self.metrics
            .requests_waiting
            .set(counts.iter().map(|row| row.requests_waiting).sum());
    }

    /// Brings the gauges up to date that need no database.
    pub fn refresh_gauges(&self) {
        let pool = self.db.pool_state();
        for (state, count) in [("idle", pool.idle), ("busy", pool.busy)] {
            self.metrics
                .db_pool_connections
                .get_or_create(&OfState { state })
                .set(i64::from(count));
        }
        let now = self.clock.now();
        for account in &self.accounts {
            self.metrics
                .rate_budget_used_ratio
                .get_or_create(&OfAccount {
                    account: account.name.to_string(),
                })
                .set(account.budget_used(now));
        }
    }
}
