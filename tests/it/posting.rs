//! `POST /api/v1/enqueue`, over HTTP.

use crate::admin::ask;
use crate::admin::get;
use crate::admin::listening;
use crate::admin::status;
use crate::world::PATIENCE;
use crate::world::World;
use crate::world::ids;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use uuid::Uuid;

const LOCAL: &str = "Host: localhost\r\n";
pub(crate) const JSON: &str = "Host: localhost\r\nContent-Type: application/json\r\n";
/// Requests and what has become of them.
const NOTHING: &str =
    "SELECT (SELECT count(*) FROM feather.sync_requests) + (SELECT count(*) FROM feather.sync_jobs)
    + (SELECT count(*) FROM feather.sync_attempts) = 0";
/// So late that nothing is synced in a test.
pub(crate) const LATE: &str = "2099-01-31T08:00:00Z";
/// As documented.
const LONGEST: usize = 1024 * 1024;

/// An answer: status, head in lower case, body.
pub(crate) type Answer = (u16, String, String);

fn answer(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (status(text), head.to_lowercase(), body.to_owned())
}

pub(crate) async fn post(port: u16, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!("POST /api/v1/enqueue HTTP/1.1\r\n{headers}Content-Length: {length}\r\n");
    answer(&ask(port, &format!("{head}\r\n{body}")).await)
}

pub(crate) fn list(ids: &[Uuid]) -> String {
    let ids: Vec<_> = ids.iter().map(|id| format!("\"{id}\"")).collect();
    format!("[{}]", ids.join(","))
}

pub(crate) fn asking_for(ids: &[Uuid]) -> String {
    format!("{{\"connection_ids\": {}}}", list(ids))
}

fn late(ids: &[Uuid]) -> String {
    format!(
        "{{\"run_at\": \"{LATE}\", \"connection_ids\": {}}}",
        list(ids)
    )
}

/// With this status, and an error that says so.
#[track_caller]
pub(crate) fn is_refused(answer: &Answer, status: u16, why: &str) {
    let (given, head, body) = answer;
    assert_eq!(*given, status, "{why}: {head}\n{body}");
    assert!(head.contains("content-type: application/json"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let error = body["error"].as_str().unwrap();
    assert!(error.contains(why), "{why}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_posted_wakes_the_daemon_and_is_synced() {
    let mut world = World::new().await;
    // Without a wake-up nobody would look in this test's time.
    world.set("FEATHER_SYNC__WORKER__POLL_INTERVAL", "1m");
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let began = Instant::now();
    let ids = ids(2);
    for round in 1..=3 {
        let (status, head, body) = post(port, JSON, &asking_for(&[ids[0], ids[1], ids[0]])).await;
        assert_eq!((status, &*body), (202, "{\"enqueued\":3}"), "{head}");
        assert!(head.contains("connection: close") && head.contains("cache-control: no-store"));
        world
            .until(&format!(
                "SELECT count(*) = 2 FROM (
                     SELECT FROM feather.sync_attempts WHERE outcome = 'synced'
                     GROUP BY connection_id HAVING count(*) >= {round}
                 ) AS synced"
            ))
            .await;
    }
    assert!(began.elapsed() < Duration::from_secs(50), "{began:?}");
    replica.stop().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn account_priority_and_time_are_those_of_the_request() {
    let mut world = World::new().await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let id = ids(1)[0];
    let body = format!(
        "{{\"connection_ids\": [\"{id}\"], \"account\": \"acme\", \"priority\": -7, \"run_at\": \"2099-01-31T10:00:00+02:00\"}}"
    );
    let kind = "Host: localhost\r\nContent-Type: Application/JSON; charset=utf-8\r\n";
    assert_eq!(post(port, kind, &body).await.0, 202);
    world
        .until("SELECT count(*) = 1 FROM feather.sync_jobs")
        .await;
    let sql = format!("SELECT account, priority, run_at = '{LATE}' FROM feather.sync_jobs");
    let job: (String, i16, bool) = world.row(&sql).await;
    assert_eq!(job, ("acme".to_owned(), -7, true));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_is_named_and_nothing_of_its_request_is_enqueued() {
    let mut world = World::new().await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let id = ids(1)[0];
    let with = |more: &str| format!("{{\"connection_ids\": [\"{id}\"], {more}}}");
    for (body, why) in [
        (String::new(), "the body is not JSON"),
        ("connection_ids=x".to_owned(), "the body is not JSON"),
        (
            format!("[\"{id}\"]"),
            "the body is no object such as {\"connection_ids\"",
        ),
        ("{}".to_owned(), "connection_ids is missing"),
        (asking_for(&[]), "connection_ids: the list is empty"),
        (
            format!("{{\"connection_ids\": [\"{id}\", \"{id}\", \"\\u001b[31m\"]}}"),
            "connection_ids[2]: not a UUID such as 3c90c3cc-0d44-4b50-8888-8dd25736052a: \"\\u{1b}[31m\"",
        ),
        (
            with("\"prioritty\": 1"),
            "\"prioritty\" is not a field; there are connection_ids, account, priority, run_at",
        ),
        (
            with("\"account\": \"\""),
            "account: an account's name has 1 to 200",
        ),
        (
            with("\"priority\": 40000"),
            "priority: not a whole number from -32768 to 32767: 40000",
        ),
        (with("\"run_at\": \"infinity\""), "run_at: not a time"),
        // What the database alone knows.
        (
            with("\"run_at\": \"9999-12-31T23:00:00Z\""),
            "run_at_is_finite",
        ),
    ] {
        is_refused(&post(port, JSON, &body).await, 400, why);
    }
    replica.stop().await;
    assert!(world.value::<bool>(NOTHING).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_plain_json_is_read() {
    let mut world = World::new().await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let body = asking_for(&ids(1));
    for (headers, why) in [
        ("", "content-type: application/json"),
        ("Content-Type: text/plain\r\n", "content-type"),
        (
            "Content-Type: application/x-www-form-urlencoded\r\n",
            "content-type",
        ),
        (
            "Content-Type: multipart/form-data; boundary=application/json\r\n",
            "content-type",
        ),
        ("Content-Type: application/json-seq\r\n", "content-type"),
        (
            "Content-Type: text/plain; application/json\r\n",
            "content-type",
        ),
        (
            "Content-Type: application/json\r\nContent-Type: text/plain\r\n",
            "content-type",
        ),
        (
            "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
            "content-encoding",
        ),
    ] {
        let refused = post(port, &format!("{LOCAL}{headers}"), &body).await;
        is_refused(&refused, 415, why);
    }
    replica.stop().await;
    assert!(world.value::<bool>(NOTHING).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_a_mebibyte_is_read_and_one_byte_more_is_not() {
    let mut world = World::new().await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let body = late(&ids(3));
    let padded = |length: usize| format!("{body}{}", " ".repeat(length - body.len()));
    let chunked = |body: &str| {
        let length = body.len();
        format!(
            "POST /api/v1/enqueue HTTP/1.1\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
        )
    };
    let why = "longer than 1048576 bytes";
    for length in [LONGEST + 1, 3 * LONGEST] {
        is_refused(&post(port, JSON, &padded(length)).await, 413, why);
        let refused = answer(&ask(port, &chunked(&padded(length))).await);
        is_refused(&refused, 413, why);
    }
    // Told before it sends anything.
    let length = LONGEST + 1;
    let waiting = format!(
        "POST /api/v1/enqueue HTTP/1.1\r\n{JSON}Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
    );
    is_refused(&answer(&ask(port, &waiting).await), 413, why);
    assert!(world.value::<bool>(NOTHING).await);
    assert_eq!(post(port, JSON, &padded(LONGEST)).await.0, 202);
    let accepted = answer(&ask(port, &chunked(&padded(LONGEST))).await);
    assert_eq!(accepted.0, 202, "{accepted:?}");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_five_thousand_ids_are_enqueued_together_or_not_at_all() {
    let mut world = World::new().await;
    world
        .execute(
            "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = '23514'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON feather.sync_requests FOR EACH ROW
             WHEN (NEW.connection_id = 'ffffffff-ffff-4fff-8fff-ffffffffffff') EXECUTE FUNCTION public.refuse()",
        )
        .await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let mut many = ids(25_000);
    let last = many.len() - 1;
    let good = std::mem::replace(
        &mut many[last],
        Uuid::from_u128(0xffff_ffff_ffff_4fff_8fff_ffff_ffff_ffff),
    );
    is_refused(&post(port, JSON, &late(&many)).await, 400, "not this one");
    let bad = late(&many).replace("ffffffff-ffff-4fff-8fff-ffffffffffff", "x");
    let refused = post(port, JSON, &bad).await;
    is_refused(&refused, 400, "connection_ids[24999]: not a UUID");
    assert!(world.value::<bool>(NOTHING).await);
    many[last] = good;
    let (status, _, body) = post(port, JSON, &late(&many)).await;
    assert_eq!((status, &*body), (202, "{\"enqueued\":25000}"));
    world
        .until("SELECT count(*) = 25000 FROM feather.sync_jobs")
        .await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_post_alone_and_nothing_of_other_sites() {
    let mut world = World::new().await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
        let request =
            format!("{method} /api/v1/enqueue HTTP/1.1\r\nConnection: close\r\n{LOCAL}\r\n");
        let (status, head, _) = answer(&ask(port, &request).await);
        assert_eq!(status, 405, "{method}");
        assert!(head.contains("allow: post\r\n"), "{method}: {head}");
    }
    let json = "Content-Type: application/json\r\n";
    let body = asking_for(&ids(1));
    for headers in [
        "Host: evil.example\r\n",
        "",
        "Host: localhost\r\nOrigin: http://evil.example\r\n",
        "Host: localhost\r\nOrigin: null\r\n",
        "Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n",
        "Host: localhost\r\nSec-Fetch-Site: same-site\r\n",
    ] {
        let refused = post(port, &format!("{headers}{json}"), &body).await;
        assert_eq!(refused.0, 403, "{headers}: {refused:?}");
    }
    for path in [
        "/api/v1/enqueue/",
        "/api/v1",
        "/api/v1/Enqueue",
        "//api/v1/enqueue",
    ] {
        let request =
            format!("POST {path} HTTP/1.1\r\nConnection: close\r\n{JSON}Content-Length: 0\r\n\r\n");
        assert_eq!(status(&ask(port, &request).await), 405, "{path}");
    }
    replica.stop().await;
    assert!(world.value::<bool>(NOTHING).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_a_token_nobody_enqueues_without_it() {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "open-sesame\n").unwrap();
    for address in ["127.0.0.1", "0.0.0.0"] {
        let mut world = World::new().await;
        let path = token.path().to_str().unwrap();
        world.set("FEATHER_SYNC__ADMIN__TOKEN_FILE", path);
        let (replica, port) = listening(&mut world, address).await;
        let body = late(&ids(1));
        for credentials in [
            "",
            "Authorization: Bearer wrong\r\n",
            "Authorization: Basic open-sesame\r\n",
            "Authorization: Bearer open-sesame\r\nAuthorization: Bearer open-sesame\r\n",
        ] {
            let refused = post(port, &format!("{JSON}{credentials}"), &body).await;
            is_refused(&refused, 401, "Authorization: Bearer");
            assert!(
                refused.1.contains("www-authenticate: bearer"),
                "{}",
                refused.1
            );
        }
        assert!(world.value::<bool>(NOTHING).await);
        let knowing = format!("{JSON}Authorization: Bearer open-sesame\r\n");
        assert_eq!(post(port, &knowing, &body).await.0, 202, "{address}");
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_never_come_keep_others_out_for_seconds_only() {
    let mut world = World::new().await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let mut slow = Vec::new();
    for _ in 0..16 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let head = format!("POST /api/v1/enqueue HTTP/1.1\r\n{JSON}Content-Length: 100\r\n\r\n{{");
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let body = late(&ids(1));
    // Some of those may not have their place yet.
    let began = Instant::now();
    let refused = loop {
        assert!(began.elapsed() < PATIENCE, "nobody is refused");
        let answer = post(port, JSON, &body).await;
        if answer.0 != 202 {
            break answer;
        }
    };
    is_refused(
        &refused,
        503,
        "too many ask at the same time; nothing was enqueued",
    );
    assert_eq!(get(port, "/healthz", LOCAL).await.0, 200);
    for mut stream in slow {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        is_refused(&answer(&text), 408, "did not come within 10s");
    }
    assert_eq!(post(port, JSON, &body).await.0, 202);
    replica.stop().await;
}
