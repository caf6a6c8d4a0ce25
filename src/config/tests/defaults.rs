//! The built-in file: what it says, and that it says everything.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::every_example;
use super::known_keys;
use super::load_file;
use crate::config::Config;
use crate::config::DEFAULT_TOML;
use crate::config::LogFormat;
use crate::config::keys::KEYS;

/// Every key the built-in file mentions, set or commented out, with section.
fn documented_keys() -> BTreeSet<String> {
    let mut section = String::new();
    let mut keys = BTreeSet::new();
    for line in DEFAULT_TOML.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        {
            let section = if section.starts_with("accounts.") {
                "accounts.NAME"
            } else {
                &section
            };
            keys.insert(format!("{section}.{key}"));
        }
    }
    keys
}

#[test]
fn the_defaults_are_what_people_count_on() {
    let config = Config::default();
    let secs = Duration::from_secs;
    assert!(config.database.url.is_none() && config.database.listen_url.is_none());
    assert_eq!(
        (
            config.database.max_connections,
            config.database.prepared_statements,
            config.database.require_tls
        ),
        (5, true, true)
    );
    assert_eq!(
        (config.api.request_timeout, config.api.connect_timeout),
        (secs(30), secs(5))
    );
    assert_eq!(config.api.max_body_bytes, 8_388_608);
    assert_eq!(
        (config.worker.concurrency, config.worker.batch_size),
        (16, 50)
    );
    assert_eq!(
        (config.worker.lease, config.worker.poll_interval),
        (secs(90), secs(1))
    );
    assert_eq!(config.worker.shutdown_grace, secs(25));
    assert_eq!(
        (config.retry.initial, config.retry.max),
        (secs(1), secs(15 * 60))
    );
    assert_eq!(
        (config.retry.multiplier, config.retry.max_attempts),
        (2.0, 20)
    );
    assert_eq!(config.retry.max_server_delay, secs(3600));
    assert_eq!(
        config.settle.done.join(" "),
        "synced ready complete completed success succeeded done ok active"
    );
    assert_eq!(
        config.settle.in_progress.join(" "),
        "pending queued syncing in_progress running refreshing"
    );
    assert_eq!(config.settle.failed.join(" "), "failed error");
    assert_eq!(
        config.settle.not_active.join(" "),
        "pending_oauth pending connecting"
    );
    assert_eq!(
        (
            config.settle.initial,
            config.settle.max,
            config.settle.deadline
        ),
        (secs(1), secs(30), secs(3600))
    );
    assert_eq!(config.reconcile.interval, None);
    assert_eq!(config.reconcile.refresh_after, None);
    assert_eq!(config.reconcile.budget_share, 0.2);
    assert_eq!(config.retention.attempts, secs(90 * 86_400));
    assert_eq!(
        config.admin.listen,
        Some(SocketAddr::from(([127, 0, 0, 1], 9464)))
    );
    assert!(config.admin.token_file.is_none());
    assert_eq!(
        (config.log.format, config.log.filter.as_str()),
        (LogFormat::Auto, "info")
    );
    assert_eq!(
        config.declared_accounts.keys().collect::<Vec<_>>(),
        ["default"]
    );
    assert_eq!(
        config.declared_accounts["default"].requests_per_minute,
        3000
    );
    assert_eq!(config.declared_accounts["default"].max_in_flight, None);
}

#[test]
fn the_built_in_file_documents_exactly_the_keys_there_are() {
    assert_eq!(documented_keys(), known_keys());
}

#[test]
fn every_example_of_the_built_in_file_can_be_put_in_force() {
    let config = load_file(&every_example()).unwrap();
    let keys: BTreeSet<&str> = config.origins.keys().map(String::as_str).collect();
    assert!(KEYS.iter().all(|key| keys.contains(key)), "{keys:?}");
    assert_eq!(
        config.declared_accounts.keys().collect::<Vec<_>>(),
        ["acme", "default"]
    );
}

#[test]
fn the_handbook_lists_every_key() {
    let handbook = include_str!("../../../docs/configuration.md");
    for key in known_keys() {
        assert!(
            handbook.contains(&format!("`{key}`")),
            "docs/configuration.md does not mention `{key}`"
        );
    }
}
