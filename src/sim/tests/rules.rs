//! Which calls scripts and rules hit.

use serde_json::Value;
use serde_json::json;
use uuid::Uuid;

use super::client::ID;
use super::client::call;
use super::client::try_finalize;
use super::client::try_poll;
use crate::sim::Fault;
use crate::sim::FaultRule;
use crate::sim::On;
use crate::sim::Scenario;
use crate::sim::Sim;

fn plain() -> Sim {
    Sim::start(Scenario::default()).unwrap()
}

#[tokio::test]
async fn scripts_run_in_order_and_end() {
    let sim = plain();
    sim.script(ID, [Fault::status(500), Fault::None, Fault::status(503)]);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(try_poll(&sim, ID).await.unwrap().status);
    }
    assert_eq!(statuses, [500, 200, 503, 200]);
    assert_eq!(
        try_poll(&sim, Uuid::from_u128(1)).await.unwrap().status,
        200
    );
}

#[tokio::test]
async fn rules_count_per_connection_and_per_kind_of_call() {
    let sim = Sim::start(Scenario {
        faults: vec![FaultRule {
            times: Some(2),
            on: On::Finalize,
            ..FaultRule::new(Fault::status(503))
        }],
        ..Scenario::default()
    })
    .unwrap();
    for id in [ID, Uuid::from_u128(9)] {
        assert_eq!(try_poll(&sim, id).await.unwrap().status, 200);
        for status in [503, 503, 200] {
            assert_eq!(try_finalize(&sim, id).await.unwrap().status, status);
        }
    }
    sim.set_faults(vec![FaultRule {
        times: Some(1),
        ..FaultRule::new(Fault::status(500))
    }]);
    assert_eq!(try_poll(&sim, ID).await.unwrap().status, 500);
    assert_eq!(try_poll(&sim, ID).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_rate_hits_the_same_calls_in_every_run() {
    let run = async || {
        let rule = FaultRule {
            rate: 0.4,
            ..FaultRule::new(Fault::status(500))
        };
        let sim = Sim::start(Scenario {
            faults: vec![rule],
            ..Scenario::default()
        })
        .unwrap();
        let mut statuses = Vec::new();
        for _ in 0..40 {
            statuses.push(try_poll(&sim, ID).await.unwrap().status);
        }
        statuses
    };
    let first = run().await;
    assert!((8..24).contains(&first.iter().filter(|status| **status == 500).count()));
    assert_eq!(first, run().await);
}

#[tokio::test]
async fn lists_are_hit_by_rules_for_lists_only() {
    let sim = Sim::start(Scenario {
        connections: 3,
        ..Scenario::default()
    })
    .unwrap();
    let list = async || call(&sim, "GET", "/v1/integrations/connections", "").await;
    sim.set_faults(vec![FaultRule::new(Fault::status(500))]);
    assert_eq!(list().await.unwrap().status, 200);
    let set = |fault| {
        sim.set_faults(vec![FaultRule {
            on: On::List,
            ..FaultRule::new(fault)
        }]);
    };
    set(Fault::status(500));
    assert_eq!(list().await.unwrap().status, 500);
    set(Fault::EmptyTools);
    assert_eq!(list().await.unwrap().json()[2]["tools"], json!([]));
    set(Fault::TooLarge {
        bytes: 200_000,
        announced: false,
    });
    assert_eq!(list().await.unwrap().json().as_array().unwrap().len(), 4);
    set(Fault::TruncatedJson);
    assert!(serde_json::from_slice::<Value>(&list().await.unwrap().body).is_err());
}
