mod listing;

use super::*;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

const LIMIT: usize = 1 << 20;

/// As an API that says nothing of a body's length would answer: a connection whose metadata is so long.
fn answer(id: Uuid, metadata: usize) -> String {
    let metadata = "x".repeat(metadata);
    format!(
        r#"{{"id":"{id}","organization_id":"{id}","integration_key":"k","nickname_slug":"n","nickname":"n","vendor":"v","vendor_connection_id":null,"status":"active","tools_status":"synced","tools_synced_at":null,"status_reason":null,"connected_at":null,"last_refreshed_at":null,"last_used_at":null,"metadata":{{"m":"{metadata}"}},"created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z","tools":[]}}"#
    )
}

/// The metadata's length is the id.
async fn serve(mut stream: TcpStream) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let head = String::from_utf8(head).ok()?;
    let id = head.split(['/', ' ']).find_map(|part| part.parse().ok())?;
    let body = answer(id, usize::try_from(id.as_u128()).ok()?);
    let announced = match head.starts_with("GET") {
        true => format!("content-length: {}\r\n", body.len()),
        false => String::new(),
    };
    let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{announced}\r\n{body}");
    stream.write_all(answer.as_bytes()).await.ok()
}

async fn client(request_timeout: Duration) -> Arc<ApiClient> {
    crate::feather::install_tls();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = ClientSettings {
        base_url: format!("http://{}", listener.local_addr().unwrap()),
        request_timeout,
        connect_timeout: Duration::from_secs(5),
        max_body_bytes: LIMIT,
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    let read_key: KeyReader = Arc::new(|| Ok("fth_live_test".into()));
    let mut client = ApiClient::new(settings, read_key, Redactor::default()).unwrap();
    client.room = Room::new();
    Arc::new(client)
}

const LONG: Duration = Duration::from_secs(60);

async fn call(client: &ApiClient, kind: CallKind, metadata: usize) -> Result<usize, Failure> {
    let answer = client.call(kind, Uuid::from_u128(metadata as u128)).await?;
    Ok(answer.snapshot.bytes)
}

#[tokio::test]
async fn ordinary_answers_pass_while_large_ones_wait_for_room() {
    let client = client(LONG).await;
    let one = client.room.take(LIMIT, LIMIT).await;
    let other = client.room.take(LIMIT, LIMIT).await;
    for kind in [CallKind::Finalize, CallKind::Poll] {
        let large = tokio::spawn({
            let client = client.clone();
            async move { call(&client, kind, LIMIT / 2).await }
        });
        for size in [1_000, 30_000, 150_000] {
            assert!(call(&client, kind, size).await.unwrap() > size);
        }
        assert!(!large.is_finished());
        large.abort();
    }
    let large = call(&client, CallKind::Finalize, LIMIT / 2);
    let (large, ()) = tokio::join!(large, async { drop((one, other)) });
    assert!(large.unwrap() > LIMIT / 2);
}

#[tokio::test]
async fn large_answers_all_arrive_however_many_come_at_once() {
    let client = client(LONG).await;
    for kind in [CallKind::Finalize, CallKind::Poll] {
        let calls = (0..12).map(|n| call(&client, kind, LIMIT / 2 - n));
        for length in futures_util::future::join_all(calls).await {
            assert!(length.unwrap() > LIMIT / 2);
        }
        let all = LIMIT * 2;
        let free = client
            .room
            .take(all / 2, LIMIT)
            .await
            .zip(client.room.take(all / 2, LIMIT).await);
        assert!(free.is_some(), "all room is given back");
    }
}

#[tokio::test]
async fn bodies_over_the_limit_are_no_timeouts_though_they_wait_for_each_other() {
    let client = client(LONG).await;
    let calls = (0..32).map(|n| call(&client, CallKind::Finalize, LIMIT + n));
    for result in futures_util::future::join_all(calls).await {
        let failure = result.unwrap_err();
        assert_eq!(failure.class, ErrorClass::Protocol, "{}", failure.message);
        assert!(failure.message.contains("larger than api.max_body_bytes"));
        assert!(
            failure
                .body
                .as_ref()
                .is_some_and(|body| body.starts_with("{\"id\"")),
            "{failure:?}"
        );
    }
}

#[tokio::test]
async fn a_body_that_gets_no_room_in_time_is_a_timeout() {
    let client = client(Duration::from_secs(1)).await;
    let _one = client.room.take(LIMIT, LIMIT).await;
    let _other = client.room.take(LIMIT, LIMIT).await;
    for kind in [CallKind::Finalize, CallKind::Poll] {
        let failure = call(&client, kind, LIMIT / 2).await.unwrap_err();
        assert_eq!(failure.class, ErrorClass::Timeout, "{}", failure.message);
        assert_eq!(failure.http_status, Some(200));
    }
}
