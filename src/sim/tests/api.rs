//! What the endpoints answer when nothing goes wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use super::client::ID;
use super::client::call;
use super::client::finalize;
use super::client::path_of;
use super::client::poll;
use super::client::receive;
use super::client::send;
use super::client::try_finalize;
use super::client::try_poll;
use crate::sim::Count;
use crate::sim::Limit;
use crate::sim::RetryAfter;
use crate::sim::Scenario;
use crate::sim::Seen;
use crate::sim::Sim;
use crate::sim::Span;
use crate::sim::SyncedAt;
use crate::sim::Window;

fn sim(scenario: Scenario) -> Sim {
    Sim::start(scenario).unwrap()
}

fn plain() -> Sim {
    sim(Scenario::default())
}

fn time(value: &Value) -> i64 {
    crate::sim::clock::parse_rfc3339(value.as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn the_truth_is_what_a_poll_answers() {
    let sim = plain();
    let answer = try_poll(&sim, ID).await.unwrap();
    assert_eq!(answer.text(), sim.truth_text(ID));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.header("x-request-id").is_some());
}

#[tokio::test]
async fn each_finalize_settles_at_once_with_a_later_tools_synced_at() {
    let sim = plain();
    let mut last = (0, 0);
    for _ in 0..5 {
        let answer = finalize(&sim, ID).await;
        assert_eq!(
            (&answer["status"], &answer["tools_status"]),
            (&"active".into(), &"synced".into())
        );
        let now = (
            time(&answer["tools_synced_at"]),
            time(&answer["updated_at"]),
        );
        assert!(now.0 > last.0 && now.1 > last.1);
        last = now;
    }
}

#[tokio::test]
async fn frozen_and_fixed_times_do_not_move_and_nothing_else_does() {
    let sim = sim(Scenario {
        tools_synced_at: SyncedAt::Frozen,
        last_seen_at: Seen::Fixed,
        ..Scenario::default()
    });
    assert_eq!(finalize(&sim, ID).await, finalize(&sim, ID).await);
}

#[tokio::test]
async fn a_moving_last_seen_at_moves_with_each_finalize() {
    let sim = plain();
    let seen = |answer: Value| time(&answer["tools"][0]["last_seen_at"]);
    let first = seen(finalize(&sim, ID).await);
    assert!(seen(finalize(&sim, ID).await) > first);
}

#[tokio::test]
async fn tools_land_once_the_settle_window_is_over() {
    let sim = sim(Scenario {
        settle: "1h..2h".parse().unwrap(),
        ..Scenario::default()
    });
    let first = finalize(&sim, ID).await;
    assert_eq!(
        (&first["tools_status"], &first["tools_synced_at"]),
        (&"syncing".into(), &Value::Null)
    );
    assert!(first["tools"].as_array().unwrap().len() < 5);
    assert_eq!(poll(&sim, ID).await, first);
    sim.advance(Duration::from_secs(7200));
    let settled = poll(&sim, ID).await;
    assert_eq!(
        (
            &settled["tools_status"],
            settled["tools"].as_array().unwrap().len()
        ),
        (&"synced".into(), 5)
    );
    assert!(time(&settled["updated_at"]) > time(&first["updated_at"]));
    assert_eq!(settled, sim.truth(ID));
    let again = finalize(&sim, ID).await;
    assert_eq!(
        (&again["tools_status"], &again["tools_synced_at"]),
        (&"syncing".into(), &settled["tools_synced_at"])
    );
    assert!(time(&again["updated_at"]) > time(&settled["updated_at"]));
    sim.advance(Duration::from_secs(7200));
    assert!(time(&poll(&sim, ID).await["tools_synced_at"]) > time(&settled["tools_synced_at"]));
}

#[tokio::test]
async fn the_first_calls_find_a_connection_not_active_if_the_scenario_says_so() {
    let sim = sim(Scenario {
        not_active: 2,
        ..Scenario::default()
    });
    for _ in 0..2 {
        let answer = finalize(&sim, ID).await;
        assert_eq!(
            (&answer["status"], &answer["connected_at"]),
            (&"pending_oauth".into(), &Value::Null)
        );
        assert_eq!(answer["tools"], Value::Array(Vec::new()));
    }
    assert_eq!(finalize(&sim, ID).await["status"], "active");
}

#[tokio::test]
async fn pending_connections_wait_for_their_first_finalize() {
    let sim = sim(Scenario {
        connections: 40,
        pending: 0.5,
        ..Scenario::default()
    });
    let pending: Vec<Uuid> = sim
        .ids()
        .into_iter()
        .filter(|id| sim.truth(*id)["status"] == "pending_oauth")
        .collect();
    assert!((10..30).contains(&pending.len()), "{}", pending.len());
    let refresh = format!("{}/refresh-tools", path_of(pending[0]));
    assert_eq!(call(&sim, "POST", &refresh, "").await.unwrap().status, 422);
    assert_eq!(finalize(&sim, pending[0]).await["status"], "active");
    assert_eq!(call(&sim, "POST", &refresh, "").await.unwrap().status, 202);
    sim.edit(pending[0], |one| one["status"] = "expired".into());
    assert_eq!(call(&sim, "POST", &refresh, "").await.unwrap().status, 422);
}

#[tokio::test]
async fn churn_adds_drops_and_changes_tools() {
    let sim = sim(Scenario {
        churn: 1.0,
        tools: Count::exactly(6),
        ..Scenario::default()
    });
    let mut changes = BTreeSet::new();
    let mut before = finalize(&sim, ID).await;
    for _ in 0..20 {
        let after = finalize(&sim, ID).await;
        let count = |answer: &Value| answer["tools"].as_array().unwrap().len();
        changes.insert(count(&after).cmp(&count(&before)));
        let names = |answer: &Value| -> Vec<String> {
            answer["tools"]
                .as_array()
                .unwrap()
                .iter()
                .map(|tool| tool["display_name"].to_string())
                .collect()
        };
        assert_ne!(names(&before), names(&after));
        assert!(time(&after["updated_at"]) > time(&before["updated_at"]));
        before = after;
    }
    assert_eq!(changes.len(), 3);
}

#[tokio::test]
async fn the_list_has_the_scenario_s_connections_and_all_others_heard_of() {
    for connections in [0, 3, 100] {
        let sim = sim(Scenario {
            connections,
            ..Scenario::default()
        });
        poll(&sim, ID).await;
        let list = call(&sim, "GET", "/v1/integrations/connections", "")
            .await
            .unwrap()
            .json();
        let ids: Vec<_> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(ids.len() as u64, connections + 1);
        assert!(ids.contains(&ID.to_string()));
        assert!(sim.ids().iter().all(|id| ids.contains(&id.to_string())));
    }
    let empty = plain();
    assert_eq!(
        call(&empty, "GET", "/v1/integrations/connections", "")
            .await
            .unwrap()
            .text(),
        "[]"
    );
    let catalog = call(&empty, "GET", "/v1/integrations", "")
        .await
        .unwrap()
        .json();
    assert_eq!(catalog[0]["key"], "slack");
}

#[tokio::test]
async fn a_missing_or_unknown_key_is_a_401_and_any_other_will_do_unless_listed() {
    let open = plain();
    let answer = receive(send(&open, "GET", &path_of(ID), "", "").await)
        .await
        .unwrap();
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (401, &"unauthorized".into())
    );
    let strict = sim(Scenario {
        api_keys: Some(vec!["right".into()]),
        ..Scenario::default()
    });
    for (key, status) in [("right", 200), ("wrong", 401)] {
        let answer = receive(send(&strict, "GET", &path_of(ID), key, "").await)
            .await
            .unwrap();
        assert_eq!(answer.status, status);
        assert!(answer.header("x-request-id").is_some());
    }
}

#[tokio::test]
async fn a_malformed_uuid_is_a_422_and_an_unknown_path_or_method_what_fastapi_says() {
    let sim = plain();
    let status = async |method, path| call(&sim, method, path, "").await.unwrap();
    let malformed = status("POST", "/v1/integrations/connections/17/finalize").await;
    assert_eq!(
        (malformed.status, &malformed.json()["detail"][0]["loc"][1]),
        (422, &"connection_id".into())
    );
    assert_eq!(
        status("GET", "/v1/nothing").await.json()["detail"],
        "Not Found"
    );
    assert_eq!(status("PUT", "/v1/integrations").await.status, 405);
}

#[tokio::test]
async fn over_the_limit_is_a_429_until_the_window_has_passed() {
    for window in [Window::Sliding, Window::Fixed] {
        let sim = sim(Scenario {
            limit: Some(Limit {
                requests_per_minute: 2,
                window,
                retry_after: Some(9),
                retry_after_header: Some(RetryAfter::Seconds(8)),
            }),
            ..Scenario::default()
        });
        let mut statuses = Vec::new();
        for _ in 0..3 {
            statuses.push(try_poll(&sim, ID).await.unwrap().status);
        }
        assert_eq!(statuses, [200, 200, 429]);
        let refused = try_finalize(&sim, ID).await.unwrap();
        assert_eq!(
            (&refused.json()["error"], &refused.json()["retry_after"]),
            (&"rate_limited".into(), &9.into())
        );
        assert_eq!(refused.header("retry-after"), Some("8"));
        assert_eq!(sim.calls()[3].fault, Some("rate_limited"));
        sim.advance(Duration::from_secs(60));
        assert_eq!(try_poll(&sim, ID).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn latency_is_kept_and_chosen_per_call() {
    let sim = sim(Scenario {
        latency: Span::exactly(Duration::from_millis(30)),
        ..Scenario::default()
    });
    let began = std::time::Instant::now();
    poll(&sim, ID).await;
    assert!(began.elapsed() >= Duration::from_millis(30));
}
