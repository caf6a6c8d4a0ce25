//! What `run` writes to stderr: one event a line, in the format that fits who reads it, and no more than matters.

use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::os::fd::FromRawFd;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::process::Stdio;
use std::ptr::null_mut;

use serde_json::Value;

use crate::database::Database;
use crate::program::ID;
use crate::program::finish;
use crate::program::run;
use crate::program::signal;
use crate::program::start;
use crate::run::NOWHERE;
use crate::run::daemon;
use crate::sim::sim;

const FORMATS: [&str; 3] = ["text", "json", "journald"];
const HOSTILE_ID: &str = "00000000-0000-4000-8000-000000000001";
const UNREAD_ID: &str = "00000000-0000-4000-8000-000000000002";
/// What acts on terminals and readers in the words below.
const HARM: [char; 9] = [
    '\0', '\r', '\u{7}', '\u{1b}', '\u{85}', '\u{9b}', '\u{2028}', '\u{202e}', '\u{2066}',
];
/// Nothing that is logged of an answer comes near it.
const LONGEST: usize = 8_000;

/// Refused in the API's own words, which speak to the terminal, forge lines and never end; and an answer with somebody's
/// data in it that is not what was promised.
fn scenario() -> String {
    let endless = "x".repeat(200_000);
    let words = r#"gone\n<3>ERROR forged: all is lost\r\u0000\u0007\u001b[2J\u001b]0;owned\u0007\u0085\u009b31m\u2028{\u202e\u2066"#;
    format!(
        "[[fault]]\nkind = 'status'\ncode = 422\nids = ['{HOSTILE_ID}']\n\
         body = '{{\"error\": \"{words}\", \"message\": \"{words}{endless}\"}}'\n\
         [[fault]]\nkind = 'status'\ncode = 200\nids = ['{UNREAD_ID}']\n\
         body = '{{\"id\": \"{UNREAD_ID}\", \"organization_id\": \"Ann Example\", \"nickname\": \"+1 555 0100\"}}'\n"
    )
}

/// The events of a log in JSON.
fn events(log: &str) -> Vec<Value> {
    let event =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    log.lines().map(event).collect()
}

#[test]
fn hostile_words_of_the_api_stay_in_their_line_and_its_data_stays_out_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let faults = folder.path().join("faults.toml");
    fs::write(&faults, scenario()).unwrap();
    for format in FORMATS {
        let db = Database::migrated();
        let (sim, address) = sim(&["--scenario", faults.to_str().unwrap()]);
        db.feather_sync(&["enqueue", HOSTILE_ID, UNREAD_ID, ID])
            .done();
        let mut command = daemon(
            &db.url(),
            &format!("http://{address}"),
            &["--until-empty", "--timeout", "60s"],
        );
        command
            .env("FEATHER_SYNC__LOG__FORMAT", format)
            .env("FEATHER_SYNC__RETRY__MAX", "1ms")
            .env("FEATHER_SYNC__RETRY__INITIAL", "1ms");
        let outcome = run(&mut command);
        let log = outcome.err.clone();
        outcome.done();
        signal(&sim, "TERM");
        finish(sim).done();

        let (mut about_hostile, mut about_unread) = (0, 0);
        for line in log.lines() {
            assert!(!line.contains(HARM), "{format}: {line:?}");
            assert!(line.len() < LONGEST, "{format}: {} bytes", line.len());
            match format {
                "json" => assert_eq!(events(line).len(), 1),
                "journald" => assert!(line.starts_with("<6> INFO feather_sync::"), "{line}"),
                _ => assert!(line.contains("  INFO feather_sync::"), "{line}"),
            }
            // In message and field.
            let named = |id: &str| u32::from(line.matches(id).count() == 2);
            about_hostile += named(HOSTILE_ID);
            about_unread += named(UNREAD_ID);
        }
        assert_eq!((about_hostile, about_unread), (1, 4), "{format}: {log}");
        assert!(log.contains("organization_id"), "{format}: {log}");
        for data in ["Ann Example", "555 0100"] {
            assert!(!log.contains(data), "{format}: {log}");
            let kept = db.value(&format!(
                "SELECT last_error LIKE '%{data}%' FROM feather.sync_status WHERE connection_id = '{UNREAD_ID}'"
            ));
            assert_eq!(kept, "t", "the history keeps the start of the body");
        }
    }
}

#[test]
fn an_idle_daemon_says_that_it_works_and_then_nothing() {
    let db = Database::migrated();
    let child = start(&mut daemon(&db.url(), NOWHERE, &[]));
    db.until("SELECT count(*) = 1 FROM feather.sync_replicas");
    // Every loop has come round many times, the upkeep twice.
    for _ in 0..2 {
        let last = db.value("SELECT max(seen_at)::text FROM feather.sync_replicas");
        db.until(&format!(
            "SELECT max(seen_at) > '{last}' FROM feather.sync_replicas"
        ));
    }
    signal(&child, "TERM");
    let outcome = finish(child);
    let said: Vec<_> = events(&outcome.err)
        .iter()
        .map(|event| event["message"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        matches!(&said[..], [works, stopping, stopped] if works.contains("is working")
            && stopping.contains("stopping") && stopped == "stopped"),
        "{said:?}"
    );
}

#[test]
fn a_refused_key_is_one_warning_however_many_calls_it_refuses() {
    let db = Database::migrated();
    let folder = tempfile::tempdir().unwrap();
    let faults = folder.path().join("faults.toml");
    fs::write(
        &faults,
        "[[fault]]\nkind = 'status'\ncode = 401\ntimes = 2\n",
    )
    .unwrap();
    let (sim, address) = sim(&["--scenario", faults.to_str().unwrap(), "--latency", "50ms"]);
    db.feather_sync(&["enqueue", ID]).done();
    let mut command = daemon(
        &db.url(),
        &format!("http://{address}"),
        &["--until-empty", "--timeout", "60s"],
    );
    let log = run(&mut command).err;
    signal(&sim, "TERM");
    finish(sim).done();
    let of = |level: &str| -> Vec<String> {
        let events = events(&log).into_iter();
        let about =
            events.filter(|event| event["level"] == level && event["connection.id"].is_null());
        about.map(|event| event["message"].to_string()).collect()
    };
    let warnings = of("WARN");
    assert!(
        matches!(&warnings[..], [one] if one.contains("refuses the key of account default")),
        "{log}"
    );
    assert!(of("INFO").concat().contains("accepts the key"), "{log}");
}

#[test]
fn a_listen_url_that_leads_nowhere_is_one_warning_and_no_outage() {
    let db = Database::migrated();
    let mut command = daemon(&db.url(), NOWHERE, &[]);
    command.env(
        "FEATHER_SYNC__DATABASE__LISTEN_URL",
        "postgres://app@127.0.0.1:1/app",
    );
    let mut child = start(&mut command);
    let mut log = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let warning = log.find(|line| line.contains("\"WARN\"")).unwrap();
    assert!(
        warning.contains("cannot listen for wake-ups; polling until it can")
            && warning.contains("refused"),
        "{warning}"
    );
    signal(&child, "TERM");
    let rest: Vec<_> = log.collect();
    assert!(
        !rest.iter().any(|line| line.contains("\"WARN\"")),
        "{rest:?}"
    );
    finish(child).done();
}

/// A daemon that soon gives up, with a warning and an error.
fn brief() -> Command {
    let url = "postgres://app:sekret@127.0.0.1:1/app";
    daemon(url, NOWHERE, &["--until-empty", "--timeout", "1ms"])
}

#[test]
fn into_a_pipe_it_writes_json_and_nothing_else_to_its_very_end() {
    let error = run(&mut brief()).failed(1);
    let events = events(&error);
    let last = events.last().unwrap();
    assert_eq!(last["level"], "ERROR", "{error}");
    assert!(
        last["error"].as_str().unwrap().contains("not empty"),
        "{error}"
    );
    // Where no error passes the filter, it is said in plain words, or nobody would know.
    let error = run(brief().env("FEATHER_SYNC__LOG__FILTER", "off")).failed(1);
    assert!(error.starts_with("feather-sync: not empty"), "{error}");
}

#[test]
fn into_the_stream_that_systemd_names_it_writes_lines_with_priorities() {
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str, stream: &dyn Fn(&File) -> String| {
        let path = folder.path().join(name);
        let log = File::create(&path).unwrap();
        let mut command = brief();
        command.env("JOURNAL_STREAM", stream(&log)).stderr(log);
        assert_eq!(command.status().unwrap().code(), Some(1));
        fs::read_to_string(path).unwrap()
    };
    let its_own = |log: &File| {
        let stream = log.metadata().unwrap();
        format!("{}:{}", stream.dev(), stream.ino())
    };
    let text = written("journal", &its_own);
    let priorities: BTreeSet<&str> = text.lines().map(|line| &line[..3]).collect();
    assert_eq!(priorities, BTreeSet::from(["<3>", "<4>"]), "{text}");
    // Children of a service inherit the variable, wherever their stderr leads.
    assert!(!events(&written("elsewhere", &|_| "8:1".to_owned())).is_empty());
}

#[test]
fn on_a_terminal_it_writes_text_with_colours_unless_nobody_wants_them() {
    for (no_color, has_colors) in [("", true), ("1", false)] {
        let text = on_a_terminal(brief().env("NO_COLOR", no_color));
        assert_eq!(text.contains("\u{1b}[31mERROR"), has_colors, "{text:?}");
        assert!(
            text.contains("ERROR") && text.starts_with(if has_colors { "\u{1b}" } else { "20" }),
            "{text:?}"
        );
    }
}

/// What it writes on a terminal of its own as stderr.
#[expect(unsafe_code, reason = "no safe interface opens a terminal")]
fn on_a_terminal(command: &mut Command) -> String {
    let (mut ours, mut its) = (-1, -1);
    // SAFETY: two numbers are written, and nothing is asked for with null; each is then owned once.
    let (mut ours, its) = unsafe {
        let opened = libc::openpty(
            &raw mut ours,
            &raw mut its,
            null_mut(),
            null_mut(),
            null_mut(),
        );
        assert_eq!(opened, 0);
        (File::from_raw_fd(ours), File::from_raw_fd(its))
    };
    let mut child = command.stderr(Stdio::from(its)).spawn().unwrap();
    command.stderr(Stdio::null());
    let mut text = Vec::new();
    // The end of a terminal is an error; little is written, and it waits there until it is read.
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let _ = ours.read_to_end(&mut text);
    String::from_utf8(text).unwrap()
}
