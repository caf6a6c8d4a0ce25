//! What can go wrong below HTTP, and with how a body is packed: against a server that sends any bytes.

use crate::outcomes::standing;
use crate::world::World;
use crate::world::ids;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write as _;
use std::sync::Arc;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

/// Answers every request with bytes that depend on its connection, then closes. Ends when dropped.
struct Server {
    url: String,
    heads: mpsc::UnboundedReceiver<String>,
    _tasks: JoinSet<()>,
}

async fn serve(answer: impl Fn(Uuid) -> Vec<u8> + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (told, heads) = mpsc::unbounded_channel();
    let answer = Arc::new(answer);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut calls = JoinSet::new();
        loop {
            let Ok((mut stream, _)) = listener.accept().await else {
                return;
            };
            let (answer, told) = (answer.clone(), told.clone());
            calls.spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else {
                        return;
                    };
                    head.push(byte);
                }
                let head = String::from_utf8(head).unwrap();
                let id = head
                    .split('/')
                    .nth(4)
                    .and_then(|rest| rest.get(..36)?.parse().ok());
                let _ = told.send(head);
                let _ = stream.write_all(&answer(id.unwrap())).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    Server {
        url,
        heads,
        _tasks: tasks,
    }
}

fn packed(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// A 200 with these headers, and a body whose announced length is off by `more`.
fn ok(headers: &str, body: &[u8], more: usize) -> Vec<u8> {
    let length = body.len() + more;
    let mut bytes =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n{headers}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_cut_by_the_network_is_the_networks_fault_and_one_badly_packed_is_the_servers() {
    const GZIP: &str = "content-encoding: gzip\r\n";
    let mut world = World::new().await;
    let texts: Vec<String> = ids(12).iter().map(|id| world.sim.truth_text(*id)).collect();
    let table: Vec<(Vec<u8>, &str)> = texts
        .iter()
        .enumerate()
        .map(|(n, text)| {
            let zipped = packed(text);
            let half = &zipped[..zipped.len() / 2];
            let mut corrupt = zipped.clone();
            corrupt[zipped.len() / 2..].fill(0xA5);
            let mut wrong_sum = zipped.clone();
            let sum_at = zipped.len() - 8;
            wrong_sum[sum_at] ^= 0xFF;
            match n {
                0 => (ok("", text.as_bytes(), 0), "synced"),
                1 => (ok(GZIP, &zipped, 0), "synced"),
                2 => (ok("", text.as_bytes(), 1), "network"),
                3 => (ok(GZIP, &zipped, 1), "network"),
                4 => (ok(GZIP, half, zipped.len() - half.len()), "network"),
                5 => (ok(GZIP, half, 0), "protocol"),
                6 => (ok(GZIP, &corrupt, 0), "protocol"),
                7 => (ok(GZIP, &wrong_sum, 0), "protocol"),
                8 => (ok(GZIP, text.as_bytes(), 0), "protocol"),
                9 => (
                    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"id\"\r\n"
                        .to_vec(),
                    "network",
                ),
                10 => (b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec(), "network"),
                _ => (b"HTTP/1.1 200 OK\r\ncontent-le".to_vec(), "network"),
            }
        })
        .collect();
    let ids = ids(table.len() as u128);
    let answers = table.clone();
    let mut server = serve(move |id| {
        answers[usize::try_from(id.as_u128() & 0xFF).unwrap() - 1]
            .0
            .clone()
    })
    .await;
    world
        .set("FEATHER_BASE_URL", &server.url)
        .set("FEATHER_SYNC__RETRY__MAX_ATTEMPTS", "1");
    world.sync(&ids).await;
    for (n, (id, (_, expected))) in ids.iter().zip(&table).enumerate() {
        let (_, outcome, class) = standing(&world, *id).await;
        assert_eq!(class.unwrap_or(outcome), *expected, "answer {n}");
    }
    while let Ok(head) = server.heads.try_recv() {
        let head = head.to_lowercase();
        assert!(
            head.starts_with("post /v1/integrations/connections/"),
            "{head}"
        );
        // Without it some servers answer a POST with 411.
        assert!(head.contains("content-length: 0\r\n"), "{head}");
        assert!(head.contains("x-api-key: fth_live_test\r\n"), "{head}");
        assert!(head.contains("user-agent: feather-sync/"), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_there_or_not_known_is_the_networks_fault() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = taken.local_addr().unwrap();
    drop(taken);
    // No resolver has to be asked for a name that is longer than names can be.
    let unknown = format!("https://{}.invalid", "a".repeat(64));
    for url in [
        format!("http://{closed}"),
        format!("https://{closed}"),
        unknown,
    ] {
        let mut world = World::new().await;
        world
            .set("FEATHER_BASE_URL", &url)
            .set("FEATHER_SYNC__RETRY__MAX_ATTEMPTS", "2");
        let ids = ids(3);
        world.sync(&ids).await;
        for id in &ids {
            assert_eq!(
                world.story(*id).await,
                ["retry/network", "dead/network"],
                "{url}"
            );
        }
        let told: Vec<(Option<i32>, Option<String>)> = world
            .rows("SELECT DISTINCT http_status, upstream_request_id FROM feather.sync_attempts")
            .await;
        assert_eq!(told, [(None, None)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_handshake_with_something_else_is_the_networks_fault() {
    let mut world = World::new().await;
    world
        .set("FEATHER_SYNC__API__REQUEST_TIMEOUT", "2s")
        .set("FEATHER_SYNC__API__CONNECT_TIMEOUT", "2s")
        .set("FEATHER_SYNC__RETRY__MAX_ATTEMPTS", "1");
    let sim_is_plain = world.sim.url().replace("http://", "https://");
    world.set("FEATHER_BASE_URL", &sim_is_plain);
    let id = ids(1)[0];
    world.sync(&[id]).await;
    assert_eq!(world.story(id).await, ["dead/network"]);
}
