//! Every column equals the answer, and what has no column is kept.

use super::column;
use super::counts;
use super::settled;
use super::sync;
use super::told;
use super::tool_column;
use crate::outcomes::answer;
use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Fault;
use feather_sync::sim::Scenario;
use serde_json::Value;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn every_column_of_both_tables_equals_the_answer_whatever_is_in_it() {
    let world = World::with(Scenario::from_toml("tools = \"0..12\"\nseed = 11").unwrap()).await;
    let ids = ids(60);
    for (n, id) in ids.iter().enumerate() {
        if n % 2 == 0 {
            world.sim.script(*id, [Fault::HugeNumber]);
        }
    }
    world.sync(&ids).await;
    // The truth of the first half lacks the number that was put in; a second answer is the truth.
    world.sync(&ids).await;
    for id in &ids {
        world.equals_truth(*id).await.unwrap();
    }
    let strange = ids[0];
    world.sim.edit(strange, |truth| {
        let text = "quote \" backslash \\ {brace} comma, NULL null \n tab\t \u{1f980} \u{202e}rtl";
        for field in ["nickname", "nickname_slug", "integration_key", "vendor", "vendor_connection_id", "status_reason"] {
            truth[field] = json!(text);
        }
        truth["metadata"] = json!({"": [], "a": {"": null}, text: text});
        truth["last_used_at"] = json!("1999-12-31T23:59:59.999999-11:30");
        truth["connected_at"] = json!("0001-01-01T00:00:00Z");
        truth["created_at"] = json!("9999-12-31T23:59:59.999999Z");
        truth["tools"] = json!([{
            "id": uuid::Uuid::max(), "connection_id": strange, "display_name": "", "description": text,
            "stale_field_paths": [text, "", "NULL", "null", "{}", "\\", "\"", " a ", ","], "stale_input_fields": [],
            "input_schema": {}, "response_schema": {text: text}, "response_field_map": {}, "input_defaults": {"f": {"value": [1.5e-7], "type": "pinned"}},
            "merged_input_preview": {"x": text}, "is_enabled": false, "default_count": i64::MAX, "pinned_count": -1,
        }]);
    });
    world.sync(&[strange]).await;
    world.equals_truth(strange).await.unwrap();
    let account = column(&world, strange, "_account").await;
    assert_eq!(account.as_deref(), Some("default"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_optional_field_that_an_answer_lacks_keeps_its_value_and_null_clears_it() {
    let (world, id) = settled().await;
    let optional = ["response_schema", "response_field_map", "input_defaults"];
    let answer_with = |value: Option<Value>| {
        told(&world, id, |truth| {
            let set = |object: &mut Value, name: &str, given: Value| {
                let object = object.as_object_mut().unwrap();
                match &value {
                    None => drop(object.remove(name)),
                    Some(Value::Null) => drop(object.insert(name.into(), Value::Null)),
                    Some(_) => drop(object.insert(name.into(), given)),
                }
            };
            set(truth, "voice_account_cps", json!(2.5));
            set(truth, "new_upstream", json!("n"));
            for tool in truth["tools"].as_array_mut().unwrap() {
                for name in optional {
                    set(tool, name, json!({"a": name}));
                }
                set(tool, "new_upstream", json!("n"));
            }
        })
    };
    let shown = async || {
        let mut shown = vec![column(&world, id, "voice_account_cps").await];
        shown.push(column(&world, id, "_extra").await);
        for name in optional {
            shown.push(tool_column(&world, id, name).await.remove(2));
        }
        shown.push(tool_column(&world, id, "_extra").await.remove(2));
        shown
    };
    sync(&world, id, answer_with(Some(json!(1)))).await;
    let set = shown().await;
    let text = |text: &str| Some(text.to_owned());
    let object = |name: &str| Some(format!("{{\"a\": \"{name}\"}}"));
    let extra = text(r#"{"new_upstream": "n"}"#);
    assert_eq!(
        set,
        [
            text("2.5"),
            extra.clone(),
            object(optional[0]),
            object(optional[1]),
            object(optional[2]),
            extra
        ]
    );
    sync(&world, id, answer_with(None)).await;
    assert_eq!(shown().await, set);
    assert_eq!(counts(&world, id).await, (0, 0, 0), "absent is no change");
    sync(&world, id, answer_with(Some(Value::Null))).await;
    let null = text(r#"{"new_upstream": null}"#);
    assert_eq!(shown().await, [None, null.clone(), None, None, None, null]);
    assert_eq!(counts(&world, id).await, (0, 5, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_have_no_column_are_kept_with_every_digit() {
    let (world, id) = settled().await;
    sync(&world, id, Fault::UnknownFields).await;
    let kept: bool = world
        .value(
            r#"SELECT _extra = '{"routing_hints": {"weights":[0.1,12345678901234567890.123456789,1e400],
                                 "next":{"region":null,"été":true}}, "is_sandbox": true, "beta_note": null}'
               FROM feather.connections"#,
        )
        .await;
    assert!(kept, "{:?}", column(&world, id, "_extra").await);
    for extra in tool_column(&world, id, "_extra").await {
        assert_eq!(
            extra.as_deref(),
            Some(
                r#"{"aliases": ["a", ["b", {"c": 98765432109876543210}]], "cost_estimate": {"unit": "credits", "amount": 0.000000000000000000001}}"#
            )
        );
    }
    // In columns too.
    let text = world.sim.truth_text(id);
    let digits = text
        .replacen(
            "\"metadata\":{",
            "\"metadata\":{\"pi\":3.14159265358979323846264338327950288,",
            1,
        )
        .replacen(
            "\"input_schema\":{",
            "\"input_schema\":{\"maximum\":340282366920938463463374607431768211455,",
            1,
        );
    sync(&world, id, answer(digits)).await;
    let pi = column(&world, id, "metadata ->> 'pi'").await;
    assert_eq!(pi.as_deref(), Some("3.14159265358979323846264338327950288"));
    let maximum = tool_column(&world, id, "input_schema ->> 'maximum'").await;
    assert!(
        maximum.contains(&Some("340282366920938463463374607431768211455".into())),
        "{maximum:?}"
    );
    assert_eq!(column(&world, id, "_warnings").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_postgres_cannot_hold_is_replaced_and_named_until_it_is_gone() {
    let (world, id) = settled().await;
    sync(&world, id, Fault::Nul).await;
    assert_eq!(
        column(&world, id, "nickname").await.as_deref(),
        Some("nul \u{fffd} and half \u{fffd} a pair")
    );
    let metadata: bool = world
        .value(&format!(
            r#"SELECT metadata @> '{{"nul": "a{0}b", "lone": {{"high": "{0}", "low": ["{0} first"]}}, "key{0}with nul": true}}'
               FROM feather.connections"#,
            '\u{fffd}'
        ))
        .await;
    assert!(metadata, "{:?}", column(&world, id, "metadata").await);
    let fields = column(
        &world,
        id,
        "jsonb_path_query_array(_warnings, '$[*].field')",
    )
    .await;
    assert_eq!(fields.as_deref(), Some(r#"["metadata", "nickname"]"#));
    let warned: Vec<(String, String)> = world
        .rows(
            "SELECT description, jsonb_path_query_array(_warnings, '$[*].field')::text
             FROM feather.integration_connection_tools WHERE _warnings IS NOT NULL",
        )
        .await;
    assert_eq!(
        warned,
        [("\u{fffd}\u{fffd}".into(), r#"["description"]"#.into())]
    );
    // The same text, now sent as what it was stored as: nothing is altered any more.
    let fixed = told(&world, id, |truth| {
        truth["nickname"] = json!("nul \u{fffd} and half \u{fffd} a pair");
        truth["tools"][0]["description"] = json!("\u{fffd}\u{fffd}");
    });
    sync(&world, id, fixed).await;
    assert_eq!(column(&world, id, "_warnings").await, None);
    assert_eq!(tool_column(&world, id, "_warnings").await, vec![None; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_is_ours_by_name_stays_upstreams_and_overwrites_nothing() {
    let (world, id) = settled().await;
    let odd = told(&world, id, |truth| {
        for name in ["_account", "_removed_at", "_hash", "_extra"] {
            truth[name] = json!("mine");
            truth["tools"][0][name] = json!("mine");
        }
    });
    sync(&world, id, odd).await;
    assert_eq!(
        column(&world, id, "_account").await.as_deref(),
        Some("default")
    );
    assert_eq!(column(&world, id, "_removed_at").await, None);
    assert_eq!(
        column(&world, id, "_extra ->> '_extra'").await.as_deref(),
        Some("mine")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_comes_twice_is_one_tool_and_the_connection_says_so() {
    let (world, id) = settled().await;
    sync(&world, id, Fault::DuplicateTool { differs: true }).await;
    let names = tool_column(&world, id, "display_name").await;
    assert_eq!(names.len(), 5);
    assert!(names.contains(&Some("The same tool once more".into())));
    assert_eq!(counts(&world, id).await, (0, 1, 0));
    let field = column(&world, id, "_warnings -> 0 ->> 'field'").await;
    assert_eq!(field.as_deref(), Some("tools[5].id"));
}
