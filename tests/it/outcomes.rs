//! The whole table of outcomes and error classes: what a call came to, what is recorded, what follows.

use crate::world::World;
use crate::world::ids;
use chrono::DateTime;
use chrono::Utc;
use feather_sync::sim::Fault;
use feather_sync::sim::StatusFault;
use std::time::Duration;
use uuid::Uuid;

mod gone;
mod hints;
mod malformed;
mod network;
mod pauses;
mod settling;
mod storage;

/// A 200 with a body of one's own.
pub(crate) fn answer(body: impl Into<String>) -> Fault {
    Fault::Status(StatusFault {
        code: 200,
        body: Some(body.into()),
        ..StatusFault::default()
    })
}

/// An ErrorResponse that says whether a retry makes sense.
fn refusal(code: u16, retryable: bool) -> Fault {
    Fault::Status(StatusFault {
        code,
        retryable: Some(retryable),
        ..StatusFault::default()
    })
}

/// State, last outcome and last class of a connection.
async fn standing(world: &World, id: Uuid) -> (String, String, Option<String>) {
    world
        .row(&format!(
            "SELECT state, last_outcome, last_error_class FROM feather.sync_status WHERE connection_id = '{id}'"
        ))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_has_its_class_and_its_consequence_and_disturbs_no_neighbour() {
    let status = |code| Fault::status(code);
    let field = || "nickname".to_owned();
    let table = [
        (status(403), "retry/forbidden"),
        (Fault::NotFound, "dead/not_found"),
        (refusal(404, true), "dead/not_found"),
        (Fault::Plain404, "retry/protocol"),
        (Fault::Fastapi404, "retry/protocol"),
        (status(400), "dead/invalid_request"),
        (status(422), "dead/invalid_request"),
        (Fault::Json422, "dead/invalid_request"),
        (status(402), "dead/invalid_request"),
        (status(418), "dead/invalid_request"),
        (status(451), "dead/invalid_request"),
        (status(408), "retry/conflict"),
        (status(409), "retry/conflict"),
        (status(425), "retry/conflict"),
        (status(500), "retry/upstream"),
        (status(502), "retry/upstream"),
        (status(503), "retry/upstream"),
        (status(599), "retry/upstream"),
        (refusal(403, false), "dead/forbidden"),
        (refusal(400, true), "retry/invalid_request"),
        (refusal(422, true), "retry/invalid_request"),
        (refusal(409, false), "dead/conflict"),
        (refusal(500, false), "dead/upstream"),
        (refusal(503, false), "dead/upstream"),
        (Fault::Hang { duration: None }, "retry/timeout"),
        (
            Fault::Slow {
                duration: Duration::from_secs(100),
            },
            "retry/timeout",
        ),
        (Fault::Reset, "retry/network"),
        (Fault::Close, "retry/network"),
        (Fault::ShortBody, "retry/network"),
        (Fault::TruncatedJson, "retry/protocol"),
        (Fault::NotJson, "retry/protocol"),
        (Fault::Empty, "retry/protocol"),
        (status(204), "retry/protocol"),
        (Fault::MissingField { name: field() }, "retry/protocol"),
        (
            Fault::MissingField {
                name: "tools[].slug".into(),
            },
            "retry/protocol",
        ),
        (Fault::WrongType { name: field() }, "retry/protocol"),
        (Fault::NullField { name: field() }, "retry/protocol"),
        (Fault::WrongId, "retry/mismatch"),
        (Fault::ForeignTool, "retry/mismatch"),
        (Fault::NotActive, "retry/not_active"),
        (Fault::ToolsFailed, "dead/tools_failed"),
        (Fault::Unstorable, "dead/storage"),
        (Fault::Gzip, "synced"),
    ];
    let mut world = World::new().await;
    // Long enough for all who answer on a busy machine; those who do not are waited for once.
    world
        .set("FEATHER_SYNC__API__REQUEST_TIMEOUT", "8s")
        .set("FEATHER_SYNC__API__CONNECT_TIMEOUT", "8s");
    let all = ids(2 * table.len() as u128);
    let (faulty, healthy) = all.split_at(table.len());
    for (id, (fault, _)) in faulty.iter().zip(&table) {
        world.sim.script(*id, [fault.clone()]);
    }
    world.sync(&all).await;
    for (id, (fault, first)) in faulty.iter().zip(&table) {
        let story = world.story(*id).await;
        let (outcome, class) = first.split_once('/').unwrap_or((first, ""));
        let standing = standing(&world, *id).await;
        if outcome == "dead" {
            assert_eq!(story, [*first], "{fault:?}");
            assert_eq!(
                standing,
                ("dead".into(), "dead".into(), Some(class.into())),
                "{fault:?}"
            );
        } else {
            // Some of these calls took effect: what follows may find the sync that it has begun.
            assert_eq!(story[0], *first, "{fault:?}");
            assert_eq!(story.last().unwrap(), "synced", "{fault:?}: {story:?}");
            assert_eq!(
                standing,
                ("idle".into(), "synced".into(), None),
                "{fault:?}"
            );
            world.equals_truth(*id).await.unwrap();
        }
    }
    for id in healthy {
        assert_eq!(world.story(*id).await, ["synced"]);
        world.equals_truth(*id).await.unwrap();
    }
    // Every answered call is recorded with its status and its request id.
    for id in &all {
        let told: Vec<(Option<i32>, Option<String>)> = world
            .rows(&format!(
                "SELECT http_status, upstream_request_id FROM feather.sync_attempts WHERE connection_id = '{id}' ORDER BY id"
            ))
            .await;
        for (call, (status, request)) in world.sim.calls_for(*id).iter().zip(told) {
            let unanswered = matches!(call.fault, Some("hang" | "reset" | "close"));
            // Of these the head of the answer may or may not have come.
            let begun = matches!(call.fault, Some("slow" | "short_body"));
            if unanswered {
                assert_eq!((status, request), (None, None), "{call:?}");
            } else if !begun {
                assert_eq!(status, call.status.map(i32::from), "{call:?}");
                assert_eq!(request, Some(call.request_id.clone()), "{call:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_job_is_dead_with_the_class_of_its_last_failure_when_its_attempts_are_spent() {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__RETRY__MAX_ATTEMPTS", "3");
    let table = [
        (
            vec![Fault::status(503), Fault::Reset, Fault::status(409)],
            "conflict",
        ),
        (
            vec![Fault::NotActive, Fault::NotActive, Fault::NotActive],
            "not_active",
        ),
        (
            vec![Fault::Reset, Fault::Reset, refusal(500, true)],
            "upstream",
        ),
        (vec![Fault::Empty, Fault::Empty, Fault::Close], "network"),
    ];
    let ids = ids(table.len() as u128);
    for (id, (faults, _)) in ids.iter().zip(&table) {
        world.sim.script(*id, faults.clone());
    }
    world.sync(&ids).await;
    for (id, (_, class)) in ids.iter().zip(&table) {
        let story = world.story(*id).await;
        assert_eq!(story.len(), 3, "{story:?}");
        assert_eq!(story[2], format!("dead/{class}"));
        assert_eq!(
            standing(&world, *id).await,
            ("dead".into(), "dead".into(), Some((*class).into()))
        );
        let (numbers, ends): (Vec<i32>, Vec<bool>) = world
            .row(&format!(
                "SELECT array_agg(attempt ORDER BY id), array_agg(retry_at IS NULL ORDER BY id)
                 FROM feather.sync_attempts WHERE connection_id = '{id}'"
            ))
            .await;
        assert_eq!((numbers, ends), (vec![1, 2, 3], vec![false, false, true]));
    }
    // A request revives it with a fresh budget.
    world.sync(&ids).await;
    for id in &ids {
        assert_eq!(standing(&world, *id).await.0, "idle");
        world.equals_truth(*id).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_oauth_is_stored_without_being_finalized_and_removes_nothing() {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__RETRY__MAX_ATTEMPTS", "1");
    let (new, old) = (ids(2)[0], ids(2)[1]);
    world.sync(&[old]).await;
    let finalized: DateTime<Utc> = world
        .value("SELECT _finalized_at FROM feather.connections")
        .await;
    // The second time it is known.
    for _ in 0..2 {
        for id in [new, old] {
            world.sim.script(id, [Fault::NotActive]);
        }
        world.sync(&[new, old]).await;
        let rows: Vec<(Uuid, String, Option<DateTime<Utc>>)> = world
            .rows("SELECT id, status, _finalized_at FROM feather.connections ORDER BY id")
            .await;
        let pending = || "pending_oauth".to_owned();
        assert_eq!(
            rows,
            [(new, pending(), None), (old, pending(), Some(finalized))]
        );
    }
    let tools: i64 = world.value("SELECT count(*) FROM feather.tools").await;
    assert_eq!(tools, 5);
    world.sync(&[new, old]).await;
    for id in [new, old] {
        world.equals_truth(id).await.unwrap();
    }
    let sql = format!(
        "SELECT bool_and(_finalized_at > '{}') FROM feather.connections",
        finalized.to_rfc3339()
    );
    assert!(world.value::<bool>(&sql).await);
}
