//! What is refused, and with which words.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::load_env;
use super::load_file;
use super::refusal;
use crate::config::Config;
use crate::config::ConfigError;
use crate::config::Env;

#[test]
fn an_unknown_key_is_refused_with_its_line_and_its_neighbour() {
    let why = refusal(load_file(
        "[worker]\n\nleese = '90s'\n[retry]\nmax_attempt = 1\n",
    ));
    assert!(
        why.contains("f.toml:3: `worker.leese`") && why.contains("`worker.lease`"),
        "{why}"
    );
    assert!(
        why.contains("f.toml:5: `retry.max_attempt`") && why.contains("`retry.max_attempts`"),
        "{why}"
    );
    let why = refusal(load_file("lease = '90s'"));
    assert!(
        why.contains("f.toml:1: `lease`") && why.contains("[worker]"),
        "{why}"
    );
    let why = refusal(load_file("[accounts.a]\nbase = 'https://h'"));
    assert!(
        why.contains("f.toml:2") && why.contains("did you mean `accounts.a.base_url`"),
        "{why}"
    );
    let why = refusal(load_env([("FEATHER_SYNC__WORKER__LEESE", "90s")]));
    assert!(
        why.contains("variable FEATHER_SYNC__WORKER__LEESE")
            && why.contains("FEATHER_SYNC__WORKER__LEASE?"),
        "{why}"
    );
    let why = refusal(load_env([("FEATHER_SYNC__ACCOUNTS__A__BASE", "x")]));
    assert!(why.contains("FEATHER_SYNC__ACCOUNTS__A__BASE_URL"), "{why}");
}

#[test]
fn variables_of_others_are_left_alone() {
    // What Kubernetes sets for a service that is named feather-sync.
    load_env([
        ("FEATHER_SYNC_PORT", "tcp://10.0.0.1:9464"),
        ("FEATHER_SYNC_SERVICE_HOST", "10.0.0.1"),
    ])
    .unwrap();
}

#[test]
fn several_problems_are_told_at_once() {
    let error =
        load_file("[worker]\nlease = 90\nconcurrency = 0\n[log]\nformat = 'xml'").unwrap_err();
    assert_eq!(error.problems.len(), 3, "{error}");
    assert!(
        error
            .to_string()
            .starts_with("configuration: 3 problems\n  - "),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("f.toml:2: `worker.lease` is \"90\", a number without a unit"),
        "{error}"
    );
    assert_eq!(ConfigError::EXIT_CODE, 78);
}

#[test]
fn broken_toml_is_refused_without_quoting_the_line() {
    let why = refusal(load_file(
        "[database]\nurl = \"postgres://u:hunter2@h/d\nx = 1",
    ));
    assert!(
        why.contains("f.toml:2: not valid TOML") && !why.contains("hunter2"),
        "{why}"
    );
}

#[test]
fn a_file_nested_without_end_is_refused() {
    let why = refusal(load_file(&format!(
        "[log]\nfilter = {}",
        "[".repeat(200_000)
    )));
    assert!(why.contains("not valid TOML"), "{why}");
}

#[test]
fn rules_between_keys_name_both_places() {
    let why = refusal(load_file("[worker]\nlease = '30s'"));
    assert!(
        why.contains("`api.request_timeout` (30s, built-in default)"),
        "{why}"
    );
    assert!(
        why.contains("`worker.lease` (30s, ") && why.contains("f.toml:2)"),
        "{why}"
    );
    for broken in [
        "[api]\nconnect_timeout = '31s'",
        "[retry]\ninitial = '16m'",
        "[retry]\nmultiplier = 0.5",
        "[retry]\nmultiplier = nan",
        "[retry]\nmax_attempts = 0",
        "[retry]\ninitial = '0s'",
        "[settle]\ninitial = '31s'",
        "[settle]\ndone = ['ok', 'Failed']",
        "[worker]\nconcurrency = 1025",
        "[worker]\nbatch_size = 0",
        "[worker]\npoll_interval = '9ms'",
        "[worker]\npoll_interval = '61s'",
        "[database]\nmax_connections = 1",
        "[accounts.a]\nrequests_per_minute = 0",
        "[accounts.a]\nmax_in_flight = 0",
        "[accounts.a]\nbase_url = 'http://api.example.com'",
        "[accounts.a]\napi_key_env = 'A'\napi_key_file = '/a'",
        "[accounts.'a b']",
        "[api]\nmax_body_bytes = 1023",
        "[admin]\nlisten = '0.0.0.0:9464'",
        "[admin]\nlisten = '[::]:9464'",
        "[reconcile]\ninterval = '59s'",
        "[reconcile]\nrefresh_after = '59s'",
        "[reconcile]\nbudget_share = 0",
        "[reconcile]\nbudget_share = 1.1",
        "[log]\nfilter = 'inof'",
    ] {
        let error = load_file(broken).expect_err(broken);
        assert_eq!(error.problems.len(), 1, "{broken}: {error}");
    }
}

#[test]
fn small_values_are_fine() {
    let small = "[api]\nrequest_timeout = '300ms'\nconnect_timeout = '300ms'\n[worker]\nlease = '1s'\nshutdown_grace = '0s'\n\
                 poll_interval = '10ms'\nconcurrency = 1\nbatch_size = 1\n[retry]\ninitial = '1ms'\nmax = '1ms'\nmultiplier = 1\n\
                 max_attempts = 1\nmax_server_delay = '0s'\n[settle]\ndeadline = '10ms'\n[reconcile]\ninterval = '1m'\n\
                 [admin]\nlisten = '127.0.0.1:0'\n[accounts.a]\nrequests_per_minute = 1\nmax_in_flight = 1";
    let config = load_file(small).unwrap();
    assert_eq!(config.reconcile.interval, Some(Duration::from_secs(60)));
}

#[test]
fn a_database_elsewhere_without_tls_is_refused_wherever_its_url_comes_from() {
    let plain = "postgres://u:hunter2@db/d?sslmode=disable";
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("database-url"), plain).unwrap();
    let directory = folder.path().to_str().unwrap();
    let refused = [
        load_env([("DATABASE_URL", plain)]),
        load_env([("FEATHER_SYNC__DATABASE__URL", plain)]),
        load_env([("FEATHER_SYNC__DATABASE__LISTEN_URL", plain)]),
        load_env([("CREDENTIALS_DIRECTORY", directory)]),
        load_file(&format!("[database]\nurl = '{plain}'")),
        load_file(&format!("[database]\nlisten_url = '{plain}'")),
        load_env([
            ("DATABASE_URL", "postgres://u:hunter2@db/d"),
            ("PGSSLMODE", "prefer"),
        ]),
    ];
    for result in refused {
        let why = refusal(result);
        assert!(
            why.contains("url` leads to db, and")
                && why.contains("verify-full")
                && why.contains("require_tls = false")
                && !why.contains("hunter2"),
            "{why}"
        );
    }
    let trusted = load_env([
        ("DATABASE_URL", plain),
        ("FEATHER_SYNC__DATABASE__LISTEN_URL", plain),
        ("FEATHER_SYNC__DATABASE__REQUIRE_TLS", "false"),
    ])
    .unwrap();
    assert_eq!(trusted.database_url().unwrap().expose_secret(), plain);
    assert_eq!(trusted.listen_url().unwrap().expose_secret(), plain);
}

#[test]
fn a_reachable_listener_is_fine_with_a_token() {
    let config = load_file("[admin]\nlisten = '0.0.0.0:9464'\ntoken_file = '/t'").unwrap();
    assert!(
        config
            .admin
            .read_token()
            .unwrap_err()
            .to_string()
            .contains("/t")
    );
    assert!(
        load_file("[admin]\nlisten = 'off'")
            .unwrap()
            .admin
            .listen
            .is_none()
    );
}

#[test]
fn commands_without_the_api_or_a_database_need_neither() {
    let config = load_env([]).unwrap();
    let why = refusal(config.accounts());
    assert!(
        why.contains("FEATHER_BASE_URL") && why.contains("https://api-sandbox.featherhq.com"),
        "{why}"
    );
    assert!(
        why.contains("FEATHER_API_KEY_FILE or FEATHER_API_KEY")
            && why.contains("`feather-api-key`"),
        "{why}"
    );
    assert!(refusal(config.database_url()).contains("DATABASE_URL"));
    let why = refusal(load_file("[accounts.my-team]").unwrap().accounts());
    assert!(
        why.contains("FEATHER_SYNC__ACCOUNTS__MY_TEAM__BASE_URL")
            && why.contains("`feather-api-key.my-team`"),
        "{why}"
    );
}

#[test]
fn a_file_that_may_not_be_read_is_an_error_and_not_passed_over() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("f.toml");
    fs::write(&path, "[worker]\nlease = '2m'").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read anything.
    if fs::read(&path).is_err() {
        let why = refusal(Config::load_with_fallback(None, &Env::default(), &path));
        assert!(why.contains("cannot read"), "{why}");
    }
}
