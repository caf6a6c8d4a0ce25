//! A `ConnectionResponse` on the wire, read into a snapshot: tolerant of what may grow (unknown fields, unknown
//! words, missing `tools`), strict where a guess would store a lie.

use crate::domain::ConnectionSnapshot;
use crate::domain::ToolSnapshot;
use crate::domain::snapshot::ContentHash;
use crate::domain::snapshot::Optional;
use crate::domain::snapshot::Warning;
use crate::domain::snapshot::hash_parts;
use crate::feather::body::StorableBody;
use chrono::DateTime;
use chrono::Utc;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Why a body is not a connection's answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("the body is not what the API promises: {0}")]
    Malformed(String),
    #[error("the answer is about {found}, not {expected}")]
    OtherId { expected: Uuid, found: String },
}

/// Warnings of one row at most, and the bytes of a field's name in one. An answer decides how much of it has to be
/// altered, and each warning may be many times as long as what it is about.
const WARNINGS: usize = 32;
const WARNED_NAME_BYTES: usize = 200;

/// Fields that move without the content changing.
const VOLATILE: [&str; 3] = ["last_refreshed_at", "last_used_at", "last_seen_at"];

/// Reads the answer about connection `expected`.
pub(super) fn read_connection(
    body: &StorableBody,
    expected: Uuid,
) -> Result<ConnectionSnapshot, WireError> {
    let text = std::str::from_utf8(body.bytes())
        .map_err(|error| WireError::Malformed(format!("not UTF-8: {error}")))?;
    let mut fields = Fields::read(text, body, "")?;
    let id: Uuid = fields.take("id")?;
    if id != expected {
        return Err(WireError::OtherId {
            expected,
            found: format!("connection {id}"),
        });
    }
    let tools = match fields.raw.remove("tools") {
        None => None,
        Some(raw) if raw.get() == "null" => None,
        Some(raw) => Some(read_tools(raw, body, expected, &mut fields.warnings)?),
    };
    fields.note_alterations();
    let hash = fields.hash();
    Ok(ConnectionSnapshot {
        id,
        organization_id: fields.take("organization_id")?,
        integration_key: fields.take("integration_key")?,
        nickname_slug: fields.take("nickname_slug")?,
        nickname: fields.take("nickname")?,
        vendor: fields.take("vendor")?,
        vendor_connection_id: fields.take("vendor_connection_id")?,
        status: fields.take("status")?,
        tools_status: fields.take("tools_status")?,
        tools_synced_at: fields.take_time_or_null("tools_synced_at")?,
        status_reason: fields.take("status_reason")?,
        connected_at: fields.take_time_or_null("connected_at")?,
        last_refreshed_at: fields.take_time_or_null("last_refreshed_at")?,
        last_used_at: fields.take_time_or_null("last_used_at")?,
        metadata: fields.take_object("metadata")?,
        voice_account_cps: fields.take_optional("voice_account_cps", "a number", |first| {
            first == b'-' || first.is_ascii_digit()
        })?,
        created_at: fields.take_time("created_at")?,
        updated_at: fields.take_time("updated_at")?,
        extra: fields.take_rest(),
        warnings: fields.warnings.list,
        hash,
        tools,
        bytes: text.len(),
    })
}

fn read_tools(
    raw: &RawValue,
    body: &StorableBody,
    connection_id: Uuid,
    warnings: &mut Warnings,
) -> Result<Vec<ToolSnapshot>, WireError> {
    let items: Vec<&RawValue> = serde_json::from_str(raw.get())
        .map_err(|error| WireError::Malformed(format!("tools: {error}")))?;
    let mut tools = BTreeMap::new();
    for (index, item) in items.into_iter().enumerate() {
        let tool = read_tool(item, body, connection_id, &format!("tools[{index}]."))?;
        if tools.insert(tool.id, tool).is_some() {
            warnings.add(
                &format!("tools[{index}].id"),
                "the answer has this tool more than once; the last one counts",
            );
        }
    }
    Ok(tools.into_values().collect())
}

fn read_tool(
    raw: &RawValue,
    body: &StorableBody,
    connection_id: Uuid,
    path: &str,
) -> Result<ToolSnapshot, WireError> {
    let mut fields = Fields::read(raw.get(), body, path)?;
    let owner: Uuid = fields.take("connection_id")?;
    if owner != connection_id {
        return Err(WireError::OtherId {
            expected: connection_id,
            found: format!("a tool of connection {owner}"),
        });
    }
    fields.note_alterations();
    let hash = fields.hash();
    let object = |first| first == b'{';
    Ok(ToolSnapshot {
        id: fields.take("id")?,
        organization_id: fields.take("organization_id")?,
        integration_key: fields.take("integration_key")?,
        nickname_slug: fields.take("nickname_slug")?,
        tool_path: fields.take("tool_path")?,
        slug: fields.take("slug")?,
        display_name: fields.take("display_name")?,
        description: fields.take("description")?,
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
        extra: fields.take_rest(),
        warnings: fields.warnings.list,
        hash,
    })
}

/// What had to be altered, as far as it is worth listing.
#[derive(Default)]
struct Warnings {
    list: Vec<Warning>,
}

impl Warnings {
    fn add(&mut self, field: &str, what: &'static str) {
        let (name, what) = match self.list.len() {
            ..WARNINGS => (field, what),
            WARNINGS => ("…", "more had to be altered than is listed here"),
            _ => return,
        };
        let warning = Warning {
            field: name[..name.floor_char_boundary(WARNED_NAME_BYTES)].to_owned(),
            what,
        };
        if !self.list.contains(&warning) {
            self.list.push(warning);
        }
    }
}

/// The fields of one object, each still text.
struct Fields<'a> {
    raw: BTreeMap<String, &'a RawValue>,
    body: &'a StorableBody,
    text: &'a str,
    path: &'a str,
    warnings: Warnings,
}

impl<'a> Fields<'a> {
    fn read(text: &'a str, body: &'a StorableBody, path: &'a str) -> Result<Self, WireError> {
        let raw = serde_json::from_str(text).map_err(|error| {
            let of = path.trim_end_matches('.');
            WireError::Malformed(if of.is_empty() {
                error.to_string()
            } else {
                format!("{of}: {error}")
            })
        })?;
        Ok(Self {
            raw,
            body,
            text,
            path,
            warnings: Warnings::default(),
        })
    }

    fn malformed(&self, name: &str, why: impl std::fmt::Display) -> WireError {
        WireError::Malformed(format!("{}{name}: {why}", self.path))
    }

    fn take_raw(&mut self, name: &str) -> Result<&'a RawValue, WireError> {
        self.raw
            .remove(name)
            .ok_or_else(|| self.malformed(name, "the field is missing"))
    }

    fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, WireError> {
        let raw = self.take_raw(name)?;
        serde_json::from_str(raw.get()).map_err(|error| self.malformed(name, error))
    }

    fn take_time(&mut self, name: &str) -> Result<DateTime<Utc>, WireError> {
        let text: String = self.take(name)?;
        self.time(name, &text)
    }

    fn take_time_or_null(&mut self, name: &str) -> Result<Option<DateTime<Utc>>, WireError> {
        let text: Option<String> = self.take(name)?;
        text.map(|text| self.time(name, &text)).transpose()
    }

    fn time(&mut self, name: &str, text: &str) -> Result<DateTime<Utc>, WireError> {
        let time = DateTime::parse_from_rfc3339(text)
            .map_err(|error| {
                self.malformed(name, format!("{text:?} is not an RFC 3339 time: {error}"))
            })?
            .to_utc();
        // As Postgres counts: a leap second is the first one of the next minute.
        let stored = DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap_or(time);
        if time.timestamp_subsec_nanos() >= 1_000_000_000 {
            self.warnings
                .add(name, "a leap second, stored as the second after it");
        }
        if time.timestamp_subsec_nanos() % 1_000 != 0 {
            self.warnings.add(name, "cut to microseconds");
        }
        Ok(stored)
    }

    fn take_object(&mut self, name: &str) -> Result<String, WireError> {
        let text = self.take_raw(name)?.get();
        if text.starts_with('{') {
            Ok(text.to_owned())
        } else {
            Err(self.malformed(name, "not an object"))
        }
    }

    fn take_optional(
        &mut self,
        name: &str,
        kind: &str,
        begins: impl Fn(u8) -> bool,
    ) -> Result<Optional, WireError> {
        match self.raw.remove(name).map(RawValue::get) {
            None => Ok(Optional::Absent),
            Some("null") => Ok(Optional::Null),
            Some(text) if text.bytes().next().is_some_and(begins) => {
                Ok(Optional::Json(text.to_owned()))
            }
            Some(_) => Err(self.malformed(name, format!("neither {kind} nor null"))),
        }
    }

    /// Names the fields in which something had to be replaced; what is left over was in a field's name.
    fn note_alterations(&mut self) {
        const WHAT: &str = "\\u0000 or a lone surrogate was replaced by U+FFFD";
        if self.body.is_blanked(self.text) {
            for (name, raw) in &self.raw {
                if self.body.is_blanked(raw.get()) {
                    self.warnings.add(name, "the API key in it was blanked");
                }
            }
        }
        if !self.body.is_altered(self.text) {
            return;
        }
        for (name, raw) in &self.raw {
            if self.body.is_altered(raw.get()) {
                self.warnings.add(name, WHAT);
            } else if name.contains('\u{fffd}') {
                self.warnings.add("_extra", WHAT);
            }
        }
    }

    fn hash(&self) -> ContentHash {
        let steady = self
            .raw
            .iter()
            .filter(|(name, _)| !VOLATILE.contains(&name.as_str()));
        hash_parts(steady.flat_map(|(name, raw)| [name.as_bytes(), raw.get().as_bytes()]))
    }

    /// All fields that were not taken, as one JSON object.
    fn take_rest(&mut self) -> String {
        let rest = std::mem::take(&mut self.raw);
        // A map of valid JSON values always serializes.
        serde_json::to_string(&rest).unwrap_or_else(|_| "{}".into())
    }
}

#[cfg(test)]
mod tests;
