//! Which jobs, in the words of a person.

use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use uuid::Uuid;

/// Which jobs. What is `None` matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobFilter {
    /// Only those in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
    /// Only those of this account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Only those that are dead of this class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Only those that have been dead, running or due for so many seconds, or longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_seconds: Option<u32>,
    /// Only those of connections whose id begins so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<IdPrefix>,
}

/// A state of jobs that people ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits, due or not.
    Pending,
    /// Waits and is due.
    Due,
    /// Under way.
    Running,
    /// Finalized; polled until the tools have settled, or to refresh what is stored. Waits for a poll, or one is under way.
    Settling,
    /// Given up.
    Dead,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Due,
        Self::Running,
        Self::Settling,
        Self::Dead,
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Due => "due",
            Self::Running => "running",
            Self::Settling => "settling",
            Self::Dead => "dead",
        }
    }

    /// The state that a word names.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

impl JobFilter {
    /// The state that it comes to: only what is dead has a class.
    pub fn effective_state(&self) -> Option<JobState> {
        match (self.state, &self.class) {
            (None, Some(_)) => Some(JobState::Dead),
            (state, _) => state,
        }
    }

    /// First and last id that it matches.
    pub(in crate::store) fn ids(&self) -> (Uuid, Uuid) {
        let whole = (Uuid::nil(), Uuid::max());
        self.connection
            .as_ref()
            .map_or(whole, |prefix| (prefix.first, prefix.last))
    }
}

/// In words, for the record: `dead, class upstream, account acme`.
impl fmt::Display for JobFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.effective_state().map_or("all", JobState::as_str))?;
        if let Some(class) = &self.class {
            write!(f, ", class {class}")?;
        }
        if let Some(account) = &self.account {
            write!(f, ", account {account}")?;
        }
        if let Some(seconds) = self.for_seconds {
            let time = Duration::from_secs(seconds.into());
            write!(f, ", for {} or longer", humantime::format_duration(time))?;
        }
        if let Some(prefix) = &self.connection {
            write!(f, ", connection {prefix}…")?;
        }
        Ok(())
    }
}

/// The beginning of an id: hexadecimal digits, with the dashes or without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdPrefix {
    text: String,
    first: Uuid,
    last: Uuid,
}

impl FromStr for IdPrefix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "an id, or the beginning of one: hexadecimal digits and dashes";
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if digits.is_empty() || digits.len() > 32 || !is_hex {
            return Err(WRONG);
        }
        let filled = |with: char| {
            let mut whole = digits.clone();
            while whole.len() < 32 {
                whole.push(with);
            }
            Uuid::try_parse(&whole).map_err(|_| WRONG)
        };
        Ok(Self {
            first: filled('0')?,
            last: filled('f')?,
            text: text.to_ascii_lowercase(),
        })
    }
}

impl TryFrom<String> for IdPrefix {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<IdPrefix> for String {
    fn from(prefix: IdPrefix) -> Self {
        prefix.text
    }
}

impl fmt::Display for IdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_an_id_is_all_ids_that_begin_so() {
        let prefix: IdPrefix = "3C90c3cc-0".parse().unwrap();
        assert_eq!(
            prefix.first.to_string(),
            "3c90c3cc-0000-0000-0000-000000000000"
        );
        assert_eq!(
            prefix.last.to_string(),
            "3c90c3cc-0fff-ffff-ffff-ffffffffffff"
        );
        let whole = "3c90c3cc-0d44-4b50-8888-8dd25736052a";
        let prefix: IdPrefix = whole.parse().unwrap();
        assert_eq!((prefix.first, prefix.last), {
            let id = whole.parse().unwrap();
            (id, id)
        });
        for wrong in ["", "-", "xyz", "3c90 ", "é", &format!("{whole}0")] {
            assert!(wrong.parse::<IdPrefix>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_filter_is_kept_whole_and_one_with_words_that_are_not_known_is_not_read() {
        let filter = JobFilter {
            state: Some(JobState::Due),
            account: Some("acme".into()),
            class: Some("upstream".into()),
            for_seconds: Some(3_600),
            connection: "3c90".parse().ok(),
        };
        let text = serde_json::to_string(&filter).unwrap();
        assert_eq!(serde_json::from_str::<JobFilter>(&text).unwrap(), filter);
        let newer = r#"{"state": "dead", "colour": "red"}"#;
        assert!(serde_json::from_str::<JobFilter>(newer).is_err());
        let newer = r#"{"state": "asleep"}"#;
        assert!(serde_json::from_str::<JobFilter>(newer).is_err());
    }

    #[test]
    fn a_filter_in_words() {
        let dead = JobFilter {
            class: Some("upstream".into()),
            ..JobFilter::default()
        };
        assert_eq!(dead.to_string(), "dead, class upstream");
        let old = JobFilter {
            state: Some(JobState::Due),
            for_seconds: Some(3_660),
            ..JobFilter::default()
        };
        assert_eq!(old.to_string(), "due, for 1h 1m or longer");
        assert_eq!(JobFilter::default().to_string(), "all");
    }
}
