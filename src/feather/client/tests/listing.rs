//! Lists as the simulated API answers them over HTTP, good ones and others.

use super::*;
use crate::domain::ConnectionSnapshot;
use crate::feather::Listed;
use crate::sim::Fault;
use crate::sim::FaultRule;
use crate::sim::On;
use crate::sim::Scenario;
use crate::sim::Sim;
use serde_json::json;

const KEY: &str = "fth_live_0123456789abcdef";

fn sim(connections: u64) -> Sim {
    crate::feather::install_tls();
    Sim::start(Scenario {
        connections,
        ..Scenario::default()
    })
    .unwrap()
}

fn fails(sim: &Sim, fault: Fault) {
    sim.set_faults(vec![FaultRule {
        on: On::List,
        ..FaultRule::new(fault)
    }]);
}

fn client_of(base_url: String, request_timeout: Duration, max_body_bytes: usize) -> ApiClient {
    let settings = ClientSettings {
        base_url,
        request_timeout,
        connect_timeout: Duration::from_secs(5),
        max_body_bytes,
    };
    let read_key: KeyReader = Arc::new(|| Ok(KEY.into()));
    ApiClient::new(settings, read_key, Redactor::default()).unwrap()
}

#[derive(Default)]
struct Read {
    connections: Vec<ConnectionSnapshot>,
    unfit: Vec<String>,
    failure: Option<Failure>,
}

async fn read(client: &ApiClient) -> Read {
    let mut read = Read::default();
    let mut listing = match client.list().await {
        Ok(listing) => listing,
        Err(failure) => {
            read.failure = Some(failure);
            return read;
        }
    };
    loop {
        match listing.next().await {
            Ok(Some(Listed::Connection(snapshot))) => read.connections.push(*snapshot),
            Ok(Some(Listed::Unfit(why))) => read.unfit.push(why),
            Ok(None) => return read,
            Err(failure) => {
                read.failure = Some(failure);
                return read;
            }
        }
    }
}

#[tokio::test]
async fn every_connection_comes_with_all_its_tools_in_one_call() {
    let sim = sim(100);
    let read = read(&client_of(sim.url(), LONG, LIMIT)).await;
    assert!(read.failure.is_none() && read.unfit.is_empty());
    let mut ids: Vec<_> = read.connections.iter().map(|one| one.id).collect();
    ids.sort();
    let mut expected = sim.ids();
    expected.sort();
    assert_eq!(ids, expected);
    let five = |one: &ConnectionSnapshot| one.tools.as_ref().is_some_and(|tools| tools.len() == 5);
    assert!(read.connections.iter().all(five));
    assert_eq!(sim.stats().calls, 1);
}

#[tokio::test]
async fn a_list_may_be_empty_short_or_compressed() {
    let sim = sim(10);
    let client = client_of(sim.url(), LONG, LIMIT);
    for (fault, expected) in [
        (Fault::ShortList { keep: 0.0 }, 0),
        (Fault::ShortList { keep: 0.5 }, 5),
        (Fault::Gzip, 10),
    ] {
        fails(&sim, fault);
        let read = read(&client).await;
        assert_eq!(read.connections.len(), expected);
        assert!(read.failure.is_none(), "{:?}", read.failure);
    }
}

#[tokio::test]
async fn every_way_to_fail_is_classified_and_what_came_before_is_handed_out() {
    let sim = sim(10);
    let client = client_of(sim.url(), LONG, LIMIT);
    let location = "/elsewhere".to_owned();
    for (fault, class, some) in [
        (Fault::status(401), ErrorClass::Auth, false),
        (Fault::status(429), ErrorClass::RateLimited, false),
        (Fault::status(503), ErrorClass::Upstream, false),
        (
            Fault::Redirect {
                location,
                code: 307,
            },
            ErrorClass::Protocol,
            false,
        ),
        (Fault::Plain404, ErrorClass::Protocol, false),
        (Fault::Reset, ErrorClass::Network, false),
        (Fault::Close, ErrorClass::Network, false),
        (Fault::NotJson, ErrorClass::Protocol, false),
        (Fault::Empty, ErrorClass::Protocol, false),
        (Fault::TruncatedJson, ErrorClass::Protocol, true),
        (Fault::ShortBody, ErrorClass::Network, false),
    ] {
        let kind = fault.kind();
        fails(&sim, fault);
        let read = read(&client).await;
        let failure = read.failure.expect(kind);
        assert_eq!(failure.class, class, "{kind}: {}", failure.message);
        assert!(!some || !read.connections.is_empty(), "{kind}");
    }
}

#[tokio::test]
async fn a_list_may_take_longer_than_a_call_but_not_stand_still() {
    let sim = sim(10);
    let client = client_of(sim.url(), Duration::from_millis(500), LIMIT);
    let duration = Duration::from_secs(2);
    fails(&sim, Fault::Slow { duration });
    let slow = read(&client).await;
    assert!(slow.failure.is_none(), "{:?}", slow.failure);
    assert_eq!(slow.connections.len(), 10);
    for fault in [
        Fault::Hang { duration: None },
        Fault::Slow {
            duration: 20 * duration,
        },
    ] {
        fails(&sim, fault);
        let failure = read(&client).await.failure.unwrap();
        assert_eq!(failure.class, ErrorClass::Timeout, "{}", failure.message);
    }
}

#[tokio::test]
async fn an_item_that_is_no_connection_is_named_and_does_not_stop_the_others() {
    let sim = sim(4);
    let ids = sim.ids();
    let metadata = json!({"much": "x".repeat(100_000)});
    sim.edit(ids[0], |one| one["nickname"] = json!(7));
    sim.edit(ids[1], |one| one["metadata"] = metadata);
    sim.edit(ids[2], |one| one["nickname"] = json!(format!("<{KEY}>")));
    let read = read(&client_of(sim.url(), LONG, 90_000)).await;
    assert!(read.failure.is_none(), "{:?}", read.failure);
    assert_eq!(read.connections.len(), 2);
    let unfit = read.unfit.join("\n");
    assert!(
        unfit.contains("nickname") && unfit.contains("api.max_body_bytes (90000)"),
        "{unfit}"
    );
    let keyed = read
        .connections
        .iter()
        .find(|one| one.id == ids[2])
        .unwrap();
    assert_eq!(keyed.nickname, format!("<{}>", "*".repeat(KEY.len())));
    assert_eq!(keyed.warnings[0].field, "nickname");
}

/// The client of an API that answers its one call like this, piece by piece, and then keeps silent.
async fn client_of_answer(pieces: Vec<(Duration, String)>, request_timeout: Duration) -> ApiClient {
    crate::feather::install_tls();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).await.unwrap();
        for (wait, piece) in pieces {
            tokio::time::sleep(wait).await;
            stream.write_all(piece.as_bytes()).await.unwrap();
        }
        let _ = stream.read(&mut head).await;
    });
    client_of(url, request_timeout, LIMIT)
}

async fn read_items(items: &[String]) -> Read {
    let body = format!("[{}]", items.join(","));
    let length = body.len();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
    read(&client_of_answer(vec![(Duration::ZERO, answer)], LONG).await).await
}

#[tokio::test]
async fn an_item_that_is_no_json_is_named_and_does_not_stop_the_others() {
    let [first, second, third] = [1, 2, 3].map(Uuid::from_u128);
    for odd in [
        r#""note":NaN"#,
        "\"note\":\"a\tb\"",
        r#""note":01"#,
        r#""note":"\x""#,
        r#""note":"a"b,"{":"}""#,
        r#""note":[}"#,
    ] {
        let whole = answer(second, 10);
        let named = whole.replacen("\"organization_id\"", &format!("{odd},\"x\""), 1);
        let nameless = whole.replacen('{', &format!("{{{odd},"), 1);
        let items = [answer(first, 10), named, nameless, answer(third, 10)];
        let read = read_items(&items).await;
        assert!(read.failure.is_none(), "{odd}: {:?}", read.failure);
        let ids: Vec<_> = read.connections.iter().map(|one| one.id).collect();
        assert_eq!(ids, [first, third], "{odd}");
        let [named, nameless] = &read.unfit[..] else {
            panic!("{odd}: {:?}", read.unfit);
        };
        let expected = format!("item 2, {second}: the body is not what the API promises: ");
        assert!(named.starts_with(&expected), "{odd}: {named}");
        assert!(nameless.starts_with("item 3: "), "{odd}: {nameless}");
    }
}

#[tokio::test]
async fn where_the_end_of_an_item_cannot_be_told_the_list_ends() {
    let good = || answer(Uuid::from_u128(1), 10);
    for (odd, why) in [
        (r#"{"id":"a"b"}"#, "the list stops before its end"),
        (r#"{"id":[1}"#, "the list stops before its end"),
        (r#"{"id":1]}"#, "a comma or `]` is to follow an item"),
    ] {
        let read = read_items(&[good(), odd.to_owned(), good()]).await;
        assert_eq!(read.connections.len(), 1, "{odd}");
        let failure = read.failure.expect(odd);
        assert_eq!(failure.class, ErrorClass::Protocol, "{odd}");
        assert!(
            failure.message.starts_with(why),
            "{odd}: {}",
            failure.message
        );
        assert_eq!(failure.http_status, Some(200), "{odd}");
    }
}

#[tokio::test]
async fn a_refusal_whose_body_never_ends_takes_no_longer_than_a_call_may() {
    let timeout = Duration::from_secs(6);
    let head = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 99\r\n\r\n{".to_owned();
    let client = client_of_answer(vec![(timeout / 2, head)], timeout).await;
    let began = Instant::now();
    let failure = read(&client).await.failure.unwrap();
    assert_eq!(failure.class, ErrorClass::Auth);
    let took = began.elapsed();
    // With the whole timeout once more for the body it would take at least so long.
    assert!(took < timeout * 3 / 2, "{took:?}");
}
