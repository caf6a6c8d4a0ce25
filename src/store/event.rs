//! The change feed: what a transaction has visibly changed, in the order in which it becomes visible.

use crate::domain::Finished;
use crate::domain::Outcome;
use crate::store::attempt::ToolChanges;
use crate::store::snapshot::Written;
use crate::store::tools::ToolIds;
use crate::store::tools::WrittenTools;
use std::collections::HashSet;
use uuid::Uuid;

/// The most telling of what happened to a connection, from the most telling on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Removed,
    Dead,
    Synced,
    Revived,
    Added,
    Changed,
    ToolsChanged,
    Cancelled,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "connection_removed",
            Self::Dead => "connection_dead",
            Self::Synced => "connection_synced",
            Self::Revived => "connection_revived",
            Self::Added => "connection_added",
            Self::Changed => "connection_changed",
            Self::ToolsChanged => "tools_changed",
            Self::Cancelled => "connection_cancelled",
        }
    }
}

/// A row of the feed.
#[derive(Debug)]
pub(super) struct Event<'a> {
    pub(super) account: &'a str,
    pub(super) connection_id: Uuid,
    /// `None`: nothing is to be told, unless its attempt makes it [`Kind::Synced`].
    pub(super) kind: Option<Kind>,
    /// By its attempt it is [`Kind::Synced`], whatever else, if that is the first success or the first after a sync that
    /// was given up.
    pub(super) may_be_synced: bool,
    pub(super) error_class: Option<&'static str>,
    pub(super) columns: Option<&'a [String]>,
    pub(super) tools: Option<&'a ToolIds>,
}

impl<'a> Event<'a> {
    /// One about the connection as a whole.
    pub(super) fn bare(account: &'a str, connection_id: Uuid, kind: Kind) -> Self {
        Self {
            account,
            connection_id,
            kind: Some(kind),
            may_be_synced: false,
            error_class: None,
            columns: None,
            tools: None,
        }
    }

    /// A sync that was given up.
    pub(super) fn dead(account: &'a str, connection_id: Uuid, class: &'static str) -> Self {
        Self {
            error_class: Some(class),
            ..Self::bare(account, connection_id, Kind::Dead)
        }
    }
}

/// What a transaction has done to the tables.
#[derive(Default)]
pub(super) struct Changes<'a> {
    pub(super) written: Written,
    pub(super) tools: WrittenTools<'a>,
    /// Connections that were marked removed.
    pub(super) removed: HashSet<Uuid>,
}

impl Changes<'_> {
    /// How many tools of a connection are not what they were.
    pub(super) fn tools_of(&self, connection_id: Uuid) -> ToolChanges {
        self.tools
            .changes
            .get(&connection_id)
            .map(ToolIds::counts)
            .unwrap_or_default()
    }

    /// What became of a connection that was written; `None` when nothing that anybody can see.
    pub(super) fn of_written<'a>(
        &'a self,
        account: &'a str,
        connection_id: Uuid,
    ) -> Option<Event<'a>> {
        let id = &connection_id;
        // Whoever reads of a new connection reads all of it.
        let known = self.written.known.contains(id);
        let columns = self.written.columns.get(id).map(Vec::as_slice);
        let tools = self.tools.changes.get(id).filter(|_| known);
        let kind = if self.written.back.contains(id) {
            Kind::Revived
        } else if !known {
            Kind::Added
        } else if columns.is_some() {
            Kind::Changed
        } else if tools.is_some() {
            Kind::ToolsChanged
        } else {
            return None;
        };
        Some(Event {
            columns,
            tools,
            ..Event::bare(account, connection_id, kind)
        })
    }

    /// What became of a connection by an attempt.
    pub(super) fn of_attempt<'a>(&'a self, finished: &'a Finished) -> Option<Event<'a>> {
        let (job, verdict) = (&finished.job, &finished.verdict);
        let id = job.connection_id;
        let account = job.account.as_str();
        let written = verdict
            .stored
            .as_ref()
            .and_then(|_| self.of_written(account, id));
        let dead = verdict.outcome == Outcome::Dead;
        let kind = if self.removed.contains(&id) {
            Some(Kind::Removed)
        } else if dead {
            Some(Kind::Dead)
        } else {
            written.as_ref().and_then(|event| event.kind)
        };
        let may_be_synced = verdict.outcome == Outcome::Synced;
        let class = verdict.class.filter(|_| dead);
        (kind.is_some() || may_be_synced).then(|| Event {
            account,
            connection_id: id,
            kind,
            may_be_synced,
            error_class: class.map(|class| class.as_str()),
            columns: written.as_ref().and_then(|event| event.columns),
            tools: written.as_ref().and_then(|event| event.tools),
        })
    }
}
