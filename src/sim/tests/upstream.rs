//! What tests do to the upstream: edits, deletions, keys, gates, and looking at the record.

use serde_json::json;
use uuid::Uuid;

use super::client::ID;
use super::client::finalize;
use super::client::path_of;
use super::client::poll;
use super::client::receive;
use super::client::send;
use super::client::try_finalize;
use super::client::try_poll;
use crate::sim::Kind;
use crate::sim::Scenario;
use crate::sim::Sim;

fn plain() -> Sim {
    Sim::start(Scenario::default()).unwrap()
}

/// A connection whose metadata holds a number of 29 digits.
fn id_with_digits(sim: &Sim) -> Uuid {
    (1..)
        .map(Uuid::from_u128)
        .find(|id| {
            sim.truth_text(*id)
                .contains("12345678901234567890.123456789")
        })
        .unwrap()
}

#[tokio::test]
async fn an_edit_changes_what_it_touches_keeps_the_digits_of_the_rest_and_moves_updated_at() {
    let sim = plain();
    let id = id_with_digits(&sim);
    let before = finalize(&sim, id).await;
    sim.edit(id, |connection| {
        connection["nickname"] = json!("Renamed \u{1f680}");
        connection["metadata"]["seats"] = json!(501);
        connection["novelty"] = json!([1]);
    });
    let after = poll(&sim, id).await;
    assert_eq!(
        (&after["nickname"], &after["novelty"]),
        (&json!("Renamed \u{1f680}"), &json!([1]))
    );
    assert_eq!(after["metadata"]["seats"], 501);
    assert!(
        sim.truth_text(id)
            .contains("12345678901234567890.123456789")
    );
    assert!(after["updated_at"].as_str() > before["updated_at"].as_str());
    assert_eq!(after["tools"], before["tools"]);
    let again = finalize(&sim, id).await;
    assert_eq!(
        (&again["nickname"], &again["metadata"]),
        (&after["nickname"], &after["metadata"])
    );
    assert_ne!(again["updated_at"], after["updated_at"]);
}

#[tokio::test]
async fn an_edit_that_changes_nothing_moves_nothing() {
    let sim = plain();
    let before = sim.truth_text(ID);
    sim.edit(ID, |_| {});
    assert_eq!(sim.truth_text(ID), before);
}

#[tokio::test]
async fn tools_are_added_dropped_changed_and_brought_back() {
    let sim = plain();
    let before = finalize(&sim, ID).await;
    sim.edit(ID, |connection| {
        let tools = connection["tools"].as_array_mut().unwrap();
        tools.remove(1);
        tools[0]["display_name"] = json!("Changed");
        tools[0].as_object_mut().unwrap().remove("description");
        tools.push(json!({"slug": "brand_new"}));
    });
    let after = poll(&sim, ID).await;
    let tools = after["tools"].as_array().unwrap();
    assert_eq!(tools.len(), 5);
    assert_eq!(
        (&tools[0]["id"], &tools[0]["display_name"]),
        (&before["tools"][0]["id"], &json!("Changed"))
    );
    assert_eq!(tools[0].get("description"), None);
    assert_ne!(tools[0]["updated_at"], before["tools"][0]["updated_at"]);
    assert_eq!(tools[1], before["tools"][2]);
    assert_eq!(tools[4]["slug"], "brand_new");
    assert_eq!(tools[4]["connection_id"], after["id"]);
    assert!(tools[4]["input_schema"].is_object());
    let dropped = before["tools"][1].clone();
    sim.edit(ID, |connection| {
        connection["tools"]
            .as_array_mut()
            .unwrap()
            .push(dropped.clone());
    });
    assert_eq!(poll(&sim, ID).await["tools"][5], dropped);
}

#[tokio::test]
async fn an_edit_may_set_updated_at_and_it_moves_on_afterwards() {
    let sim = plain();
    sim.edit(ID, |connection| {
        connection["updated_at"] = json!("2031-01-02T03:04:05.000006Z");
    });
    assert!(
        sim.truth(ID)["updated_at"]
            .as_str()
            .unwrap()
            .starts_with("2031-01-02T03:04:05.000006")
    );
    sim.edit(ID, |connection| connection["nickname"] = json!("x"));
    assert!(
        sim.truth(ID)["updated_at"]
            .as_str()
            .unwrap()
            .starts_with("2031-01-02T03:04:05.000007")
    );
}

#[tokio::test]
async fn a_deleted_connection_is_gone_until_restored() {
    let sim = plain();
    let before = poll(&sim, ID).await;
    sim.delete(ID);
    for answer in [
        try_poll(&sim, ID).await.unwrap(),
        try_finalize(&sim, ID).await.unwrap(),
    ] {
        assert_eq!(
            (answer.status, &answer.json()["error"]),
            (404, &json!("not_found"))
        );
    }
    assert!(sim.truth(ID).is_null());
    sim.restore(ID);
    assert_eq!(poll(&sim, ID).await, before);
}

#[tokio::test]
async fn a_gate_keeps_calls_in_flight_until_released_and_overlaps_are_on_record() {
    let sim = plain();
    let gate = sim.hold();
    let one = send(&sim, "GET", &path_of(ID), "k", "").await;
    sim.wait_for_calls(1).await;
    let two = send(&sim, "GET", &path_of(ID), "k", "").await;
    let other = send(&sim, "GET", &path_of(Uuid::from_u128(4)), "k", "").await;
    sim.wait_for_calls(3).await;
    assert_eq!(sim.stats().in_flight, 3);
    assert!(sim.calls().iter().all(|call| call.status.is_none()));
    sim.edit(ID, |connection| connection["nickname"] = json!("meanwhile"));
    gate.release();
    assert_eq!(receive(one).await.unwrap().json()["nickname"], "meanwhile");
    receive(two).await.unwrap();
    receive(other).await.unwrap();
    let overlaps: Vec<bool> = sim
        .calls_for(ID)
        .iter()
        .map(|call| call.in_flight_overlap)
        .collect();
    assert_eq!(overlaps, [false, true]);
    let stats = sim.stats();
    assert_eq!(
        (
            stats.in_flight,
            stats.max_in_flight,
            stats.overlapping_calls
        ),
        (0, 3, 1)
    );
}

#[tokio::test]
async fn a_revoked_key_is_refused_for_calls_in_flight_too() {
    let sim = plain();
    let gate = sim.hold();
    let call = send(&sim, "GET", &path_of(ID), "old", "").await;
    sim.wait_for_calls(1).await;
    sim.set_keys(Some(vec!["new".into()]));
    gate.release();
    assert_eq!(receive(call).await.unwrap().status, 401);
    let fresh = receive(send(&sim, "GET", &path_of(ID), "new", "").await)
        .await
        .unwrap();
    assert_eq!(fresh.status, 200);
    let keys: Vec<_> = sim
        .calls()
        .into_iter()
        .map(|call| call.api_key.unwrap())
        .collect();
    assert!(keys[0] != keys[1] && keys.iter().all(|key| key.len() == 8));
}

#[tokio::test]
async fn the_record_tells_calls_apart() {
    let sim = plain();
    finalize(&sim, ID).await;
    let answer = try_poll(&sim, ID).await.unwrap();
    let calls = sim.calls_for(ID);
    assert_eq!((calls[0].kind, calls[1].kind), (Kind::Finalize, Kind::Poll));
    assert_eq!((calls[0].number, calls[1].number), (1, 2));
    assert!(calls[0].at <= calls[1].at && calls[0].at_ms <= calls[1].at_ms);
    assert_eq!(
        answer.header("x-request-id"),
        Some(calls[1].request_id.as_str())
    );
    assert_ne!(calls[0].request_id, calls[1].request_id);
    assert_eq!(
        (calls[1].method.as_str(), calls[1].status),
        ("GET", Some(200))
    );
    assert_eq!(calls[1].path, path_of(ID));
}

#[tokio::test]
async fn a_dropped_simulator_ends_its_connections_and_a_stopped_one_frees_its_port() {
    let sim = plain();
    let address = sim.address();
    let gate = sim.hold();
    let call = send(&sim, "GET", &path_of(ID), "k", "").await;
    sim.wait_for_calls(1).await;
    sim.stop().await;
    receive(call).await.unwrap_err();
    drop(gate);
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let again = Sim::serve(listener, Scenario::default()).unwrap();
    poll(&again, ID).await;
    let call = {
        let _gate = again.hold();
        let call = send(&again, "GET", &path_of(ID), "k", "").await;
        again.wait_for_calls(2).await;
        drop(again);
        call
    };
    receive(call).await.unwrap_err();
}

#[tokio::test]
async fn a_scenario_out_of_range_does_not_start() {
    let scenario = Scenario {
        churn: 2.0,
        ..Scenario::default()
    };
    assert!(
        Sim::start(scenario)
            .unwrap_err()
            .to_string()
            .contains("churn = 2")
    );
}
