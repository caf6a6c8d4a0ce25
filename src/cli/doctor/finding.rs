//! What the doctor says: one line per thing that was looked at.

use serde::Serialize;

use crate::cli::output::harmless;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// It works, and somebody should know.
    Warning,
    /// It does not work.
    Failed,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Check {
    /// What `run` would refuse with exit code 78, and the files behind it.
    Configuration,
    /// The server and the way to it.
    Database,
    /// The schema.
    Migrations,
    /// Roles and rights.
    Roles,
    /// This machine's clock against others.
    Clock,
    /// The way to an account's API, and whether it takes the key.
    Api,
    /// Running daemons.
    Daemons,
    /// What is left undone.
    Queue,
    /// Partitions of the tables that are kept in them.
    Partitions,
}

impl Check {
    fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Database => "database",
            Self::Migrations => "migrations",
            Self::Roles => "roles",
            Self::Clock => "clock",
            Self::Api => "api",
            Self::Daemons => "daemons",
            Self::Queue => "queue",
            Self::Partitions => "partitions",
        }
    }
}

/// One line: what, where, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) check: Check,
    pub(super) level: Level,
    #[serde(rename = "where")]
    pub(super) place: Option<String>,
    pub(super) what: String,
    /// Always given where it is not ok.
    pub(super) next: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: Check, what: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Ok,
            place: None,
            what: what.into(),
            next: None,
        }
    }

    pub(super) fn warning(check: Check, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            next: Some(next.into()),
            ..Self::ok(check, what)
        }
    }

    pub(super) fn failed(check: Check, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            level: Level::Failed,
            ..Self::warning(check, what, next)
        }
    }

    pub(super) fn at(self, place: impl Into<String>) -> Self {
        Self {
            place: Some(place.into()),
            ..self
        }
    }

    /// For people.
    pub(super) fn lines(&self) -> String {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Failed => "failed",
        };
        let place = self
            .place
            .as_deref()
            .map_or_else(String::new, |place| format!(" ({})", harmless(place)));
        let check = self.check.as_str();
        let what = harmless(&self.what);
        let next = self
            .next
            .as_deref()
            .map_or_else(String::new, |next| format!("\n         {}", harmless(next)));
        format!("{level:<8} {check}{place}: {what}{next}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_level_first_and_what_to_do_below() {
        let finding = Finding::failed(Check::Api, "it is\ngone", "bring it back").at("a\u{1b}b");
        assert_eq!(
            finding.lines(),
            "failed   api (a\\u{1b}b): it is\\ngone\n         bring it back"
        );
        assert_eq!(
            Finding::ok(Check::Clock, "right").lines(),
            "ok       clock: right"
        );
    }

    #[test]
    fn levels_are_ordered_by_how_bad_they_are() {
        assert!(Level::Failed > Level::Warning && Level::Warning > Level::Ok);
    }
}
