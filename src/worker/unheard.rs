//! Claims whose answer was lost on its way: what they leased, if anything, is given back rather than left to its lease.

use crate::domain::AccountName;
use crate::domain::Job;
use crate::domain::Phase;
use crate::store::StoreError;
use crate::worker::Account;
use crate::worker::Running;
use crate::worker::Worker;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;
use uuid::Uuid;

/// A lost statement may still be at work on the server, whose own limit is 30 s.
const MAY_TURN_UP: Duration = Duration::from_secs(35);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Lease tokens that this replica knows of.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// Of jobs that are worked on.
    at_work: HashMap<Uuid, AtWork>,
    /// Of calls that were made and cannot be written down: they have to run out.
    left: HashSet<Uuid>,
}

/// A job that is worked on.
#[derive(Clone, Debug)]
struct AtWork {
    connection_id: Uuid,
    /// Of a refresh: whose.
    refreshed_for: Option<AccountName>,
}

/// A claim that nobody has heard of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unheard {
    look_at: Instant,
    until: Instant,
}

impl Worker {
    /// Remembers that these are worked on.
    pub(super) fn hold<'a>(&self, jobs: impl IntoIterator<Item = &'a Job>) {
        self.lock_leases()
            .at_work
            .extend(jobs.into_iter().map(|job| {
                let is_refresh = job.phase == Phase::Refresh;
                let at_work = AtWork {
                    connection_id: job.connection_id,
                    refreshed_for: is_refresh.then(|| job.account.clone()),
                };
                (job.lease_token, at_work)
            }));
    }

    /// They are worked on no longer: written down, given back, or never begun.
    pub(super) fn let_go<'a>(&self, jobs: impl IntoIterator<Item = &'a Job>) {
        let mut leases = self.lock_leases();
        let mut refreshed = false;
        for job in jobs {
            let ended = leases.at_work.remove(&job.lease_token);
            refreshed |= ended.is_some_and(|ended| ended.refreshed_for.is_some());
        }
        drop(leases);
        if refreshed && self.slots.were_full_of_refreshes() {
            self.wake();
        }
    }

    /// They are worked on no longer, though their calls were made and cannot be written down. Nobody is to take their
    /// leases for those of a claim that was not heard of.
    pub(super) fn leave<'a>(&self, jobs: impl IntoIterator<Item = &'a Job> + Clone) {
        let tokens = jobs.clone().into_iter().map(|job| job.lease_token);
        self.lock_leases().left.extend(tokens);
        self.let_go(jobs);
    }

    /// Forgets leases that were left and have ended since.
    pub(super) async fn forget_ended(&self) -> Result<(), StoreError> {
        let left: Vec<_> = self.lock_leases().left.iter().copied().collect();
        if left.is_empty() {
            return Ok(());
        }
        let held = self.db.leases_among(&left).await?;
        let ended = left.iter().filter(|token| !held.contains(token));
        let mut leases = self.lock_leases();
        for token in ended {
            leases.left.remove(token);
        }
        Ok(())
    }

    /// Connections that are worked on.
    pub(super) fn at_work(&self) -> Vec<Uuid> {
        self.lock_leases()
            .at_work
            .values()
            .map(|at_work| at_work.connection_id)
            .collect()
    }

    /// How many refreshes of `account` may begin: they have a part of all slots and of the account's, as they have of the
    /// budget. Calls that take long would else take every slot, few as they are in a minute.
    pub(super) fn refreshes_for(&self, account: &Account) -> f64 {
        let (mut all, mut own) = (0_u32, 0_u32);
        let leases = self.lock_leases();
        for whose in leases
            .at_work
            .values()
            .filter_map(|at_work| at_work.refreshed_for.as_ref())
        {
            all += 1;
            own += u32::from(*whose == account.name);
        }
        drop(leases);
        let left = |slots: u32, taken: u32| {
            (f64::from(slots) * self.settings.budget_share)
                .floor()
                .max(1.0)
                - f64::from(taken)
        };
        let most = u32::try_from(self.slots.most()).unwrap_or(u32::MAX);
        left(most, all)
            .min(left(account.max_in_flight, own))
            .max(0.0)
    }

    /// After a claim that failed: whether it has leased anything is not known.
    pub(super) fn note_unheard(&self, running: &mut Running, error: &StoreError) {
        if matches!(error, StoreError::Unavailable(_) | StoreError::Timeout(_)) {
            let now = self.clock.now();
            running.unheard = Some(Unheard {
                look_at: now,
                until: now + MAY_TURN_UP,
            });
        }
    }

    /// Gives back what this replica has leased without hearing of it. To be called between claims only: one under way
    /// is not heard of yet.
    pub(super) async fn give_back_unheard(&self, running: &mut Running) -> Result<(), StoreError> {
        let now = self.clock.now();
        let Some(unheard) = running.unheard.filter(|unheard| now >= unheard.look_at) else {
            return Ok(());
        };
        let held: Vec<_> = {
            let leases = self.lock_leases();
            leases.at_work.keys().chain(&leases.left).copied().collect()
        };
        let given_back = self.db.release_others(&self.settings.name, &held).await?;
        if given_back > 0 {
            tracing::info!(
                jobs = given_back,
                "gave back what a claim had leased whose answer was lost"
            );
        }
        running.unheard = (now < unheard.until).then_some(Unheard {
            look_at: now + LOOK_EVERY,
            ..unheard
        });
        Ok(())
    }

    /// The same before the end, without waiting for the next look.
    pub(super) async fn give_back_unheard_at_last(&self, running: &mut Running) {
        let Some(unheard) = &mut running.unheard else {
            return;
        };
        unheard.look_at = self.clock.now();
        if let Err(error) = self.give_back_unheard(running).await {
            tracing::warn!(%error, "a claim was not heard of, and what it may have leased cannot be given back; its leases will run out");
        }
    }

    fn lock_leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
