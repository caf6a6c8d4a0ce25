//! From configuration to the parts: each takes plain settings of its own and knows nothing of the file.

use crate::config::Account;
use crate::config::Config;
use crate::config::ConfigError;
use crate::daemon::DaemonError;
use crate::daemon::UntilEmpty;
use crate::domain::AccountName;
use crate::domain::RetryPolicy;
use crate::domain::SettleRule;
use crate::feather::ApiClient;
use crate::feather::ClientSettings;
use crate::feather::KeyReader;
use crate::feather::Redactor;
use crate::store::DbSettings;
use crate::store::Recording;
use crate::telemetry;
use crate::worker::AccountSettings;
use crate::worker::WorkerSettings;
use std::sync::Arc;
use std::time::Duration;

/// Whatever is configured, attempts and actions that are over are kept so long: a commit whose answer was lost finds its
/// attempts, and whoever asked for an action sees how it ended.
const KEPT_AT_LEAST: Duration = Duration::from_secs(3_600);

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

/// What is recorded of changes.
pub fn recording(config: &Config) -> Recording {
    Recording {
        history: config.history.enabled,
        notify: config.events.notify,
    }
}

/// The rate limit of each account.
pub(super) fn limits(config: &Config) -> Vec<(AccountName, u32)> {
    config
        .declared_accounts
        .iter()
        .map(|(name, account)| (name.clone().into(), account.requests_per_minute))
        .collect()
}

/// The API of one account, for commands.
///
/// # Errors
/// When its key cannot be read, or the client not be made.
pub fn client(config: &Config, name: &str, account: &Account) -> Result<ApiClient, DaemonError> {
    client_with(config, name, account, &redactor(config))
}

/// The rule of `[settle]`.
pub fn settle_rule(config: &Config) -> SettleRule {
    SettleRule {
        done: config.settle.done.clone(),
        in_progress: config.settle.in_progress.clone(),
        failed: config.settle.failed.clone(),
        not_active: config.settle.not_active.clone(),
        initial: config.settle.initial,
        max: config.settle.max,
        deadline: config.settle.deadline,
    }
}

/// The policy of `[retry]`.
pub fn retry_policy(config: &Config) -> RetryPolicy {
    RetryPolicy {
        initial: config.retry.initial,
        multiplier: config.retry.multiplier,
        max: config.retry.max,
        max_attempts: config.retry.max_attempts,
        max_server_delay: config.retry.max_server_delay,
    }
}

/// One that knows the database's passwords, and blanks the log from now on.
fn redactor(config: &Config) -> Redactor {
    let redactor = Redactor::default();
    config
        .database
        .passwords()
        .iter()
        .for_each(|password| redactor.learn(password));
    let blank = redactor.clone();
    telemetry::blank_with(move |line| blank.redact_line(line));
    redactor
}

fn client_with(
    config: &Config,
    name: &str,
    account: &Account,
    redactor: &Redactor,
) -> Result<ApiClient, DaemonError> {
    let key = account.key.clone();
    key.read().map_err(ConfigError::from)?;
    let read_key: KeyReader = Arc::new(move || key.read().map_err(|error| error.to_string()));
    let settings = ClientSettings {
        base_url: account.base_url.clone(),
        request_timeout: config.api.request_timeout,
        connect_timeout: config.api.connect_timeout,
        max_body_bytes: config.api.max_body_bytes,
    };
    ApiClient::new(settings, read_key, redactor.clone()).map_err(|error| DaemonError::Client {
        account: name.to_owned(),
        error,
    })
}

pub(super) fn accounts(config: &Config) -> Result<Vec<(AccountSettings, ApiClient)>, DaemonError> {
    let redactor = redactor(config);
    let accounts = config.accounts()?;
    let others = u32::try_from(accounts.len() - 1).unwrap_or(u32::MAX);
    // With several accounts each leaves the others a slot, so that one whose API hangs stops no other.
    let fair_share = config.worker.concurrency.saturating_sub(others).max(1);
    accounts
        .into_iter()
        .map(|(name, account)| {
            let client = client_with(config, &name, &account, &redactor)?;
            let settings = AccountSettings {
                name: name.into(),
                requests_per_minute: account.requests_per_minute,
                max_in_flight: account.max_in_flight.unwrap_or(fair_share),
            };
            Ok((settings, client))
        })
        .collect()
}

pub(super) fn worker_settings(config: &Config, until_empty: Option<UntilEmpty>) -> WorkerSettings {
    // One that ends when nothing is left to do finds itself nothing: it would never come to an end.
    let finds_work = until_empty.is_none();
    WorkerSettings {
        name: replica_name(),
        concurrency: config.worker.concurrency,
        lease: config.worker.lease,
        poll_interval: config.worker.poll_interval,
        batch_size: config.worker.batch_size as usize,
        keep_attempts: config.retention.attempts.max(KEPT_AT_LEAST),
        keep_minutes: config.retention.minutes,
        keep_events: config.retention.events,
        keep_history: config.retention.history,
        retry: retry_policy(config),
        settle: settle_rule(config),
        reconcile: config.reconcile.interval.filter(|_| finds_work),
        refresh_after: config.reconcile.refresh_after.filter(|_| finds_work),
        budget_share: config.reconcile.budget_share,
    }
}

/// Ownership is the lease token. The name tells which leases may be one's own after an answer to a claim was lost, so
/// no two processes ever have the same, not in containers either, which share host name and process id.
fn replica_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "localhost",
        host => host,
    };
    format!(
        "{host}:{}:{:016x}",
        std::process::id(),
        rand::random::<u64>()
    )
}
