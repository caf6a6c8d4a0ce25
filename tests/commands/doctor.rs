//! `doctor`

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Child;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;

use crate::database::Database;
use crate::needles::Search;
use crate::program::ID;
use crate::program::Outcome;
use crate::program::finish;
use crate::program::program;
use crate::program::run;
use crate::program::signal;
use crate::program::start;
use crate::sim::sim;

const KEY: &str = "fth_live_doctors_sekret";

/// A simulated API, stopped with the test.
struct Api {
    child: Child,
    url: String,
}

impl Api {
    fn start(scenario: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("scenario.toml");
        fs::write(&file, scenario).unwrap();
        let (child, address) = sim(&["--scenario", file.to_str().unwrap()]);
        Self {
            child,
            url: format!("http://{address}"),
        }
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn doctor(database: &str, api: &str, arguments: &[&str]) -> Command {
    let mut command = program(&[&["doctor"], arguments].concat());
    command.env("DATABASE_URL", database);
    command.env("FEATHER_BASE_URL", api);
    command.env("FEATHER_API_KEY", KEY);
    command
}

/// Where nothing listens.
const NOWHERE: &str = "http://127.0.0.1:1";

/// The level of the first line about this.
#[track_caller]
fn level<'p>(page: &'p str, about: &str) -> &'p str {
    let line = page.lines().find(|line| line.contains(about));
    let line = line.unwrap_or_else(|| panic!("nothing about {about}: {page}"));
    line.split(' ').next().unwrap()
}

/// What all outcomes have in common: every line has a level, what is not ok says what to do, nobody sees the key.
#[track_caller]
fn page(outcome: &Outcome) -> &str {
    assert!(!outcome.out.contains("sekret"), "{outcome:?}");
    assert!(!outcome.err.contains("sekret"), "{outcome:?}");
    let lines: Vec<_> = outcome.out.lines().collect();
    for (line, next) in lines.iter().zip(lines.iter().skip(1).chain([&"ok"])) {
        let known = ["ok       ", "warning  ", "failed   ", "         "];
        assert!(known.iter().any(|level| line.starts_with(level)), "{line}");
        if line.starts_with("warning") || line.starts_with("failed") {
            assert!(next.starts_with("         "), "{line}: {next}");
        }
    }
    &outcome.out
}

#[test]
fn a_sound_installation_has_no_failed_line_and_a_daemon_makes_it_complete() {
    let db = Database::migrated();
    let api = Api::start("");
    let outcome = run(&mut doctor(&db.url(), &api.url, &[]));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let said = page(&outcome);
    for about in [
        "configuration: no file was read",
        "takes writes and answers within",
        "migrations: the schema is current",
        "roles: postgres may do what a worker does",
        "this machine's clock and the database's",
        "this machine's clock and the API's",
        "takes the key",
        "queue: nothing is paused",
    ] {
        assert_eq!(level(said, about), "ok", "{about}: {said}");
    }
    assert_eq!(level(said, "daemons: none is running"), "warning");
    // The private Postgres of the tests does without.
    assert_eq!(level(said, "fsync is off"), "warning");

    let mut daemon = program(&["run"]);
    daemon.env("DATABASE_URL", db.url());
    daemon.env("FEATHER_BASE_URL", &api.url);
    daemon.env("FEATHER_API_KEY", KEY);
    daemon.env("FEATHER_SYNC__ADMIN__LISTEN", "off");
    let daemon = start(&mut daemon);
    db.until("SELECT EXISTS (SELECT FROM feather.sync_replicas)");
    let outcome = run(&mut doctor(&db.url(), &api.url, &[]));
    let version = format!(
        "daemons: running: 1 of version {}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(level(page(&outcome), &version), "ok");
    signal(&daemon, "TERM");
    finish(daemon).done();
    let recorded = "SELECT count(*) FROM feather.sync_attempts";
    assert_eq!(db.value(recorded), "0", "it leaves no trace");
}

#[test]
fn a_mere_worker_is_enough_and_a_reporter_is_told_what_it_lacks() {
    let db = Database::migrated();
    let api = Api::start("");
    let worker = db.user(Some("feather_worker"));
    let outcome = run(&mut doctor(&db.url_as(&worker), &api.url, &[]));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(page(&outcome).contains("GRANT pg_read_all_stats"));
    let reporter = db.user(Some("feather_reporter"));
    let outcome = run(&mut doctor(&db.url_as(&reporter), &api.url, &[]));
    let said = page(&outcome);
    assert_eq!(level(said, "roles:"), "failed");
    assert!(
        said.contains("DELETE, INSERT, SELECT, UPDATE on sync_jobs")
            && said.contains(&format!("GRANT feather_worker TO \"{reporter}\"")),
        "{said}"
    );
    outcome.failed(1);
}

#[test]
fn json_is_alone_on_stdout_and_says_the_same() {
    let db = Database::empty();
    let outcome = run(&mut doctor(&db.url(), NOWHERE, &["--json"]));
    page_is_json(&outcome, "failed");
    let report: Value = serde_json::from_str(&outcome.out).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let of = |check: &str| {
        let found = findings.iter().find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("{check}: {outcome:?}"))
    };
    assert_eq!(of("migrations")["level"], "failed");
    let next = of("migrations")["next"].as_str().unwrap();
    assert!(next.contains("feather-sync migrate"), "{next}");
    assert_eq!(of("api")["level"], "failed");
    assert_eq!(of("api")["where"], format!("account default, {NOWHERE}"));
    assert_eq!(of("database")["level"], "ok");
    assert_eq!(of("database")["next"], Value::Null);
    assert!(outcome.failed(1).contains("failed"));
}

#[track_caller]
fn page_is_json(outcome: &Outcome, worst: &str) {
    assert!(!outcome.out.contains("sekret"), "{outcome:?}");
    let report: Value = serde_json::from_str(&outcome.out).expect("JSON and nothing else");
    assert_eq!(report["level"], worst, "{outcome:?}");
    for finding in report["findings"].as_array().unwrap() {
        assert_eq!(
            finding["next"].is_null(),
            finding["level"] == "ok",
            "{finding}"
        );
    }
}

#[test]
fn an_api_is_told_by_the_way_it_answers() {
    let db = Database::migrated();
    let table = [
        ("", 0, "ok", "takes the key"),
        ("api_keys = [\"another\"]", 1, "failed", "refuses the key"),
        ("[[fault]]\nkind = \"not_found\"", 0, "ok", "takes the key"),
        (
            "[[fault]]\nkind = \"plain_404\"",
            1,
            "failed",
            "does not speak",
        ),
        (
            "[[fault]]\nkind = \"not_json\"",
            1,
            "failed",
            "does not speak",
        ),
        (
            "[[fault]]\nkind = \"status\"\ncode = 503\necho_key = true",
            1,
            "failed",
            "and fails",
        ),
        (
            "[[fault]]\nkind = \"status\"\ncode = 403",
            1,
            "failed",
            "look at connections",
        ),
        (
            "[[fault]]\nkind = \"status\"\ncode = 429",
            0,
            "warning",
            "rate limit is used up",
        ),
        ("[[fault]]\nkind = \"reset\"", 1, "failed", "is not reached"),
    ];
    for (scenario, code, expected, about) in table {
        let api = Api::start(scenario);
        let outcome = run(&mut doctor(&db.url(), &api.url, &[]));
        assert_eq!(outcome.code, Some(code), "{scenario}: {outcome:?}");
        assert_eq!(level(page(&outcome), about), expected, "{scenario}");
    }
}

#[test]
fn what_cannot_be_reached_hides_nothing_else() {
    let api = Api::start("");
    let nowhere = "postgres://app:sekret@127.0.0.1:1/app";
    let outcome = run(&mut doctor(nowhere, &api.url, &[]));
    let said = page(&outcome);
    assert_eq!(
        level(said, "database (postgres://app:***@127.0.0.1:1/app)"),
        "failed"
    );
    assert_eq!(level(said, "takes the key"), "ok");
    assert!(!said.contains("migrations"), "{said}");
    outcome.failed(1);

    let db = Database::migrated();
    let outcome = run(&mut doctor(&db.url(), NOWHERE, &[]));
    let said = page(&outcome);
    assert_eq!(level(said, "is not reached"), "failed");
    assert_eq!(level(said, "migrations: the schema is current"), "ok");
    outcome.failed(1);
}

#[test]
fn what_never_answers_has_failed_after_some_seconds() {
    // The kernel accepts; nobody ever reads.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let database = format!("postgres://app@{address}/app?sslmode=disable");
    let mut command = doctor(&database, &format!("http://{address}"), &[]);
    command.env("FEATHER_SYNC__API__REQUEST_TIMEOUT", "80s");
    let began = Instant::now();
    let outcome = run(&mut command);
    assert!(began.elapsed() < Duration::from_secs(60), "{outcome:?}");
    let said = page(&outcome);
    assert_eq!(level(said, "gave no answer within"), "failed");
    assert_eq!(level(said, "does not answer in time"), "failed");
    outcome.failed(1);
}

#[test]
fn a_database_that_takes_no_writes_or_lacks_migrations_has_failed() {
    let db = Database::migrated();
    db.run("DELETE FROM feather._sqlx_migrations WHERE version = (SELECT max(version) FROM feather._sqlx_migrations)");
    db.run(&format!(
        "ALTER DATABASE {} SET default_transaction_read_only = on",
        db.name()
    ));
    let outcome = run(&mut doctor(&db.url(), NOWHERE, &[]));
    let said = page(&outcome);
    assert_eq!(level(said, "default_transaction_read_only is on"), "failed");
    assert_eq!(
        level(said, "migrations: the schema is 1 migrations behind"),
        "failed"
    );
    outcome.failed(1);
}

#[test]
fn what_is_left_undone_is_warned_of() {
    let db = Database::migrated();
    let api = Api::start("");
    db.run(&format!(
        "INSERT INTO feather.sync_jobs (connection_id, account, state, priority, run_at, wanted_at, started_at, attempt, error_class)
         VALUES ('{ID}', 'default', 'dead', 3, now(), now() - interval '1 year', now(), 1, 'upstream');
         INSERT INTO feather.sync_requests (connection_id, account) VALUES (gen_random_uuid(), 'stranger');
         INSERT INTO feather.sync_replicas (worker, version, accounts) VALUES ('w', '0.0.1', '{{other}}')"
    ));
    db.feather_sync(&["pause", "default"]).done();
    let outcome = run(&mut doctor(&db.url(), &api.url, &[]));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let said = page(&outcome);
    for about in [
        "1 job dead",
        "1 request and 0 jobs wait for an account that no running daemon knows (unknown_account)",
        "paused by ",
        "running: 1 of version 0.0.1; this program is version",
        "no running daemon serves it",
    ] {
        assert_eq!(level(said, about), "warning", "{about}");
    }
    assert!(!said.contains("nothing is paused"), "{said}");
}

#[test]
fn a_snapshot_that_is_held_is_found_once_it_is_old() {
    // An hour cannot be waited for; that the session is seen, and its age, is.
    let db = Database::migrated();
    let worker = db.user(Some("feather_worker"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        use sqlx::Connection;
        let mut holder = sqlx::PgConnection::connect(&db.url()).await.unwrap();
        let held = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM feather.sync_jobs";
        sqlx::raw_sql(held).execute(&mut holder).await.unwrap();
        for (user, is_seen) in [("postgres", true), (&*worker, false)] {
            let settings = feather_sync::store::DbSettings {
                url: db.url_as(user).into(),
                listen_url: None,
                max_connections: 2,
                prepared_statements: true,
            };
            let asked = feather_sync::store::Db::new(&settings).unwrap();
            let holders = asked.holders().await.unwrap();
            let seen = holders
                .iter()
                .any(|holder| holder.what.contains("idle in transaction"));
            assert_eq!(seen, is_seen, "{user}: {holders:?}");
            assert!(holders.iter().all(|holder| holder.seconds < Some(600.0)));
            assert_eq!(asked.rights().await.unwrap().sees_sessions, is_seen);
            assert!(!asked.is_pooled().await.unwrap());
            assert!(!asked.is_pooled_directly().await.unwrap());
        }
    });
}

#[test]
fn partitions_that_are_missing_and_readers_without_an_end_are_found() {
    let db = Database::migrated();
    let api = Api::start("");
    let outcome = run(&mut doctor(&db.url(), &api.url, &[]));
    assert_eq!(level(page(&outcome), "partitions: "), "ok");
    db.run(
        "DO $$ DECLARE part record; BEGIN
             FOR part IN SELECT name FROM feather.partition_bounds('tool_versions') LOOP
                 EXECUTE format('DROP TABLE feather.%I', part.name);
             END LOOP;
         END $$",
    );
    let outcome = run(&mut doctor(&db.url(), &api.url, &[]));
    let about = "there are none for the time after the next 0 hours";
    assert_eq!(level(page(&outcome), about), "warning");

    db.run(
        "CREATE TABLE feather.sync_events_20200101 PARTITION OF feather.sync_events
             FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')",
    );
    let outcome = run(&mut doctor(&db.url(), &api.url, &[]));
    let about = "sync_events_20200101 is past its time";
    assert_eq!(level(page(&outcome), about), "warning");
    let mut patient = doctor(&db.url(), &api.url, &[]);
    patient.env("FEATHER_SYNC__RETENTION__EVENTS", "20000d");
    assert!(!page(&run(&mut patient)).contains(about));

    let reader = db.user(Some("feather_reporter"));
    let worker = db.user(Some("feather_worker"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let unlimited = || {
        runtime.block_on(async {
            let settings = feather_sync::store::DbSettings {
                url: db.url_as(&worker).into(),
                listen_url: None,
                max_connections: 1,
                prepared_statements: true,
            };
            let asked = feather_sync::store::Db::new(&settings).unwrap();
            asked.unlimited_readers().await.unwrap()
        })
    };
    assert!(unlimited().contains(&reader));
    assert!(!unlimited().contains(&worker));
    db.run(&format!(
        "ALTER ROLE {reader} SET statement_timeout = '5min'"
    ));
    assert!(!unlimited().contains(&reader));
}

#[test]
fn a_configuration_that_cannot_be_used_is_a_failed_line_and_exits_with_78() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("typo.toml");
    fs::write(&file, "[worker]\nconcurency = 3\n").unwrap();
    let arguments = ["--config", file.to_str().unwrap(), "doctor"];
    let outcome = run(&mut program(&arguments));
    let said = page(&outcome);
    assert_eq!(level(said, "did you mean `worker.concurrency`?"), "failed");
    assert!(said.contains("typo.toml:2"), "{said}");
    outcome.failed(78);
    let outcome = run(&mut program(&[&arguments[..], &["--json"]].concat()));
    page_is_json(&outcome, "failed");
    outcome.failed(78);
}

#[test]
fn what_the_configuration_lacks_hides_nothing_else() {
    let db = Database::migrated();
    let outcome = run(doctor(&db.url(), NOWHERE, &[])
        .env_remove("FEATHER_API_KEY")
        .env("FEATHER_API_KEY_FILE", "/nowhere/key"));
    let said = page(&outcome);
    assert_eq!(level(said, "cannot read /nowhere/key"), "failed");
    assert_eq!(level(said, "migrations: the schema is current"), "ok");
    assert!(
        !said.contains(NOWHERE),
        "without a key nothing is called: {said}"
    );
    outcome.failed(78);

    let api = Api::start("");
    let outcome = run(doctor("", &api.url, &[]).env_remove("DATABASE_URL"));
    let said = page(&outcome);
    assert_eq!(level(said, "no database is configured"), "failed");
    assert_eq!(level(said, "takes the key"), "ok");
    outcome.failed(78);
}

#[test]
fn files_with_secrets_that_everybody_may_read_are_warned_of() {
    let db = Database::migrated();
    let api = Api::start("");
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let url = db.url() + "&password=sekret";
    for (mode, warned) in [(0o644, true), (0o640, false)] {
        let key = write("key", KEY, mode);
        let text = format!(
            "[database]\nurl = \"{url}\"\n[admin]\nlisten = \"off\"\n[accounts.default]\nbase_url = \"{}\"\napi_key_file = \"{key}\"\n",
            api.url
        );
        let file = write("feather-sync.toml", &text, mode);
        let outcome = run(&mut program(&["doctor", "--config", &file]));
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        let said = page(&outcome);
        for path in [&key, &file] {
            let may_read = format!("may read {path}");
            assert_eq!(said.contains(&may_read), warned, "{mode:o}: {said}");
        }
        assert_eq!(level(said, "admin.listen is off"), "warning");
    }
}

#[test]
fn a_listen_url_of_its_own_is_tried_too() {
    let db = Database::migrated();
    let api = Api::start("");
    let mut command = doctor(&db.url(), &api.url, &[]);
    command.env("FEATHER_SYNC__DATABASE__LISTEN_URL", db.url());
    assert_eq!(
        level(page(&run(&mut command)), "database.listen_url answers"),
        "ok"
    );
    command.env(
        "FEATHER_SYNC__DATABASE__LISTEN_URL",
        "postgres://app:sekret@127.0.0.1:1/app",
    );
    let outcome = run(&mut command);
    assert_eq!(level(page(&outcome), "app:***@127.0.0.1:1"), "failed");
    outcome.failed(1);
}

#[test]
fn no_line_shows_a_secret() {
    let mut search = Search::of(&[KEY, "the_password_of_app"]);
    let api = Api::start("[[fault]]\nkind = \"status\"\ncode = 401\necho_key = true");
    for url in [
        "postgres://app:the_password_of_app@127.0.0.1:1/app",
        "postgres://app:the_password_of_app@localhost:the_password_of_app/app",
        "app:the_password_of_app",
    ] {
        for arguments in [&[][..], &["--json"]] {
            let outcome = run(doctor(url, &api.url, arguments).env("RUST_LOG", "trace"));
            assert_ne!(outcome.code, Some(0), "{outcome:?}");
            search.through(url, &format!("{}{}", outcome.out, outcome.err));
        }
    }
    search.assert_nothing_was_found();
}
