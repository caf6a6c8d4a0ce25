//! Being asked to stop.

use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

use crate::cli::failure::Failure;

/// Waits for SIGINT (Ctrl-C) or SIGTERM, from the moment of this call on. Within a Tokio runtime.
///
/// # Errors
/// When the system takes no signal handler.
pub(super) fn asked() -> Result<impl Future<Output = ()>, Failure> {
    let handler = |kind| {
        signal(kind).map_err(|error| Failure::Failed(format!("cannot listen for signals: {error}")))
    };
    let mut interrupt = handler(SignalKind::interrupt())?;
    let mut terminate = handler(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
