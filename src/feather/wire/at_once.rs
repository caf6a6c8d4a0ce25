//! A whole answer, tools and all, in one pass over its text: as nearly all of them can be read.

use crate::feather::body::StorableBody;
use crate::feather::wire::Tools;
use crate::feather::wire::fields::Fields;
use crate::feather::wire::fields::Name;
use serde::de::DeserializeSeed;
use serde::de::Deserializer;
use serde::de::Error;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use std::fmt;
use std::fmt::Formatter;
use uuid::Uuid;

/// The connection's fields, all but `tools`, and the tools, where the answer has some.
pub(super) struct Whole<'a> {
    pub(super) fields: Fields<'a>,
    pub(super) tools: Option<Tools>,
}

/// Reads the answer about connection `expected`. `None` where something was altered or is not as it should be: then
/// only a reading layer by layer can tell what.
pub(super) fn read_at_once<'a>(
    body: &'a StorableBody,
    text: &'a str,
    expected: Uuid,
) -> Option<Whole<'a>> {
    if !body.is_as_it_came() {
        return None;
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let whole = WholeSeed { body, expected }.deserialize(&mut json).ok()?;
    json.end().ok()?;
    Some(whole)
}

struct WholeSeed<'a> {
    body: &'a StorableBody,
    expected: Uuid,
}

impl<'a> DeserializeSeed<'a> for WholeSeed<'a> {
    type Value = Whole<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Whole<'a>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for WholeSeed<'a> {
    type Value = Whole<'a>;

    fn expecting(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str("a connection")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Whole<'a>, A::Error> {
        let mut fields = Fields::new(self.body);
        let mut tools = None;
        while let Some(name) = map.next_key::<Name>()? {
            if &*name == "tools" {
                tools = map.next_value_seed(ToolsSeed {
                    fields: Fields::new(self.body),
                    connection_id: self.expected,
                })?;
            } else {
                fields.add(name, map.next_value()?);
            }
        }
        fields.sort();
        Ok(Whole { fields, tools })
    }
}

struct ToolsSeed<'a> {
    fields: Fields<'a>,
    connection_id: Uuid,
}

impl<'a> DeserializeSeed<'a> for ToolsSeed<'a> {
    type Value = Option<Tools>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Option<Tools>, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'a> Visitor<'a> for ToolsSeed<'a> {
    type Value = Option<Tools>;

    fn expecting(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str("tools or null")
    }

    fn visit_none<E: Error>(self) -> Result<Option<Tools>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'a>>(self, deserializer: D) -> Result<Option<Tools>, D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut items: A) -> Result<Option<Tools>, A::Error> {
        let mut tools = Tools::default();
        loop {
            self.fields.begin(Some(tools.read));
            if items.next_element_seed(&mut self.fields)?.is_none() {
                return Ok(Some(tools));
            }
            tools
                .take(&mut self.fields, "", self.connection_id)
                .map_err(A::Error::custom)?;
        }
    }
}
