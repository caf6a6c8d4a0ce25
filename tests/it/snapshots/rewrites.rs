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
use crate::world::ids;
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
    // Numbers as wide as a double, as the answers below have them.
    sync(&world, id, told(&world, id, |_| {})).await;
    let changed = column(&world, id, "_changed_at").await;
    let tools_changed = tool_column(&world, id, "_changed_at").await;
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
}

#[tokio::test(flavor = "multi_thread")]
async fn times_that_merely_move_are_stored_and_count_as_no_change() {
    let (world, id) = settled().await;
    sync(&world, id, told(&world, id, |_| {})).await;
    let changed = column(&world, id, "_changed_at").await;
    let tools_changed = tool_column(&world, id, "_changed_at").await;
    let tools = places(&world, id).await;
    let mut moved = world.sim.truth(id);
    moved["last_used_at"] = json!("2026-05-05T05:05:05.050505Z");
    moved["last_refreshed_at"] = json!("2026-05-05T05:05:06Z");
    moved["tools"][1]["last_seen_at"] = json!("2026-05-05T05:05:07Z");
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

fn other(value: &Value, name: &str) -> Value {
    match value {
        Value::Null | Value::String(_) if name.ends_with("_at") => json!("2026-05-05T05:05:05Z"),
        Value::String(text) if Uuid::parse_str(text).is_ok() => json!(Uuid::max()),
        Value::Null | Value::String(_) => json!("other"),
        Value::Number(_) => json!(77),
        Value::Bool(yes) => json!(!yes),
        Value::Array(_) => json!(["other"]),
        Value::Object(_) => json!({"other": true}),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_field_that_differs_is_a_change_of_its_row_alone() {
    let fields: Vec<&str> = "organization_id integration_key nickname_slug nickname vendor vendor_connection_id tools_synced_at \
         status_reason connected_at metadata voice_account_cps created_at updated_at new_upstream"
        .split_whitespace()
        .collect();
    let of_tools: Vec<&str> = "organization_id integration_key nickname_slug tool_path slug display_name description input_schema \
         response_schema response_field_map input_defaults is_enabled created_at updated_at stale_field_paths default_count \
         pinned_count stale_input_fields merged_input_preview new_upstream"
        .split_whitespace()
        .collect();
    let world = World::new().await;
    let ids = ids((fields.len() + of_tools.len()) as u128);
    let truths: Vec<Value> = ids.iter().map(|id| world.sim.truth(*id)).collect();
    for (id, truth) in ids.iter().zip(&truths) {
        world.sim.script(*id, [answer(truth.to_string())]);
    }
    world.sync(&ids).await;
    let mut before = Vec::new();
    for (n, (id, truth)) in ids.iter().zip(&truths).enumerate() {
        before.push((
            column(&world, *id, "_changed_at").await,
            places(&world, *id).await,
        ));
        let mut edited = truth.clone();
        match fields.get(n) {
            Some(&"voice_account_cps") => edited["voice_account_cps"] = json!(77),
            Some(name) => edited[name] = other(&truth[name], name),
            None => {
                let name = of_tools[n - fields.len()];
                let tool = &mut edited["tools"][3];
                tool[name] = match name {
                    "response_schema" | "response_field_map" | "input_defaults" => {
                        json!({"other": 1})
                    }
                    _ => other(&tool[name], name),
                };
            }
        }
        // The poll that follows, as the sync is the one that is known, is told the same.
        world.sim.script(
            *id,
            [answer(edited.to_string()), answer(edited.to_string())],
        );
    }
    world.sync(&ids).await;
    for (n, (id, (changed_at, places_before))) in ids.iter().zip(before).enumerate() {
        let changed = column(&world, *id, "_changed_at").await != changed_at;
        let places = places(&world, *id).await;
        let rewritten = places
            .iter()
            .filter(|place| !places_before.contains(place))
            .count();
        let name = fields.get(n).unwrap_or_else(|| &of_tools[n - fields.len()]);
        let of_connection = n < fields.len();
        assert_eq!(changed, of_connection, "{name}");
        assert_eq!(rewritten, usize::from(!of_connection), "{name}");
        assert_eq!(
            counts(&world, *id).await,
            (0, i64::from(!of_connection), 0),
            "{name}"
        );
    }
}
