//! Secrets in what is refused: a URL that does not work, a key in the wrong place.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::needles::Search;
use crate::needles::percent_encoded;
use crate::program::Outcome;
use crate::program::program;
use crate::program::run;
use crate::secrets::KEY;
use crate::secrets::LISTEN_PASSWORD;
use crate::secrets::PASSWORD;
use crate::secrets::Server;
use crate::secrets::TOKEN;

#[test]
fn no_refusal_shows_a_secret() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = server.url("app", PASSWORD);
    let wrong = server.url("app", LISTEN_PASSWORD);
    let password = percent_encoded(PASSWORD);
    let mut search = Search::of(&[KEY, PASSWORD, LISTEN_PASSWORD, TOKEN]);
    let mut table: Vec<(&str, Vec<(&str, String)>)> = Vec::new();

    for url in [
        wrong,
        format!("postgres://app:{password}@127.0.0.1:1/app"),
        format!("postgres://app:{password}@nowhere.invalid/app"),
        format!("postgres://app:{password}@nowhere.invalid/app?sslmode=disable"),
        format!("postgres://app:{password}@localhost:{password}/app"),
        format!("postgres://app:{password}@localhost/app?port={password}"),
        format!("postgres://app@localhost/app?host=/nowhere&password={password}&passwd={password}"),
        format!("mysql://app:{password}@localhost/app"),
        format!("host=localhost password={PASSWORD}"),
        format!("postgres://app:{PASSWORD}@localhost/app"),
        format!("app:{PASSWORD}"),
    ] {
        table.push(("status", vec![("DATABASE_URL", url.clone())]));
        table.push(("run", vec![("DATABASE_URL", url.clone())]));
        table.push((
            "run",
            vec![
                ("DATABASE_URL", good.clone()),
                ("FEATHER_SYNC__DATABASE__LISTEN_URL", url),
            ],
        ));
    }
    // One of its fields was forgotten, and the driver would quote the line.
    let pgpass = path("pgpass", &format!("127.0.0.1:1:app:{TOKEN}\n"));
    fs::set_permissions(&pgpass, fs::Permissions::from_mode(0o600)).unwrap();
    table.push((
        "run",
        vec![
            ("DATABASE_URL", "postgres://app@127.0.0.1:1/app".to_owned()),
            ("PGPASSFILE", pgpass),
        ],
    ));
    for (name, value) in [
        ("FEATHER_API_KEY", format!("{KEY} and more")),
        ("FEATHER_API_KEY", format!("\"{KEY}\"")),
        (
            "FEATHER_BASE_URL",
            format!("https://user:{KEY}@api.example.com"),
        ),
        (
            "FEATHER_BASE_URL",
            format!("https://api.example.com/?key={KEY}"),
        ),
        ("FEATHER_BASE_URL", KEY.to_owned()),
        (
            "FEATHER_API_KEY_FILE",
            path("key", &format!("{KEY}\n{KEY}\n")),
        ),
        ("FEATHER_SYNC__ACCOUNTS__DEFAULT__API_KEY", KEY.to_owned()),
        (
            "FEATHER_SYNC__ACCOUNTS__DEFAULT__API_KEY_ENV",
            KEY.to_owned(),
        ),
        (
            "FEATHER_SYNC__ACCOUNTS__DEFAULT__API_KEY_FILE",
            KEY.to_owned(),
        ),
        (
            "FEATHER_SYNC__ADMIN__TOKEN_FILE",
            path("token", &format!("{TOKEN} {TOKEN}")),
        ),
        ("FEATHER_SYNC__ADMIN__TOKEN_FILE", TOKEN.to_owned()),
        (
            "FEATHER_SYNC_CONFIG",
            path(
                "a.toml",
                &format!("[accounts.default]\napi_key = \"{KEY}\"\n"),
            ),
        ),
        (
            "FEATHER_SYNC_CONFIG",
            path(
                "b.toml",
                &format!("[database]\nurl = \"postgres://app:{password}@h/d\n"),
            ),
        ),
        (
            "FEATHER_SYNC_CONFIG",
            path(
                "c.toml",
                &format!("[database]\npassword = \"{PASSWORD}\"\n"),
            ),
        ),
        (
            "FEATHER_SYNC_CONFIG",
            path("d.toml", &format!("[admin]\ntoken = \"{TOKEN}\"\n")),
        ),
    ] {
        let database = ("DATABASE_URL", good.clone());
        table.push(("run", vec![database.clone(), (name, value.clone())]));
        table.push(("check", vec![database, (name, value)]));
    }

    let formats = ["text", "json", "journald"].into_iter().cycle();
    for ((what, variables), format) in table.into_iter().zip(formats) {
        let arguments: &[&str] = match what {
            "run" => &["run", "--until-empty", "--timeout", "1s"],
            "check" => &["config", "check"],
            other => &[other],
        };
        let mut command: Command = program(arguments);
        for (name, value) in [
            ("FEATHER_BASE_URL", "http://127.0.0.1:1"),
            ("FEATHER_SYNC__ADMIN__LISTEN", "off"),
            ("FEATHER_SYNC__LOG__FILTER", "trace"),
            ("FEATHER_SYNC__LOG__FORMAT", format),
            ("RUST_BACKTRACE", "1"),
        ] {
            command.env(name, value);
        }
        if !variables.iter().any(|(name, _)| name.contains("API_KEY")) {
            command.env("FEATHER_API_KEY", KEY);
        }
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let Outcome { code, out, err } = run(&mut command);
        assert!(!err.contains("panicked"), "{variables:?}: {err}");
        let what = format!("{what} with {variables:?}, exit code {code:?}");
        search.through(&what, &format!("{out}{err}"));
    }
    let log = fs::read(server.0.log_file()).unwrap();
    search.through("Postgres's log", &String::from_utf8_lossy(&log));
    search.assert_nothing_was_found();
}
