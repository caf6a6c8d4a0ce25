//! The admin listener over HTTP.

use crate::world::World;
use crate::world::ids;
use std::net::TcpListener;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

pub(crate) async fn get(port: u16, path: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (status, body)
}

/// Free when asked for; the daemon takes it moments later.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

pub(crate) async fn until_status(port: u16, path: &str, wanted: u16) -> String {
    for _ in 0..3_000 {
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
