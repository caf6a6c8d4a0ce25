//! The fields of one object of an answer, each still text, until they are taken by name and type.

use crate::domain::snapshot::ContentHash;
use crate::domain::snapshot::Optional;
use crate::domain::snapshot::Warning;
use crate::domain::snapshot::hash_parts;
use crate::feather::body::StorableBody;
use crate::feather::wire::WireError;
use chrono::DateTime;
use chrono::Utc;
use serde::Serializer;
use serde::de::Deserialize;
use serde::de::DeserializeOwned;
use serde::de::DeserializeSeed;
use serde::de::Deserializer;
use serde::de::Error;
use serde::de::MapAccess;
use serde::de::Visitor;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::fmt::Display;
use std::fmt::Formatter;

/// Warnings of one row at most, and the bytes of a field's name in one. An answer decides how much of it has to be
/// altered, and each warning may be many times as long as what it is about.
pub(super) const WARNINGS: usize = 32;
pub(super) const WARNED_NAME_BYTES: usize = 200;

/// Fields that move without the content changing.
const VOLATILE: [&str; 3] = ["last_refreshed_at", "last_used_at", "last_seen_at"];

/// What had to be altered, as far as it is worth listing.
#[derive(Default)]
pub(super) struct Warnings {
    pub(super) list: Vec<Warning>,
}

impl Warnings {
    pub(super) fn add(&mut self, field: &str, what: &'static str) {
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

/// The fields of one object; of those with the same name, the last.
pub(super) struct Fields<'a> {
    body: &'a StorableBody,
    /// Place among the answer's tools; the connection has none.
    tool: Option<usize>,
    /// By name, once all are read. Empty where a field has been taken.
    named: Vec<(Name<'a>, Option<&'a RawValue>)>,
    pub(super) warnings: Warnings,
}

impl<'a> Fields<'a> {
    pub(super) fn new(body: &'a StorableBody) -> Self {
        Self {
            body,
            tool: None,
            named: Vec::new(),
            warnings: Warnings::default(),
        }
    }

    /// Forgets the object that was read, for the next.
    pub(super) fn begin(&mut self, tool: Option<usize>) {
        self.tool = tool;
        self.named.clear();
        self.warnings.list.clear();
    }

    pub(super) fn add(&mut self, name: Name<'a>, raw: &'a RawValue) {
        self.named.push((name, Some(raw)));
    }

    /// To be called once all fields are there.
    pub(super) fn sort(&mut self) {
        // Stable: of equal names the last one stays the last.
        self.named.sort_by(|one, other| one.0.cmp(&other.0));
        self.named.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1 = later.1;
            }
            same
        });
    }

    /// Reads the object that `text` is, a part of the body, and notes what was altered in it.
    pub(super) fn read(&mut self, text: &'a str, tool: Option<usize>) -> Result<(), WireError> {
        self.begin(tool);
        let mut json = serde_json::Deserializer::from_str(text);
        DeserializeSeed::deserialize(&mut *self, &mut json)
            .and_then(|()| json.end())
            .map_err(|error| {
                let why = without_value(&error);
                WireError::Malformed(match tool {
                    None => why,
                    Some(index) => format!("tools[{index}]: {why}"),
                })
            })
    }

    fn malformed(&self, name: &str, why: impl Display) -> WireError {
        WireError::Malformed(match self.tool {
            None => format!("{name}: {why}"),
            Some(index) => format!("tools[{index}].{name}: {why}"),
        })
    }

    pub(super) fn take_if_any(&mut self, name: &str) -> Option<&'a RawValue> {
        let found = self
            .named
            .binary_search_by(|(known, _)| (**known).cmp(name));
        self.named.get_mut(found.ok()?)?.1.take()
    }

    fn take_raw(&mut self, name: &str) -> Result<&'a str, WireError> {
        self.take_if_any(name)
            .map(RawValue::get)
            .ok_or_else(|| self.malformed(name, "the field is missing"))
    }

    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, WireError> {
        let raw = self.take_raw(name)?;
        serde_json::from_str(raw).map_err(|error| self.malformed(name, without_value(&error)))
    }

    pub(super) fn take_text(&mut self, name: &str) -> Result<String, WireError> {
        let raw = self.take_raw(name)?;
        Ok(self.text(name, raw)?.into_owned())
    }

    pub(super) fn take_text_or_null(&mut self, name: &str) -> Result<Option<String>, WireError> {
        match self.take_raw(name)? {
            "null" => Ok(None),
            raw => Ok(Some(self.text(name, raw)?.into_owned())),
        }
    }

    fn text(&self, name: &str, raw: &'a str) -> Result<Cow<'a, str>, WireError> {
        // It has been read as JSON before: without a backslash a string is what stands between its quotes.
        let plain = raw
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .filter(|plain| memchr::memchr(b'\\', plain.as_bytes()).is_none());
        match plain {
            Some(plain) => Ok(Cow::Borrowed(plain)),
            None => serde_json::from_str(raw)
                .map(Cow::Owned)
                .map_err(|error| self.malformed(name, without_value(&error))),
        }
    }

    pub(super) fn take_time(&mut self, name: &str) -> Result<DateTime<Utc>, WireError> {
        let raw = self.take_raw(name)?;
        self.time(name, raw)
    }

    pub(super) fn take_time_or_null(
        &mut self,
        name: &str,
    ) -> Result<Option<DateTime<Utc>>, WireError> {
        match self.take_raw(name)? {
            "null" => Ok(None),
            raw => self.time(name, raw).map(Some),
        }
    }

    fn time(&mut self, name: &str, raw: &'a str) -> Result<DateTime<Utc>, WireError> {
        let text = self.text(name, raw)?;
        let time = DateTime::parse_from_rfc3339(&text)
            .map_err(|error| self.malformed(name, format!("not an RFC 3339 time: {error}")))?
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

    pub(super) fn take_object(&mut self, name: &str) -> Result<String, WireError> {
        let text = self.take_raw(name)?;
        if text.starts_with('{') {
            Ok(text.to_owned())
        } else {
            Err(self.malformed(name, "not an object"))
        }
    }

    pub(super) fn take_optional(
        &mut self,
        name: &str,
        kind: &str,
        begins: impl Fn(u8) -> bool,
    ) -> Result<Optional, WireError> {
        match self.take_if_any(name).map(RawValue::get) {
            None => Ok(Optional::Absent),
            Some("null") => Ok(Optional::Null),
            Some(text) if text.bytes().next().is_some_and(begins) => {
                Ok(Optional::Json(text.to_owned()))
            }
            Some(_) => Err(self.malformed(name, format!("neither {kind} nor null"))),
        }
    }

    fn left(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.named
            .iter()
            .filter_map(|(name, raw)| Some((&**name, (*raw)?)))
    }

    /// Names the fields in which something had to be replaced; what is left over in `text`, the object's own, was in
    /// a field's name.
    pub(super) fn note_alterations(&mut self, text: &str) {
        const WHAT: &str = "\\u0000 or a lone surrogate was replaced by U+FFFD";
        let mut warnings = std::mem::take(&mut self.warnings);
        if self.body.is_blanked(text) {
            for (name, raw) in self.left() {
                if self.body.is_blanked(raw.get()) {
                    warnings.add(name, "the API key in it was blanked");
                }
            }
        }
        if self.body.is_altered(text) {
            for (name, raw) in self.left() {
                if self.body.is_altered(raw.get()) {
                    warnings.add(name, WHAT);
                } else if name.contains('\u{fffd}') {
                    warnings.add("_extra", WHAT);
                }
            }
        }
        self.warnings = warnings;
    }

    /// Over the fields that were not taken, but for the volatile ones.
    pub(super) fn hash(&self) -> ContentHash {
        let steady = self.left().filter(|(name, _)| !VOLATILE.contains(name));
        hash_parts(steady.flat_map(|(name, raw)| [name.as_bytes(), raw.get().as_bytes()]))
    }

    /// All fields that were not taken, as one JSON object.
    pub(super) fn rest(&self) -> String {
        let mut json = Vec::new();
        // A map of valid JSON values always serializes.
        match serde_json::Serializer::new(&mut json).collect_map(self.left()) {
            Ok(()) => String::from_utf8(json).unwrap_or_else(|_| "{}".into()),
            Err(_) => "{}".into(),
        }
    }
}

/// What is wrong, without the text that serde quotes: errors are logged, and content is not.
pub(super) fn without_value(error: &serde_json::Error) -> String {
    let mut why = error.to_string();
    if let Some((begin, end)) = why.find('"').zip(why.rfind("\", expected "))
        && begin <= end
    {
        why.replace_range(begin..=end, "");
    }
    why
}

impl<'a> DeserializeSeed<'a> for &mut Fields<'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for &mut Fields<'a> {
    type Value = ();

    fn expecting(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, raw)) = map.next_entry()? {
            self.add(name, raw);
        }
        self.sort();
        Ok(())
    }
}

/// A field's name: a part of the body, unless it has escapes.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name<'a>(Cow<'a, str>);

impl std::ops::Deref for Name<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'a> Deserialize<'a> for Name<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl<'a> Visitor<'a> for NameVisitor {
    type Value = Name<'a>;

    fn expecting(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'a str) -> Result<Name<'a>, E> {
        Ok(Name(Cow::Borrowed(name)))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Name<'a>, E> {
        Ok(Name(Cow::Owned(name.to_owned())))
    }
}
