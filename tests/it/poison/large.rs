//! Answers as large as they may be, of the kinds that cost most: many tools, many values, many numbers.

use crate::poison::impatient_world;
use crate::poison::pairs;
use crate::poison::sync;
use crate::world::World;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

/// Most of what fits into the default of `api.max_body_bytes`.
const LARGE: usize = 5 << 20;

/// The truth about a connection with as many tools as fit, each described so.
fn with_many_tools(world: &World, id: Uuid, description: &str) -> Vec<u8> {
    let mut truth = world.sim.truth(id);
    let mut tool = truth["tools"][0].clone();
    for name in ["input_schema", "merged_input_preview"] {
        tool[name] = json!({});
    }
    for name in ["response_schema", "response_field_map", "input_defaults"] {
        tool.as_object_mut().unwrap().remove(name);
    }
    tool["description"] = json!(description);
    let count = LARGE / tool.to_string().len();
    let tools = (1..=count as u128).map(|n| {
        let mut tool = tool.clone();
        tool["id"] = json!(Uuid::from_u128(n));
        tool
    });
    truth["tools"] = Value::Array(tools.collect());
    response(&truth.to_string())
}

fn response(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n\r\n{body}").into_bytes()
}

/// The longest that any statement has taken by the time that it is stopped.
async fn longest_statement(world: &World, during: impl Future<Output = ()>) -> Duration {
    let mut longest = 0.0_f64;
    let looking = async {
        loop {
            let age: f64 = world
                .value(
                    "SELECT COALESCE(max(EXTRACT(epoch FROM clock_timestamp() - query_start)), 0)::float8
                     FROM pg_stat_activity
                     WHERE datname = current_database() AND state = 'active' AND application_name = 'feather-sync'",
                )
                .await;
            longest = longest.max(age);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = looking => {}
        () = during => {}
    }
    Duration::from_secs_f64(longest)
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_tools_in_one_answer_are_written_without_comparing_each_with_each() {
    let (world, upstream) = impatient_world().await;
    let pairs = pairs(1);
    let (ill, _) = pairs[0];
    let mut took = Vec::new();
    for description in ["as it was", "as it is"] {
        upstream.answer(ill, with_many_tools(&world, ill, description));
        took.push(longest_statement(&world, sync(&world, &upstream, &pairs)).await);
        let tools: i64 = world
            .value(&format!(
                "SELECT count(*) FROM feather.tools WHERE connection_id = '{ill}' AND description = '{description}'"
            ))
            .await;
        assert!(tools > 7_000, "{tools}");
    }
    // An update takes some three times as long as an INSERT; of each with each, thirty times.
    assert!(
        took[1] < took[0].max(Duration::from_millis(200)) * 12,
        "{took:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_are_written_a_few_at_a_time() {
    let (world, upstream) = impatient_world().await;
    let pairs = pairs(10);
    for (ill, _) in &pairs {
        let mut truth = world.sim.truth(*ill);
        truth["metadata"] = json!({"large": "x".repeat(LARGE)});
        upstream.answer(*ill, response(&truth.to_string()));
    }
    sync(&world, &upstream, &pairs).await;
    // One transaction writes the rows of one batch.
    let most: i64 = world
        .value(
            "SELECT max(large) FROM (SELECT count(*) AS large FROM feather.integration_connections
                                     WHERE octet_length(metadata::text) > 1000000 GROUP BY xmin::text) AS batch",
        )
        .await;
    assert!(most <= 4, "{most} answers of 5 MiB in one transaction");
    for (ill, _) in &pairs {
        assert_eq!(world.story(*ill).await, ["synced"]);
    }
}
