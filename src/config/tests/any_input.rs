//! Any text as file or environment: no panic, and every key within reach.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;

use super::NO_FILE;
use super::known_keys;
use super::load_file;
use crate::config::Config;
use crate::config::Env;
use crate::config::env::variable_of;
use crate::config::keys::KEYS;

/// For every key a value that is valid beside all defaults and differs from them, and how `config show` writes it.
const OTHER_VALUES: &[(&str, &str, &str)] = &[
    (
        "database.url",
        "postgres://u@localhost/d",
        "url = \"postgres://u@localhost/d\"",
    ),
    ("database.max_connections", "7", "max_connections = 7"),
    (
        "database.listen_url",
        "postgres://u@127.0.0.1/d",
        "listen_url = \"postgres://u@127.0.0.1/d\"",
    ),
    (
        "database.prepared_statements",
        "false",
        "prepared_statements = false",
    ),
    ("database.require_tls", "false", "require_tls = false"),
    ("api.request_timeout", "31s", "request_timeout = \"31s\""),
    ("api.connect_timeout", "6s", "connect_timeout = \"6s\""),
    ("api.max_body_bytes", "2MiB", "max_body_bytes = 2097152"),
    ("worker.concurrency", "17", "concurrency = 17"),
    ("worker.lease", "2m", "lease = \"2m\""),
    ("worker.poll_interval", "2s", "poll_interval = \"2s\""),
    ("worker.batch_size", "51", "batch_size = 51"),
    ("worker.shutdown_grace", "26s", "shutdown_grace = \"26s\""),
    ("retry.initial", "2s", "initial = \"2s\""),
    ("retry.multiplier", "3", "multiplier = 3.0"),
    ("retry.max", "16m", "max = \"16m\""),
    ("retry.max_attempts", "21", "max_attempts = 21"),
    ("retry.max_server_delay", "2h", "max_server_delay = \"2h\""),
    ("settle.done", "[\"landed\"]", "done = [\"landed\"]"),
    (
        "settle.in_progress",
        "[\"flying\", \"rolling\"]",
        "in_progress = [\"flying\", \"rolling\"]",
    ),
    ("settle.failed", "['crashed']", "failed = [\"crashed\"]"),
    ("settle.not_active", "[]", "not_active = []"),
    ("settle.initial", "3s", "initial = \"3s\""),
    ("settle.max", "31s", "max = \"31s\""),
    ("settle.deadline", "5s", "deadline = \"5s\""),
    ("reconcile.interval", "6h", "interval = \"6h\""),
    ("reconcile.refresh_after", "24h", "refresh_after = \"1d\""),
    ("reconcile.budget_share", "0.5", "budget_share = 0.5"),
    ("retention.attempts", "7d", "attempts = \"7d\""),
    ("admin.listen", "[::1]:1", "listen = \"[::1]:1\""),
    ("admin.token_file", "/t", "token_file = \"/t\""),
    ("log.format", "json", "format = \"json\""),
    (
        "log.filter",
        "warn,feather_sync::worker=trace",
        "filter = \"warn,feather_sync::worker=trace\"",
    ),
    (
        "accounts.NAME.base_url",
        "https://other",
        "base_url = \"https://other\"",
    ),
    ("accounts.NAME.api_key_file", "/k", "api_key_file = \"/k\""),
    ("accounts.NAME.api_key_env", "K", "api_key_env = \"K\""),
    (
        "accounts.NAME.requests_per_minute",
        "60",
        "requests_per_minute = 60",
    ),
    ("accounts.NAME.max_in_flight", "4", "max_in_flight = 4"),
];

proptest! {
    #[test]
    fn any_set_of_documented_keys_is_taken_over_from_the_environment(
        chosen in proptest::sample::subsequence(OTHER_VALUES, 1..=OTHER_VALUES.len())
    ) {
        let both_keys = chosen.iter().filter(|(key, ..)| key.contains("api_key_")).count() == 2;
        let chosen: Vec<_> = chosen
            .into_iter()
            .filter(|(key, ..)| !(both_keys && key.ends_with("api_key_env")))
            .collect();
        let variables: Env = chosen.iter().map(|(key, value, _)| (variable_of(key), *value)).collect();
        let config = Config::load_with_fallback(None, &variables, Path::new(NO_FILE)).unwrap();
        let shown = config.to_toml_redacted();
        for (key, _, line) in chosen {
            let origin = format!("{line}  # environment variable {}\n", variable_of(key));
            prop_assert!(shown.contains(&origin), "{origin} not in {shown}");
        }
    }

    #[test]
    fn no_file_makes_loading_panic(text in any::<String>()) {
        let _ = load_file(&text);
    }

    #[test]
    fn no_almost_valid_file_makes_loading_panic(
        key in proptest::sample::select(KEYS), value in "[-0-9a-z\"'\\[\\], .:{}=]{0,20}", tail in any::<String>()
    ) {
        let (section, key) = key.split_once('.').unwrap();
        let _ = load_file(&format!("[{section}]\n{key} = {value}\n{tail}"));
    }

    #[test]
    fn no_environment_makes_loading_panic(
        key in "(ACCOUNTS__)?[A-Za-zÄß_.-]{0,20}", known in proptest::sample::select(KEYS), value in any::<String>()
    ) {
        let strange = format!("FEATHER_SYNC__{key}");
        let known = variable_of(known);
        let short = ["DATABASE_URL", "FEATHER_BASE_URL", "FEATHER_API_KEY", "FEATHER_API_KEY_FILE"];
        let variables: Env = short.into_iter().chain([strange.as_str(), known.as_str()]).map(|name| (name, value.as_str())).collect();
        if let Ok(config) = Config::load_with_fallback(None, &variables, Path::new(NO_FILE)) {
            let _ = (config.accounts(), config.to_toml_redacted());
        }
    }
}

#[test]
fn every_key_has_another_value_to_test_with() {
    let tested: BTreeSet<String> = OTHER_VALUES
        .iter()
        .map(|(key, ..)| (*key).to_owned())
        .collect();
    assert_eq!(tested, known_keys());
}
