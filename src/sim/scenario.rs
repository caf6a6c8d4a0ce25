//! Scenarios: how the simulated API behaves, from a TOML file or in code.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use uuid::Uuid;

use super::chance::Chance;
use super::fault::RetryAfter;
use super::range::Count;
use super::range::Span;
use super::rule::FaultRule;

/// All are made at the start, and take a kilobyte or so each.
const MOST_CONNECTIONS: u64 = 10_000_000;

/// How the simulated API behaves. The default: every connection exists, is active, settles at once
/// with five tools, and nothing goes wrong.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// Everything that looks random comes from this and the connection's id.
    pub seed: u64,
    /// Tools per connection.
    pub tools: Count,
    /// How long a call takes, chosen per call.
    pub latency: Span,
    /// How long after a finalize the tools are still being synced, chosen per connection.
    pub settle: Span,
    /// How many connections exist before anybody asks; see [`Scenario::connection_ids`].
    pub connections: u64,
    /// Which share (0..1) of the connections waits for its first finalize as `pending_oauth`.
    pub pending: f64,
    /// Which share (0..1) of the connections has finished OAuth and waits for its first finalize as `authorized`.
    pub authorized: f64,
    /// The first so many calls for each connection answer `pending_oauth`.
    pub not_active: u32,
    /// Whether each finalize moves `tools_synced_at`.
    pub tools_synced_at: SyncedAt,
    /// Whether each finalize moves the tools' `last_seen_at` and the connection's `last_refreshed_at`.
    pub last_seen_at: Seen,
    /// The probability (0..1) that a finalize after the first adds, drops or changes a tool.
    pub churn: f64,
    /// The accepted keys; any non-empty one when `None`.
    pub api_keys: Option<Vec<String>>,
    /// The organisation's request limit; none when `None`.
    pub limit: Option<Limit>,
    /// What goes wrong; the first rule that fires wins.
    #[serde(rename = "fault")]
    pub faults: Vec<FaultRule>,
    /// How many calls are remembered one by one; statistics count them all.
    pub keep_calls: usize,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            seed: 0,
            tools: Count::exactly(5),
            latency: Span::default(),
            settle: Span::default(),
            connections: 0,
            pending: 0.0,
            authorized: 0.0,
            not_active: 0,
            tools_synced_at: SyncedAt::Moving,
            last_seen_at: Seen::Moving,
            churn: 0.0,
            api_keys: None,
            limit: None,
            faults: Vec::new(),
            keep_calls: 100_000,
        }
    }
}

/// What a finalize does to `tools_synced_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncedAt {
    /// Each finalize moves it strictly forward.
    Moving,
    /// It stays as it was first set.
    Frozen,
}

/// What a finalize does to `last_seen_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// Each finalize moves it to its own time.
    Moving,
    /// It never moves.
    Fixed,
}

/// The organisation's request limit.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Calls accepted per window of 60 s; the refused ones do not count.
    pub requests_per_minute: u32,
    /// How the window is laid.
    #[serde(default)]
    pub window: Window,
    /// `retry_after` in the 429's body, seconds.
    #[serde(default)]
    pub retry_after: Option<i64>,
    /// The 429's `Retry-After` header.
    #[serde(default)]
    pub retry_after_header: Option<RetryAfter>,
}

/// How the limit's 60 s are laid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// Minutes counted from the start of the simulator.
    Fixed,
    /// Any 60 s.
    #[default]
    Sliding,
}

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("cannot read the scenario {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not TOML, or has a key or a value that does not fit; names line and column.
    #[error("the scenario does not fit: {0}")]
    Syntax(#[from] toml::de::Error),
    /// A value that is out of its range.
    #[error("the scenario does not fit: {key} {problem}")]
    Range {
        /// Which key.
        key: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// Says which line, key or value does not fit.
    pub fn from_toml(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Reads a scenario from a file.
    ///
    /// # Errors
    /// As [`Scenario::from_toml`], or that the file cannot be read.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path).map_err(|source| ScenarioError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::from_toml(&text)
    }

    /// The ids of the `connections` that exist before anybody asks; they depend on the seed alone.
    pub fn connection_ids(&self) -> impl Iterator<Item = Uuid> + use<> {
        let seed = self.seed;
        (0..self.connections).map(move |n| Chance::new(seed, Uuid::nil(), "connection", n).uuid())
    }

    /// Checks what the types alone do not; for scenarios changed after they were read.
    ///
    /// # Errors
    /// Names the key whose value is out of its range.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let range = |key, problem: String| Err(ScenarioError::Range { key, problem });
        for (key, share) in [
            ("churn", self.churn),
            ("pending", self.pending),
            ("authorized", self.authorized),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return range(key, format!("= {share} is not between 0 and 1"));
            }
        }
        if self.tools.max > 10_000 {
            return range("tools", format!("= {} is more than 10000", self.tools.max));
        }
        if self.connections > MOST_CONNECTIONS {
            let problem = format!("= {} is more than {MOST_CONNECTIONS}", self.connections);
            return range("connections", problem);
        }
        for rule in &self.faults {
            if let Err(problem) = rule.check() {
                return range("fault", format!("`{}`: {problem}", rule.fault.kind()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sim::fault::Fault;
    use crate::sim::fault::KINDS;
    use crate::sim::rule::On;

    const EXAMPLE: &str = include_str!("../../docs/examples/scenario.toml");
    const MANUAL: &str = include_str!("../../docs/simulator.md");

    #[test]
    fn the_example_in_the_docs_is_a_scenario() {
        let scenario = Scenario::from_toml(EXAMPLE).unwrap();
        assert_eq!(scenario.latency.max, Duration::from_millis(80));
        assert!(scenario.limit.is_some());
        assert!(!scenario.faults.is_empty());
    }

    #[test]
    fn an_empty_scenario_is_the_default() {
        assert_eq!(Scenario::from_toml("").unwrap(), Scenario::default());
    }

    #[test]
    fn rules_keep_their_order_and_keys() {
        let scenario = Scenario::from_toml(
            "[[fault]]\nkind = \"reset\"\non = \"poll\"\n[[fault]]\nkind = \"hang\"\nduration = \"3s\"\n",
        )
        .unwrap();
        assert_eq!(
            scenario.faults,
            [
                FaultRule {
                    on: On::Poll,
                    ..FaultRule::new(Fault::Reset)
                },
                FaultRule::new(Fault::Hang {
                    duration: Some(Duration::from_secs(3))
                })
            ]
        );
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_line() {
        let problem = |text: &str| Scenario::from_toml(text).unwrap_err().to_string();
        let unknown = problem("seed = 1\nlatncy = \"1s\"\n");
        assert!(
            unknown.contains("line 2") && unknown.contains("latncy"),
            "{unknown}"
        );
        let fault = problem("seed = 1\n\n[[fault]]\nkind = \"hnag\"\n");
        assert!(
            fault.contains("line 3") && fault.contains("nearest is `hang`"),
            "{fault}"
        );
        let churn = problem("churn = 7.0");
        assert!(
            churn.contains("churn = 7 is not between 0 and 1"),
            "{churn}"
        );
        let many = problem("connections = 9000000000000000000");
        assert!(many.contains("is more than 10000000"), "{many}");
        let settle = problem("settle = \"3s..1s\"");
        assert!(
            settle.contains("runs backwards") && settle.contains("line 1"),
            "{settle}"
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Scenario::load(Path::new("/nowhere/scenario.toml")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/scenario.toml"));
    }

    #[test]
    fn the_manual_names_every_fault_and_key() {
        for (kind, keys) in KINDS {
            assert!(MANUAL.contains(&format!("`{kind}`")), "fault {kind}");
            for key in *keys {
                assert!(MANUAL.contains(&format!("`{key}")), "key {key} of {kind}");
            }
        }
        for key in [
            "seed",
            "tools",
            "latency",
            "settle",
            "connections",
            "pending",
            "authorized",
            "not_active",
            "tools_synced_at",
            "last_seen_at",
            "churn",
            "api_keys",
            "keep_calls",
            "requests_per_minute",
            "window",
            "rate",
            "ids",
            "times",
            "on",
        ] {
            assert!(MANUAL.contains(&format!("`{key}`")), "option {key}");
        }
    }

    #[test]
    fn the_ids_of_a_seed_are_always_the_same() {
        let scenario = |seed| Scenario {
            seed,
            connections: 3,
            ..Scenario::default()
        };
        let ids: Vec<_> = scenario(1).connection_ids().collect();
        assert_eq!(ids.len(), 3);
        assert_eq!(ids, scenario(1).connection_ids().collect::<Vec<_>>());
        assert_ne!(ids, scenario(2).connection_ids().collect::<Vec<_>>());
    }
}
