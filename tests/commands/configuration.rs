//! `config`

use std::fs;

use crate::program::program;
use crate::program::run;

#[test]
fn the_default_is_the_documented_file_and_reads_back() {
    let text = run(&mut program(&["config", "default"])).done();
    assert_eq!(text, feather_sync::config::DEFAULT_TOML);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("feather-sync.toml");
    fs::write(&file, text).unwrap();
    run(&mut program(&[
        "--config",
        file.to_str().unwrap(),
        "config",
        "show",
    ]))
    .done();
}

#[test]
fn what_is_in_force_is_shown_with_its_origin_and_without_secrets() {
    let mut command = program(&["config", "show"]);
    command.env("DATABASE_URL", "postgres://app:sekret@db.example.com/app");
    command.env("FEATHER_BASE_URL", "https://api.example.com");
    command.env("FEATHER_API_KEY", "fth_live_sekret");
    command.env("FEATHER_SYNC__WORKER__LEASE", "2m");
    let text = run(&mut command).done();
    assert!(
        text.contains("lease = \"2m\"") && text.contains("FEATHER_SYNC__WORKER__LEASE"),
        "{text}"
    );
    assert!(
        text.contains("db.example.com") && !text.contains("sekret"),
        "{text}"
    );
}

#[test]
fn a_complete_configuration_is_ok_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    fs::write(&key, "fth_live_sekret\n").unwrap();
    let file = folder.path().join("feather-sync.toml");
    let text = format!(
        "[database]\nurl = \"postgres://app:sekret@db.example.com/app\"\n\
         [accounts.acme]\nbase_url = \"https://api.example.com\"\napi_key_file = \"{}\"\n",
        key.display()
    );
    fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap();
    let ok = run(&mut program(&["config", "check", "--config", path])).done();
    assert!(
        ok.starts_with("ok\n") && ok.contains(path) && ok.contains("acme"),
        "{ok}"
    );
    assert!(!ok.contains("sekret"), "{ok}");

    fs::write(&key, "two words").unwrap();
    let error = run(&mut program(&["config", "check", "--config", path])).failed(78);
    assert!(
        error.contains("acme") && error.contains(key.to_str().unwrap()),
        "{error}"
    );
    assert!(!error.contains("two words"), "{error}");
}

#[test]
fn every_problem_is_listed_at_once() {
    let error = run(&mut program(&["config", "check"])).failed(78);
    for part in [
        "3 problems",
        "DATABASE_URL",
        "FEATHER_BASE_URL",
        "FEATHER_API_KEY",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}
