//! The texts that connections and tools are made of. All of it is JSON text already: what stands
//! between quotes in a document needs no further escaping.

use std::sync::LazyLock;

use serde_json::Value;

/// One integration of the platform, and the names of its tools.
pub(super) struct Integration {
    pub(super) key: &'static str,
    pub(super) display_name: &'static str,
    pub(super) category: &'static str,
    pub(super) tools: &'static [&'static str],
}

pub(super) const INTEGRATIONS: [Integration; 7] = [
    Integration {
        key: "slack",
        display_name: "Slack",
        category: "communication",
        tools: &[
            "post_message",
            "list_channels",
            "search_messages",
            "invite_user",
            "upload_file",
            "set_topic",
        ],
    },
    Integration {
        key: "custom_mcp",
        display_name: "Custom MCP server",
        category: "developer",
        tools: &[
            "invoke",
            "describe",
            "read_resource",
            "list_prompts",
            "complete",
        ],
    },
    Integration {
        key: "notion",
        display_name: "Notion",
        category: "knowledge",
        tools: &[
            "create_page",
            "append_block",
            "query_database",
            "update_page",
            "search",
            "archive_page",
        ],
    },
    Integration {
        key: "google_drive",
        display_name: "Google Drive",
        category: "files",
        tools: &[
            "find_file",
            "read_file",
            "share_file",
            "copy_file",
            "export_pdf",
        ],
    },
    Integration {
        key: "calcom",
        display_name: "Cal.com",
        category: "scheduling",
        tools: &[
            "find_slots",
            "book_slot",
            "cancel_booking",
            "reschedule",
            "list_event_types",
        ],
    },
    Integration {
        key: "twilio",
        display_name: "Twilio",
        category: "telephony",
        tools: &["send_sms", "place_call", "lookup_number", "list_recordings"],
    },
    Integration {
        key: "email",
        display_name: "Email",
        category: "communication",
        tools: &[
            "send",
            "reply",
            "search_inbox",
            "label_thread",
            "forward",
            "draft",
        ],
    },
];

/// Nickname and the start of its slug. Some are escaped, as servers may do.
pub(super) const NICKNAMES: [(&str, &str); 8] = [
    ("Support desk", "support_desk"),
    ("S\u{f8}rens B\u{fc}ro", "soerens_buero"),
    ("\u{8425}\u{9500}\u{56e2}\u{961f}", "marketing_cn"),
    (r"\u00c9quipe produit \ud83d\ude80", "equipe_produit"),
    (
        "\u{645}\u{628}\u{64a}\u{639}\u{627}\u{62a} \u{1f4c8}",
        "sales_mena",
    ),
    (r#"Ops \"night\" shift"#, "ops_night_shift"),
    (r"Finance \\ billing\t(EU)", "finance_billing_eu"),
    ("\u{1f469}\u{200d}\u{1f4bb} dev team", "dev_team"),
];

pub(super) const STATUS_REASONS: [&str; 3] = [
    "null",
    "null",
    r#""token refreshed after a provider-side rotation""#,
];

/// What metadata may hold beside the parts every connection has; long numbers with all their digits.
pub(super) const METADATA: [&str; 4] = [
    r#""quota":12345678901234567890.123456789,"labels":["eu","beta"],"limits":{"burst":1.10,"deep":{"list":[1,[2,[3,{"x":null}]]]}}"#,
    r#""account":98765432109876543210987654321,"ratio":0.1000000000000000055511151231257827,"empty":{},"none":null"#,
    "\"caf\u{e9}\":\"na\u{ef}ve \u{1f9ea}\",\"tiny\":1.5e-30,\"flags\":{\"a\":true,\"b\":false},\"list\":[]",
    r#""escaped":"line\nbreak \u2028 tab\t","negative":-273.1500,"big":1E+25"#,
];

pub(super) const DESCRIPTIONS: [&str; 5] = [
    r#""Does what its name says, for the connected account.""#,
    "null",
    "\"R\u{e9}alise l\u{2019}action et renvoie le r\u{e9}sultat. \u{2705}\"",
    r#""Needs the scope \"write\"; see the provider's manual.\nFails politely otherwise.""#,
    r#""\u30c4\u30fc\u30eb: calls the provider once and returns its answer unchanged.""#,
];

pub(super) const RESPONSE_SCHEMAS: [Option<&str>; 3] = [
    Some(
        r#"{"type":"object","properties":{"id":{"type":"string"},"items":{"type":"array","items":{"type":"object","properties":{"name":{"type":"string"},"score":{"type":"number"}}}}},"required":["id"]}"#,
    ),
    Some("null"),
    None,
];

pub(super) const RESPONSE_FIELD_MAPS: [Option<&str>; 3] = [
    None,
    Some(r#"{"result_id":"id","names":"items[].name","nested":{"top":"items[0]"}}"#),
    Some("null"),
];

pub(super) const STALE_FIELD_PATHS: [&str; 3] = ["[]", r#"["items[].rank"]"#, "[]"];
pub(super) const STALE_INPUT_FIELDS: [&str; 3] = ["[]", "[]", r#"["old_cursor","m\u00f6de"]"#];

/// An input schema (without its opening brace and title), what an operator configured for it, and
/// the schema with those values injected.
pub(super) struct Shape {
    pub(super) schema: &'static str,
    pub(super) input_defaults: &'static str,
    pub(super) default_count: &'static str,
    pub(super) pinned_count: &'static str,
    pub(super) preview: String,
}

pub(super) static SHAPES: LazyLock<[Shape; 3]> = LazyLock::new(|| {
    [
        shape(
            MESSAGE,
            r#"{"channel":{"value":"C0123ABCD","type":"pinned"},"urgent":{"value":false}}"#,
            "1",
            "1",
        ),
        shape(
            QUERY,
            r#"{"limit":{"value":25,"type":"default"},"threshold":{"value":0.123456789012345678901234567890,"type":"default"}}"#,
            "2",
            "0",
        ),
        shape(
            RECORD,
            r#"{"owner":{"value":{"name":"\u00d8la","tags":["a","b"]},"type":"pinned"}}"#,
            "0",
            "1",
        ),
    ]
});

fn shape(
    schema: &'static str,
    input_defaults: &'static str,
    default_count: &'static str,
    pinned_count: &'static str,
) -> Shape {
    let mut merged: Value = serde_json::from_str(&format!("{{{schema}")).unwrap_or_default();
    let configured: Value = serde_json::from_str(input_defaults).unwrap_or_default();
    for (field, config) in configured.as_object().into_iter().flatten() {
        merged["properties"][field]["default"] = config["value"].clone();
    }
    Shape {
        schema,
        input_defaults,
        default_count,
        pinned_count,
        preview: merged.to_string()[1..].to_owned(),
    }
}

const MESSAGE: &str = r##""$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","additionalProperties":false,"required":["channel","text"],"properties":{"channel":{"type":"string","description":"Where to post: an id, or a name with its leading #.","pattern":"^[CG#][A-Za-z0-9_-]{2,79}$"},"text":{"type":"string","minLength":1,"maxLength":40000,"description":"Plain text or the provider's markup; \"quotes\" and \\ are escaped."},"urgent":{"type":"boolean","default":false},"thread":{"anyOf":[{"type":"string","format":"date-time"},{"type":"null"}]},"blocks":{"type":"array","maxItems":50,"items":{"$ref":"#/$defs/block"}}},"$defs":{"block":{"type":"object","required":["type"],"properties":{"type":{"enum":["section","divider","image","actions"]},"text":{"type":"object","properties":{"type":{"enum":["plain_text","mrkdwn"]},"text":{"type":"string"},"emoji":{"type":"boolean"}}},"fields":{"type":"array","items":{"$ref":"#/$defs/block/properties/text"}},"elements":{"type":"array","items":{"$ref":"#/$defs/block"}}}}}}"##;

const QUERY: &str = r##""type":"object","required":["filter"],"properties":{"filter":{"$ref":"#/$defs/filter"},"sort":{"type":"array","items":{"type":"object","required":["field"],"properties":{"field":{"type":"string"},"direction":{"enum":["ascending","descending"],"default":"ascending"}}}},"limit":{"type":"integer","minimum":1,"maximum":100},"threshold":{"type":"number","exclusiveMinimum":0,"multipleOf":0.01},"cursor":{"type":["string","null"],"description":"Where the page before ended. \u672a\u6307\u5b9a: from the start."}},"$defs":{"filter":{"oneOf":[{"type":"object","required":["and"],"properties":{"and":{"type":"array","minItems":1,"items":{"$ref":"#/$defs/filter"}}}},{"type":"object","required":["or"],"properties":{"or":{"type":"array","minItems":1,"items":{"$ref":"#/$defs/filter"}}}},{"type":"object","required":["field","is"],"properties":{"field":{"type":"string"},"is":{"enum":["equal","less","greater","empty"]},"value":{"type":["string","number","boolean","null"]}}}]}}}"##;

const RECORD: &str = r##""type":"object","required":["owner","items"],"properties":{"owner":{"type":"object","required":["name"],"properties":{"name":{"type":"string","maxLength":200},"contact":{"type":"object","properties":{"email":{"type":"string","format":"email"},"phone":{"type":"string","pattern":"^\\+[1-9][0-9]{6,14}$"},"address":{"type":"object","properties":{"street":{"type":"array","items":{"type":"string"},"maxItems":3},"city":{"type":"string"},"country":{"type":"string","minLength":2,"maxLength":2}}}}},"tags":{"type":"array","uniqueItems":true,"items":{"type":"string"}}}},"items":{"type":"array","items":{"type":"object","required":["kind"],"properties":{"kind":{"const":"line"},"amount":{"type":"number","description":"In the currency's main unit."},"when":{"type":"string","format":"date-time"},"notes":{"type":["string","null"]}},"dependentRequired":{"amount":["when"]}}},"options":{"type":"object","patternProperties":{"^x-":{"type":"string"}},"additionalProperties":false}}}"##;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_about_a_kilobyte_of_json_and_its_preview_holds_the_configured_values() {
        for shape in SHAPES.iter() {
            let schema = format!("{{{}", shape.schema);
            assert!((800..1400).contains(&schema.len()), "{}", schema.len());
            let schema: Value = serde_json::from_str(&schema).unwrap();
            let preview: Value = serde_json::from_str(&format!("{{{}", shape.preview)).unwrap();
            let defaults: Value = serde_json::from_str(shape.input_defaults).unwrap();
            let mut pinned = 0;
            for (field, config) in defaults.as_object().unwrap() {
                assert!(schema["properties"][field].is_object());
                assert_eq!(preview["properties"][field]["default"], config["value"]);
                pinned += usize::from(config["type"] == "pinned");
            }
            assert_eq!(shape.pinned_count, pinned.to_string());
            let all = defaults.as_object().unwrap().len();
            assert_eq!(shape.default_count, (all - pinned).to_string());
        }
    }
}
