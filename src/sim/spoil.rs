//! Answers that are well-formed HTTP and wrong, or odd, in what they say.

use std::time::Duration;

use uuid::Uuid;

use super::chance::Chance;
use super::clock::micros;
use super::clock::parse_rfc3339;
use super::clock::rfc3339;
use super::fault::Fault;
use super::fields::Fields;
use super::fields::Parts;
use super::fields::quoted;

/// The ConnectionResponse with the fault in it; unchanged where the fault is not one of content.
pub(super) fn spoil(fault: &Fault, text: String, seed: u64, id: Uuid) -> String {
    match fault {
        Fault::TruncatedJson => truncated(text),
        Fault::MissingField { name } => with_field(&text, name, |fields, name| fields.remove(name)),
        Fault::WrongType { name } => with_field(&text, name, |fields, name| {
            let other = other_type(fields.get(name));
            fields.set(name, other);
        }),
        Fault::NullField { name } => {
            with_field(&text, name, |fields, name| fields.set(name, "null"))
        }
        Fault::WrongId => {
            let other = Chance::new(seed, id, "wrong id", 0).uuid();
            text.replace(&id.to_string(), &other.to_string())
        }
        Fault::ForeignTool => with_parts(&text, |parts| {
            let other = Chance::new(seed, id, "foreign", 0).uuid();
            if let Some(tool) = parts.tools.iter_mut().flatten().next_back() {
                tool.set_string("connection_id", &other.to_string());
            }
        }),
        Fault::DuplicateTool { differs } => with_parts(&text, |parts| {
            if let Some(tools) = &mut parts.tools
                && let Some(mut copy) = tools.first().cloned()
            {
                if *differs {
                    copy.set_string("display_name", "The same tool once more");
                }
                tools.push(copy);
            }
        }),
        Fault::ToolsFailed => with_parts(&text, |parts| {
            parts.fields.set_string("tools_status", "failed");
            parts
                .fields
                .set_string("status_reason", "the provider refused to list its tools");
            parts.tools.iter_mut().for_each(|tools| drop(tools.pop()));
        }),
        Fault::OddStatus { word } => {
            with_parts(&text, |parts| parts.fields.set_string("tools_status", word))
        }
        Fault::NoTools { missing } => with_parts(&text, |parts| {
            parts.tools = None;
            if *missing {
                parts.fields.remove("tools");
            } else {
                parts.fields.set("tools", "null");
            }
        }),
        Fault::EmptyTools => with_parts(&text, |parts| parts.tools = Some(Vec::new())),
        Fault::Nul => with_parts(&text, unstorable_texts),
        Fault::UnknownFields => with_parts(&text, unknown_fields),
        Fault::HugeNumber => in_metadata(&text, "huge", "1e400"),
        Fault::Unstorable => in_metadata(&text, "unstorable", "1e200000"),
        Fault::Stale { age } => with_parts(&text, |parts| stale(parts, *age)),
        _ => text,
    }
}

fn truncated(mut text: String) -> String {
    let mut middle = text.len() / 2;
    while !text.is_char_boundary(middle) {
        middle -= 1;
    }
    text.truncate(middle);
    text
}

fn with_parts(text: &str, change: impl FnOnce(&mut Parts)) -> String {
    let mut parts = Parts::parse(text);
    change(&mut parts);
    parts.into_text()
}

/// For a field of the connection, or with `tools[].` before its name, of every tool.
fn with_field(text: &str, name: &str, change: impl Fn(&mut Fields, &str)) -> String {
    if let Some(name) = name.strip_prefix("tools[].") {
        return with_parts(text, |parts| {
            for tool in parts.tools.iter_mut().flatten() {
                change(tool, name);
            }
        });
    }
    let mut fields = Fields::parse(text);
    change(&mut fields, name);
    let mut out = String::new();
    fields.write(&mut out);
    out
}

fn other_type(value: Option<&str>) -> &'static str {
    match value.and_then(|text| text.bytes().next()) {
        Some(b'"') => "42",
        Some(b'[') => r#"{"not":"a list"}"#,
        Some(b'n') | None => r#"["not null"]"#,
        Some(_) => r#""not what it should be""#,
    }
}

fn in_metadata(text: &str, name: &str, value: &str) -> String {
    with_parts(text, |parts| {
        let mut metadata = Fields::parse(parts.fields.get("metadata").unwrap_or("{}"));
        metadata.set(name, value);
        set_object(&mut parts.fields, "metadata", &metadata);
    })
}

fn set_object(fields: &mut Fields, name: &str, object: &Fields) {
    let mut text = String::new();
    object.write(&mut text);
    fields.set(name, text);
}

fn unstorable_texts(parts: &mut Parts) {
    parts
        .fields
        .set("nickname", r#""nul \u0000 and half \ud800 a pair""#);
    let mut metadata = Fields::parse(parts.fields.get("metadata").unwrap_or("{}"));
    metadata.set("nul", r#""a\u0000b""#);
    metadata.set("lone", r#"{"high":"\udbff","low":["\udc00 first"]}"#);
    metadata.set("key\0with nul", "true");
    set_object(&mut parts.fields, "metadata", &metadata);
    if let Some(tool) = parts.tools.iter_mut().flatten().next() {
        tool.set("description", r#""\u0000\udfff""#);
    }
}

fn unknown_fields(parts: &mut Parts) {
    parts.fields.set(
        "routing_hints",
        r#"{"weights":[0.1,12345678901234567890.123456789,1e400],"next":{"region":null,"\u00e9t\u00e9":true}}"#,
    );
    parts.fields.set("is_sandbox", "true");
    parts.fields.set("beta_note", "null");
    for tool in parts.tools.iter_mut().flatten() {
        tool.set(
            "cost_estimate",
            r#"{"amount":0.000000000000000000001,"unit":"credits"}"#,
        );
        tool.set("aliases", r#"["a",["b",{"c":98765432109876543210}]]"#);
    }
}

fn stale(parts: &mut Parts, age: Duration) {
    if let Some(at) = parts
        .fields
        .string("updated_at")
        .and_then(|text| parse_rfc3339(&text))
    {
        let earlier = rfc3339(at - micros(age).max(1), true);
        parts.fields.set("updated_at", quoted(&earlier));
    }
    parts.fields.set_string("nickname", "As it was before");
    if let Some(tool) = parts.tools.iter_mut().flatten().next() {
        tool.set_string("display_name", "As it was before");
    }
}
