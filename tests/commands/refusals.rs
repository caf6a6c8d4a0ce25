//! Bad input, and databases that cannot be used.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use feather_sync::local_postgres::LocalPostgres;
use feather_sync::local_postgres::Options;

use crate::database::Database;
use crate::database::sql;
use crate::program::ID;
use crate::program::program;
use crate::program::run;

#[test]
fn wrong_usage_exits_with_2_and_says_what_was_wrong() {
    let long = "a".repeat(201);
    let table: &[(&[&str], &str)] = &[
        (&[], "Usage:"),
        (&["frobnicate"], "frobnicate"),
        (&["statsu"], "status"),
        (&["--frobnicate"], "--frobnicate"),
        (&["status", "--frobnicate"], "--frobnicate"),
        (&["show"], "<ID>"),
        (&["show", "not-a-uuid"], "not a UUID"),
        (&["show", ID, "--attempts", "-1"], "'-1'"),
        (&["enqueue"], "--file"),
        (&["enqueue", "not-a-uuid"], "not a UUID"),
        (&["enqueue", ID, "--priority", "32768"], "-32768..=32767"),
        (&["enqueue", ID, "--priority", "high"], "--priority"),
        (&["enqueue", ID, "--at", "tomorrow"], "+10m"),
        (&["enqueue", ID, "--at", "infinity"], "+10m"),
        (&["enqueue", ID, "--account", ""], "--account"),
        (&["enqueue", ID, "--account", &long], "--account"),
        (&["retry"], "--dead"),
        (&["retry", "not-a-uuid"], "not a UUID"),
        (&["retry", ID, "--dead"], "cannot be used with"),
        (&["retry", "--class", "upstream"], "--dead"),
        (&["retry", "--account", "default"], "--dead"),
        (&["retry", ID, "--class", "upstream"], "cannot be used with"),
        (
            &["retry", ID, "--account", "default"],
            "cannot be used with",
        ),
        (&["retry", "--dead", "--class", "unlucky"], "settle_timeout"),
        (&["cancel"], "<ID>"),
        (&["cancel", "not-a-uuid"], "not a UUID"),
        (&["forget"], "<ID>"),
        (&["forget", "not-a-uuid"], "not a UUID"),
        (&["forget", ID], "--yes"),
        (&["pause"], "<ACCOUNT>"),
        (&["pause", ""], "account"),
        (&["resume"], "<ACCOUNT>"),
        (&["run", "--timeout", "10s"], "--until-empty"),
        (
            &["run", "--until-empty", "--timeout", "10"],
            "without a unit",
        ),
        (&["run", "--until-empty", "--timeout", "5M"], "not a unit"),
        (
            &[
                "run",
                "--until-empty",
                "--timeout",
                "18446744073709551615s 1000ms",
            ],
            "not a duration",
        ),
        (
            &["migrate", "--check", "--without-roles"],
            "cannot be used with",
        ),
        (&["config"], "Usage:"),
        (&["config", "frobnicate"], "frobnicate"),
        (&["sim", "--tools", "many"], "--tools"),
        (&["sim", "--latency", "3s..1s"], "runs backwards"),
        (&["sim", "--seed", "-1"], "'-1'"),
        (&["completions"], "<SHELL>"),
        (&["completions", "cmd.exe"], "fish"),
    ];
    for (arguments, reason) in table {
        let outcome = run(&mut program(arguments));
        assert_eq!(outcome.out, "", "{arguments:?}");
        let error = outcome.failed(2);
        assert!(error.contains(reason), "{arguments:?}: {error}");
    }
}

#[test]
fn a_configuration_that_cannot_be_used_exits_with_78_and_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let did_you_mean = "did you mean `worker.concurrency`?";
    let account = "[accounts.default]\napi_key_file = \"/nowhere/key\"\nbase_url = ";
    let table = [
        (
            file("typo.toml", "[worker]\nconcurency = 3\n"),
            &["status"][..],
            did_you_mean,
        ),
        (
            file("typo2.toml", "[worker]\nconcurency = 3\n"),
            &["config", "show"],
            "typo2.toml:2",
        ),
        (
            file("typo3.toml", "[worker]\nconcurency = 3\n"),
            &["run"],
            did_you_mean,
        ),
        (
            file("section.toml", "[wroker]\nlease = \"2m\"\n"),
            &["config", "check"],
            "worker",
        ),
        (
            file("syntax.toml", "[worker\n"),
            &["status"],
            "syntax.toml:1",
        ),
        (
            file("value.toml", "[worker]\nlease = 90\n"),
            &["enqueue", ID],
            "lease",
        ),
        (
            file("rule.toml", "[worker]\nlease = \"10s\"\n"),
            &["status"],
            "request_timeout",
        ),
        (
            file(
                "http.toml",
                &format!("{account}\"http://api.example.com\"\n"),
            ),
            &["config", "check"],
            "https",
        ),
        (
            file(
                "key.toml",
                &format!("{account}\"https://api.example.com\"\n"),
            ),
            &["config", "check"],
            "/nowhere/key",
        ),
        (file("none.toml", ""), &["config", "check"], "base_url"),
        (file("database.toml", ""), &["status"], "DATABASE_URL"),
        (
            file(
                "url.toml",
                "[database]\nurl = \"mysql://app:sekret@db/app\"\n",
            ),
            &["status"],
            "postgres://",
        ),
        (
            "/nowhere/feather-sync.toml".to_owned(),
            &["status"],
            "/nowhere/feather-sync.toml",
        ),
    ];
    for (path, arguments, reason) in table {
        let arguments = [&["--config", path.as_str()][..], arguments].concat();
        let outcome = run(&mut program(&arguments));
        assert_eq!(outcome.out, "", "{arguments:?}");
        let error = outcome.failed(78);
        assert!(
            error.starts_with("feather-sync: configuration: "),
            "{error}"
        );
        assert!(
            error.contains(reason) && !error.contains("sekret"),
            "{arguments:?}: {error}"
        );
    }
}

/// Every command that asks the database.
const ASKING: [&[&str]; 10] = [
    &["migrate", "--check"],
    &["enqueue", ID],
    &["status"],
    &["status", "--json"],
    &["show", ID],
    &["retry", ID],
    &["cancel", ID],
    &["forget", "--yes", ID],
    &["pause", "default"],
    &["resume", "default"],
];

#[test]
fn a_schema_that_is_missing_or_too_old_is_to_be_migrated() {
    let missing = Database::empty();
    let old = Database::migrated();
    old.run("DELETE FROM feather._sqlx_migrations WHERE version = 5");
    for arguments in ASKING {
        for db in [&missing, &old] {
            let outcome = db.feather_sync(arguments);
            assert_eq!(outcome.out, "", "{arguments:?}");
            let error = outcome.failed(1);
            assert!(
                error.contains("run `feather-sync migrate`"),
                "{arguments:?}: {error}"
            );
        }
    }
}

#[test]
fn a_database_that_is_not_there_is_named_without_its_password() {
    let db = Database::empty();
    let table = [
        (
            "postgres://app:sekret@127.0.0.1:1/app".to_owned(),
            "refused",
            "127.0.0.1:1",
        ),
        (
            "postgres://app:sekret@localhost/app?host=/nowhere".to_owned(),
            "No such file",
            "/nowhere",
        ),
        (
            "postgres://app:sekret@nowhere.invalid/app".to_owned(),
            "cannot be used",
            "nowhere.invalid",
        ),
        (
            db.url().replace(db.name(), "nowhere"),
            "create it",
            "nowhere",
        ),
        (db.url_as("nobody_here"), "nobody_here", "check the user"),
    ];
    for (url, what, place) in table {
        for arguments in [&["status"][..], &["migrate"], &["migrate", "--check"]] {
            let error = run(program(arguments).env("DATABASE_URL", &url)).failed(1);
            assert!(
                error.contains(what) && error.contains(place),
                "{url} {arguments:?}: {error}"
            );
            assert!(
                error.contains("DATABASE_URL") && !error.contains("sekret"),
                "{error}"
            );
        }
    }
}

#[test]
fn a_wrong_password_is_refused_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("pg_hba.conf");
    fs::write(
        &rules,
        "local all postgres trust\nlocal all all scram-sha-256\n",
    )
    .unwrap();
    // The server may run as another user.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&rules, fs::Permissions::from_mode(0o644)).unwrap();
    let postgres = LocalPostgres::start(Options {
        settings: vec![("hba_file".to_owned(), rules.to_str().unwrap().to_owned())],
        ..Options::default()
    })
    .unwrap();
    sql(
        &postgres.url("postgres"),
        "CREATE ROLE app LOGIN PASSWORD 'right' CREATEROLE",
    )
    .unwrap();
    sql(&postgres.url("postgres"), "CREATE DATABASE app OWNER app").unwrap();
    let url = |password: &str| {
        postgres
            .url("app")
            .replace("user=postgres", &format!("user=app&password={password}"))
    };

    for arguments in [
        &["migrate"][..],
        &["migrate", "--check"],
        &["status"],
        &["enqueue", ID],
    ] {
        let error = run(program(arguments).env("DATABASE_URL", url("sekret"))).failed(1);
        assert!(error.contains("password authentication failed"), "{error}");
        assert!(
            error.contains("check the user and password") && !error.contains("sekret"),
            "{error}"
        );
    }
    run(program(&["migrate"]).env("DATABASE_URL", url("right"))).done();
    run(program(&["status"]).env("DATABASE_URL", url("right"))).done();
}
