//! Whether the daemon can do its work, for `/readyz`.

use crate::admin::ReadyCheck;
use crate::worker::Progress;
use crate::worker::Worker;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

const PING: Duration = Duration::from_secs(2);

/// What the daemon is at. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Standing(Arc<Mutex<Option<String>>>);

impl Standing {
    /// It works.
    pub(super) fn working(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// It does not, for this reason.
    pub(super) fn not_working(&self, reason: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.into());
    }

    fn reason(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The check that `/readyz` makes at each request.
pub(super) fn check(worker: Arc<Worker>, standing: Standing) -> ReadyCheck {
    Arc::new(move || {
        let (worker, standing) = (worker.clone(), standing.clone());
        Box::pin(async move {
            if let Some(reason) = standing.reason() {
                return Err(reason);
            }
            match tokio::time::timeout(PING, worker.db().ping()).await {
                Ok(Ok(())) => look(&worker, &standing),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("the database gave no answer within {PING:?}")),
            }
        })
    })
}

/// The part of the check that asks nobody.
pub(super) fn look(worker: &Worker, standing: &Standing) -> Result<(), String> {
    match standing.reason() {
        Some(reason) => Err(reason),
        None => is_working(&worker.progress(), Instant::now()),
    }
}

fn is_working(progress: &Progress, now: Instant) -> Result<(), String> {
    if let Some((what, trouble)) = progress.trouble.first_key_value() {
        return Err(format!("cannot {what}: {trouble}"));
    }
    match progress.stuck(now) {
        Some(what) => Err(format!("hangs, and does not come round to {what}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn trouble_and_a_loop_that_hangs_make_the_process_unready() {
        let now = Instant::now();
        let well = Progress {
            ticked_at: now,
            upkept_at: now,
            leases_held_at: None,
            expected_by: BTreeMap::from([("commit", now)]),
            trouble: BTreeMap::new(),
        };
        assert_eq!(is_working(&well, now), Ok(()));
        assert_eq!(
            is_working(&well, now + Duration::from_secs(1)),
            Err("hangs, and does not come round to commit".into())
        );
        let trouble = BTreeMap::from([("commit", "gone".into())]);
        assert_eq!(
            is_working(&Progress { trouble, ..well }, now),
            Err("cannot commit: gone".into())
        );
    }
}
