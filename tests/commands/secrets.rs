//! Planted secrets, work of every kind, and a search through everything that comes of it.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use feather_sync::local_postgres::LocalPostgres;
use feather_sync::local_postgres::Options;

use crate::database::sql;
use crate::needles::Search;
use crate::needles::percent_encoded;
use crate::ports::free_port;
use crate::program::program;
use crate::program::run;
use crate::program::signal;
use crate::sim::sim;

/// Letters that are spelled otherwise in URLs, in JSON and in base64.
pub(crate) const KEY: &str = "fth_live_Pl4nted+Key/with=odd~letters&more";
pub(crate) const PASSWORD: &str = "pg Pl4nted p@ss/w+rd%with:odd \\\"letters";
pub(crate) const LISTEN_PASSWORD: &str = "pg L1sten p@ss/w+rd%with:odd letters";
pub(crate) const TOKEN: &str = "adm1n_Pl4nted+Token/with=odd~letters";

/// One connection for each way in which an answer can go, and what the simulator does to it.
fn scenario() -> (Vec<String>, String) {
    let percent = percent_encoded(KEY);
    let faults = [
        String::new(),
        "kind = \"status\"\ncode = 401\necho_key = true\ntimes = 1".to_owned(),
        "kind = \"status\"\ncode = 500\necho_key = true".to_owned(),
        "kind = \"status\"\ncode = 403\necho_key = true\nbody = \"<html>your key: \"".to_owned(),
        format!("kind = \"status\"\ncode = 503\nbody = \"retry /?key={percent}&again\""),
        "kind = \"status\"\ncode = 422\necho_key = true\nbody = \"\\u001B[31m\\u0007\\r\\n\""
            .to_owned(),
        "kind = \"status\"\ncode = 200\necho_key = true\nbody = \"not JSON: \"".to_owned(),
        "kind = \"status\"\ncode = 200\necho_key = true\nbody = \"{\\\"id\\\": \"".to_owned(),
        format!("kind = \"status\"\ncode = 200\nbody = '{{\"id\": \"{KEY}\"}}'"),
        format!("kind = \"redirect\"\nlocation = \"https://evil.example/?key={KEY}\""),
        format!("kind = \"redirect\"\nlocation = \"https://evil.example/?key={percent}\""),
        format!("kind = \"odd_status\"\nword = \"{KEY}\""),
        "kind = \"reset\"".to_owned(),
        "kind = \"close\"".to_owned(),
        "kind = \"short_body\"".to_owned(),
        "kind = \"not_found\"".to_owned(),
    ];
    let ids: Vec<String> = (1..=faults.len())
        .map(|n| format!("00000000-0000-4000-8000-{n:012}"))
        .collect();
    let rules = ids
        .iter()
        .zip(&faults)
        .filter(|(_, fault)| !fault.is_empty());
    let text = rules
        .map(|(id, fault)| format!("[[fault]]\n{fault}\nids = [\"{id}\"]\n"))
        .collect();
    (ids, text)
}

/// A Postgres that asks for passwords, and logs all that it can.
pub(crate) struct Server(pub(crate) LocalPostgres);

impl Server {
    pub(crate) fn start() -> Self {
        let settings = [
            ("log_statement", "all"),
            ("log_connections", "on"),
            ("log_min_messages", "debug1"),
            ("log_min_error_statement", "debug1"),
            ("log_parameter_max_length_on_error", "-1"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let server = Self(
            LocalPostgres::start(Options {
                settings: settings.into(),
                ..Options::default()
            })
            .unwrap(),
        );
        let quietly = server.0.url("postgres") + "&options=-c%20log_statement%3Dnone";
        run(program(&["migrate"]).env("DATABASE_URL", server.0.url("postgres"))).done();
        for (user, password) in [("app", PASSWORD), ("listener", LISTEN_PASSWORD)] {
            sql(
                &quietly,
                &format!("CREATE ROLE {user} LOGIN PASSWORD '{password}'"),
            )
            .unwrap();
            sql(&quietly, &format!("GRANT feather_worker TO {user}")).unwrap();
        }
        let rules = server.0.data_dir().join("pg_hba.conf");
        fs::write(
            rules,
            "local all postgres trust\nlocal all all scram-sha-256\n",
        )
        .unwrap();
        server.rows("SELECT pg_reload_conf()");
        server
    }

    fn rows(&self, query: &str) -> Vec<Vec<String>> {
        sql(&self.0.url("postgres"), query).unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    fn until(&self, query: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.rows(query) != [["t"]] {
            assert!(Instant::now() < deadline, "still not: {query}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn url(&self, user: &str, password: &str) -> String {
        let socket = percent_encoded(self.0.socket_dir().to_str().unwrap());
        let password = percent_encoded(password);
        format!(
            "postgres://{user}:{password}@localhost/postgres?host={socket}&sslpassword={password}"
        )
    }

    /// Every row of every table and view that there is, and what sessions say of themselves.
    fn everything(&self) -> String {
        let relations = self.rows(
            "SELECT c.oid::regclass FROM pg_class c
             WHERE relnamespace = 'feather'::regnamespace AND relkind IN ('r', 'v', 'm', 'p') ORDER BY 1",
        );
        assert!(relations.len() > 10, "{relations:?}");
        let mut text = String::new();
        for relation in relations.iter().map(|row| &row[0]) {
            for row in self.rows(&format!("SELECT row_to_json(t)::text FROM {relation} t")) {
                text.push_str(&row[0]);
                text.push('\n');
            }
        }
        text
    }
}

/// A daemon with all secrets planted, whose log goes to a file.
fn daemon(
    server: &Server,
    api: &str,
    admin: u16,
    token_file: &str,
    format: &str,
    log: File,
) -> Child {
    let mut command = program(&["run"]);
    for (name, value) in [
        ("DATABASE_URL", &*server.url("app", PASSWORD)),
        (
            "FEATHER_SYNC__DATABASE__LISTEN_URL",
            &server.url("listener", LISTEN_PASSWORD),
        ),
        ("FEATHER_BASE_URL", api),
        ("FEATHER_API_KEY", KEY),
        ("FEATHER_SYNC__ADMIN__LISTEN", &format!("127.0.0.1:{admin}")),
        ("FEATHER_SYNC__ADMIN__TOKEN_FILE", token_file),
        ("FEATHER_SYNC__LOG__FILTER", "trace"),
        ("FEATHER_SYNC__LOG__FORMAT", format),
        ("FEATHER_SYNC__RETRY__INITIAL", "1ms"),
        ("FEATHER_SYNC__RETRY__MAX", "20ms"),
        ("FEATHER_SYNC__RETRY__MAX_ATTEMPTS", "5"),
        ("FEATHER_SYNC__SETTLE__INITIAL", "20ms"),
        ("FEATHER_SYNC__SETTLE__MAX", "50ms"),
        ("RUST_LOG", "trace"),
        ("RUST_BACKTRACE", "1"),
    ] {
        command.env(name, value);
    }
    command
        .stdout(Stdio::from(log.try_clone().unwrap()))
        .stderr(Stdio::from(log))
        .spawn()
        .unwrap()
}

/// The whole answer, head included; empty while nobody listens.
fn get(port: u16, path: &str, headers: &str) -> String {
    let mut answer = Vec::new();
    if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.read_to_end(&mut answer);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn no_work_of_the_daemon_shows_a_secret_anywhere() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    fs::write(file("token"), TOKEN).unwrap();
    let (ids, text) = scenario();
    fs::write(file("faults.toml"), text).unwrap();
    let mut search = Search::of(&[KEY, PASSWORD, LISTEN_PASSWORD, TOKEN]);

    for (round, format) in ["text", "json", "journald"].into_iter().enumerate() {
        let (sim, address) = sim(&["--scenario", file("faults.toml").to_str().unwrap()]);
        let admin = free_port();
        let log = file(format);
        let child = daemon(
            &server,
            &format!("http://{address}"),
            admin,
            file("token").to_str().unwrap(),
            format,
            File::create(&log).unwrap(),
        );
        let requests = ids.iter().map(|id| format!("('{id}')")).collect::<Vec<_>>();
        server.rows(&format!(
            "INSERT INTO feather.sync_requests (connection_id) VALUES {}",
            requests.join(", ")
        ));
        // While the account is paused for the refused key, the pages tell of it.
        server.until(&format!(
            "SELECT count(*) > {round} FROM feather.sync_attempts WHERE error_class = 'auth'"
        ));
        let knowing = format!("Authorization: Bearer {TOKEN}\r\n");
        for (path, headers) in [
            ("/metrics", &*knowing),
            ("/metrics", "Authorization: Bearer wrong\r\n"),
            ("/readyz", &knowing),
            ("/healthz", ""),
            ("/nothing", &knowing),
            ("/", &knowing),
            ("/accounts", &knowing),
            ("/audit", &knowing),
            ("/login", ""),
        ] {
            let answer = get(admin, path, headers);
            assert!(answer.starts_with("HTTP/1.1"), "{path}: {answer}");
            search.through(path, &answer);
        }
        let arguments = fs::read(format!("/proc/{}/cmdline", child.id())).unwrap();
        search.through("process arguments", &String::from_utf8_lossy(&arguments));
        search.through(
            "sessions",
            &format!(
                "{:?}",
                server.rows("SELECT row_to_json(s)::text FROM pg_stat_activity s")
            ),
        );
        server.until(
            "SELECT NOT EXISTS (SELECT FROM feather.sync_requests)
                AND NOT EXISTS (SELECT FROM feather.sync_jobs WHERE state <> 'dead')",
        );
        signal(&child, "TERM");
        signal(&sim, "TERM");
        for mut child in [child, sim] {
            assert!(child.wait().unwrap().success());
        }
        let log = fs::read(log).unwrap();
        let log = String::from_utf8(log).expect("the log is text");
        assert!(
            log.contains("TRACE") && log.len() > 10_000,
            "{format}: {log}"
        );
        for c in ['\u{1b}', '\u{7}', '\r'] {
            assert!(!log.contains(c), "{format}: {c:?} got through");
        }
        search.through(&format!("log as {format}"), &log);
    }

    // The work was done, and it was of every kind.
    let classes = server.rows("SELECT DISTINCT error_class FROM feather.sync_attempts WHERE error_class IS NOT NULL ORDER BY 1");
    assert_eq!(
        classes.concat(),
        [
            "auth",
            "forbidden",
            "invalid_request",
            "network",
            "not_found",
            "protocol",
            "upstream"
        ]
    );
    assert_eq!(
        server.rows(
            "SELECT count(*) FROM feather.connections WHERE _warnings::text LIKE '%key%blanked%'"
        ),
        [["1"]],
        "an answer gave the key back, was stored without it, and says so"
    );
    assert_eq!(
        server.rows("SELECT count(*) FROM feather.sync_attempts WHERE error ~ '[\\x01-\\x08\\x0b\\x0c\\x0e-\\x1f]'"),
        [["0"]],
        "control characters of an answer are not stored"
    );
    search.through("tables", &server.everything());

    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["show", &ids[2]],
        &["show", &ids[9], "--json"],
        &["config", "show"],
        &["migrate", "--check"],
        &["retry", "--dead"],
        &["pause", "default"],
        &["--help"],
        &["run", "--help"],
    ] {
        let mut command = program(arguments);
        command.env("DATABASE_URL", server.url("app", PASSWORD));
        command.env("FEATHER_API_KEY", KEY);
        command.env("RUST_LOG", "trace");
        let outcome = run(&mut command);
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {outcome:?}");
        search.through(
            &format!("{arguments:?}"),
            &format!("{}{}", outcome.out, outcome.err),
        );
    }
    let log = fs::read(server.0.log_file()).unwrap();
    assert!(log.len() > 10_000);
    search.through("Postgres's log", &String::from_utf8_lossy(&log));
    search.assert_nothing_was_found();
}

/// The process that the test below starts.
#[test]
#[ignore = "panics; run by a_panic_shows_no_secret"]
fn panics_over_a_secret() {
    let log = feather_sync::config::Log {
        format: feather_sync::config::LogFormat::Text,
        filter: "trace".to_owned(),
    };
    feather_sync::telemetry::init(&log, false, false).unwrap();
    feather_sync::telemetry::blank_with(|line| line.replace(KEY, "***"));
    let panicked = std::thread::spawn(|| panic!("cannot read:\n\u{1b}[31m{KEY}")).join();
    assert!(panicked.is_err());
}

#[test]
fn a_panic_shows_no_secret_and_takes_one_line() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "secrets::panics_over_a_secret", "--ignored"])
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("panicked"))
        .collect();
    assert!(
        matches!(lines[..], [line] if line.contains("ERROR") && line.contains("cannot read:\\n\\u{1b}[31m***")
            && line.contains("secrets.rs")),
        "{said}"
    );
    let mut search = Search::of(&[KEY]);
    search.through("stderr", &said);
    search.through("stdout", &String::from_utf8_lossy(&output.stdout));
    search.assert_nothing_was_found();
}
