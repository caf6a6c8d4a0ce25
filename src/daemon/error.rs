//! Why the daemon ended, and with which exit code.

use crate::config::ConfigError;
use crate::feather::ClientError;
use crate::store::StoreError;
use std::time::Duration;

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
            Self::Config(_) | Self::Client { .. } | Self::Store(StoreError::Url(_)) => {
                ConfigError::EXIT_CODE
            }
            _ => 1,
        }
    }
}
