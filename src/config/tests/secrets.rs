//! Keys and passwords: read, and never shown.

use std::fs;

use secrecy::ExposeSecret;
use secrecy::SecretString;
use tempfile::TempDir;

use super::env;
use super::every_example;
use super::load_env;
use super::load_file;
use super::load_file_and_env;
use super::refusal;
use crate::config::Config;
use crate::config::KeyError;
use crate::config::KeySource;

#[test]
fn a_key_file_is_read_again_each_time() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("key");
    let source = KeySource::File(path.clone());
    let why = source.read().unwrap_err().to_string();
    assert!(
        why.contains(path.to_str().unwrap()) && why.contains("put the secret there"),
        "{why}"
    );
    for key in ["fth_live_one", "fth_live_two"] {
        fs::write(&path, format!("{key}\r\n\n")).unwrap();
        assert_eq!(source.read().unwrap().expose_secret(), key);
    }
    fs::write(&path, " \n").unwrap();
    assert!(matches!(source.read(), Err(KeyError::Empty { .. })));
    fs::write(&path, "x".repeat(70_000)).unwrap();
    assert!(matches!(source.read(), Err(KeyError::TooLarge { .. })));
    assert!(matches!(
        KeySource::File(folder.path().to_owned()).read(),
        Err(KeyError::Unreadable { .. })
    ));
}

#[test]
fn a_key_that_no_header_can_carry_is_refused_without_showing_it() {
    for bad in [
        "hunter2\nhunter2",
        "hunter2 # prod",
        "\"hunter2\"",
        "hunter2\u{e9}",
        "hunter2\0",
    ] {
        let source = KeySource::Value(SecretString::from(bad));
        let why = source.read().unwrap_err().to_string();
        assert!(!why.contains("hunter2"), "{why}");
    }
    let config = load_env([
        ("FEATHER_BASE_URL", "https://h"),
        ("FEATHER_API_KEY", "a hunter2"),
    ])
    .unwrap();
    let why = refusal(config.accounts());
    assert!(
        why.contains("FEATHER_API_KEY") && !why.contains("hunter2"),
        "{why}"
    );
}

#[test]
fn no_secret_is_shown_anywhere() {
    let file = "[database]\nurl = 'postgres://u:hunter2@h/d'\nlisten_url = 'postgres://u@h/d?password=hunter2'\n\
                [accounts.default]\nbase_url = 'https://h'";
    let variables = env([("FEATHER_API_KEY", "hunter2")]);
    let config = load_file_and_env(file, &variables).unwrap();
    let shown = config.to_toml_redacted();
    for text in [
        format!("{config:?} {variables:?} {:?}", config.accounts()),
        shown.clone(),
    ] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(
        shown.contains("url = \"postgres://u:***@h/d?sslmode=verify-full\"")
            && shown.contains("f.toml:2"),
        "{shown}"
    );
    assert!(
        shown.contains("api_key_env = \"FEATHER_API_KEY\"  # environment variable FEATHER_API_KEY"),
        "{shown}"
    );
}

#[test]
fn what_is_shown_reads_back_as_the_same() {
    for file in [
        "",
        &every_example(),
        "[accounts.'dotted.name']\n[worker]\nlease = '1m 30s 5us'",
    ] {
        let config = load_file(file).unwrap();
        let again = load_file(&config.to_toml_redacted()).unwrap();
        let without_origins = |config: &Config| {
            let lines: Vec<String> = config
                .to_toml_redacted()
                .lines()
                .map(|line| line.split("  # ").next().unwrap().to_owned())
                .collect();
            lines
        };
        assert_eq!(without_origins(&config), without_origins(&again));
    }
}
