//! What has not changed is not written.

use super::column;
use super::counts;
use super::places;
use super::settled;
use super::sync;
use super::told;
use super::tool_column;
use crate::outcomes::answer;
use crate::world::World;
use serde_json::Value;
use serde_json::json;
use uuid::Uuid;

/// The columns of a connection that are no bookkeeping.
async fn content(world: &World, id: Uuid) -> Option<String> {
    column(
        world,
        id,
        "to_jsonb(integration_connections) - '_synced_at' - '_finalized_at'",
    )
    .await
}

/// The same document with the keys of every object the other way round.
fn turned(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .rev()
                .map(|(name, value)| format!(" {} : {}", json!(name), turned(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(turned).collect();
            format!("[{}]", items.join(",\n"))
        }
        other => other.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_answer_rewrites_no_tool_and_of_the_connection_only_its_bookkeeping() {
    let (world, id) = settled().await;
    let (tools, kept) = (places(&world, id).await, content(&world, id).await);
    let synced = column(&world, id, "_synced_at").await;
    let finalized = column(&world, id, "_finalized_at").await;
    for _ in 0..2 {
        world.sync(&[id]).await;
    }
    assert_eq!(places(&world, id).await, tools);
    assert_eq!(content(&world, id).await, kept);
    assert_ne!(column(&world, id, "_synced_at").await, synced);
    assert_ne!(column(&world, id, "_finalized_at").await, finalized);
    assert_eq!(counts(&world, id).await, (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_order_of_keys_and_tools_is_no_change() {
    let (world, id) = settled().await;
    let changed = column(&world, id, "_changed_at").await;
    let tools_changed = tool_column(&world, id, "_changed_at").await;
    let same = told(&world, id, |_| {});
    sync(&world, id, same).await;
    let mut truth = world.sim.truth(id);
    truth["tools"].as_array_mut().unwrap().reverse();
    sync(&world, id, answer(turned(&truth))).await;
    assert_eq!(column(&world, id, "_changed_at").await, changed);
    assert_eq!(tool_column(&world, id, "_changed_at").await, tools_changed);
    assert_eq!(counts(&world, id).await, (0, 0, 0));
    // The second time the text is known too.
    let tools = places(&world, id).await;
    sync(&world, id, answer(turned(&truth))).await;
    assert_eq!(places(&world, id).await, tools);
    world.equals_truth(id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn times_that_merely_move_are_stored_and_count_as_no_change() {
    let (world, id) = settled().await;
    let changed = column(&world, id, "_changed_at").await;
    let tools_changed = tool_column(&world, id, "_changed_at").await;
    let tools = places(&world, id).await;
    world.sim.edit(id, |truth| {
        let updated_at = truth["updated_at"].clone();
        truth["last_used_at"] = json!("2026-05-05T05:05:05.050505Z");
        truth["last_refreshed_at"] = json!("2026-05-05T05:05:06Z");
        truth["tools"][1]["last_seen_at"] = json!("2026-05-05T05:05:07Z");
        truth["updated_at"] = updated_at;
    });
    let mut moved = world.sim.truth(id);
    moved["updated_at"] = json!(column(&world, id, "to_json(updated_at) #>> '{}'").await);
    sync(&world, id, answer(moved.to_string())).await;
    assert_eq!(column(&world, id, "_changed_at").await, changed);
    assert_eq!(tool_column(&world, id, "_changed_at").await, tools_changed);
    assert_eq!(counts(&world, id).await, (0, 0, 0));
    let used = column(&world, id, "last_used_at = '2026-05-05T05:05:05.050505Z' AND last_refreshed_at = '2026-05-05T05:05:06Z'").await;
    assert_eq!(used.as_deref(), Some("true"));
    let seen = tool_column(&world, id, "last_seen_at = '2026-05-05T05:05:07Z'").await;
    assert_eq!(
        seen.iter()
            .filter(|seen| seen.as_deref() == Some("true"))
            .count(),
        1
    );
    let rewritten = places(&world, id)
        .await
        .iter()
        .filter(|place| !tools.contains(place))
        .count();
    assert_eq!(rewritten, 1, "the other tools were not written");
    // Cleared, it is no change either.
    moved["last_used_at"] = Value::Null;
    sync(&world, id, answer(moved.to_string())).await;
    assert_eq!(column(&world, id, "last_used_at").await, None);
    assert_eq!(column(&world, id, "_changed_at").await, changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_field_that_differs_is_a_change_of_its_row_alone() {
    let (world, id) = settled().await;
    let truth = world.sim.truth(id);
    let fields: Vec<String> = truth.as_object().unwrap().keys().cloned().collect();
    let still = [
        "id",
        "tools",
        "last_used_at",
        "last_refreshed_at",
        "status",
        "tools_status",
        "updated_at",
    ];
    let other = |value: &Value, name: &str| match value {
        Value::String(_) if name.ends_with("_at") => json!("2026-05-05T05:05:05Z"),
        Value::String(text) if Uuid::parse_str(text).is_ok() => json!(Uuid::max()),
        Value::Null if name.ends_with("_at") => json!("2026-05-05T05:05:05Z"),
        Value::Null | Value::String(_) => json!("other"),
        Value::Number(_) => json!(77),
        Value::Bool(yes) => json!(!yes),
        Value::Array(_) => json!(["other"]),
        Value::Object(_) => json!({"other": true}),
    };
    let mut tools = places(&world, id).await;
    for name in fields.iter().filter(|name| !still.contains(&name.as_str())) {
        let before = column(&world, id, "_changed_at").await;
        let mut edited = truth.clone();
        edited[name] = other(&truth[name], name);
        sync(&world, id, answer(edited.to_string())).await;
        assert!(column(&world, id, "_changed_at").await > before, "{name}");
        let stored = column(&world, id, &format!("to_jsonb({name})")).await;
        assert_ne!(stored, None, "{name}");
        if name != "tools_synced_at" {
            assert_eq!(counts(&world, id).await, (0, 0, 0), "{name}");
        }
    }
    // The first answer of one's own may have spelled numbers otherwise; from then on no tool was written.
    sync(&world, id, answer(truth.to_string())).await;
    tools.clone_from(&places(&world, id).await);
    let (connection_changed, tool) = (column(&world, id, "_changed_at").await, &truth["tools"][3]);
    let still = ["id", "connection_id", "last_seen_at"];
    for name in tool
        .as_object()
        .unwrap()
        .keys()
        .filter(|name| !still.contains(&name.as_str()))
    {
        let mut edited = truth.clone();
        edited["tools"][3][name] = match name.as_str() {
            "response_schema" | "response_field_map" | "input_defaults" => json!({"other": 1}),
            _ => other(&tool[name], name),
        };
        sync(&world, id, answer(edited.to_string())).await;
        assert_eq!(counts(&world, id).await, (0, 1, 0), "{name}");
        sync(&world, id, answer(truth.to_string())).await;
        assert_eq!(counts(&world, id).await, (0, 1, 0), "{name} and back");
    }
    assert_eq!(column(&world, id, "_changed_at").await, connection_changed);
    let unmoved = places(&world, id)
        .await
        .iter()
        .filter(|place| tools.contains(place))
        .count();
    assert_eq!(unmoved, 4);
}
