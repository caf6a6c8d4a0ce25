//! A `ConnectionResponse` on the wire, read into a snapshot: tolerant of what may grow (unknown fields, unknown
//! words, missing `tools`), strict where a guess would store a lie.

mod at_once;
mod fields;

use crate::domain::ConnectionSnapshot;
use crate::domain::ToolSnapshot;
use crate::feather::body::StorableBody;
use crate::feather::wire::at_once::Whole;
use crate::feather::wire::at_once::read_at_once;
use crate::feather::wire::fields::Fields;
use crate::feather::wire::fields::Warnings;
use crate::feather::wire::fields::without_value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use uuid::Uuid;

/// Why a body is not a connection's answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("the body is not what the API promises: {0}")]
    Malformed(String),
    #[error("the answer is about {found}, not {expected}")]
    OtherId { expected: Uuid, found: String },
}

/// Reads the answer about connection `expected`.
pub(super) fn read_connection(
    body: &StorableBody,
    expected: Uuid,
) -> Result<ConnectionSnapshot, WireError> {
    let text = std::str::from_utf8(body.bytes())
        .map_err(|error| WireError::Malformed(format!("not UTF-8: {error}")))?;
    match read_at_once(body, text, expected) {
        Some(Whole { mut fields, tools }) => {
            check_id(&mut fields, expected)?;
            finish(fields, text, expected, tools)
        }
        None => read_by_layers(body, text, expected),
    }
}

/// Why an item of a list is no connection. Others may be one.
#[derive(Debug)]
pub(super) struct Unfit {
    /// The connection it is about, as far as that can be told.
    pub(super) id: Option<Uuid>,
    pub(super) why: WireError,
}

/// Reads an item of a list, whichever connection it is about.
pub(super) fn read_item(body: &StorableBody) -> Result<ConnectionSnapshot, Unfit> {
    let nobodys = |why| Unfit { id: None, why };
    let text = std::str::from_utf8(body.bytes())
        .map_err(|error| nobodys(WireError::Malformed(format!("not UTF-8: {error}"))))?;
    let mut fields = Fields::new(body);
    if let Err(why) = fields.read(text, None) {
        // Of what is no JSON there are the fields before the odd one.
        fields.sort();
        let id = fields.take("id").ok();
        return Err(Unfit { id, why });
    }
    let id = fields.take("id").map_err(nobodys)?;
    read_connection(body, id).map_err(|why| Unfit { id: Some(id), why })
}

/// Reads each layer by itself, the outer ones first, so that the first that is wrong can be named.
fn read_by_layers(
    body: &StorableBody,
    text: &str,
    expected: Uuid,
) -> Result<ConnectionSnapshot, WireError> {
    let mut fields = Fields::new(body);
    fields.read(text, None)?;
    check_id(&mut fields, expected)?;
    let tools = match fields.take_if_any("tools").map(RawValue::get) {
        None | Some("null") => None,
        Some(text) => Some(read_tools(body, text, expected)?),
    };
    finish(fields, text, expected, tools)
}

fn check_id(fields: &mut Fields, expected: Uuid) -> Result<(), WireError> {
    let id: Uuid = fields.take("id")?;
    if id == expected {
        return Ok(());
    }
    Err(WireError::OtherId {
        expected,
        found: format!("connection {id}"),
    })
}

/// The snapshot, of the fields that are left.
fn finish(
    mut fields: Fields,
    text: &str,
    id: Uuid,
    tools: Option<Tools>,
) -> Result<ConnectionSnapshot, WireError> {
    let tools = tools.map(|tools| {
        fields.warnings = tools.warnings;
        let mut list = tools.list;
        list.sort_unstable_by_key(|tool| tool.id);
        list
    });
    fields.note_alterations(text);
    let hash = fields.hash();
    Ok(ConnectionSnapshot {
        id,
        organization_id: fields.take("organization_id")?,
        integration_key: fields.take_text("integration_key")?,
        nickname_slug: fields.take_text("nickname_slug")?,
        nickname: fields.take_text("nickname")?,
        vendor: fields.take_text("vendor")?,
        vendor_connection_id: fields.take_text_or_null("vendor_connection_id")?,
        status: fields.take_text("status")?,
        tools_status: fields.take_text("tools_status")?,
        tools_synced_at: fields.take_time_or_null("tools_synced_at")?,
        status_reason: fields.take_text_or_null("status_reason")?,
        connected_at: fields.take_time_or_null("connected_at")?,
        last_refreshed_at: fields.take_time_or_null("last_refreshed_at")?,
        last_used_at: fields.take_time_or_null("last_used_at")?,
        metadata: fields.take_object("metadata")?,
        voice_account_cps: fields.take_optional("voice_account_cps", "a number", |first| {
            first == b'-' || first.is_ascii_digit()
        })?,
        created_at: fields.take_time("created_at")?,
        updated_at: fields.take_time("updated_at")?,
        extra: fields.rest(),
        warnings: fields.warnings.list,
        hash,
        tools,
        bytes: text.len(),
    })
}

/// The tools of one answer as they are read.
#[derive(Default)]
struct Tools {
    list: Vec<ToolSnapshot>,
    /// Where each is in the list.
    places: BTreeMap<Uuid, usize>,
    /// How many there were, those that came more than once counted each time.
    read: usize,
    warnings: Warnings,
}

impl Tools {
    /// Adds the tool of which these are the fields.
    fn take(
        &mut self,
        fields: &mut Fields,
        text: &str,
        connection_id: Uuid,
    ) -> Result<(), WireError> {
        let tool = read_tool(fields, text, connection_id)?;
        match self.places.entry(tool.id) {
            Entry::Vacant(place) => {
                place.insert(self.list.len());
                self.list.push(tool);
            }
            Entry::Occupied(place) => {
                self.list[*place.get()] = tool;
                self.warnings.add(
                    &format!("tools[{}].id", self.read),
                    "the answer has this tool more than once; the last one counts",
                );
            }
        }
        self.read += 1;
        Ok(())
    }
}

fn read_tools(body: &StorableBody, text: &str, connection_id: Uuid) -> Result<Tools, WireError> {
    let items: Vec<&RawValue> = serde_json::from_str(text)
        .map_err(|error| WireError::Malformed(format!("tools: {}", without_value(&error))))?;
    let mut tools = Tools::default();
    let mut fields = Fields::new(body);
    for item in items {
        fields.read(item.get(), Some(tools.read))?;
        tools.take(&mut fields, item.get(), connection_id)?;
    }
    Ok(tools)
}

fn read_tool(
    fields: &mut Fields,
    text: &str,
    connection_id: Uuid,
) -> Result<ToolSnapshot, WireError> {
    let owner: Uuid = fields.take("connection_id")?;
    if owner != connection_id {
        return Err(WireError::OtherId {
            expected: connection_id,
            found: format!("a tool of connection {owner}"),
        });
    }
    fields.note_alterations(text);
    let hash = fields.hash();
    let object = |first| first == b'{';
    Ok(ToolSnapshot {
        id: fields.take("id")?,
        organization_id: fields.take("organization_id")?,
        integration_key: fields.take_text("integration_key")?,
        nickname_slug: fields.take_text("nickname_slug")?,
        tool_path: fields.take_text("tool_path")?,
        slug: fields.take_text("slug")?,
        display_name: fields.take_text("display_name")?,
        description: fields.take_text_or_null("description")?,
        input_schema: fields.take_object("input_schema")?,
        response_schema: fields.take_optional("response_schema", "an object", object)?,
        response_field_map: fields.take_optional("response_field_map", "an object", object)?,
        input_defaults: fields.take_optional("input_defaults", "an object", object)?,
        is_enabled: fields.take("is_enabled")?,
        last_seen_at: fields.take_time("last_seen_at")?,
        created_at: fields.take_time("created_at")?,
        updated_at: fields.take_time("updated_at")?,
        stale_field_paths: fields.take("stale_field_paths")?,
        default_count: fields.take("default_count")?,
        pinned_count: fields.take("pinned_count")?,
        stale_input_fields: fields.take("stale_input_fields")?,
        merged_input_preview: fields.take_object("merged_input_preview")?,
        extra: fields.rest(),
        warnings: std::mem::take(&mut fields.warnings.list),
        hash,
    })
}

#[cfg(test)]
mod tests;
