//! The admin listener over HTTP.

use crate::ports::free_port;
use crate::world::Replica;
use crate::world::World;
use crate::world::ids;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Nothing here takes so long unless it is broken.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// The answer to a request as it stands on the wire.
pub(crate) async fn ask(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // A server that refuses may close before it has read everything.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

pub(crate) fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

pub(crate) async fn get(port: u16, path: &str, headers: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
    let answer = ask(port, &request).await;
    let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (status(&answer), body)
}

pub(crate) async fn until_status(port: u16, path: &str, wanted: u16) -> String {
    let began = std::time::Instant::now();
    while began.elapsed() < PATIENCE {
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            let (status, body) = get(port, path, "Host: localhost\r\n").await;
            if status == wanted {
                return body;
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{path} never answered {wanted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_working_daemon_is_alive_ready_and_measured() {
    let mut world = World::new().await;
    let port = free_port();
    world.set("FEATHER_SYNC__ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    let replica = world.start();
    until_status(port, "/readyz", 200).await;
    world.enqueue(&ids(3)).await;
    world
        .until("SELECT count(*) = 3 FROM feather.connections")
        .await;
    assert_eq!(get(port, "/healthz", "Host: localhost\r\n").await.0, 200);
    let metrics = get(port, "/metrics", "Host: 127.0.0.1\r\n").await.1;
    let synced = "feather_sync_attempts_total{account=\"default\",kind=\"finalize\",outcome=\"synced\",error_class=\"\"} 3";
    assert!(metrics.contains(synced), "{metrics}");
    assert!(metrics.contains("feather_sync_time_to_sync_seconds_count{account=\"default\"} 3"));
    assert!(!metrics.contains("fth_live_test"));
    assert_eq!(get(port, "/metrics", "Host: evil.example\r\n").await.0, 403);
    assert_eq!(get(port, "/nothing", "Host: localhost\r\n").await.0, 404);
    replica.stop().await;
}

/// As load balancers ask, in the HTTP of 1996.
#[tokio::test(flavor = "multi_thread")]
async fn a_health_check_need_not_say_which_host_it_asks_and_all_else_has_to() {
    let mut world = World::new().await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    for (line, headers, expected) in [
        ("GET /healthz", "", 200),
        ("GET /readyz", "", 200),
        ("HEAD /readyz", "", 200),
        ("GET /metrics", "", 403),
        ("GET /", "", 403),
        ("POST /readyz", "", 405),
        ("GET /readyz", "Host: evil.example\r\n", 403),
        ("GET /readyz", "Host: a\r\nHost: b\r\n", 403),
        ("GET /readyz", "Host: \r\n", 403),
        ("GET /readyz", "Origin: http://evil.example\r\n", 403),
        ("GET /readyz", "Sec-Fetch-Site: cross-site\r\n", 403),
    ] {
        let answer = ask(port, &format!("{line} HTTP/1.0\r\n{headers}\r\n")).await;
        assert_eq!(status(&answer), expected, "{line} {headers:?}");
    }
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_database_is_away_stays_alive_and_says_why_it_is_not_ready() {
    let mut world = World::new().await;
    let port = free_port();
    world.set("FEATHER_SYNC__ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    world.set("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing");
    let replica = world.start();
    until_status(port, "/healthz", 200).await;
    let body = until_status(port, "/readyz", 503).await;
    assert!(body.contains("database"), "{body}");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_file_metrics_are_for_those_who_know_it() {
    let mut world = World::new().await;
    let port = free_port();
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "open-sesame\n").unwrap();
    world.set("FEATHER_SYNC__ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    world.set(
        "FEATHER_SYNC__ADMIN__TOKEN_FILE",
        token.path().to_str().unwrap(),
    );
    let replica = world.start();
    until_status(port, "/readyz", 200).await;
    let with = |token: &str| format!("Host: localhost\r\nAuthorization: Bearer {token}\r\n");
    assert_eq!(get(port, "/metrics", "Host: localhost\r\n").await.0, 401);
    assert_eq!(get(port, "/metrics", &with("wrong")).await.0, 401);
    assert_eq!(get(port, "/metrics", &with("open-sesame")).await.0, 200);
    replica.stop().await;
}

/// A daemon with an admin listener there, and the port.
pub(crate) async fn listening(world: &mut World, address: &str) -> (Replica, u16) {
    let port = free_port();
    world.set("FEATHER_SYNC__ADMIN__LISTEN", &format!("{address}:{port}"));
    let replica = world.start();
    until_status(port, "/readyz", 200).await;
    (replica, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_this_very_host_asks_is_answered_and_nothing_may_be_embedded() {
    let mut world = World::new().await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let local = "Host: localhost\r\n";
    let here = &format!("Host: localhost:{port}\r\n");
    let table = [
        ("GET /metrics", local.to_owned(), 200),
        ("HEAD /metrics", local.to_owned(), 200),
        (
            "GET /healthz",
            format!("{here}Origin: http://localhost:{port}\r\n"),
            200,
        ),
        (
            "GET /healthz",
            format!("{here}Origin: http://evil.example\r\n"),
            403,
        ),
        ("GET /healthz", format!("{here}Origin: null\r\n"), 403),
        (
            "GET /metrics",
            format!("{here}Sec-Fetch-Site: cross-site\r\n"),
            403,
        ),
        (
            "GET /metrics",
            format!("{here}Sec-Fetch-Site: same-origin\r\n"),
            200,
        ),
        ("GET /metrics", String::new(), 403),
        ("GET /metrics", "Host: evil.example\r\n".to_owned(), 403),
        (
            "GET /metrics",
            "Host: localhost\r\nHost: evil.example\r\n".to_owned(),
            403,
        ),
        (
            "GET /metrics",
            format!("Host: 127.0.0.1.evil.example:{port}\r\n"),
            403,
        ),
        (
            "GET http://evil.example/metrics",
            "Host: evil.example\r\n".to_owned(),
            403,
        ),
        (
            "POST /metrics",
            format!("{local}Content-Length: 0\r\n"),
            405,
        ),
        (
            "POST /api/v1/enqueue",
            format!("{local}Content-Length: 0\r\n"),
            415,
        ),
        ("PUT /healthz", format!("{local}Content-Length: 0\r\n"), 405),
        ("DELETE /readyz", local.to_owned(), 405),
        ("OPTIONS /metrics", local.to_owned(), 405),
        ("TRACE /metrics", local.to_owned(), 405),
        ("BREW /metrics", local.to_owned(), 405),
        ("GET /nothing", local.to_owned(), 404),
        ("GET /metrics/../metrics", local.to_owned(), 404),
        ("GET /METRICS", local.to_owned(), 404),
    ];
    for (line, headers, wanted) in &table {
        let request = format!("{line} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        let answer = ask(port, &request).await;
        assert_eq!(status(&answer), *wanted, "{request}{answer}");
        let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
        for rule in [
            "frame-ancestors 'none'",
            "default-src 'none'",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "referrer-policy: no-referrer",
            "cross-origin-resource-policy: same-origin",
        ] {
            assert!(head.contains(rule), "{rule}: {request}{answer}");
        }
        assert!(!head.contains("access-control-allow"), "{answer}");
    }
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_an_address_that_others_reach_all_but_health_wants_the_token() {
    let mut world = World::new().await;
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "open-sesame\n").unwrap();
    let path = token.path().to_str().unwrap();
    world.set("FEATHER_SYNC__ADMIN__TOKEN_FILE", path);
    let (replica, port) = listening(&mut world, "0.0.0.0").await;
    let named = "Host: feather.example\r\n";
    let knowing = format!("{named}Authorization: Bearer open-sesame\r\n");
    for (path, without, with) in [
        ("/healthz", 200, 200),
        ("/readyz", 200, 200),
        ("/metrics", 401, 200),
        ("/nothing", 401, 404),
    ] {
        assert_eq!(get(port, path, named).await.0, without, "{path}");
        assert_eq!(get(port, path, &knowing).await.0, with, "{path}");
    }
    let foreign = format!("{knowing}Origin: https://evil.example\r\n");
    assert_eq!(get(port, "/metrics", &foreign).await.0, 403);
    replica.stop().await;
}

#[test]
fn an_address_that_others_reach_without_a_token_ends_the_start() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9464"] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_feather-sync"))
            .arg("run")
            .env_clear()
            .env("DATABASE_URL", "postgres://localhost/nowhere")
            .env("FEATHER_BASE_URL", "http://localhost:1")
            .env("FEATHER_API_KEY", "k")
            .env("FEATHER_SYNC__ADMIN__LISTEN", listen)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{listen}: {error}");
        assert!(error.contains("token_file"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_are_slow_or_send_too_much_hold_nothing_up() {
    let mut world = World::new().await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let many = "X-A: b\r\n".repeat(200);
    let large = format!("X-A: {}\r\n", "b".repeat(100_000));
    for headers in [&many, &large] {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let answer = ask(port, &request).await;
        assert!(answer.is_empty() || status(&answer) == 431, "{answer}");
    }
    // More than are let in at the same time, each with half a head.
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHo")
            .await
            .unwrap();
        slow.push(stream);
    }
    assert_eq!(get(port, "/healthz", "Host: localhost\r\n").await.0, 200);
    for mut stream in slow {
        let mut rest = Vec::new();
        // Closed or reset: either way it is over.
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "a connection without a request stays open");
    }
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_clients_hold_connections_open_health_and_metrics_are_answered() {
    let mut world = World::new().await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let form = format!(
        "Host: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\n"
    );
    for held_open in [
        "GET /healthz HTTP/1.1\r\nHo".to_owned(),
        format!("POST /do/login HTTP/1.1\r\n{form}"),
        format!("POST /do/pause HTTP/1.1\r\n{form}"),
        "POST /api/v1/enqueue HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n"
            .to_owned(),
    ] {
        let mut clients = tokio::task::JoinSet::new();
        let (came, went) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        for _ in 0..300 {
            let (held_open, came, went) = (held_open.clone(), came.clone(), went.clone());
            clients.spawn(async move {
                loop {
                    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    // Whoever is cut off comes again at once.
                    let _ = stream.write_all(held_open.as_bytes()).await;
                    came.fetch_add(1, Ordering::SeqCst);
                    let _ = stream.read(&mut [0]).await;
                    went.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        // Once the first has to go, all places are taken.
        let taken = async {
            while came.load(Ordering::SeqCst) < 300 || went.load(Ordering::SeqCst) == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, taken).await.unwrap();
        for path in ["/healthz", "/readyz", "/metrics"] {
            let asked = std::time::Instant::now();
            assert_eq!(get(port, path, "Host: localhost\r\n").await.0, 200);
            let took = asked.elapsed();
            // Prometheus gives up then.
            let longest = std::time::Duration::from_secs(10);
            assert!(took < longest, "{path} took {took:?}: {held_open}");
        }
        clients.shutdown().await;
    }
    replica.stop().await;
}
