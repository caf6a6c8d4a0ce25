//! Edits of the truth: a changed document is compared with the one before, and only what differs
//! is kept, so that all else goes on as generated, with all its digits.

use std::sync::Arc;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use uuid::Uuid;

use super::clock::Micros;
use super::clock::parse_rfc3339;
use super::document::Overrides;
use super::fields::Fields;
use super::fields::Parts;
use super::fields::rewrite;
use super::scenario::Scenario;
use super::world::Content;
use super::world::Tool;
use super::world::View;
use super::world::next_index;

/// Applies `change` to the settled document. A field that it sets stays so until edited again
/// (`updated_at` alone moves on); one that it takes away is gone. Tools are recognised by `id`;
/// what an added one lacks is made up where the API requires it.
pub(super) fn edit(
    content: &mut Content,
    scenario: &Scenario,
    id: Uuid,
    now: Micros,
    change: impl FnOnce(&mut Value),
) {
    let text = content.document(scenario, id, View::Settled);
    let old: Value = serde_json::from_str(&text).unwrap_or_default();
    let mut new = old.clone();
    change(&mut new);
    if new == old {
        return;
    }
    content.touch(now);
    let parts = Parts::parse(&text);
    let mut overrides = content.overrides.as_deref().cloned().unwrap_or_default();
    let (Value::Object(mut old), Value::Object(mut new)) = (old, new) else {
        return;
    };
    let (old_tools, new_tools) = (old.remove("tools"), new.remove("tools"));
    let set_time = new.get("updated_at") != old.get("updated_at");
    if let Some(Value::String(time)) = new.get("updated_at").filter(|_| set_time)
        && let Some(at) = parse_rfc3339(time)
    {
        content.updated_at = at;
        match old.get("updated_at") {
            Some(before) => new.insert("updated_at".to_owned(), before.clone()),
            None => new.remove("updated_at"),
        };
    }
    note_differences(&mut overrides, &parts.fields, &old, &new);
    if old_tools != new_tools {
        match new_tools {
            Some(Value::Array(list)) => {
                overrides.remove("tools");
                let old = parts.tools.unwrap_or_default();
                let tools = edited_tools(content, scenario, id, now, &old, &list);
                content.set_tools(tools);
            }
            other => {
                overrides.insert("tools".to_owned(), other.map(|value| value.to_string()));
            }
        }
    }
    content.overrides = (!overrides.is_empty()).then(|| Arc::new(overrides));
}

fn edited_tools(
    content: &Content,
    scenario: &Scenario,
    id: Uuid,
    now: Micros,
    shown: &[Fields],
    list: &[Value],
) -> Vec<Tool> {
    let mut before: Vec<Option<(Tool, &Fields)>> = content
        .all_tools(scenario, id)
        .into_iter()
        .zip(shown)
        .map(Some)
        .collect();
    let mut free = next_index(&content.all_tools(scenario, id));
    let nothing = Map::new();
    list.iter()
        .map(|new| {
            let new = new.as_object().unwrap_or(&nothing);
            let place = before.iter().position(|old| {
                old.as_ref().is_some_and(|(_, fields)| {
                    fields.string("id").as_deref() == new.get("id").and_then(Value::as_str)
                })
            });
            match place.and_then(|place| before[place].take()) {
                Some((tool, fields)) => changed_tool(tool, fields, new, now),
                None => {
                    free += 1;
                    added_tool(free - 1, new, now)
                }
            }
        })
        .collect()
}

fn changed_tool(mut tool: Tool, fields: &Fields, new: &Map<String, Value>, now: Micros) -> Tool {
    let mut text = String::new();
    fields.write(&mut text);
    let old: Map<String, Value> = serde_json::from_str(&text).unwrap_or_default();
    if old == *new {
        return tool;
    }
    let mut overrides = tool.overrides.as_deref().cloned().unwrap_or_default();
    note_differences(&mut overrides, fields, &old, new);
    tool.overrides = Some(Arc::new(overrides));
    tool.changed_at = Some(now);
    tool
}

fn added_tool(index: u32, given: &Map<String, Value>, now: Micros) -> Tool {
    let mut overrides: Overrides = given
        .iter()
        .map(|(name, value)| (name.clone(), Some(value.to_string())))
        .collect();
    for name in ["response_schema", "response_field_map", "input_defaults"] {
        overrides.entry(name.to_owned()).or_insert(None);
    }
    for name in ["default_count", "pinned_count"] {
        overrides
            .entry(name.to_owned())
            .or_insert_with(|| Some("0".to_owned()));
    }
    Tool {
        index,
        revision: 0,
        changed_at: Some(now),
        overrides: Some(Arc::new(overrides)),
    }
}

fn note_differences(
    overrides: &mut Overrides,
    raw: &Fields,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
) {
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        overrides.insert(name.clone(), None);
    }
    for (name, value) in new {
        if old.get(name) != Some(value) {
            let text = raw
                .get(name)
                .map_or_else(|| value.to_string(), |before| rewrite(before, value));
            overrides.insert(name.clone(), Some(text));
        }
    }
}

/// Merges `patch` over a document: objects are merged, anything else, null too, replaces. `tools`
/// may be a list (the whole list, each merged over the tool of the same `id` or `slug`) or an object
/// keyed by `id` or `slug` (null drops the tool, an object is merged over it, an unknown key adds one).
pub(super) fn merge(document: &mut Value, mut patch: Value) {
    let tools = patch
        .as_object_mut()
        .and_then(|fields| fields.remove("tools"));
    merge_value(document, patch);
    let before = document["tools"].as_array().cloned().unwrap_or_default();
    let same = |tool: &Value, key: &str| tool["id"] == key || tool["slug"] == key;
    let after = match tools {
        None => return,
        Some(Value::Array(list)) => list
            .into_iter()
            .map(|patch| {
                let known = before.iter().find(|tool| {
                    ["id", "slug"]
                        .iter()
                        .any(|name| patch[name].is_string() && patch[name] == tool[name])
                });
                let mut tool = known.cloned().unwrap_or_else(|| json!({}));
                merge_value(&mut tool, patch);
                tool
            })
            .collect(),
        Some(Value::Object(changes)) => {
            let mut after = before;
            for (key, patch) in changes {
                let place = after.iter().position(|tool| same(tool, &key));
                match (place, patch) {
                    (Some(place), Value::Null) => {
                        after.remove(place);
                    }
                    (Some(place), patch) => merge_value(&mut after[place], patch),
                    (None, Value::Null) => {}
                    (None, patch) => {
                        let name = if Uuid::parse_str(&key).is_ok() {
                            "id"
                        } else {
                            "slug"
                        };
                        let mut tool = json!({ name: key });
                        merge_value(&mut tool, patch);
                        after.push(tool);
                    }
                }
            }
            after
        }
        Some(other) => {
            document["tools"] = other;
            return;
        }
    };
    document["tools"] = Value::Array(after);
}

fn merge_value(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(fields) = target.as_object_mut() else {
        return;
    };
    for (name, value) in patch {
        merge_value(fields.entry(name).or_insert(Value::Null), value);
    }
}
