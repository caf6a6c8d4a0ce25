//! Who may come in, and whose forms count.

use super::Browser;
use crate::admin::listening;
use crate::world::World;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::net::Ipv4Addr;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;

/// A token file, and the world that uses it.
pub(crate) async fn locked() -> (World, tempfile::NamedTempFile) {
    let mut world = World::new().await;
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "open-sesame\n").unwrap();
    let path = token.path().to_str().unwrap();
    world.set("FEATHER_SYNC__ADMIN__TOKEN_FILE", path);
    (world, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_token_is_wanted_pages_are_for_those_who_logged_in() {
    let (mut world, _token) = locked().await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let stranger = Browser::at(port);
    let turned = stranger.get("/accounts?a=b%20c").await;
    assert_eq!(turned.status, 303);
    let login = turned.header("location").unwrap();
    assert_eq!(login, "/login?next=%2Faccounts%3Fa%3Db%2520c");
    let form = stranger.get(login).await;
    assert_eq!(form.status, 200);
    assert!(
        form.body.contains(r#"value="/accounts?a=b%20c""#),
        "{}",
        form.body
    );
    assert_eq!(
        stranger.post("/do/pause", "account=default").await.status,
        303
    );
    let begun = Instant::now();
    let wrong = stranger.post("/do/login", "token=open&next=%2F").await;
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, None));
    assert!(
        begun.elapsed() >= Duration::from_millis(500),
        "a guess costs nothing"
    );
    let right = "token=open-sesame&name=Alice+%3Ci%3E&next=%2Faccounts";
    let right = stranger.post("/do/login", right).await;
    assert_eq!(right.status, 303);
    assert_eq!(right.header("location"), Some("/accounts"));
    let cookie = right.header("set-cookie").unwrap();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
    let known = Browser::with(port, right.cookie());
    let page = known.get("/accounts").await;
    assert_eq!(page.status, 200);
    assert!(!page.body.contains("open-sesame"), "{}", page.body);
    assert_eq!(known.post("/do/pause", "account=default").await.status, 303);
    let page = known.get("/accounts").await.body;
    assert!(
        page.contains("by Alice &lt;i&gt; (dashboard) from 127.0.0.1 since"),
        "{page}"
    );
    assert_eq!(known.post("/do/logout", "").await.status, 303);
    assert_eq!(known.get("/accounts").await.status, 303);
    // Strangers' forms are short, and come soon.
    let long = format!("token=open-sesame&name={}", "x".repeat(4_096));
    assert_eq!(stranger.post("/do/login", &long).await.status, 400);
    let begun = Instant::now();
    let unsent = format!(
        "Origin: http://localhost:{port}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n"
    );
    let answer = stranger.send("POST /do/login", &unsent, "").await;
    assert_eq!(answer.status, 400);
    assert!(begun.elapsed() < Duration::from_secs(8));
    let bearer = Browser {
        port,
        headers: "Authorization: Bearer open-sesame\r\n".to_owned(),
    };
    assert_eq!(bearer.get("/accounts").await.status, 200);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_listeners_own_pages_have_something_done_and_looking_does_nothing() {
    let mut world = World::new().await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let browser = Browser::at(port);
    let form = "account=default";
    let kind = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 15\r\n";
    for origin in [
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: http://localhost:1\r\n",
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n",
        "",
    ] {
        let answer = browser
            .send("POST /do/pause", &format!("{kind}{origin}"), form)
            .await;
        assert_eq!(answer.status, 403, "{origin}");
    }
    let looked = browser.get("/do/pause?account=default").await;
    assert_eq!(looked.status, 405);
    let here = format!("Origin: http://localhost:{port}\r\nContent-Length: 15\r\n");
    for kind in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/json\r\n",
    ] {
        let answer = browser
            .send("POST /do/pause", &format!("{here}{kind}"), form)
            .await;
        assert_eq!(answer.status, 400, "{kind}");
    }
    assert_eq!(browser.post("/do/pause", "").await.status, 400);
    let long = format!("account={}", "x".repeat(70_000));
    assert_eq!(browser.post("/do/pause", &long).await.status, 400);
    let done: i64 = sqlx::query_scalar("SELECT count(*) FROM feather.sync_audit")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(done, 0);
    let outward = browser
        .post("/do/pause", "account=default&back=%2F%2Fevil.example")
        .await;
    let back = outward.header("location").unwrap();
    assert!(back.starts_with("/?said="), "{back}");
    replica.stop().await;
}

/// A look at `/metrics` with a token, from an address of this machine; the answer is still to be read.
async fn guess(port: u16, from: Ipv4Addr, token: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let there = (Ipv4Addr::LOCALHOST, port).into();
    let mut stream = socket.connect(there).await.unwrap();
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn status_of(mut stream: TcpStream) -> u16 {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    crate::admin::status(&answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_guesses_faster_by_not_waiting_for_answers_and_nobody_elsewhere_is_held_up() {
    let (mut world, _token) = locked().await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let (here, elsewhere) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2));
    let begun = Instant::now();
    let mut guesses = Vec::new();
    for _ in 0..6 {
        guesses.push(guess(port, here, "wrong").await);
    }
    // Long enough for all of them to be read, and too short for any answer.
    tokio::time::sleep(Duration::from_millis(400)).await;
    drop(guesses);
    let right = guess(port, here, "open-sesame").await;
    assert_eq!(status_of(right).await, 200);
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(1_500),
        "the right token is told after {took:?}: guesses that were dropped cost nothing"
    );
    // More than have a turn: the last are not even heard.
    let waiting = FuturesUnordered::new();
    for _ in 0..20 {
        waiting.push(status_of(guess(port, here, "wrong").await));
    }
    assert!(waiting.any(|status| async move { status == 429 }).await);
    let asked = Instant::now();
    let right = guess(port, elsewhere, "open-sesame").await;
    assert_eq!(status_of(right).await, 200);
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(4), "held up for {took:?}");
    replica.stop().await;
}
