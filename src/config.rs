//! What the operator decides: typed sections, read from built-in defaults, a TOML file, systemd credentials and the
//! environment, in this order of rising strength.
//!
//! `config/feather-sync.toml` documents every key and is itself the built-in default. Syntax errors, unknown keys, bad
//! values and broken rules between keys always fail [`Config::load`]; what only some commands need (a database, accounts
//! with keys) is asked for by those commands, through [`Config::database_url`] and [`Config::accounts`].

mod account;
mod changes;
mod database;
mod env;
mod error;
mod file;
mod keys;
mod layers;
mod reader;
mod rules;
mod secret;
mod sections;
mod show;
mod url;
mod value;

#[cfg(test)]
mod tests;

pub use account::Account;
pub use account::DeclaredAccount;
pub use account::KeySource;
pub use env::Env;
pub use error::ConfigError;
pub use error::Origin;
pub use error::Problem;
pub use secret::KeyError;
pub use sections::Admin;
pub use sections::Api;
pub use sections::Database;
pub use sections::Events;
pub use sections::History;
pub use sections::Log;
pub use sections::LogFormat;
pub use sections::Reconcile;
pub use sections::Retention;
pub use sections::Retry;
pub use sections::Settle;
pub use sections::Worker;
pub use url::redacted_url;

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use secrecy::SecretString;

use crate::config::layers::Layers;
use crate::config::reader::Reader;

/// Read when neither `--config` nor `FEATHER_SYNC_CONFIG` names a file, where it exists.
pub const DEFAULT_PATH: &str = "/etc/feather-sync/feather-sync.toml";

/// The built-in default, every key documented: what `config default` prints.
pub const DEFAULT_TOML: &str = include_str!("../config/feather-sync.toml");

/// The configuration in force. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[database]`
    pub database: Database,
    /// `[api]`
    pub api: Api,
    /// `[worker]`
    pub worker: Worker,
    /// `[retry]`
    pub retry: Retry,
    /// `[settle]`
    pub settle: Settle,
    /// `[reconcile]`
    pub reconcile: Reconcile,
    /// `[retention]`
    pub retention: Retention,
    /// `[history]`
    pub history: History,
    /// `[events]`
    pub events: Events,
    /// `[admin]`
    pub admin: Admin,
    /// `[log]`
    pub log: Log,
    /// `[accounts.NAME]` as written, perhaps still without address or key; never empty. [`Config::accounts`] gives the
    /// complete ones.
    pub declared_accounts: BTreeMap<String, DeclaredAccount>,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// Where each value that is set came from, by dotted key (`worker.lease`, `accounts.default.base_url`).
    pub origins: BTreeMap<String, Origin>,
}

impl Config {
    /// Reads defaults, file, credentials and environment, and checks all that can be checked without the network.
    ///
    /// The file is `explicit_path` (`--config`), else the one `FEATHER_SYNC_CONFIG` names, else [`DEFAULT_PATH`] where it
    /// exists.
    ///
    /// # Errors
    /// All problems found, each with its place: a file that is named but cannot be read, syntax, unknown keys, values out of
    /// range, rules between keys.
    pub fn load(explicit_path: Option<&Path>, env: &Env) -> Result<Self, ConfigError> {
        Self::load_with_fallback(explicit_path, env, Path::new(DEFAULT_PATH))
    }

    fn load_with_fallback(
        explicit_path: Option<&Path>,
        env: &Env,
        fallback: &Path,
    ) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let mut layers = Layers::default();
        file::add_defaults(&mut layers, &mut problems);
        let file = file::find(explicit_path, env, fallback);
        if let Some(file) = &file {
            file::add(file, &mut layers, &mut problems);
        }
        env::add(env, &mut layers, &mut problems);
        layers.ensure_an_account();
        secret::add_credentials(env, &mut layers, &mut problems);

        let mut config = Reader::new(&layers, env, &mut problems).config();
        config.file = file;
        // Rules compare values; where some could not be read their verdict would be about placeholders.
        if problems.is_empty() {
            rules::check(&config, &mut problems);
        }
        ConfigError::unless_none(problems)?;
        Ok(config)
    }

    /// The database to work on.
    ///
    /// # Errors
    /// When none is configured; the message names the ways to do so.
    pub fn database_url(&self) -> Result<&SecretString, ConfigError> {
        self.database.url.as_ref().ok_or_else(|| {
            ConfigError::from(Problem {
                origin: None,
                message: "no database is configured: set DATABASE_URL, or `url` under [database] in the configuration \
                          file, or the systemd credential `database-url`, for example \
                          postgres://feather_sync@db.example.com/app"
                    .to_owned(),
            })
        })
    }

    /// The database to LISTEN on: `database.listen_url`, else `database.url`.
    ///
    /// # Errors
    /// As [`Config::database_url`].
    pub fn listen_url(&self) -> Result<&SecretString, ConfigError> {
        match &self.database.listen_url {
            Some(url) => Ok(url),
            None => self.database_url(),
        }
    }

    /// The accounts, each with an address and a source for its key. Key files are not read here: see [`KeySource::read`].
    ///
    /// # Errors
    /// Every account that lacks an address or a key, with the ways to give one.
    pub fn accounts(&self) -> Result<BTreeMap<String, Account>, ConfigError> {
        account::complete(&self.declared_accounts)
    }

    /// One of the accounts, whatever the others lack; `None` where it is not declared.
    ///
    /// # Errors
    /// As [`accounts`](Self::accounts), of this one.
    pub fn account(&self, name: &str) -> Result<Option<Account>, ConfigError> {
        let declared = self.declared_accounts.get(name).cloned();
        let one = declared.map(|account| (name.to_owned(), account));
        Ok(account::complete(&one.into_iter().collect())?.remove(name))
    }

    /// The effective configuration as TOML, each value that is not built in followed by where it came from. Passwords
    /// in URLs read `***`; of API keys only the source is shown.
    #[must_use]
    pub fn to_toml_redacted(&self) -> String {
        show::to_toml(self)
    }
}

impl Default for Config {
    /// The built-in default: no database, and one account `default` that still lacks address and key.
    #[expect(
        clippy::expect_used,
        reason = "the built-in file is constant, and a test loads it"
    )]
    fn default() -> Self {
        Self::load_with_fallback(None, &Env::default(), Path::new(""))
            .expect("the built-in default is valid")
    }
}
