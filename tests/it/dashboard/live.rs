//! Pages that browsers keep open.

use crate::admin::listening;
use crate::world::World;
use crate::world::ids;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::io::Lines;
use tokio::net::TcpStream;

/// Nothing here takes so long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// A stream of events, and its status.
pub(crate) async fn listen(
    port: u16,
    path: &str,
    headers: &str,
) -> (u16, Lines<BufReader<TcpStream>>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nSec-Fetch-Site: same-origin\r\nAccept: text/event-stream\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let status = lines.next_line().await.unwrap().unwrap();
    (status.split(' ').nth(1).unwrap().parse().unwrap(), lines)
}

/// What stands in `main` of the next event of this name.
pub(crate) async fn next(lines: &mut Lines<BufReader<TcpStream>>, name: &str) -> String {
    let reading = async {
        let mut is_it = false;
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some(event) = line.strip_prefix("event: ") {
                is_it = event == name;
            }
            if let Some(data) = line.strip_prefix("data: ")
                && is_it
            {
                return serde_json::from_str(data).unwrap();
            }
        }
        panic!("the stream ended without {name}");
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_arrives_on_a_page_that_is_open() {
    let mut world = World::new().await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let (status, mut lines) = listen(port, "/accounts", "").await;
    assert_eq!(status, 200);
    let page = next(&mut lines, "page").await;
    assert!(
        page.contains("default") && !page.contains("<html"),
        "{page}"
    );
    world.enqueue(&ids(5)).await;
    while !next(&mut lines, "page")
        .await
        .contains("5 synced, 0 failed")
    {}
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_browsers_are_kept_up_to_date_and_none_holds_up_a_stop() {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__WORKER__SHUTDOWN_GRACE", "10m");
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let mut open = Vec::new();
    for _ in 0..16 {
        let (status, mut lines) = listen(port, "/", "").await;
        assert_eq!(status, 200);
        next(&mut lines, "page").await;
        open.push(lines);
    }
    assert_eq!(listen(port, "/", "").await.0, 503);
    // Pages themselves are still there, and a browser that leaves makes room.
    assert_eq!(super::Browser::at(port).get("/").await.status, 200);
    open.pop();
    let begun = Instant::now();
    while listen(port, "/", "").await.0 != 200 {
        assert!(begun.elapsed() < PATIENCE, "the seat stays taken");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let begun = Instant::now();
    replica.stop().await;
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    for mut lines in open {
        let ending = async { while let Ok(Some(_)) = lines.next_line().await {} };
        tokio::time::timeout(PATIENCE, ending).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_for_those_who_may_look_and_ends_with_their_session() {
    let (mut world, _token) = super::entrance::locked().await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    assert_eq!(listen(port, "/", "").await.0, 401);
    let stranger = super::Browser::at(port);
    let known = stranger.post("/do/login", "token=open-sesame").await;
    let cookie = format!("Cookie: {}\r\n", known.cookie());
    let (status, mut lines) = listen(port, "/", &cookie).await;
    assert_eq!(status, 200);
    next(&mut lines, "page").await;
    super::Browser::with(port, known.cookie())
        .post("/do/logout", "")
        .await;
    let ending = async { while let Ok(Some(_)) = lines.next_line().await {} };
    tokio::time::timeout(PATIENCE, ending).await.unwrap();
    replica.stop().await;
}
