//! How a command fails: what is said, and the exit code.

use std::fmt;
use std::io::Write;

use crate::config::ConfigError;
use crate::daemon::DaemonError;
use crate::store::StoreError;

/// Why a command did not do what it was asked. `Display` says what, where and what to do next.
#[derive(Debug)]
pub enum Failure {
    /// It was asked, but could not.
    Failed(String),
    /// It was called wrongly, as the command line's grammar alone could not tell.
    Usage(String),
    /// The configuration cannot be used.
    Config(ConfigError),
    /// The daemon ended.
    Daemon(DaemonError),
    /// The same, and the log says why.
    Logged(DaemonError),
}

impl Failure {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Config(_) => ConfigError::EXIT_CODE,
            Self::Daemon(error) | Self::Logged(error) => error.exit_code(),
        }
    }

    /// Says it on stderr, unless that was done.
    pub fn report(&self) {
        if matches!(self, Self::Logged(_)) {
            return;
        }
        // Where stderr is closed, the exit code has to do.
        let _ = writeln!(std::io::stderr(), "feather-sync: {self}");
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(message) | Self::Usage(message) => f.write_str(message),
            Self::Config(error) => error.fmt(f),
            Self::Daemon(error) | Self::Logged(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Failure {}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        Self::Daemon(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Daemon(DaemonError::Store(error))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<ConfigError>() {
            Ok(error) => Self::Config(error),
            Err(error) => Self::Failed(format!("{error:#}")),
        }
    }
}
