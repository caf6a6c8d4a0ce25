//! What the service manager is told: that the daemon is ready, what it is at, and that its loops come round. Where
//! nobody gave a NOTIFY_SOCKET, all of it is told to nobody.

use crate::daemon::readiness;
use crate::daemon::readiness::Standing;
use crate::telemetry;
use crate::worker::Worker;
use sd_notify::NotifyState;
use std::sync::Arc;
use std::sync::Once;
use std::time::Duration;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often the status is told, and whether the daemon has become ready is looked at.
const TELL_EVERY: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A status is one line of a table.
const LONGEST_STATUS: usize = 200;

/// Keeps the service manager told until a stop. `READY=1` is said once, when `/readyz` would first say yes; `WATCHDOG=1`
/// as long as every loop comes round, whatever else is wrong: a restart cures no database.
pub(super) async fn keep_told(worker: Arc<Worker>, standing: Standing, stop: CancellationToken) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let ready = readiness::check(worker.clone(), standing.clone());
    // Three signs within the time in which one is expected.
    let every =
        sd_notify::watchdog_enabled().map_or(TELL_EVERY, |within| TELL_EVERY.min(within / 3));
    let (mut is_ready, mut is_stuck) = (false, false);
    while !stop.is_cancelled() {
        let works = if is_ready {
            readiness::look(&worker, &standing)
        } else {
            ready().await
        };
        let status = status(&worker, &works);
        let mut states = vec![NotifyState::Status(&status)];
        if works.is_ok() && !is_ready {
            is_ready = true;
            states.push(NotifyState::Ready);
        }
        match worker.progress().stuck(Instant::now()) {
            None => states.push(NotifyState::Watchdog),
            Some(what) if !is_stuck => {
                is_stuck = true;
                tracing::error!(
                    "a loop hangs and does not come round to {what}; where a watchdog is set, it ends this process"
                );
            }
            Some(_) => {}
        }
        tell(&states);
        let pause = if is_ready { every } else { LOOK_EVERY };
        let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
}

/// A stop has begun.
pub(super) fn tell_stopping() {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("Stopping: calls under way may finish"),
    ]);
}

/// The configuration is being read anew.
pub(super) fn tell_reloading() {
    // From systemd 253 on, a reload is told apart from the one before by its time.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The reload is over, with whatever result.
pub(super) fn tell_reloaded() {
    tell(&[NotifyState::Ready]);
}

fn status(worker: &Worker, works: &Result<(), String>) -> String {
    let status = match works {
        Ok(()) => worker.describe(),
        Err(reason) => format!("Not ready: {reason}"),
    };
    // A datagram's line: whatever the reason quotes must not end it, nor show a secret.
    telemetry::blanked(&status)
        .chars()
        .map(|c| if telemetry::is_harmful(c) { ' ' } else { c })
        .take(LONGEST_STATUS)
        .collect()
}

fn tell(states: &[NotifyState<'_>]) {
    static TOLD: Once = Once::new();
    if let Err(error) = sd_notify::notify(states) {
        // It would wait for a word in vain, and could not say why.
        TOLD.call_once(|| tracing::warn!(%error, "the service manager cannot be told anything"));
    }
}
