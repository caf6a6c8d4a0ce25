//! Loading as a whole.

mod any_input;
mod changes;
mod defaults;
mod refusals;
mod secrets;
mod sources;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::config::Config;
use crate::config::ConfigError;
use crate::config::DEFAULT_TOML;
use crate::config::Env;
use crate::config::keys::ACCOUNT_KEYS;
use crate::config::keys::KEYS;

const NO_FILE: &str = "/nonexistent/feather-sync.toml";

fn env<const N: usize>(variables: [(&str, &str); N]) -> Env {
    variables.into_iter().collect()
}

fn load_env<const N: usize>(variables: [(&str, &str); N]) -> Result<Config, ConfigError> {
    Config::load_with_fallback(None, &env(variables), Path::new(NO_FILE))
}

fn load_file(text: &str) -> Result<Config, ConfigError> {
    load_file_and_env(text, &Env::default())
}

fn load_file_and_env(text: &str, env: &Env) -> Result<Config, ConfigError> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("f.toml");
    fs::write(&path, text).unwrap();
    Config::load(Some(&path), env)
}

fn refusal(result: Result<impl Sized, ConfigError>) -> String {
    result.err().expect("should be refused").to_string()
}

fn known_keys() -> BTreeSet<String> {
    let of_accounts = ACCOUNT_KEYS
        .iter()
        .map(|key| format!("accounts.NAME.{key}"));
    KEYS.iter()
        .map(|key| (*key).to_owned())
        .chain(of_accounts)
        .collect()
}

/// The built-in file with every example put in force.
fn every_example() -> String {
    let is_example = |line: &str| {
        line.starts_with("# [")
            || line
                .split(" = ")
                .next()
                .is_some_and(|key| key.len() > 2 && !key[2..].contains(' '))
                && line.contains(" = ")
    };
    DEFAULT_TOML
        .lines()
        .map(|line| {
            if is_example(line) {
                line.trim_start_matches("# ")
            } else {
                line
            }
        })
        .collect::<Vec<_>>()
        .join("\n")
}
