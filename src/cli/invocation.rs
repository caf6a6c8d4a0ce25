//! What every command starts from: the configuration, and a database that is there.

use std::io;
use std::io::IsTerminal;
use std::path::PathBuf;

use crate::cli::failure::Failure;
use crate::cli::operator;
use crate::config;
use crate::config::Config;
use crate::config::ConfigError;
use crate::config::Env;
use crate::config::LogFormat;
use crate::config::redacted_url;
use crate::daemon;
use crate::store::Db;
use crate::store::DbSettings;
use crate::store::SchemaState;
use crate::store::StoreError;
use crate::telemetry;

/// Where the configuration comes from.
#[derive(Debug)]
pub(super) struct Invocation {
    /// `--config`
    pub(super) config_file: Option<PathBuf>,
    /// The environment.
    pub(super) env: Env,
}

impl Invocation {
    pub(super) fn config(&self) -> Result<Config, ConfigError> {
        Config::load(self.config_file.as_deref(), &self.env)
    }

    /// The database with its schema up to date.
    pub(super) async fn database(&self) -> Result<Db, Failure> {
        let db = self.any_database().await?;
        match db.schema_state().await {
            // Producers and readers may not see the migrations, and can do without: what they ask for will tell.
            Ok(SchemaState::Current) | Err(StoreError::Privilege(_)) => Ok(db),
            Ok(behind) => Err(schema_behind(&behind)),
            Err(error) => Err(error.into()),
        }
    }

    /// The database, whatever its schema.
    pub(super) async fn any_database(&self) -> Result<Db, Failure> {
        let config = self.config()?;
        log_warnings(&config)?;
        let db = Db::new(&db_settings(&config)?)?.recorded(daemon::recording(&config));
        db.ping()
            .await
            .map_err(|error| unreachable(&config, error))?;
        Ok(db)
    }

    /// Who acts.
    pub(super) fn actor(&self) -> String {
        operator::actor(&self.env)
    }
}

/// Says what a command does that asks a schema which is not up to date.
pub(super) fn schema_behind(state: &SchemaState) -> Failure {
    let missing = match state {
        SchemaState::Current => 0,
        SchemaState::Behind(missing) => *missing,
    };
    Failure::Failed(format!(
        "the schema is missing or too old ({missing} migrations are missing); run `feather-sync migrate`"
    ))
}

/// A command needs few connections at a time.
pub(super) fn db_settings(config: &Config) -> Result<DbSettings, ConfigError> {
    Ok(DbSettings {
        max_connections: 2,
        ..daemon::database_settings(config)?
    })
}

/// The error, and which database it is about.
pub(super) fn unreachable(config: &Config, error: StoreError) -> Failure {
    let Ok(url) = config.database_url() else {
        return error.into();
    };
    let origin = config
        .origins
        .get("database.url")
        .map_or_else(String::new, |origin| format!(", from {origin}"));
    Failure::Failed(format!(
        "{error}\n  database.url is {}{origin}",
        redacted_url(url)
    ))
}

/// Warnings are for the operator to read, in whatever form the daemon logs.
pub(super) fn log_warnings(config: &Config) -> Result<(), ConfigError> {
    let log = config::Log {
        format: match config.log.format {
            LogFormat::Json => LogFormat::Json,
            _ => LogFormat::Text,
        },
        // What the driver warns of comes back as an error, in words.
        filter: "warn,sqlx=off".to_owned(),
    };
    telemetry::init(&log, io::stderr().is_terminal(), false)
}
