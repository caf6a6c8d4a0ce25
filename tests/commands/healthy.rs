//! `healthy`

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::process::Child;
use std::process::Command;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::database::Database;
use crate::ports::free_port;
use crate::program::Outcome;
use crate::program::finish;
use crate::program::program;
use crate::program::run;
use crate::program::signal;
use crate::program::start;

const TOKEN: &str = "a_token_that_is_a_sekret";

/// The address as configured for `healthy` and the daemon alike.
fn command(arguments: &[&str], database: &str, listen: &str) -> Command {
    let mut command = program(arguments);
    command.env("DATABASE_URL", database);
    command.env("FEATHER_BASE_URL", "http://127.0.0.1:1");
    command.env("FEATHER_API_KEY", "fth_test");
    command.env("FEATHER_SYNC__ADMIN__LISTEN", listen);
    command
}

/// Asks until the answer has this exit code and says this.
#[track_caller]
fn until(mut ask: impl FnMut() -> Outcome, code: i32, said: &str) -> Outcome {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let outcome = ask();
        if outcome.code == Some(code) && (outcome.out + &outcome.err).contains(said) {
            return ask();
        }
        assert!(Instant::now() < deadline, "never {code} with {said}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn stop(child: Child) {
    signal(&child, "TERM");
    finish(child);
}

#[test]
fn a_daemon_is_healthy_while_it_can_work_and_no_longer() {
    let db = Database::migrated();
    let listen = format!("127.0.0.1:{}", free_port());
    let healthy = || run(&mut command(&["healthy"], &db.url(), &listen));
    let error = healthy().failed(1);
    assert!(
        error.contains(&listen) && error.contains("is the daemon running"),
        "{error}"
    );
    let daemon = start(&mut command(&["run"], &db.url(), &listen));
    let outcome = until(healthy, 0, "ready");
    assert_eq!(outcome.err, "");
    assert_eq!(outcome.done(), "ready\n");
    stop(daemon);
    healthy().failed(1);
}

#[test]
fn a_daemon_that_waits_for_its_database_is_not_ready_and_says_why() {
    let nowhere = "postgres://app@127.0.0.1:1/app";
    let listen = format!("127.0.0.1:{}", free_port());
    let daemon = start(&mut command(&["run"], nowhere, &listen));
    let healthy = || run(&mut command(&["healthy"], nowhere, &listen));
    until(healthy, 1, "not ready: the database");
    stop(daemon);
}

#[test]
fn with_a_token_and_on_every_address_the_reason_is_told_just_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, TOKEN).unwrap();
    let nowhere = "postgres://app@127.0.0.1:1/app";
    let with_token = |arguments: &[&str], listen: &str| {
        let mut command = command(arguments, nowhere, listen);
        command.env("FEATHER_SYNC__ADMIN__TOKEN_FILE", &token);
        command
    };
    let port = free_port();
    let mut listens = vec![format!("0.0.0.0:{port}")];
    // Not every machine has IPv6.
    if TcpListener::bind("[::]:0").is_ok() && TcpListener::bind("[::1]:0").is_ok() {
        listens.push(format!("[::]:{port}"));
    }
    for listen in listens {
        let daemon = start(&mut with_token(&["run"], &listen));
        let outcome = until(
            || run(&mut with_token(&["healthy"], &listen)),
            1,
            "not ready: the database",
        );
        assert!(!outcome.failed(1).contains("sekret"));
        fs::rename(&token, folder.path().join("gone")).unwrap();
        let error = run(&mut with_token(&["healthy"], &listen)).failed(1);
        assert!(error.contains("admin.token_file"), "{error}");
        fs::rename(folder.path().join("gone"), &token).unwrap();
        stop(daemon);
    }
}

#[test]
fn a_listener_that_is_off_or_unknown_is_said_so() {
    for (listen, why) in [("off", "admin.listen is off"), ("127.0.0.1:0", "port 0")] {
        let error = run(&mut command(&["healthy"], "postgres:///app", listen)).failed(1);
        assert!(error.contains(why), "{error}");
    }
    let error = run(&mut command(&["healthy"], "postgres:///app", "nonsense")).failed(78);
    assert!(error.contains("FEATHER_SYNC__ADMIN__LISTEN"), "{error}");
}

#[test]
fn who_does_not_answer_in_three_seconds_is_not_healthy() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = silent.local_addr().unwrap().to_string();
    let began = Instant::now();
    let error = run(&mut command(&["healthy"], "postgres:///app", &listen)).failed(1);
    assert!(error.contains("gave no answer within 3s"), "{error}");
    assert!(began.elapsed() >= Duration::from_secs(3));
}

#[test]
fn somebody_else_on_the_port_is_not_taken_for_the_daemon() {
    for (answer, why) in [
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "404"),
        ("220 mail.example.com ESMTP\r\n", "does not speak HTTP"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        let error = run(&mut command(&["healthy"], "postgres:///app", &listen)).failed(1);
        assert!(error.contains(why), "{error}");
        let request = server.join().unwrap();
        assert!(request.starts_with("GET /readyz HTTP/1.1\r\n"), "{request}");
    }
}
