//! The composition root: the only place that wires things together.

mod error;
mod readiness;
mod reload;
mod service;
mod wiring;

pub use error::DaemonError;
pub use reload::Reread;
pub use wiring::client;
pub use wiring::database_settings;
pub use wiring::recording;
pub use wiring::retry_policy;
pub use wiring::settle_rule;

use crate::admin;
use crate::admin::Admin;
use crate::config::Config;
use crate::config::ConfigError;
use crate::config::Origin;
use crate::daemon::readiness::Standing;
use crate::domain::AccountName;
use crate::domain::Clock;
use crate::domain::Dice;
use crate::failpoint::Point;
use crate::failpoint::reach;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::store::Db;
use crate::store::Remaining;
use crate::store::SchemaState;
use crate::store::StoreError;
use crate::telemetry;
use crate::worker::Account;
use crate::worker::Outage;
use crate::worker::Worker;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use tokio::net::TcpListener;

/// How often `--until-empty` looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Allowed beyond the grace for closing connections that hang.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Run until nothing is left to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct UntilEmpty {
    /// Give up after this long.
    pub timeout: Option<Duration>,
}

/// Runs the daemon until a signal, or until nothing is left to do. At each SIGHUP the configuration is read anew.
///
/// # Errors
/// See [`DaemonError`]. A database that cannot be reached is waited for.
pub async fn run(
    config: Config,
    reread: Reread,
    until_empty: Option<UntilEmpty>,
) -> Result<(), DaemonError> {
    let lifecycle = Lifecycle::default();
    lifecycle.follow_signals().map_err(DaemonError::Signals)?;
    work(config, Some(reread), until_empty, lifecycle).await
}

/// Like [`run`], stopped by `lifecycle` alone.
///
/// # Errors
/// See [`run`].
pub async fn run_until(
    config: Config,
    until_empty: Option<UntilEmpty>,
    lifecycle: Lifecycle,
) -> Result<(), DaemonError> {
    work(config, None, until_empty, lifecycle).await
}

async fn work(
    config: Config,
    reread: Option<Reread>,
    until_empty: Option<UntilEmpty>,
    lifecycle: Lifecycle,
) -> Result<(), DaemonError> {
    let deadline = until_empty
        .and_then(|until| until.timeout)
        .and_then(|timeout| Some((Instant::now().checked_add(timeout)?, timeout)));
    let db = Db::new(&database_settings(&config)?)?.recorded(recording(&config));
    let accounts = wiring::accounts(&config)?;
    let names: Vec<AccountName> = accounts
        .iter()
        .map(|(settings, _)| settings.name.clone())
        .collect();
    let limits = wiring::limits(&config);
    let metrics = Arc::new(Metrics::new(&names, &StoreError::KINDS, SystemTime::now()));
    let worker = Arc::new(Worker::new(
        wiring::worker_settings(&config, until_empty),
        db.clone(),
        accounts
            .into_iter()
            .map(|(settings, client)| Account::new(settings, client))
            .collect(),
        metrics.clone(),
        Clock::System,
        Dice::Random,
    ));

    let standing = Standing::default();
    standing.not_working("the database was not reached yet");
    let listening = open_admin(&config).await?;
    if let Some(listener) = listening {
        let admin = Admin {
            metrics,
            refresh: {
                let worker = worker.clone();
                Arc::new(move || worker.refresh_gauges())
            },
            db: db.clone(),
            ready: readiness::check(worker.clone(), standing.clone()),
            token: config.admin.read_token().map_err(ConfigError::from)?,
        };
        let stop = lifecycle.abort.clone();
        tokio::spawn(async move {
            if let Err(error) = admin::serve(listener, admin, stop).await {
                tracing::error!(%error, "the admin listener failed");
            }
        });
    }

    tokio::spawn(service::keep_told(
        worker.clone(),
        standing.clone(),
        lifecycle.stop.clone(),
    ));

    let started = start_up(&db, &limits, deadline, &lifecycle, |reason| {
        standing.not_working(reason);
    })
    .await;
    if !matches!(started, Ok(true)) {
        lifecycle.abort.cancel();
        return started.map(|_| ());
    }
    standing.working();
    let accounts = names.iter().map(AccountName::as_str);
    let accounts = accounts.collect::<Vec<_>>().join(", ");
    tracing::info!(
        worker = worker.name(),
        accounts,
        "feather-sync {} is working",
        env!("CARGO_PKG_VERSION")
    );

    let grace = config.worker.shutdown_grace;
    if let Some(reread) = reread {
        let (worker, lifecycle) = (worker.clone(), lifecycle.clone());
        tokio::spawn(reload::follow(reread, config, worker, lifecycle));
    }
    let enforcing = {
        let lifecycle = lifecycle.clone();
        tokio::spawn(async move { lifecycle.enforce(grace).await })
    };
    let mut working = tokio::spawn(worker.clone().run(lifecycle.clone()));
    let until_done = async {
        match until_empty {
            None => {
                lifecycle.stop.cancelled().await;
                Ok(())
            }
            Some(_) => wait_until_empty(&db, &names, deadline, &lifecycle).await,
        }
    };
    // Whichever comes first: the worker ends before a stop only when a part of it has failed.
    let (result, ended) = tokio::select! {
        result = until_done => (result, None),
        ended = &mut working => (Ok(()), Some(ended)),
    };
    standing.not_working("stopping");
    service::tell_stopping();
    tracing::info!("stopping: no new work is begun");
    lifecycle.stop.cancel();
    reach(Point::Stopping);
    let ended = match ended {
        Some(ended) => Ok(ended),
        // Calls are abandoned before the grace is over; only a database that gives no answer can take longer.
        None => tokio::time::timeout(grace, working).await,
    };
    lifecycle.abort.cancel();
    enforcing.abort();
    let worked = match ended {
        Ok(ended) => ended
            .and_then(std::convert::identity)
            // A panic's message may quote whatever it stumbled over.
            .map_err(|error| DaemonError::Internal(telemetry::blanked(&error.to_string()))),
        Err(_) => {
            tracing::error!(
                "stopping although the database gives no answer; leases of what is not written will run out"
            );
            Ok(())
        }
    };
    reach(Point::Drained);
    let _ = tokio::time::timeout(LAST_WORDS, db.close()).await;
    tracing::info!("stopped");
    worked.and(result)
}

/// Waits for the database and checks what no waiting cures. `Ok(false)` means that a stop came first.
async fn start_up(
    db: &Db,
    accounts: &[(AccountName, u32)],
    deadline: Option<(Instant, Duration)>,
    lifecycle: &Lifecycle,
    mut say: impl FnMut(String),
) -> Result<bool, DaemonError> {
    let mut wait = Duration::from_millis(200);
    let mut outage = Outage::default();
    loop {
        let attempt = async {
            match db.schema_state().await? {
                SchemaState::Behind(missing) => Ok(Err(DaemonError::SchemaBehind(missing))),
                SchemaState::Current => db.register_accounts(accounts).await.map(Ok),
            }
        };
        let Some(tried) = lifecycle.stop.run_until_cancelled(attempt).await else {
            return Ok(false);
        };
        let error = match tried {
            Ok(checked) => return checked.map(|()| true),
            Err(error) if error.is_passing() => error,
            Err(error) => return Err(error.into()),
        };
        if outage.goes_on(error.kind(), Instant::now()) {
            tracing::warn!(%error, "waiting for the database");
        }
        let error = error.to_string();
        say(error.clone());
        if let Some((_, timeout)) = deadline.filter(|(at, _)| Instant::now() >= *at) {
            return Err(DaemonError::NotEmpty {
                timeout,
                left: error,
            });
        }
        let _ = lifecycle
            .stop
            .run_until_cancelled(tokio::time::sleep(wait))
            .await;
        wait = (wait * 2).min(Duration::from_secs(2));
    }
}

async fn wait_until_empty(
    db: &Db,
    accounts: &[AccountName],
    deadline: Option<(Instant, Duration)>,
    lifecycle: &Lifecycle,
) -> Result<(), DaemonError> {
    loop {
        let left = match db.remaining(accounts).await {
            Ok(Remaining {
                requests: 0,
                pending: 0,
                running: 0,
                paused: 0,
            }) => return Ok(()),
            Ok(Remaining {
                requests: 0,
                pending: 0,
                running: 0,
                paused,
            }) => return Err(DaemonError::OnlyPaused(paused)),
            Ok(left) => format!(
                "{} request(s) not taken in, {} job(s) waiting, {} running; `feather-sync status` says more",
                left.requests, left.pending, left.running
            ),
            Err(error) if error.is_passing() => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        if let Some((_, timeout)) = deadline.filter(|(at, _)| Instant::now() >= *at) {
            return Err(DaemonError::NotEmpty { timeout, left });
        }
        if lifecycle
            .stop
            .run_until_cancelled(tokio::time::sleep(LOOK_EVERY))
            .await
            .is_none()
        {
            return Ok(());
        }
    }
}

/// The default address may be taken, by a second daemon on one machine say; one that was asked for may not.
async fn open_admin(config: &Config) -> Result<Option<TcpListener>, DaemonError> {
    let Some(address) = config.admin.listen else {
        return Ok(None);
    };
    let by_default = matches!(
        config.origins.get("admin.listen"),
        None | Some(Origin::Default)
    );
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if by_default => {
            tracing::warn!(%address, %error, "the default admin address is taken; running without /healthz, /readyz and /metrics. Set admin.listen");
            Ok(None)
        }
        Err(error) => Err(DaemonError::Admin {
            address: address.to_string(),
            error,
        }),
    }
}
