//! Accounts of the Feather API, and where their keys come from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;

use crate::config::ConfigError;
use crate::config::KeyError;
use crate::config::Origin;
use crate::config::Problem;
use crate::config::env::variable_of;
use crate::config::layers::DEFAULT_ACCOUNT;
use crate::config::secret;

/// An account that can be used.
#[derive(Debug, Clone)]
pub struct Account {
    /// `https://host[:port][/prefix]`, without a trailing slash; `http` only to loopback.
    pub base_url: String,
    /// Where its API key comes from.
    pub key: KeySource,
    /// This daemon's share of the organisation's limit, all replicas together; at least 1.
    pub requests_per_minute: u32,
    /// Calls in flight per process, at least 1; `None`: `worker.concurrency`, less one for each other account.
    pub max_in_flight: Option<u32>,
}

/// An account as written: what commands that do not call the API leave unasked may be missing.
#[derive(Debug, Clone)]
pub struct DeclaredAccount {
    /// As [`Account::base_url`], if given.
    pub base_url: Option<String>,
    /// As [`Account::key`], if given.
    pub key: Option<KeySource>,
    /// As [`Account::requests_per_minute`].
    pub requests_per_minute: u32,
    /// As [`Account::max_in_flight`].
    pub max_in_flight: Option<u32>,
}

/// Where an API key comes from. `Debug` and `Display` never show the key.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// A file, read again at every [`KeySource::read`], so that replacing it rotates the key.
    File(PathBuf),
    /// An environment variable, as it was when the configuration was loaded.
    Env {
        /// The variable.
        name: String,
        /// Its value; `None` where it is not set.
        value: Option<SecretString>,
    },
    /// The key itself, for what never came from a configuration: simulations and tests.
    Value(SecretString),
}

impl KeySource {
    /// The key as it is now, without surrounding whitespace, safe to put into an HTTP header.
    ///
    /// # Errors
    /// A file that cannot be read, a variable that is not set, an empty key, or one with characters that no key has. The
    /// message names the source and what to do, never the key.
    pub fn read(&self) -> Result<SecretString, KeyError> {
        match self {
            Self::File(path) => secret::read_file(path),
            Self::Env { name, value: None } => Err(KeyError::NotSet { name: name.clone() }),
            Self::Env {
                value: Some(key), ..
            }
            | Self::Value(key) => secret::trimmed(key, self.to_string()),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env { name, .. } => write!(f, "environment variable {}", name.escape_debug()),
            Self::Value(_) => f.write_str("given directly"),
        }
    }
}

/// Whether `name` can be an account's: part of a credential's file name, a metric label and a table's key.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let unfit = |c: char| c.is_whitespace() || c.is_control() || c == '/';
    if name.is_empty() || name.chars().count() > 100 || name.contains(unfit) {
        return Err(format!(
            "`{}` cannot be an account's name: use 1 to 100 letters, digits, hyphens or underscores",
            name.chars().take(100).collect::<String>().escape_debug()
        ));
    }
    Ok(())
}

/// The declared accounts, all of them complete.
pub(super) fn complete(
    declared: &BTreeMap<String, DeclaredAccount>,
) -> Result<BTreeMap<String, Account>, ConfigError> {
    let mut problems = Vec::new();
    let mut accounts = BTreeMap::new();
    for (name, account) in declared {
        let base_url = account.base_url.as_ref();
        if base_url.is_none() {
            problems.push(Problem {
                origin: None,
                message: no_base_url(name),
            });
        }
        let key = account.key.as_ref();
        match key {
            None => problems.push(Problem {
                origin: None,
                message: no_key(name),
            }),
            // A file may yet be put there or be repaired; what came with this process stays as it is.
            Some(KeySource::File(_)) => {}
            Some(fixed) => {
                if let Err(error) = fixed.read() {
                    let message = format!("account `{}`: {error}", name.escape_debug());
                    problems.push(Problem {
                        origin: None,
                        message,
                    });
                }
            }
        }
        if let (Some(base_url), Some(key)) = (base_url, key) {
            let complete = Account {
                base_url: base_url.clone(),
                key: key.clone(),
                requests_per_minute: account.requests_per_minute,
                max_in_flight: account.max_in_flight,
            };
            accounts.insert(name.clone(), complete);
        }
    }
    ConfigError::unless_none(problems)?;
    Ok(accounts)
}

/// The dotted key of an account's setting, as [`crate::config::Config::origins`] has it.
pub(super) fn dotted(name: &str, key: &str) -> String {
    format!("accounts.{name}.{key}")
}

/// The origin that the key of account `name` came from, whichever way it was given.
pub(super) fn key_origin<'o>(
    origins: &'o BTreeMap<String, Origin>,
    name: &str,
) -> Option<&'o Origin> {
    ["api_key_file", "api_key_env"]
        .into_iter()
        .find_map(|form| origins.get(&dotted(name, form)))
}

fn no_base_url(name: &str) -> String {
    let variable = if name == DEFAULT_ACCOUNT {
        "FEATHER_BASE_URL".to_owned()
    } else {
        variable_of(&dotted(name, "base_url"))
    };
    let (name, variable) = (name.escape_debug(), variable.escape_debug());
    format!(
        "account `{name}` has no base_url: set {variable}, or `base_url` under [accounts.{name}] in the configuration file, \
         for example https://api-sandbox.featherhq.com (the sandbox)"
    )
}

fn no_key(name: &str) -> String {
    let (variables, credential) = if name == DEFAULT_ACCOUNT {
        (
            "FEATHER_API_KEY_FILE or FEATHER_API_KEY".to_owned(),
            "feather-api-key".to_owned(),
        )
    } else {
        (
            variable_of(&dotted(name, "api_key_file")),
            format!("feather-api-key.{name}"),
        )
    };
    let (name, variables, credential) = (
        name.escape_debug(),
        variables.escape_debug(),
        credential.escape_debug(),
    );
    format!(
        "account `{name}` has no API key: set {variables}, or `api_key_file` or `api_key_env` under [accounts.{name}] in the \
         configuration file, or give the systemd credential `{credential}`"
    )
}
