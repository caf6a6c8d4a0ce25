//! The server's own word on when to try again.

use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Fault;
use feather_sync::sim::RetryAfter;
use feather_sync::sim::StatusFault;
use std::ops::Range;
use uuid::Uuid;

fn busy() -> StatusFault {
    StatusFault {
        code: 503,
        ..StatusFault::default()
    }
}

fn header(text: &str) -> Option<RetryAfter> {
    Some(RetryAfter::Text(text.into()))
}

/// In seconds. What was not granted is told from what was on a busy machine, too.
const AT_ONCE: Range<f64> = 0.0..10.0;
const A_SECOND: Range<f64> = 1.0..10.0;
const AS_GRANTED: Range<f64> = 12.0..60.0;

/// Seconds from the end of the first attempt to the time of its retry.
async fn delay(world: &World, id: Uuid) -> f64 {
    world
        .value(&format!(
            "SELECT EXTRACT(epoch FROM retry_at - finished_at)::float8 FROM feather.sync_attempts
             WHERE connection_id = '{id}' ORDER BY id LIMIT 1"
        ))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_waits_as_long_as_the_server_asks_and_no_longer_than_it_is_granted() {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__RETRY__MAX_SERVER_DELAY", "12s");
    let table = [
        // In the body, which beats the header.
        (
            StatusFault {
                retry_after: Some(1),
                retry_after_header: header("0"),
                ..busy()
            },
            A_SECOND,
        ),
        (
            StatusFault {
                retry_after: Some(0),
                retry_after_header: header("10"),
                ..busy()
            },
            AT_ONCE,
        ),
        // In the header, as seconds and as a date, of an answer that is not the API's too.
        (
            StatusFault {
                retry_after_header: header("1"),
                ..busy()
            },
            A_SECOND,
        ),
        (
            StatusFault {
                body: Some("<html>".into()),
                retry_after_header: header(" 1 "),
                ..busy()
            },
            A_SECOND,
        ),
        (
            StatusFault {
                retry_after_header: header("+1s"),
                ..busy()
            },
            A_SECOND,
        ),
        (
            StatusFault {
                retry_after_header: header("Wed, 21 Oct 2015 07:28:00 GMT"),
                ..busy()
            },
            AT_ONCE,
        ),
        (
            StatusFault {
                code: 404,
                body: Some("<html>".into()),
                retry_after_header: header("1"),
                ..busy()
            },
            A_SECOND,
        ),
        // More than is granted, be it absurd.
        (
            StatusFault {
                retry_after: Some(9_999),
                ..busy()
            },
            AS_GRANTED,
        ),
        (
            StatusFault {
                retry_after: Some(i64::MAX),
                ..busy()
            },
            AS_GRANTED,
        ),
        (
            StatusFault {
                retry_after_header: header("99999999999999999999999"),
                ..busy()
            },
            AS_GRANTED,
        ),
        (
            StatusFault {
                retry_after_header: header("+10h"),
                ..busy()
            },
            AS_GRANTED,
        ),
        (
            StatusFault {
                body: Some(r#"{"error":"busy","message":"m","retry_after":1e300}"#.into()),
                ..busy()
            },
            AS_GRANTED,
        ),
        // The server's yes does not undo its delay.
        (
            StatusFault {
                code: 400,
                retryable: Some(true),
                retry_after: Some(1),
                ..busy()
            },
            A_SECOND,
        ),
        // Nothing that could be read.
        (
            StatusFault {
                retry_after: Some(-1),
                ..busy()
            },
            AT_ONCE,
        ),
        (
            StatusFault {
                retry_after_header: header("soon"),
                ..busy()
            },
            AT_ONCE,
        ),
    ];
    let ids = ids(table.len() as u128);
    for (id, (fault, _)) in ids.iter().zip(&table) {
        world.sim.script(*id, [Fault::Status(fault.clone())]);
    }
    world.sync(&ids).await;
    for (id, (fault, expected)) in ids.iter().zip(&table) {
        let delay = delay(&world, *id).await;
        assert!(expected.contains(&delay), "{delay} after {fault:?}");
        let calls = world.sim.calls_for(*id);
        assert_eq!(calls.len(), 2, "{fault:?}");
        let waited = (calls[1].at_ms - calls[0].at_ms) as f64 / 1000.0;
        assert!(waited >= expected.start, "{waited} after {fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_does_not_bring_a_retry_forward_past_the_servers_delay() {
    let world = World::new().await;
    let id = ids(1)[0];
    world.sim.script(
        id,
        [Fault::Status(StatusFault {
            retry_after: Some(2),
            ..busy()
        })],
    );
    world.enqueue(&[id]).await;
    let replica = world.start();
    world
        .until("SELECT count(*) = 1 FROM feather.sync_attempts")
        .await;
    world.enqueue(&[id]).await;
    world
        .until("SELECT last_outcome = 'synced' FROM feather.sync_status")
        .await;
    let calls = world.sim.calls_for(id);
    assert!(calls[1].at_ms - calls[0].at_ms >= 2_000);
    replica.stop().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_whose_words_cannot_be_stored_as_they_are_still_counts_as_the_apis_own() {
    let world = World::new().await;
    let (odd, gone) = (ids(2)[0], ids(2)[1]);
    let body = |rest: &str| {
        Some(format!(
            r#"{{"error":"e","message":"half \ud800 and \u0000",{rest}}}"#
        ))
    };
    let told = |code, body| {
        Fault::Status(StatusFault {
            code,
            body,
            ..StatusFault::default()
        })
    };
    world
        .sim
        .script(odd, [told(500, body(r#""retryable":false,"n":1e400"#))]);
    world
        .sim
        .script(gone, [told(404, body(r#""retryable":null"#))]);
    world.sync(&[odd, gone]).await;
    assert_eq!(world.story(odd).await, ["dead/upstream"]);
    assert_eq!(world.story(gone).await, ["dead/not_found"]);
    let errors: Vec<(String,)> = world
        .rows("SELECT last_error FROM feather.sync_status ORDER BY connection_id")
        .await;
    assert!(
        errors
            .iter()
            .all(|(error,)| error.contains("half \u{fffd} and \u{fffd}")),
        "{errors:?}"
    );
}
