//! SIGHUP: the configuration is read anew, and what of it can change in a running process does. No job notices.

use crate::config::Config;
use crate::config::ConfigError;
use crate::daemon::service;
use crate::daemon::wiring;
use crate::lifecycle::Lifecycle;
use crate::telemetry;
use crate::worker::Worker;
use std::sync::Arc;

/// Reads the configuration anew, as it was read at the start.
pub type Reread = Arc<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// What a reload takes over, by the end of the key; all else waits for a restart.
const TAKEN_OVER: [&str; 2] = ["log.filter", ".requests_per_minute"];

/// Reloads each time it is asked to, until a stop. `started` is what the process runs with.
pub(super) async fn follow(
    reread: Reread,
    started: Config,
    worker: Arc<Worker>,
    lifecycle: Lifecycle,
) {
    loop {
        let asked = lifecycle.reload.notified();
        if lifecycle.stop.run_until_cancelled(asked).await.is_none() {
            return;
        }
        service::tell_reloading();
        // It reads files; and where it panics, later reloads shall still be heard.
        let reread = reread.clone();
        let read = match tokio::task::spawn_blocking(move || reread()).await {
            Ok(read) => read.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match read {
            Ok(config) => take_over(&config, &started, &worker).await,
            Err(error) => {
                tracing::error!(
                    error,
                    "the configuration cannot be used; going on with the one before"
                );
            }
        }
        service::tell_reloaded();
    }
}

async fn take_over(config: &Config, started: &Config, worker: &Arc<Worker>) {
    // Whatever else there is to say shall be said by the new filter.
    if let Err(error) = telemetry::set_filter(&config.log) {
        tracing::error!(%error, "the log filter cannot be used; going on with the one before");
    }
    // Keys first: new limits are of no use to an account whose key is refused.
    worker.look_anew();
    let limits = wiring::limits(config);
    if let Err(error) = worker.set_limits(&limits).await {
        tracing::error!(%error, "requests_per_minute is not taken over: the database does not learn of it; reload again");
    }
    let waiting: Vec<_> = config
        .changed_keys(started)
        .into_iter()
        .filter(|key| !TAKEN_OVER.iter().any(|taken| key.ends_with(taken)))
        .collect();
    if waiting.is_empty() {
        tracing::info!("reloaded");
    } else {
        let keys = waiting.join(", ");
        tracing::warn!(
            keys,
            "reloaded; what else has changed takes effect at the next restart"
        );
    }
}
