//! JSON objects as names and raw text. The crate's `serde_json::Value` would round long numbers,
//! refuse `1e400` and lone surrogates; raw text keeps every digit and every escape.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

/// One JSON object: each field's name and its value as JSON text.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields(BTreeMap<String, String>);

impl Fields {
    /// Of anything but an object: no fields. The texts parsed here were written by the simulator.
    pub(super) fn parse(text: &str) -> Self {
        let raw: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).unwrap_or_default();
        Self(
            raw.into_iter()
                .map(|(name, value)| (name, value.get().to_owned()))
                .collect(),
        )
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A field that holds a JSON string, decoded.
    pub(super) fn string(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?).ok()
    }

    pub(super) fn set(&mut self, name: &str, text: impl Into<String>) {
        self.0.insert(name.to_owned(), text.into());
    }

    pub(super) fn set_string(&mut self, name: &str, text: &str) {
        self.set(name, quoted(text));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    pub(super) fn write(&self, out: &mut String) {
        out.push('{');
        for (n, (name, value)) in self.0.iter().enumerate() {
            if n > 0 {
                out.push(',');
            }
            out.push_str(&quoted(name));
            out.push(':');
            out.push_str(value);
        }
        out.push('}');
    }
}

/// A ConnectionResponse taken apart; `tools` is `None` where the answer has none or null.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts {
    pub(super) fields: Fields,
    pub(super) tools: Option<Vec<Fields>>,
}

impl Parts {
    pub(super) fn parse(text: &str) -> Self {
        let mut fields = Fields::parse(text);
        let tools = fields.get("tools").and_then(elements);
        if tools.is_some() {
            fields.remove("tools");
        }
        Self { fields, tools }
    }

    pub(super) fn into_text(mut self) -> String {
        if let Some(tools) = &self.tools {
            let mut text = String::from("[");
            for (n, tool) in tools.iter().enumerate() {
                if n > 0 {
                    text.push(',');
                }
                tool.write(&mut text);
            }
            text.push(']');
            self.fields.set("tools", text);
        }
        let mut out = String::new();
        self.fields.write(&mut out);
        out
    }
}

fn elements(array: &str) -> Option<Vec<Fields>> {
    let raw: Vec<Box<RawValue>> = serde_json::from_str(array).ok()?;
    Some(raw.iter().map(|one| Fields::parse(one.get())).collect())
}

/// `text` as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// `new` as text, keeping the old text (and so its digits) of whatever has not changed in it.
pub(super) fn rewrite(old: &str, new: &Value) -> String {
    let Ok(before) = serde_json::from_str::<Value>(old) else {
        return new.to_string();
    };
    if before == *new {
        return old.to_owned();
    }
    let (Value::Object(_), Value::Object(new)) = (&before, new) else {
        return new.to_string();
    };
    let old = Fields::parse(old);
    let mut fields = Fields::default();
    for (name, value) in new {
        fields.set(
            name,
            old.get(name)
                .map_or_else(|| value.to_string(), |text| rewrite(text, value)),
        );
    }
    let mut out = String::new();
    fields.write(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn digits_escapes_and_numbers_beyond_doubles_survive() {
        let text = r#"{"a":12345678901234567890.123456789,"b":"\ud800\u0000","c":1e400,"tools":[{"d":1.10}]}"#;
        assert_eq!(Parts::parse(text).into_text(), text);
    }

    #[test]
    fn a_change_beside_a_long_number_leaves_the_number_alone() {
        let old = r#"{"a":{"n":12345678901234567890.123456789,"m":1},"z":0}"#;
        let mut new: Value = serde_json::from_str(old).unwrap();
        new["a"]["m"] = json!("x");
        new.as_object_mut().unwrap().remove("z");
        assert_eq!(
            rewrite(old, &new),
            r#"{"a":{"m":"x","n":12345678901234567890.123456789}}"#
        );
    }
}
