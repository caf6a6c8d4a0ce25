//! The sections as plain values.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use tracing_subscriber::filter::EnvFilter;

use crate::config::ConfigError;
use crate::config::KeyError;
use crate::config::Problem;
use crate::config::rules;
use crate::config::secret;

/// `[database]`
#[derive(Debug, Clone)]
pub struct Database {
    /// Where the schema `feather` lives; see [`crate::config::Config::database_url`].
    pub url: Option<SecretString>,
    /// Connections this process may hold, at least 2.
    pub max_connections: u32,
    /// A direct connection for LISTEN beside a transaction pooler; see [`crate::config::Config::listen_url`].
    pub listen_url: Option<SecretString>,
    /// Whether statements may be prepared and kept.
    pub prepared_statements: bool,
    /// Whether connections to another machine must be encrypted; the URLs are made to say so already.
    pub require_tls: bool,
}

impl Database {
    /// The passwords in the URLs, for blanking them in what comes from outside.
    #[must_use]
    pub fn passwords(&self) -> Vec<SecretString> {
        self.url
            .iter()
            .chain(&self.listen_url)
            .flat_map(crate::config::url::passwords)
            .collect()
    }
}

/// `[api]`
#[derive(Debug, Clone)]
pub struct Api {
    /// The longest one call may take, connecting and body included. Shorter than [`Worker::lease`].
    pub request_timeout: Duration,
    /// The longest TCP and TLS handshakes may take. Not above `request_timeout`.
    pub connect_timeout: Duration,
    /// The largest answer accepted, in bytes, 1 KiB to 256 MiB: Postgres takes no statement of more than 1 GiB.
    pub max_body_bytes: usize,
}

/// `[worker]`
#[derive(Debug, Clone)]
pub struct Worker {
    /// Connections synced at the same time by this process, 1 to 1024.
    pub concurrency: u32,
    /// How long a claimed job belongs to its worker. Longer than [`Api::request_timeout`].
    pub lease: Duration,
    /// How often to look for work unbidden, 10 ms to 60 s.
    pub poll_interval: Duration,
    /// Finished jobs written in one transaction at most, 1 to 1000.
    pub batch_size: u32,
    /// How long running calls may take to finish on a stop.
    pub shutdown_grace: Duration,
}

/// `[retry]`: exponential backoff with full jitter.
#[derive(Debug, Clone)]
pub struct Retry {
    /// The ceiling of the first wait, at least 1 ms and not above `max`.
    pub initial: Duration,
    /// The ceiling grows by this factor, 1 or more.
    pub multiplier: f64,
    /// The highest ceiling.
    pub max: Duration,
    /// Attempts, crashed ones included, before a job is dead; at least 1.
    pub max_attempts: u32,
    /// The longest delay the server may ask for.
    pub max_server_delay: Duration,
}

/// `[settle]`: when the tools have landed after a finalize.
#[derive(Debug, Clone)]
pub struct Settle {
    /// Words of `tools_status` that say yes. `done`, `in_progress` and `failed` share no word.
    pub done: Vec<String>,
    /// Words of `tools_status` that say not yet.
    pub in_progress: Vec<String>,
    /// Words of `tools_status` that say never.
    pub failed: Vec<String>,
    /// Words of the connection's own `status` that say that OAuth is not finished.
    pub not_active: Vec<String>,
    /// The wait before the first poll, at least 1 ms and not above `max`.
    pub initial: Duration,
    /// The longest wait between polls.
    pub max: Duration,
    /// After this long since the finalize it counts as failed; may be shorter than `max`.
    pub deadline: Duration,
}

/// `[reconcile]`
#[derive(Debug, Clone)]
pub struct Reconcile {
    /// How often to compare with upstream's list; `None`: never.
    pub interval: Option<Duration>,
    /// How old tools may become before they are refreshed; `None`: any age.
    pub refresh_after: Option<Duration>,
    /// The part of each account's budget that refreshing may take, `0.01..=1.0`.
    pub budget_share: f64,
}

/// `[retention]`
#[derive(Debug, Clone)]
pub struct Retention {
    /// How long attempts are kept.
    pub attempts: Duration,
}

/// `[admin]`
#[derive(Debug, Clone)]
pub struct Admin {
    /// Where health and metrics are served; `None`: nowhere. Port 0 lets the system choose.
    pub listen: Option<SocketAddr>,
    /// The file that holds the token; always given where `listen` is not loopback.
    pub token_file: Option<PathBuf>,
}

impl Admin {
    /// The token as its file has it now; `None` where none is wanted.
    ///
    /// # Errors
    /// As [`crate::config::KeySource::read`] for a file.
    pub fn read_token(&self) -> Result<Option<SecretString>, KeyError> {
        self.token_file
            .as_deref()
            .map(secret::read_file)
            .transpose()
    }
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// How events are written.
    pub format: LogFormat,
    /// Which events are written, as directives of tracing's `EnvFilter`.
    pub filter: String,
}

impl Log {
    /// The filter as tracing wants it. `RUST_LOG` has no say.
    ///
    /// # Errors
    /// Where [`crate::config::Config::load`] did not see it: a directive that cannot be understood.
    pub fn env_filter(&self) -> Result<EnvFilter, ConfigError> {
        rules::log_filter(&self.filter).map_err(|message| {
            Problem {
                origin: None,
                message,
            }
            .into()
        })
    }
}

/// How log events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text on a terminal, journald under systemd, JSON elsewhere.
    #[default]
    Auto,
    /// Lines for people, with times.
    Text,
    /// One JSON object per line.
    Json,
    /// Lines with a syslog priority and without times, which the journal adds.
    Journald,
}

impl LogFormat {
    /// The word that the configuration has for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
            Self::Journald => "journald",
        }
    }
}
