//! Whether the daemon can do its work, for `/readyz`.

use crate::admin::ReadyCheck;
use crate::worker::Progress;
use crate::worker::Worker;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

/// A loop that has not come round for this long is stuck: every operation in it has a shorter deadline.
const STUCK: Duration = Duration::from_secs(90);
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
                Ok(Ok(())) => is_working(&worker.progress(), Instant::now()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("the database gave no answer within {PING:?}")),
            }
        })
    })
}

fn is_working(progress: &Progress, now: Instant) -> Result<(), String> {
    let stuck = |since| now.saturating_duration_since(since) > STUCK;
    if let Some((what, trouble)) = progress.trouble.first_key_value() {
        return Err(format!("cannot {what}: {trouble}"));
    }
    if stuck(progress.ticked_at) {
        return Err("the worker's loop does not come round".into());
    }
    if progress.uncommitted > 0 && stuck(progress.committed_at) {
        return Err("the committer does not get its work done".into());
    }
    if stuck(progress.upkept_at) {
        return Err("the upkeep does not come round".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn progress(now: Instant) -> Progress {
        Progress {
            ticked_at: now,
            committed_at: now,
            uncommitted: 1,
            upkept_at: now,
            leases_held_at: None,
            trouble: BTreeMap::new(),
        }
    }

    #[test]
    fn a_loop_that_does_not_come_round_makes_the_process_unready() {
        let now = Instant::now();
        let later = now + STUCK * 2;
        assert_eq!(is_working(&progress(now), now), Ok(()));
        assert!(is_working(&progress(now), later).is_err());
        assert!(
            is_working(
                &Progress {
                    committed_at: now,
                    ..progress(later)
                },
                later
            )
            .is_err()
        );
        assert!(
            is_working(
                &Progress {
                    committed_at: now,
                    uncommitted: 0,
                    ..progress(later)
                },
                later
            )
            .is_ok()
        );
        assert!(
            is_working(
                &Progress {
                    upkept_at: now,
                    ..progress(later)
                },
                later
            )
            .is_err()
        );
        let trouble = BTreeMap::from([("commit", "gone".into())]);
        assert_eq!(
            is_working(
                &Progress {
                    trouble,
                    ..progress(now)
                },
                now
            ),
            Err("cannot commit: gone".into())
        );
    }
}
