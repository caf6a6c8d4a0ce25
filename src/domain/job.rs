//! A claimed job: one attempt at one connection, with the lease that fences it.

use crate::domain::account::AccountName;
use chrono::DateTime;
use chrono::Utc;
use uuid::Uuid;

/// What the next call of a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// `POST …/finalize`.
    Finalize,
    /// Finalized; `GET` until the tools have settled.
    Settle,
    /// `POST …/refresh-tools`, which nobody asked for.
    Refresh,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 3] = [Self::Finalize, Self::Settle, Self::Refresh];

    /// The word used in the queue. To the outside a refresh is the beginning of a settle.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finalize => "finalize",
            Self::Settle => "settle",
            Self::Refresh => "refresh",
        }
    }

    /// The phase that a table's word names.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == word)
    }

    /// The call that this phase makes.
    pub fn call(self) -> CallKind {
        match self {
            Self::Finalize => CallKind::Finalize,
            Self::Settle => CallKind::Poll,
            Self::Refresh => CallKind::Refresh,
        }
    }
}

/// Kind of an API call, as recorded in the history and in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// `POST …/finalize`.
    Finalize,
    /// `GET …/{id}` while settling.
    Poll,
    /// `POST …/refresh-tools`.
    Refresh,
}

impl CallKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Finalize, Self::Poll, Self::Refresh];

    /// The word used in tables and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finalize => "finalize",
            Self::Poll => "poll",
            Self::Refresh => "reconcile",
        }
    }
}

/// An unsettled answer that was seen before, to be compared with the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Fingerprint over `tools_status`, `tools_synced_at` and the tools.
    pub fingerprint: Vec<u8>,
    /// When the first answer with this fingerprint was committed, on the database's clock.
    pub at: DateTime<Utc>,
}

/// What is stored of a connection's last tool sync. `None` in a [`Job`] means that the connection is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredSync {
    /// `tools_synced_at` as stored.
    pub tools_synced_at: Option<DateTime<Utc>>,
}

/// One claimed attempt. All times are on the database's clock.
#[derive(Clone, Debug)]
pub struct Job {
    /// The connection.
    pub connection_id: Uuid,
    /// Whose key to use.
    pub account: AccountName,
    /// Which call to make.
    pub phase: Phase,
    /// Number of this attempt, from 1, counted before the call.
    pub attempt: u32,
    /// Answers in a row, before this attempt, that were not what the API promises.
    pub malformed: u32,
    /// Fencing token of this claim.
    pub lease_token: Uuid,
    /// When this attempt was claimed.
    pub started_at: DateTime<Utc>,
    /// When the finalize that is being followed was claimed; this attempt's own claim while finalizing.
    pub finalize_started_at: DateTime<Utc>,
    /// Since when the oldest request has wanted this sync.
    pub wanted_at: DateTime<Utc>,
    /// End of the settle phase, while settling.
    pub settle_deadline: Option<DateTime<Utc>>,
    /// Polls made since the finalize.
    pub settle_polls: u32,
    /// The last unsettled answer.
    pub seen: Option<Sighting>,
    /// What is stored of the connection.
    pub stored: Option<StoredSync>,
    /// Another account from which the connection is held, and which a live replica serves.
    pub held_by: Option<AccountName>,
    /// Another account from which the connection is held, and which nobody serves: the answer takes it over.
    pub takes_over: Option<AccountName>,
    /// This is the single call that tests whether a paused account works again.
    pub probe: bool,
}

impl Job {
    /// Whether no request asked for it: a list has it polled, or its tools are refreshed, and it is wanted since that
    /// was decided.
    pub fn is_only_looked_after(&self) -> bool {
        self.phase != Phase::Finalize && self.finalize_started_at == self.wanted_at
    }

    /// Whether it is the first poll that a list leads to.
    pub fn is_first_look(&self) -> bool {
        self.phase == Phase::Settle && self.settle_polls == 0 && self.is_only_looked_after()
    }
}
