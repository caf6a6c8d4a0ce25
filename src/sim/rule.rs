//! Rules: which calls a fault hits.

use serde::Deserialize;
use serde::Deserializer;
use serde::de::Error;
use serde_json::Map;
use serde_json::Value;
use uuid::Uuid;

use super::chance::Chance;
use super::fault::Fault;
use super::fault::KINDS;
use super::record::Kind;

/// A fault and the calls it hits; one `[[fault]]` of a scenario. The first rule that fires wins.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultRule {
    /// What goes wrong.
    pub fault: Fault,
    /// In which share (0..1) of the matching calls, decided by seed, connection and call number.
    pub rate: f64,
    /// For these connections only; empty means for all.
    pub ids: Vec<Uuid>,
    /// At most so often per connection.
    pub times: Option<u32>,
    /// For these calls only.
    pub on: On,
}

/// Which calls a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// POST …/finalize.
    Finalize,
    /// GET of one connection.
    Poll,
    /// POST …/refresh-tools.
    Refresh,
    /// GET of all connections, or of the integrations.
    List,
    /// Any call about one connection.
    #[default]
    Any,
}

/// Keys that rules of every kind may have, beside `kind`.
const COMMON: [&str; 4] = ["rate", "ids", "times", "on"];

impl FaultRule {
    /// Every time, for every connection, on any call.
    pub fn new(fault: Fault) -> Self {
        Self {
            fault,
            rate: 1.0,
            ids: Vec::new(),
            times: None,
            on: On::Any,
        }
    }

    pub(super) fn matches(&self, kind: Kind, id: Uuid) -> bool {
        let on = match self.on {
            On::Finalize => kind == Kind::Finalize,
            On::Poll => kind == Kind::Poll,
            On::Refresh => kind == Kind::Refresh,
            On::List => matches!(kind, Kind::List | Kind::Catalog),
            On::Any => matches!(kind, Kind::Finalize | Kind::Poll | Kind::Refresh),
        };
        on && (self.ids.is_empty() || self.ids.contains(&id))
    }

    /// The dice for the given call of a connection (1, 2, …) and the rule's place in the list.
    pub(super) fn fires(&self, seed: u64, id: Uuid, call: u32, place: usize) -> bool {
        self.rate >= 1.0 || {
            let number = u64::from(call) << 16 | (place as u64 & 0xFFFF);
            Chance::new(seed, id, "fault", number).happens(self.rate)
        }
    }

    /// What is wrong with it, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.rate) {
            return Err(format!("rate = {} is not between 0 and 1", self.rate));
        }
        match &self.fault {
            Fault::Status(status) if !(200..=599).contains(&status.code) => {
                Err(format!("code = {} is not between 200 and 599", status.code))
            }
            Fault::ShortList { keep } if !(0.0..=1.0).contains(keep) => {
                Err(format!("keep = {keep} is not between 0 and 1"))
            }
            Fault::Redirect { code, .. } if !(300..=399).contains(code) => {
                Err(format!("code = {code} is not between 300 and 399"))
            }
            Fault::Redirect { location, .. } if location.contains(|c: char| c.is_control()) => {
                Err("location holds control characters".to_owned())
            }
            Fault::MissingField { name }
            | Fault::WrongType { name }
            | Fault::NullField { name }
                if name.is_empty() || name == "tools[]." =>
            {
                Err("name is empty: write a field such as nickname or tools[].slug".to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for FaultRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let keys = Map::<String, Value>::deserialize(deserializer)?;
        from_keys(keys).map_err(D::Error::custom)
    }
}

fn from_keys(mut keys: Map<String, Value>) -> Result<FaultRule, String> {
    let kind = match keys.get("kind") {
        Some(Value::String(kind)) => kind.clone(),
        Some(other) => return Err(format!("fault kind {other} is not text")),
        None => return Err("a fault needs a kind, such as kind = \"reset\"".to_owned()),
    };
    let Some((_, own)) = KINDS.iter().find(|(name, _)| *name == kind) else {
        let names = KINDS.iter().map(|(name, _)| *name);
        return Err(format!(
            "unknown fault kind `{kind}`; the nearest is `{}`",
            nearest(&kind, names)
        ));
    };
    let known = || COMMON.iter().chain(own.iter()).copied();
    if let Some(odd) = keys
        .keys()
        .find(|key| *key != "kind" && !known().any(|name| name == *key))
    {
        return Err(format!(
            "fault `{kind}` has no key `{odd}`; the nearest is `{}`",
            nearest(odd, known())
        ));
    }
    let explain = |key: &'static str| {
        let kind = kind.clone();
        move |error: serde_json::Error| format!("fault `{kind}`: {key}{error}")
    };
    let rule = FaultRule {
        rate: take(&mut keys, "rate")
            .map_err(explain("rate: "))?
            .unwrap_or(1.0),
        ids: take(&mut keys, "ids")
            .map_err(explain("ids: "))?
            .unwrap_or_default(),
        times: take(&mut keys, "times").map_err(explain("times: "))?,
        on: take(&mut keys, "on")
            .map_err(explain("on: "))?
            .unwrap_or_default(),
        fault: serde_json::from_value(Value::Object(keys)).map_err(explain(""))?,
    };
    rule.check()
        .map_err(|problem| format!("fault `{kind}`: {problem}"))?;
    Ok(rule)
}

fn take<T: for<'a> Deserialize<'a>>(
    keys: &mut Map<String, Value>,
    name: &str,
) -> Result<Option<T>, serde_json::Error> {
    keys.remove(name).map(serde_json::from_value).transpose()
}

fn nearest<'a>(word: &str, among: impl Iterator<Item = &'a str>) -> &'a str {
    among
        .min_by_key(|name| strsim::damerau_levenshtein(word, name))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(value: Value) -> Result<FaultRule, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn every_kind_of_the_table_is_read_back_as_itself() {
        for (kind, keys) in KINDS {
            let mut rule = Map::from_iter([("kind".to_owned(), json!(kind))]);
            for key in *keys {
                let value = match *key {
                    "duration" | "age" => json!("1s"),
                    "code" if *kind == "redirect" => json!(308),
                    "code" | "bytes" | "retry_after" | "retry_after_header" => json!(503),
                    "keep" => json!(0.25),
                    "name" | "location" | "word" | "body" => json!("nickname"),
                    _ => json!(true),
                };
                rule.insert((*key).to_owned(), value);
            }
            let rule = from_keys(rule).unwrap();
            assert_eq!(rule.fault.kind(), *kind);
        }
    }

    #[test]
    fn common_keys_say_which_calls_are_hit() {
        let id = Uuid::from_u128(5);
        let rule = rule(json!({"kind": "status", "code": 503, "on": "poll", "ids": [id], "times": 2, "rate": 0.5})).unwrap();
        assert_eq!((rule.times, rule.rate), (Some(2), 0.5));
        assert!(rule.matches(Kind::Poll, id));
        assert!(!rule.matches(Kind::Finalize, id));
        assert!(!rule.matches(Kind::Poll, Uuid::nil()));
        assert!(!FaultRule::new(Fault::Reset).matches(Kind::List, id));
    }

    #[test]
    fn a_wrong_kind_key_or_value_is_named_with_the_nearest_right_one() {
        let problem = |value| rule(value).unwrap_err();
        assert!(
            problem(json!({"kind": "hnag"}))
                .contains("unknown fault kind `hnag`; the nearest is `hang`")
        );
        assert!(
            problem(json!({"kind": "reset", "tims": 1}))
                .contains("no key `tims`; the nearest is `times`")
        );
        assert!(problem(json!({"kind": "status", "code": 99})).contains("code = 99"));
        assert!(problem(json!({"kind": "reset", "rate": 2})).contains("rate = 2"));
        assert!(problem(json!({"kind": "slow"})).contains("duration"));
        assert!(problem(json!({"rate": 1})).contains("needs a kind"));
        assert!(problem(json!({"kind": "reset", "ids": ["x"]})).contains("ids: "));
    }
}
