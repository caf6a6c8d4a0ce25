//! Which source gives what, and which one wins.

use std::fs;
use std::path::Path;

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::NO_FILE;
use super::env;
use super::load_env;
use super::load_file_and_env;
use super::refusal;
use crate::config::Config;
use crate::config::Env;
use crate::config::KeySource;

#[test]
fn each_source_beats_the_one_before() {
    let folder = TempDir::new().unwrap();
    fs::write(
        folder.path().join("database-url"),
        "postgres://localhost/credential\n",
    )
    .unwrap();
    let file = "[database]\nurl = 'postgres://localhost/file'";
    let url = |env: &Env| {
        load_file_and_env(file, env)
            .unwrap()
            .database_url()
            .unwrap()
            .expose_secret()
            .to_owned()
    };
    let credentials = ("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap());
    let short = ("DATABASE_URL", "postgres://localhost/short");
    let long = ("FEATHER_SYNC__DATABASE__URL", "postgres://localhost/long");
    assert_eq!(url(&env([])), "postgres://localhost/file");
    assert_eq!(url(&env([credentials])), "postgres://localhost/credential");
    assert_eq!(
        url(&env([credentials, short])),
        "postgres://localhost/short"
    );
    assert_eq!(
        url(&env([credentials, short, long])),
        "postgres://localhost/long"
    );
    assert_eq!(
        url(&env([("DATABASE_URL", "")])),
        "postgres://localhost/file"
    );
}

#[test]
fn the_file_is_the_named_one_else_the_environment_s_else_the_usual_one() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, batch_size: u32| {
        let path = folder.path().join(name);
        fs::write(&path, format!("[worker]\nbatch_size = {batch_size}")).unwrap();
        path
    };
    let (named, from_env, usual) = (file("named", 1), file("env", 2), file("usual", 3));
    let by_env = env([("FEATHER_SYNC_CONFIG", from_env.to_str().unwrap())]);
    let load = |explicit, env: &Env, usual: &Path| {
        let config = Config::load_with_fallback(explicit, env, usual).unwrap();
        (config.worker.batch_size, config.file)
    };
    assert_eq!(
        load(Some(&named), &by_env, &usual),
        (1, Some(named.clone()))
    );
    assert_eq!(load(None, &by_env, &usual), (2, Some(from_env)));
    assert_eq!(
        load(None, &Env::default(), &usual),
        (3, Some(usual.clone()))
    );
    assert_eq!(load(None, &Env::default(), Path::new(NO_FILE)), (50, None));
}

#[test]
fn a_named_file_that_is_missing_is_an_error() {
    let why = refusal(Config::load(Some(Path::new(NO_FILE)), &Env::default()));
    assert!(why.contains(NO_FILE) && why.contains("--config"), "{why}");
    assert!(refusal(load_env([("FEATHER_SYNC_CONFIG", NO_FILE)])).contains(NO_FILE));
}

#[test]
fn short_forms_set_account_default() {
    let config = load_env([
        ("FEATHER_BASE_URL", "http://localhost:1/"),
        ("FEATHER_API_KEY", "k\n"),
    ])
    .unwrap();
    let accounts = config.accounts().unwrap();
    assert_eq!(accounts["default"].base_url, "http://localhost:1");
    assert_eq!(accounts["default"].key.read().unwrap().expose_secret(), "k");
    let both = load_env([("FEATHER_API_KEY", "k"), ("FEATHER_API_KEY_FILE", "/k")]);
    assert!(refusal(both).contains("twice"));
}

#[test]
fn a_stronger_source_s_key_displaces_the_other_form() {
    let file = "[accounts.default]\nbase_url = 'https://h'\napi_key_file = '/k'";
    let config = load_file_and_env(file, &env([("FEATHER_API_KEY", "k")])).unwrap();
    assert!(
        matches!(&config.accounts().unwrap()["default"].key, KeySource::Env { name, .. } if name == "FEATHER_API_KEY")
    );
    let long = env([
        ("FEATHER_API_KEY", "k"),
        ("FEATHER_SYNC__ACCOUNTS__DEFAULT__API_KEY_FILE", "/l"),
    ]);
    let config = load_file_and_env(file, &long).unwrap();
    assert!(
        matches!(&config.accounts().unwrap()["default"].key, KeySource::File(path) if path == Path::new("/l"))
    );
}

#[test]
fn variables_reach_accounts_of_the_file_whatever_their_spelling() {
    let file = "[accounts.My-Team]\nbase_url = 'https://h'";
    let variables = env([
        ("FEATHER_SYNC__ACCOUNTS__MY_TEAM__REQUESTS_PER_MINUTE", "7"),
        ("FEATHER_SYNC__ACCOUNTS__NEW_ONE__BASE_URL", "https://n"),
        ("FEATHER_SYNC__ACCOUNTS__NEW_ONE__API_KEY_ENV", "MY_KEY"),
        ("MY_KEY", "k"),
    ]);
    let config = load_file_and_env(file, &variables).unwrap();
    assert_eq!(
        config.declared_accounts.keys().collect::<Vec<_>>(),
        ["My-Team", "new_one"]
    );
    assert_eq!(config.declared_accounts["My-Team"].requests_per_minute, 7);
    assert_eq!(
        config.declared_accounts["new_one"]
            .key
            .as_ref()
            .unwrap()
            .read()
            .unwrap()
            .expose_secret(),
        "k"
    );
    let twins = load_file_and_env("[accounts.my-team]\n[accounts.my_team]", &variables);
    assert!(refusal(twins).contains("could mean account"));
}

#[test]
fn credentials_give_keys_to_the_accounts_there_are() {
    let folder = TempDir::new().unwrap();
    for name in [
        "feather-api-key",
        "feather-api-key.acme",
        "feather-api-key.stranger",
    ] {
        fs::write(folder.path().join(name), format!("{name}\n")).unwrap();
    }
    let variables = env([("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap())]);
    let keys = |file: &str| -> Vec<String> {
        let accounts = load_file_and_env(file, &variables)
            .unwrap()
            .declared_accounts;
        accounts
            .values()
            .map(|account| {
                account
                    .key
                    .as_ref()
                    .unwrap()
                    .read()
                    .unwrap()
                    .expose_secret()
                    .to_owned()
            })
            .collect()
    };
    assert_eq!(keys(""), ["feather-api-key"]);
    assert_eq!(
        keys("[accounts.acme]\napi_key_env = 'NOWHERE'"),
        ["feather-api-key.acme"]
    );
    assert_eq!(
        keys("[accounts.acme]\n[accounts.default]"),
        ["feather-api-key.acme", "feather-api-key"]
    );
}
