//! Claims whose answer was lost on its way: what they leased, if anything, is given back rather than left to its lease.

use crate::domain::Job;
use crate::store::StoreError;
use crate::worker::Running;
use crate::worker::Worker;
use std::collections::HashMap;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;
use uuid::Uuid;

/// A lost statement may still be at work on the server, whose own limit is 30 s.
const MAY_TURN_UP: Duration = Duration::from_secs(35);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A claim that nobody has heard of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unheard {
    look_at: Instant,
    until: Instant,
}

impl Worker {
    /// Remembers that these are worked on.
    pub(super) fn hold<'a>(&self, jobs: impl IntoIterator<Item = &'a Job>) {
        self.lock_held().extend(
            jobs.into_iter()
                .map(|job| (job.lease_token, job.connection_id)),
        );
    }

    /// They are written down or given back. What can be neither stays held on to: its lease has to run out.
    pub(super) fn let_go<'a>(&self, jobs: impl IntoIterator<Item = &'a Job>) {
        let mut held = self.lock_held();
        for job in jobs {
            held.remove(&job.lease_token);
        }
    }

    /// Connections that are worked on.
    pub(super) fn at_work(&self) -> Vec<Uuid> {
        self.lock_held().values().copied().collect()
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
        let held: Vec<_> = self.lock_held().keys().copied().collect();
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

    fn lock_held(&self) -> MutexGuard<'_, HashMap<Uuid, Uuid>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
