//! What a body asks for, or the first thing that is wrong with it.

use crate::domain::request;
use crate::store::EnqueueRequest;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::IgnoredAny;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_json::error::Category;
use serde_json::value::RawValue;
use std::fmt;
use uuid::Uuid;

const FIELDS: [&str; 4] = ["connection_ids", "account", "priority", "run_at"];
/// Characters of a value that an answer gives back.
const SHOWN: usize = 80;

/// Judges the whole body.
pub(super) fn order(body: &[u8]) -> Result<EnqueueRequest, String> {
    let text = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8".to_owned())?;
    let Fields { values, fault } =
        serde_json::from_str(text).map_err(|error| match error.classify() {
            Category::Data => {
                "the body is no object such as {\"connection_ids\": [\"…\"]}".to_owned()
            }
            Category::Io | Category::Syntax | Category::Eof => {
                format!("the body is not JSON: {error}")
            }
        })?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    let [ids, account, priority, run_at] = values;
    let ids = ids.ok_or("connection_ids is missing")?;
    Ok(EnqueueRequest {
        connection_ids: connection_ids(ids)?,
        account: given(account, "account", |value| {
            request::account(&string(value).ok_or("not a string")?)
        })?
        .unwrap_or_else(|| "default".to_owned()),
        priority: given(priority, "priority", |value| {
            serde_json::from_str(value.get())
                .map_err(|_| format!("not a whole number from {} to {}", i16::MIN, i16::MAX))
        })?
        .unwrap_or_default(),
        run_at: given(run_at, "run_at", |value| {
            request::time(&string(value).ok_or("not a string")?)
        })?,
    })
}

/// The fields as they stand there, and what keeps them from being a request.
#[derive(Default)]
struct Fields<'b> {
    values: [Option<&'b RawValue>; FIELDS.len()],
    fault: Option<String>,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Fields::default();
                while let Some(name) = map.next_key::<String>()? {
                    let value = map.next_value()?;
                    fields.note(&name, value);
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

impl<'b> Fields<'b> {
    fn note(&mut self, name: &str, value: &'b RawValue) {
        let known = FIELDS.iter().position(|known| *known == name);
        let before = known.and_then(|at| self.values[at].replace(value));
        if known.is_none() {
            self.fault.get_or_insert_with(|| {
                let fields = FIELDS.join(", ");
                format!("{} is not a field; there are {fields}", quoted(name))
            });
        } else if before.is_some() {
            self.fault
                .get_or_insert_with(|| format!("{name} stands there twice"));
        }
    }
}

/// Ids, or the fault of the first that is none.
struct Ids(Result<Vec<Uuid>, String>);

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Ids;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Ids, S::Error> {
                let mut ids = Vec::new();
                while let Some(value) = list.next_element::<&RawValue>()? {
                    let id = string(value).ok_or_else(|| "not a string".to_owned());
                    match id.and_then(|id| request::connection_id(&id)) {
                        Ok(id) => ids.push(id),
                        Err(why) => {
                            let place = format!("connection_ids[{}]", ids.len());
                            while list.next_element::<IgnoredAny>()?.is_some() {}
                            return Ok(Ids(Err(fault(&place, &why, value))));
                        }
                    }
                }
                Ok(Ids(Ok(ids)))
            }
        }

        deserializer.deserialize_seq(List)
    }
}

fn connection_ids(value: &RawValue) -> Result<Vec<Uuid>, String> {
    let Ids(ids) = serde_json::from_str(value.get())
        .map_err(|_| fault("connection_ids", "not a list", value))?;
    let ids = ids?;
    if ids.is_empty() {
        return Err("connection_ids: the list is empty".to_owned());
    }
    Ok(ids)
}

/// What a field says that may be left out, or be null.
fn given<T>(
    value: Option<&RawValue>,
    name: &str,
    judge: impl FnOnce(&RawValue) -> Result<T, String>,
) -> Result<Option<T>, String> {
    value
        .filter(|value| value.get() != "null")
        .map(|value| judge(value).map_err(|why| fault(name, &why, value)))
        .transpose()
}

fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

fn fault(place: &str, why: &str, value: &RawValue) -> String {
    format!("{place}: {why}: {}", shown(value))
}

/// A value from outside with nothing in it that a terminal would act upon, and short.
fn shown(value: &RawValue) -> String {
    let kind = match value.get().bytes().next() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => return string(value).map_or_else(|| "no text".to_owned(), |s| quoted(&s)),
        // Numbers, true, false and null are ASCII.
        _ => return cut(value.get()).to_owned(),
    };
    kind.to_owned()
}

fn quoted(text: &str) -> String {
    let short = cut(text);
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(SHOWN);
    end.map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests;
