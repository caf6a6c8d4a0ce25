//! Stopping: softly on the first signal, hard when the grace is over or on the second. And reloading, on SIGHUP.

use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The two stages of a stop, and the wish for a reload. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    /// No new work.
    pub stop: CancellationToken,
    /// Calls under way are abandoned.
    pub abort: CancellationToken,
    /// The configuration is to be read anew.
    pub reload: Arc<Notify>,
}

/// Kept back of the grace for writing down what was abandoned.
const WRITE_DOWN: Duration = Duration::from_secs(3);

impl Lifecycle {
    /// Begins a soft stop at the first SIGTERM or SIGINT and a hard one at the second, and asks for a reload at each
    /// SIGHUP.
    ///
    /// # Errors
    /// When the signals cannot be listened to.
    pub fn follow_signals(&self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let reload = self.reload.clone();
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                reload.notify_one();
            }
        });
        let lifecycle = self.clone();
        tokio::spawn(async move {
            for stage in [&lifecycle.stop, &lifecycle.abort] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                stage.cancel();
            }
        });
        Ok(())
    }

    /// Once a stop has begun, abandons calls when most of `grace` is over.
    pub async fn enforce(&self, grace: Duration) {
        self.stop.cancelled().await;
        let patience = grace.saturating_sub(WRITE_DOWN).max(grace / 2);
        if tokio::time::timeout(patience, self.abort.cancelled())
            .await
            .is_err()
        {
            self.abort.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_are_abandoned_before_the_grace_is_over() {
        let lifecycle = Lifecycle::default();
        lifecycle.stop.cancel();
        let began = tokio::time::Instant::now();
        lifecycle.enforce(Duration::from_secs(25)).await;
        assert_eq!(began.elapsed(), Duration::from_secs(22));
        assert!(lifecycle.abort.is_cancelled());
    }
}
