//! The composition root: the only place that wires things together.

use crate::admin;
use crate::admin::Admin;
use crate::config::Config;
use crate::config::ConfigError;
use crate::config::Origin;
use crate::domain::AccountName;
use crate::domain::Clock;
use crate::domain::Dice;
use crate::domain::RetryPolicy;
use crate::domain::SettleRule;
use crate::feather::ApiClient;
use crate::feather::ClientError;
use crate::feather::ClientSettings;
use crate::feather::KeyReader;
use crate::feather::Redactor;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::store::Db;
use crate::store::DbSettings;
use crate::store::Remaining;
use crate::store::SchemaState;
use crate::store::StoreError;
use crate::worker::Account;
use crate::worker::AccountSettings;
use crate::worker::Progress;
use crate::worker::Worker;
use crate::worker::WorkerSettings;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;
use tokio::net::TcpListener;

/// How often `--until-empty` looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A loop that has not come round for this long is stuck: every operation in it has a shorter deadline.
const STUCK: Duration = Duration::from_secs(90);
const PING: Duration = Duration::from_secs(2);

/// Run until nothing is left to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct UntilEmpty {
    /// Give up after this long.
    pub timeout: Option<Duration>,
}

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The API client cannot be made.
    #[error("account {account}: {error}")]
    Client {
        /// The account.
        account: String,
        /// Why.
        error: ClientError,
    },
    /// The database cannot be used, and waiting would not help.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The schema lacks migrations.
    #[error(
        "the database's schema is {0} migration(s) behind this program; run `feather-sync migrate`"
    )]
    SchemaBehind(usize),
    /// The admin listener cannot be opened.
    #[error(
        "the admin listener cannot be opened on {address}: {error}; choose another admin.listen"
    )]
    Admin {
        /// Its address.
        address: String,
        /// Why.
        error: std::io::Error,
    },
    /// Signals cannot be listened to.
    #[error("signals cannot be listened to: {0}")]
    Signals(std::io::Error),
    /// Something is left at the timeout of `--until-empty`.
    #[error("not empty after {timeout:?}: {left}")]
    NotEmpty {
        /// The timeout.
        timeout: Duration,
        /// What is left.
        left: String,
    },
    /// Only work of paused accounts is left.
    #[error(
        "{0} request(s) or job(s) are left, all of accounts that an operator has paused; `feather-sync resume ACCOUNT` lets them run"
    )]
    OnlyPaused(i64),
    /// A part of the program failed.
    #[error("internal failure: {0}")]
    Internal(String),
}

impl DaemonError {
    /// The exit code: 78 for the configuration, 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Client { .. } => ConfigError::EXIT_CODE,
            _ => 1,
        }
    }
}

/// Runs the daemon until a signal, or until nothing is left to do.
///
/// # Errors
/// See [`DaemonError`]. A database that cannot be reached is waited for.
pub async fn run(config: Config, until_empty: Option<UntilEmpty>) -> Result<(), DaemonError> {
    let lifecycle = Lifecycle::default();
    lifecycle.follow_signals().map_err(DaemonError::Signals)?;
    run_until(config, until_empty, lifecycle).await
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
    let deadline = until_empty
        .and_then(|until| until.timeout)
        .and_then(|timeout| Some((Instant::now().checked_add(timeout)?, timeout)));
    let db = Db::new(&database_settings(&config)?)?;
    let accounts = accounts(&config)?;
    let names: Vec<AccountName> = accounts
        .iter()
        .map(|(settings, _)| settings.name.clone())
        .collect();
    let limits: Vec<_> = accounts
        .iter()
        .map(|(s, _)| (s.name.clone(), s.requests_per_minute))
        .collect();
    let metrics = Arc::new(Metrics::new(&names, &StoreError::KINDS));
    let worker = Arc::new(Worker::new(
        worker_settings(&config),
        db.clone(),
        accounts
            .into_iter()
            .map(|(settings, client)| Account::new(settings, client))
            .collect(),
        metrics.clone(),
        Clock::System,
        Dice::Random,
    ));

    let standing = Arc::new(Mutex::new(Standing::Starting(
        "the database was not reached yet".into(),
    )));
    let listening = open_admin(&config).await?;
    if let Some(listener) = listening {
        let admin = Admin {
            metrics,
            refresh: {
                let worker = worker.clone();
                Arc::new(move || worker.refresh_gauges())
            },
            ready: ready_check(worker.clone(), standing.clone()),
            token: config.admin.read_token().map_err(ConfigError::from)?,
        };
        let stop = lifecycle.abort.clone();
        tokio::spawn(async move {
            if let Err(error) = admin::serve(listener, admin, stop).await {
                tracing::error!(%error, "the admin listener failed");
            }
        });
    }

    let set = |now: Standing| *standing.lock().unwrap_or_else(PoisonError::into_inner) = now;
    let started = start_up(&db, &limits, deadline, &lifecycle, |reason| {
        set(Standing::Starting(reason))
    })
    .await;
    if !matches!(started, Ok(true)) {
        lifecycle.abort.cancel();
        return started.map(|_| ());
    }
    set(Standing::Working);
    tracing::info!(worker = worker.name(), accounts = ?names, "feather-sync {} is working", env!("CARGO_PKG_VERSION"));

    let grace = config.worker.shutdown_grace;
    let enforcing = {
        let lifecycle = lifecycle.clone();
        tokio::spawn(async move { lifecycle.enforce(grace).await })
    };
    let working = tokio::spawn(worker.clone().run(lifecycle.clone()));
    let result = match until_empty {
        None => {
            lifecycle.stop.cancelled().await;
            Ok(())
        }
        Some(_) => wait_until_empty(&db, &names, deadline, &lifecycle).await,
    };
    set(Standing::Starting("stopping".into()));
    tracing::info!("stopping: no new work is begun");
    lifecycle.stop.cancel();
    let worked = working
        .await
        .map_err(|error| DaemonError::Internal(error.to_string()));
    lifecycle.abort.cancel();
    enforcing.abort();
    db.close().await;
    tracing::info!("stopped");
    worked.and(result)
}

enum Standing {
    Starting(String),
    Working,
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
    let mut known = String::new();
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
            Err(error) if error.is_passing() => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        if error != known {
            tracing::warn!(error, "waiting for the database");
            known.clone_from(&error);
        }
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

fn ready_check(worker: Arc<Worker>, standing: Arc<Mutex<Standing>>) -> admin::ReadyCheck {
    Arc::new(move || {
        let (worker, standing) = (worker.clone(), standing.clone());
        Box::pin(async move {
            if let Standing::Starting(reason) =
                &*standing.lock().unwrap_or_else(PoisonError::into_inner)
            {
                return Err(reason.clone());
            }
            match tokio::time::timeout(PING, worker.db().ping()).await {
                Ok(answer) => answer.map_err(|error| error.to_string())?,
                Err(_) => return Err(format!("the database gave no answer within {PING:?}")),
            }
            is_working(&worker.progress(), Instant::now())
        })
    })
}

fn is_working(progress: &Progress, now: Instant) -> Result<(), String> {
    let stuck = |since| now.saturating_duration_since(since) > STUCK;
    if let Some(trouble) = &progress.trouble {
        return Err(trouble.clone());
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

/// How the database is reached, for the daemon and for commands.
///
/// # Errors
/// When none is configured.
pub fn database_settings(config: &Config) -> Result<DbSettings, ConfigError> {
    Ok(DbSettings {
        url: config.database_url()?.clone(),
        listen_url: config.database.listen_url.clone(),
        max_connections: config.database.max_connections,
        prepared_statements: config.database.prepared_statements,
    })
}

fn accounts(config: &Config) -> Result<Vec<(AccountSettings, ApiClient)>, DaemonError> {
    let redactor = Redactor::default();
    config
        .database
        .passwords()
        .iter()
        .for_each(|password| redactor.learn(password));
    let accounts = config.accounts()?;
    let others = u32::try_from(accounts.len() - 1).unwrap_or(u32::MAX);
    // With several accounts each leaves the others a slot, so that one whose API hangs stops no other.
    let fair_share = config.worker.concurrency.saturating_sub(others).max(1);
    accounts
        .into_iter()
        .map(|(name, account)| {
            account.key.read().map_err(ConfigError::from)?;
            let key = account.key;
            let read_key: KeyReader =
                Arc::new(move || key.read().map_err(|error| error.to_string()));
            let settings = ClientSettings {
                base_url: account.base_url,
                request_timeout: config.api.request_timeout,
                connect_timeout: config.api.connect_timeout,
                max_body_bytes: config.api.max_body_bytes,
            };
            let client = ApiClient::new(settings, read_key, redactor.clone()).map_err(|error| {
                DaemonError::Client {
                    account: name.clone(),
                    error,
                }
            })?;
            let settings = AccountSettings {
                name: name.into(),
                requests_per_minute: account.requests_per_minute,
                max_in_flight: account.max_in_flight.unwrap_or(fair_share),
            };
            Ok((settings, client))
        })
        .collect()
}

fn worker_settings(config: &Config) -> WorkerSettings {
    WorkerSettings {
        name: replica_name(),
        concurrency: config.worker.concurrency,
        lease: config.worker.lease,
        poll_interval: config.worker.poll_interval,
        batch_size: config.worker.batch_size as usize,
        keep_attempts: config.retention.attempts,
        retry: RetryPolicy {
            initial: config.retry.initial,
            multiplier: config.retry.multiplier,
            max: config.retry.max,
            max_attempts: config.retry.max_attempts,
            max_server_delay: config.retry.max_server_delay,
        },
        settle: SettleRule {
            done: config.settle.done.clone(),
            in_progress: config.settle.in_progress.clone(),
            failed: config.settle.failed.clone(),
            not_active: config.settle.not_active.clone(),
            initial: config.settle.initial,
            max: config.settle.max,
            deadline: config.settle.deadline,
        },
    }
}

/// Names are for people; ownership is the lease token. The random part tells restarts apart.
fn replica_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "localhost",
        host => host,
    };
    format!(
        "{host}:{}:{:04x}",
        std::process::id(),
        rand::random::<u16>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(now: Instant) -> Progress {
        Progress {
            ticked_at: now,
            committed_at: now,
            uncommitted: 1,
            upkept_at: now,
            trouble: None,
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
        let trouble = Some("gone".into());
        assert_eq!(
            is_working(
                &Progress {
                    trouble,
                    ..progress(now)
                },
                now
            ),
            Err("gone".into())
        );
    }
}
