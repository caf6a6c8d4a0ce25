//! `POST /api/v1/enqueue` of the daemon as it ships: what its user may do, and what it logs.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;
use std::time::Instant;

use crate::database::Database;
use crate::ports::free_port;
use crate::program::ID;
use crate::program::finish;
use crate::program::program;
use crate::program::signal;
use crate::program::start;

/// Nothing here takes so long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// The whole answer, as soon as somebody listens.
fn post(port: u16, body: &str) -> String {
    let began = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let length = body.len();
    write!(
        stream,
        "POST /api/v1/enqueue HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_mere_worker_enqueues_and_its_log_has_the_count_and_nothing_of_the_body() {
    let db = Database::migrated();
    let user = db.user(Some("feather_worker"));
    let port = free_port();
    let mut command = program(&["run"]);
    command
        .env("DATABASE_URL", db.url_as(&user))
        .env("FEATHER_BASE_URL", "http://127.0.0.1:1")
        .env("FEATHER_API_KEY", "key")
        .env("FEATHER_SYNC__ADMIN__LISTEN", format!("127.0.0.1:{port}"))
        .env("FEATHER_SYNC__LOG__FORMAT", "json")
        .env("FEATHER_SYNC__LOG__FILTER", "trace");
    let mut child = start(&mut command);
    // At `trace` more is said than a pipe holds.
    let mut log = child.stderr.take().unwrap();
    let log = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        text
    });
    let answer = post(
        port,
        &format!(
            "{{\"connection_ids\": [\"{ID}\", \"{ID}\"], \"account\": \"acme-of-ours\", \"run_at\": \"2099-01-31T08:00:00Z\"}}"
        ),
    );
    assert!(
        answer.starts_with("HTTP/1.1 202") && answer.ends_with("{\"enqueued\":2}"),
        "{answer}"
    );
    for body in [
        "{\"connection_ids\": [\"no-uuid-of-ours\"]}",
        "{\"no-field-of-ours\": 1}",
    ] {
        let answer = post(port, body);
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    db.until("SELECT EXISTS (SELECT FROM feather.sync_jobs WHERE account = 'acme-of-ours')");
    signal(&child, "TERM");
    finish(child).done();
    let log = log.join().unwrap();
    let told: Vec<_> = log
        .lines()
        .filter(|line| line.contains("enqueued over HTTP"))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("\"requests\":2") && told[0].contains("\"level\":\"INFO\""),
        "{told:?}"
    );
    for word in ["acme-of-ours", ID, "no-uuid-of-ours", "no-field-of-ours"] {
        let line = log.lines().find(|line| line.contains(word));
        assert_eq!(line, None, "{word}");
    }
}
