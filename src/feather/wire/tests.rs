use super::fields::WARNED_NAME_BYTES;
use super::fields::WARNINGS;
use super::*;
use crate::domain::snapshot::Optional;
use crate::domain::snapshot::Warning;
use chrono::DateTime;
use chrono::Utc;
use serde_json::Value;
use serde_json::json;

const ID: &str = "3c90c3cc-0d44-4b50-8888-8dd25736052a";

fn tool(id: u128) -> Value {
    json!({
        "id": Uuid::from_u128(id), "connection_id": ID, "organization_id": Uuid::nil(), "integration_key": "slack",
        "nickname_slug": "ops", "tool_path": "chat.post", "slug": "ops_post", "display_name": "Post",
        "description": null, "input_schema": {"type": "object"}, "is_enabled": true,
        "last_seen_at": "2026-01-02T03:04:05.123456Z", "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00+02:00", "stale_field_paths": ["a.b"], "default_count": 1,
        "pinned_count": 0, "stale_input_fields": [], "merged_input_preview": {}
    })
}

fn connection() -> Value {
    json!({
        "id": ID, "organization_id": Uuid::nil(), "integration_key": "brand_new", "nickname_slug": "ops",
        "nickname": "Ops", "vendor": "nango", "vendor_connection_id": null, "status": "active",
        "tools_status": "synced", "tools_synced_at": "2026-01-01T00:00:00Z", "status_reason": null,
        "connected_at": null, "last_refreshed_at": null, "last_used_at": null, "metadata": {"a": [1]},
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "tools": [tool(2), tool(1)]
    })
}

fn read_text(text: &str) -> Result<ConnectionSnapshot, WireError> {
    read_connection(&StorableBody::new(text.into()), ID.parse().unwrap())
}

fn read(value: &Value) -> Result<ConnectionSnapshot, WireError> {
    read_text(&value.to_string())
}

fn edited(edit: impl FnOnce(&mut Value)) -> Value {
    let mut value = connection();
    edit(&mut value);
    value
}

#[test]
fn a_plain_answer_is_read_with_tools_sorted_by_id() {
    let snapshot = read(&connection()).unwrap();
    assert_eq!(snapshot.integration_key, "brand_new");
    assert_eq!(snapshot.metadata, r#"{"a":[1]}"#);
    assert_eq!(snapshot.voice_account_cps, Optional::Absent);
    assert_eq!(snapshot.extra, "{}");
    assert!(snapshot.warnings.is_empty());
    let ids: Vec<_> = snapshot
        .tools
        .unwrap()
        .iter()
        .map(|tool| tool.id.as_u128())
        .collect();
    assert_eq!(ids, [1, 2]);
}

#[test]
fn every_required_field_that_is_missing_is_named() {
    let required = connection();
    for name in required
        .as_object()
        .unwrap()
        .keys()
        .filter(|name| *name != "tools")
    {
        let error = read(&edited(|value| {
            _ = value.as_object_mut().unwrap().remove(name);
        }))
        .unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("{name}: the field is missing")),
            "{error}"
        );
    }
    for name in tool(1).as_object().unwrap().keys() {
        let error = read(&edited(|value| {
            _ = value["tools"][1].as_object_mut().unwrap().remove(name);
        }))
        .unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("tools[1].{name}: the field is missing")),
            "{error}"
        );
    }
}

#[test]
fn tools_that_are_null_or_missing_are_no_tools_and_an_empty_array_is_one() {
    assert_eq!(
        read(&edited(|value| value["tools"] = Value::Null))
            .unwrap()
            .tools,
        None
    );
    assert_eq!(
        read(&edited(
            |value| _ = value.as_object_mut().unwrap().remove("tools")
        ))
        .unwrap()
        .tools,
        None
    );
    assert_eq!(
        read(&edited(|value| value["tools"] = json!([])))
            .unwrap()
            .tools,
        Some(vec![])
    );
}

#[test]
fn unknown_fields_are_kept_with_every_digit() {
    let text = connection().to_string().replacen(
        '{',
        r#"{"new_field": {"n": 12345678901234567890.123456789e-7},"#,
        1,
    );
    assert_eq!(
        read_text(&text).unwrap().extra,
        r#"{"new_field":{"n": 12345678901234567890.123456789e-7}}"#
    );
}

#[test]
fn what_jsonb_refuses_is_replaced_and_named() {
    let mut value = connection();
    value["nickname"] = json!("N");
    let text = value
        .to_string()
        .replace(r#""N""#, r#""a\u0000b""#)
        .replace(r#""chat.post""#, r#""\ud800""#);
    let snapshot = read_text(&text).unwrap();
    assert_eq!(snapshot.nickname, "a\u{fffd}b");
    let named = |warnings: &[Warning]| warnings.iter().map(|w| w.field.clone()).collect::<Vec<_>>();
    assert_eq!(named(&snapshot.warnings), ["nickname"]);
    let tools = snapshot.tools.unwrap();
    assert_eq!(tools[0].tool_path, "\u{fffd}");
    assert_eq!(named(&tools[0].warnings), ["tool_path"]);
}

#[test]
fn an_answer_for_another_id_or_with_another_connections_tool_is_a_mismatch() {
    let other = read(&edited(|value| value["id"] = json!(Uuid::nil()))).unwrap_err();
    assert!(matches!(other, WireError::OtherId { .. }));
    let foreign = read(&edited(|value| {
        value["tools"][0]["connection_id"] = json!(Uuid::nil());
    }))
    .unwrap_err();
    assert!(matches!(foreign, WireError::OtherId { .. }));
}

#[test]
fn a_tool_that_comes_twice_counts_once_and_is_named() {
    let snapshot = read(&edited(|value| {
        value["tools"][0] = tool(1);
        value["tools"][1]["slug"] = json!("last");
    }))
    .unwrap();
    assert_eq!(snapshot.tools.unwrap()[0].slug, "last");
    assert_eq!(snapshot.warnings[0].field, "tools[1].id");
}

#[test]
fn wrong_types_are_refused() {
    let wrong = [
        ("nickname", json!(1)),
        ("nickname", Value::Null),
        ("created_at", json!("yesterday")),
        ("created_at", json!("2026-01-01T00:00:00")),
        ("metadata", json!([])),
        ("voice_account_cps", json!("fast")),
        ("tools", json!({})),
        ("organization_id", json!("x")),
    ];
    for (name, value) in wrong {
        let error = read(&edited(|connection| connection[name] = value.clone())).unwrap_err();
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
    for text in ["", "[]", "null", "{", "<html>", "{} x"] {
        assert!(
            matches!(read_text(text), Err(WireError::Malformed(_))),
            "{text}"
        );
    }
}

#[test]
fn optional_fields_tell_null_from_absent() {
    let value = |cps: Value| {
        read(&edited(|v| v["voice_account_cps"] = cps))
            .unwrap()
            .voice_account_cps
    };
    assert_eq!(value(Value::Null), Optional::Null);
    assert_eq!(value(json!(2.5)), Optional::Json("2.5".into()));
}

#[test]
fn the_hash_ignores_volatile_fields_and_key_order_and_nothing_else() {
    let hash = |value: &Value| read(value).unwrap().hash;
    let base = hash(&connection());
    assert_eq!(
        hash(&edited(
            |v| v["last_used_at"] = json!("2026-01-01T00:00:00Z")
        )),
        base
    );
    assert_eq!(hash(&edited(|v| v["tools"] = Value::Null)), base);
    for (name, other) in [
        ("nickname", json!("x")),
        ("metadata", json!({"a": [2]})),
        ("new", json!(1)),
    ] {
        assert_ne!(hash(&edited(|v| v[name] = other.clone())), base, "{name}");
    }
}

#[test]
fn a_time_finer_than_microseconds_is_cut_and_named() {
    let snapshot = read(&edited(|v| {
        v["updated_at"] = json!("2026-01-01T00:00:00.123456789Z");
    }))
    .unwrap();
    assert_eq!(
        snapshot.updated_at.to_rfc3339(),
        "2026-01-01T00:00:00.123456+00:00"
    );
    assert_eq!(snapshot.warnings[0].field, "updated_at");
}

#[test]
fn a_leap_second_is_the_second_after_it_as_postgres_has_it() {
    let leap = "2016-12-31T23:59:60.5000001Z";
    let snapshot = read(&edited(|value| value["tools_synced_at"] = json!(leap))).unwrap();
    let after: DateTime<Utc> = "2017-01-01T00:00:00.5Z".parse().unwrap();
    assert_eq!(snapshot.tools_synced_at, Some(after));
    let told: Vec<_> = snapshot.warnings.iter().map(|w| w.what).collect();
    assert_eq!(
        told,
        [
            "a leap second, stored as the second after it",
            "cut to microseconds"
        ]
    );
}

#[test]
fn an_answer_of_which_much_had_to_be_altered_has_few_warnings_and_short_ones() {
    let long = "n".repeat(10_000);
    let mut text = connection().to_string();
    text.pop();
    for n in 0..1_000 {
        text.push_str(&format!(r#","{n}{long}":"\u0000","\u0000{n}":1"#));
    }
    text.push('}');
    let warnings = read_text(&text).unwrap().warnings;
    assert_eq!(warnings.len(), WARNINGS + 1);
    assert!(warnings.iter().all(|w| w.field.len() <= WARNED_NAME_BYTES));
    assert_eq!(warnings[WARNINGS].field, "…");
    let twice = edited(|value| value["tools"] = json!(vec![tool(1); 500]));
    assert_eq!(read(&twice).unwrap().warnings.len(), WARNINGS + 1);
}

/// With everything that reading has to be careful about: names that are escaped, doubled or unknown, white space, long
/// numbers. `\u0000` in it is replaced before it is read.
const CAREFUL: &str = r#"{"updated_at":"2026-01-01T00:00:00Z","id":"3c90c3cc-0d44-4b50-8888-8dd25736052a","organization_id":"00000000-0000-0000-0000-000000000000","integration_key":"slack","nickname_slug":"ops","nickname":"first","vendor":"nango","vendor_connection_id":null,"status":"active","tools_status":"synced","tools_synced_at":"2026-01-01T00:00:00Z","status_reason":null,"connected_at":null,"last_refreshed_at":"2026-01-03T00:00:00Z","last_used_at":null,"metadata":{ "a" : [1, 2.50] },"voice_account_cps":1.50,"created_at":"2026-01-01T00:00:00Z","n\u00e9w \"one\"":{"n":1e400},"nick\u006eame":"a\u0000b","tools":[{"id":"00000000-0000-0000-0000-000000000001","connection_id":"3c90c3cc-0d44-4b50-8888-8dd25736052a","organization_id":"00000000-0000-0000-0000-000000000000","integration_key":"slack","nickname_slug":"ops","tool_path":"chat.post","slug":"ops_post","display_name":"Post","description":"line\none","input_schema":{"type":"object"},"response_schema":null,"is_enabled":true,"last_seen_at":"2026-01-02T03:04:05.123456Z","created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00+02:00","stale_field_paths":["a.b"],"default_count":1,"pinned_count":0,"stale_input_fields":[],"merged_input_preview":{},"Z":0,"Z":1}]}"#;

#[test]
fn hashes_are_those_that_databases_have_stored_since_the_first_release() {
    let hex = |hash: &[u8]| hash.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let snapshot = read_text(CAREFUL).unwrap();
    let tool = snapshot.tools.as_ref().unwrap()[0].hash;
    assert_eq!(hex(&snapshot.hash), "d388b36a1b19ef1bb2464f90bfb0f4d7");
    assert_eq!(hex(&tool), "cf25396674f70427d20a82876418894a");
    assert_eq!(
        hex(&snapshot.fingerprint()),
        "95ce851e43cc84408d6eea269a3588bd"
    );
}

#[test]
fn an_answer_reads_the_same_at_once_and_layer_by_layer() {
    let id = ID.parse().unwrap();
    let text = CAREFUL.replace(r"a\u0000b", "ab");
    let doubled = edited(|value| value["tools"] = json!([tool(2), tool(1), tool(2)]));
    for text in [text, doubled.to_string(), connection().to_string()] {
        let body = StorableBody::new(text.clone().into());
        assert!(read_at_once(&body, &text, id).is_some(), "{text}");
        let at_once = read_connection(&body, id).unwrap();
        assert_eq!(at_once, read_by_layers(&body, &text, id).unwrap());
    }
}

#[test]
fn what_is_wrong_in_an_inner_layer_does_not_hide_what_is_wrong_in_an_outer_one() {
    let error = |edit: fn(&mut Value)| read(&edited(edit)).unwrap_err().to_string();
    let other = error(|value| {
        value["id"] = json!(Uuid::nil());
        value["tools"] = json!([1]);
    });
    assert!(other.contains("is about connection"), "{other}");
    let first = error(|value| {
        value["nickname"] = json!(1);
        value["tools"][0]["slug"] = json!(1);
        value["tools"][1] = json!(1);
    });
    assert!(first.contains("tools[0].slug: invalid type"), "{first}");
    let quoting = [
        error(|value| value["id"] = json!("Ann's")),
        error(|value| value["tools_synced_at"] = json!("Ann's")),
        error(|value| value["tools"] = json!("\"Ann's\", expected")),
        error(|value| value["tools"][0]["is_enabled"] = json!("Ann's, expected ")),
    ];
    for said in quoting {
        assert!(!said.contains("Ann"), "{said}");
    }
}
