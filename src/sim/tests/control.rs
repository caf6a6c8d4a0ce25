//! The control endpoints.

use serde_json::Value;
use serde_json::json;

use super::client::Answer;
use super::client::ID;
use super::client::call;
use super::client::poll;
use super::client::try_poll;
use crate::sim::Scenario;
use crate::sim::Sim;

fn plain() -> Sim {
    Sim::start(Scenario::default()).unwrap()
}

async fn post(sim: &Sim, path: &str, body: &Value) -> Answer {
    call(sim, "POST", path, &body.to_string()).await.unwrap()
}

fn own_path() -> String {
    format!("/_sim/connections/{ID}")
}

#[tokio::test]
async fn calls_and_stats_tell_of_api_calls_alone() {
    let sim = plain();
    poll(&sim, ID).await;
    sim.delete(ID);
    try_poll(&sim, ID).await.unwrap();
    let calls = call(&sim, "GET", "/_sim/calls", "").await.unwrap();
    assert!(!calls.text().contains("fth_live_test"));
    let calls = calls.json();
    assert_eq!(calls.as_array().unwrap().len(), 2);
    let first = &calls[0];
    assert_eq!(
        (&first["kind"], &first["status"], &first["connection_id"]),
        (&json!("poll"), &json!(200), &json!(ID))
    );
    assert_eq!(
        first["at"].as_str().unwrap().len(),
        "2026-01-01T00:00:00.000000Z".len()
    );
    for key in [
        "number",
        "at_ms",
        "ended_at_ms",
        "method",
        "path",
        "fault",
        "api_key",
        "in_flight_overlap",
        "request_id",
    ] {
        assert!(first.get(key).is_some(), "{key}");
    }
    let stats = call(&sim, "GET", "/_sim/stats", "").await.unwrap().json();
    assert_eq!(stats["by_kind"], json!({"poll": 2}));
    assert_eq!(stats["by_status"], json!({"200": 1, "404": 1}));
    assert_eq!(
        (&stats["max_calls_in_60s"], &stats["in_flight"]),
        (&json!(2), &json!(0))
    );
}

#[tokio::test]
async fn the_truth_is_shown_changed_deleted_and_brought_back() {
    let sim = plain();
    let truth = async || call(&sim, "GET", &own_path(), "").await.unwrap();
    assert_eq!(truth().await.text(), sim.truth_text(ID));
    let before = truth().await.json();
    let (kept, dropped) = (
        before["tools"][0]["slug"].clone(),
        before["tools"][1]["slug"].clone(),
    );
    let patch = json!({
        "nickname": "Renamed",
        "metadata": {"seats": 9, "nothing": null},
        "tools": {
            kept.as_str().unwrap(): {"description": null, "is_enabled": false},
            dropped.as_str().unwrap(): null,
            "new_tool": {"display_name": "New"},
        },
    });
    let after = post(&sim, &own_path(), &patch).await.json();
    assert_eq!(after, poll(&sim, ID).await);
    assert_eq!(
        (
            &after["nickname"],
            &after["metadata"]["seats"],
            &after["metadata"]["nothing"]
        ),
        (&json!("Renamed"), &json!(9), &Value::Null)
    );
    assert_eq!(after["metadata"]["region"], before["metadata"]["region"]);
    let tools = after["tools"].as_array().unwrap();
    assert_eq!(
        (
            tools.len(),
            &tools[0]["description"],
            &tools[0]["is_enabled"]
        ),
        (5, &Value::Null, &json!(false))
    );
    assert_eq!(tools[1], before["tools"][2]);
    assert_eq!(
        (&tools[4]["slug"], &tools[4]["display_name"]),
        (&json!("new_tool"), &json!("New"))
    );
    let whole = post(
        &sim,
        &own_path(),
        &json!({"tools": [{"slug": kept}, {"slug": "other"}]}),
    )
    .await
    .json();
    assert_eq!(whole["tools"].as_array().unwrap().len(), 2);
    assert_eq!(whole["tools"][0], tools[0]);
    call(&sim, "DELETE", &own_path(), "").await.unwrap();
    assert_eq!(
        (
            truth().await.status,
            try_poll(&sim, ID).await.unwrap().status
        ),
        (404, 404)
    );
    post(&sim, &own_path(), &json!({"nickname": "Back"})).await;
    assert_eq!(poll(&sim, ID).await["nickname"], "Back");
}

#[tokio::test]
async fn keys_are_revoked_and_rotated() {
    let sim = plain();
    post(&sim, "/_sim/keys", &json!([])).await;
    assert_eq!(try_poll(&sim, ID).await.unwrap().status, 401);
    post(&sim, "/_sim/keys", &json!(["fth_live_test"])).await;
    assert_eq!(try_poll(&sim, ID).await.unwrap().status, 200);
    post(&sim, "/_sim/keys", &Value::Null).await;
    assert_eq!(try_poll(&sim, ID).await.unwrap().status, 200);
}

#[tokio::test]
async fn faults_are_replaced_and_a_wrong_one_changes_nothing() {
    let sim = plain();
    let answer = post(
        &sim,
        "/_sim/faults",
        &json!([{"kind": "status", "code": 502}]),
    )
    .await;
    assert_eq!(answer.json(), json!({"faults": 1}));
    assert_eq!(try_poll(&sim, ID).await.unwrap().status, 502);
    let wrong = post(&sim, "/_sim/faults", &json!([{"kind": "sttus"}])).await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().contains("the nearest is `status`"));
    assert_eq!(try_poll(&sim, ID).await.unwrap().status, 502);
    post(&sim, "/_sim/faults", &json!([])).await;
    assert_eq!(try_poll(&sim, ID).await.unwrap().status, 200);
}

#[tokio::test]
async fn what_is_not_there_is_named_with_what_is() {
    let sim = plain();
    let unknown = call(&sim, "GET", "/_sim/nothing", "").await.unwrap();
    assert_eq!(unknown.status, 404);
    assert!(unknown.text().contains("/_sim/calls"));
    assert_eq!(
        call(&sim, "GET", "/_sim/connections/17", "")
            .await
            .unwrap()
            .status,
        400
    );
    assert_eq!(post(&sim, &own_path(), &json!(3)).await.status, 400);
}
