//! Signs of life of the loops, and the trouble that is not over.

use crate::metrics::OfKind;
use crate::store::StoreError;
use crate::worker::Outage;
use crate::worker::Worker;
use std::collections::BTreeMap;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// No operation that a loop waits for takes longer: those on the database are given up after 40 s.
pub(super) const LONGEST_OPERATION: Duration = Duration::from_secs(45);

/// Signs of life of the loops, and the last trouble.
#[derive(Clone, Debug)]
pub struct Progress {
    /// When the worker's loop last came round.
    pub ticked_at: Instant,
    /// When the upkeep last came round.
    pub upkept_at: Instant,
    /// When a look into the inbox last found that no lease had run out.
    pub leases_held_at: Option<Instant>,
    /// By when each loop that is at something gives its next sign of life, by what it does.
    pub expected_by: BTreeMap<&'static str, Instant>,
    /// The database trouble that is not over, by what it keeps from being done.
    pub trouble: BTreeMap<&'static str, String>,
}

impl Progress {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            ticked_at: now,
            upkept_at: now,
            leases_held_at: None,
            expected_by: BTreeMap::new(),
            trouble: BTreeMap::new(),
        }
    }

    /// What a loop should have come round to and has not: it hangs, for good as far as anyone can tell.
    pub fn stuck(&self, now: Instant) -> Option<&'static str> {
        let overdue = |by: &Instant| now > *by;
        self.expected_by
            .iter()
            .find(|(_, by)| overdue(by))
            .map(|(what, _)| *what)
    }
}

impl Worker {
    /// What it is at, in one line for people.
    pub fn describe(&self) -> String {
        let calls = self.slots.taken();
        let queued = match self.queued.load(Ordering::Relaxed) {
            i64::MAX => "not counted yet".to_owned(),
            0 => "empty".to_owned(),
            jobs => format!("{jobs} job(s)"),
        };
        format!("Working: {calls} call(s) under way, queue {queued}")
    }

    /// Signs of life.
    pub fn progress(&self) -> Progress {
        self.lock_progress().clone()
    }

    pub(super) fn lock_progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A loop gives a sign of life, and the next one within an operation after `wait`.
    pub(super) fn give_sign(&self, what: &'static str, wait: Duration) {
        let by = self.clock.now() + wait + LONGEST_OPERATION;
        self.lock_progress().expected_by.insert(what, by);
    }

    /// Until it begins anew, nobody expects a sign of life.
    pub(super) fn fall_idle(&self, what: &'static str) {
        self.lock_progress().expected_by.remove(what);
    }

    pub(super) fn note_success(&self, what: &'static str) {
        let mut progress = self.lock_progress();
        if progress.trouble.remove(what).is_none() || !progress.trouble.is_empty() {
            return;
        }
        drop(progress);
        if let Some(lasted) = self.lock_outage().is_over(self.clock.now()) {
            let duration_ms = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
            tracing::info!(duration_ms, "the database is back: can {what} again");
        }
    }

    pub(super) fn note_trouble(&self, what: &'static str, error: &StoreError) {
        self.metrics
            .db_errors
            .get_or_create(&OfKind { kind: error.kind() })
            .inc();
        self.lock_progress().trouble.insert(what, error.to_string());
        // Once for all loops that meet it, not once per loop and try.
        if self.lock_outage().goes_on(error.kind(), self.clock.now()) {
            tracing::warn!(%error, "cannot {what}; trying again");
        } else {
            tracing::debug!(%error, "cannot {what}; trying again");
        }
    }

    fn lock_outage(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_stuck_once_its_sign_of_life_is_overdue() {
        let now = Instant::now();
        let mut progress = Progress::new(now);
        let later = now + Duration::from_secs(3_600);
        assert_eq!(progress.stuck(later), None);
        progress.expected_by.insert("commit", now);
        assert_eq!(progress.stuck(now), None);
        assert_eq!(progress.stuck(later), Some("commit"));
        progress.expected_by.insert("commit", later);
        assert_eq!(progress.stuck(later), None);
    }
}
