//! What the documents hold.

use std::collections::BTreeSet;

use serde_json::Value;
use uuid::Uuid;

use super::client::ID;
use crate::sim::Scenario;
use crate::sim::Sim;
use crate::sim::clock::parse_rfc3339;

const CONNECTION: [&str; 19] = [
    "id",
    "organization_id",
    "integration_key",
    "nickname_slug",
    "nickname",
    "vendor",
    "vendor_connection_id",
    "status",
    "tools_status",
    "tools_synced_at",
    "status_reason",
    "connected_at",
    "last_refreshed_at",
    "last_used_at",
    "metadata",
    "voice_account_cps",
    "created_at",
    "updated_at",
    "tools",
];

const TOOL: [&str; 22] = [
    "id",
    "connection_id",
    "organization_id",
    "integration_key",
    "nickname_slug",
    "tool_path",
    "slug",
    "display_name",
    "description",
    "input_schema",
    "response_schema",
    "response_field_map",
    "input_defaults",
    "is_enabled",
    "last_seen_at",
    "created_at",
    "updated_at",
    "stale_field_paths",
    "default_count",
    "pinned_count",
    "stale_input_fields",
    "merged_input_preview",
];

fn sim(seed: u64) -> Sim {
    Sim::start(Scenario {
        seed,
        ..Scenario::default()
    })
    .unwrap()
}

fn some_ids() -> impl Iterator<Item = Uuid> {
    (1..=200_u128).map(|n| Uuid::from_u128(n << 64 | 0x4000_8000_0000_0000_0000))
}

#[tokio::test]
async fn every_field_has_a_value_of_its_type_for_every_connection() {
    let sim = sim(0);
    let mut seen = BTreeSet::new();
    for id in some_ids() {
        let connection = sim.truth(id);
        for name in CONNECTION {
            let value = connection.get(name);
            seen.insert((name, value.is_none(), value.is_some_and(Value::is_null)));
            assert!(value.is_some() || name == "voice_account_cps", "{name}");
        }
        assert!(
            connection
                .as_object()
                .unwrap()
                .keys()
                .all(|key| CONNECTION.contains(&key.as_str()))
        );
        assert_eq!(connection["id"], id.to_string());
        for name in [
            "created_at",
            "updated_at",
            "tools_synced_at",
            "connected_at",
        ] {
            let text = connection[name].as_str().unwrap();
            assert!(text.len() >= "2024-01-01T00:00:00.000000Z".len(), "{text}");
            assert!(parse_rfc3339(text).is_some());
        }
        assert!(connection["metadata"].is_object());
        let slug = connection["nickname_slug"].as_str().unwrap();
        let tools = connection["tools"].as_array().unwrap();
        assert_eq!(tools.len(), 5);
        for tool in tools {
            for name in TOOL {
                let value = tool.get(name);
                seen.insert((name, value.is_none(), value.is_some_and(Value::is_null)));
                let optional = name.starts_with("response_") || name == "input_defaults";
                assert!(value.is_some() || optional, "{name}");
            }
            assert!(
                tool.as_object()
                    .unwrap()
                    .keys()
                    .all(|key| TOOL.contains(&key.as_str()))
            );
            assert_eq!(tool["connection_id"], connection["id"]);
            assert_eq!(tool["organization_id"], connection["organization_id"]);
            assert!(tool["slug"].as_str().unwrap().starts_with(slug));
            assert!(tool["input_schema"].to_string().len() > 800);
            let defaults = tool.get("input_defaults").and_then(Value::as_object);
            let configured = defaults.map_or(0, serde_json::Map::len) as u64;
            let counted =
                tool["default_count"].as_u64().unwrap() + tool["pinned_count"].as_u64().unwrap();
            assert_eq!(configured, counted);
        }
        let slugs: BTreeSet<_> = tools.iter().map(|tool| tool["slug"].to_string()).collect();
        assert_eq!(slugs.len(), tools.len());
    }
    for name in [
        "voice_account_cps",
        "response_schema",
        "response_field_map",
        "input_defaults",
    ] {
        for (missing, null) in [(true, false), (false, true), (false, false)] {
            assert!(
                seen.contains(&(name, missing, null)),
                "{name} {missing} {null}"
            );
        }
    }
    for name in [
        "vendor_connection_id",
        "status_reason",
        "last_refreshed_at",
        "last_used_at",
        "description",
    ] {
        assert!(
            seen.contains(&(name, false, true)) && seen.contains(&(name, false, false)),
            "{name}"
        );
    }
}

#[tokio::test]
async fn content_depends_on_id_and_seed_alone() {
    let (one, same, other) = (sim(0), sim(0), sim(1));
    assert_eq!(one.truth_text(ID), same.truth_text(ID));
    assert_ne!(one.truth_text(ID), other.truth_text(ID));
    let differing: BTreeSet<_> = some_ids()
        .map(|id| one.truth(id)["nickname"].to_string())
        .collect();
    assert_eq!(differing.len(), 8);
    assert!(some_ids().any(|id| {
        one.truth_text(id)
            .contains("12345678901234567890.123456789")
    }));
}
