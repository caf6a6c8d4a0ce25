//! The change feed: what a transaction has visibly changed, in the order in which it becomes visible.

use crate::domain::Finished;
use crate::domain::Outcome;
use crate::store::attempt::ToolChanges;
use crate::store::snapshot::Written;
use crate::store::tools::ToolIds;
use sqlx::PgConnection;
use std::collections::HashMap;
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
    fn as_str(self) -> &'static str {
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
    account: &'a str,
    connection_id: Uuid,
    kind: Kind,
    error_class: Option<&'static str>,
    columns: Option<&'a [String]>,
    tools: Option<&'a ToolIds>,
}

impl<'a> Event<'a> {
    /// One about the connection as a whole.
    pub(super) fn bare(account: &'a str, connection_id: Uuid, kind: Kind) -> Self {
        Self {
            account,
            connection_id,
            kind,
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
pub(super) struct Changes {
    pub(super) written: Written,
    pub(super) tools: HashMap<Uuid, ToolIds>,
    /// Connections that were marked removed.
    pub(super) removed: HashSet<Uuid>,
}

impl Changes {
    /// How many tools of a connection are not what they were.
    pub(super) fn tools_of(&self, connection_id: Uuid) -> ToolChanges {
        self.tools
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
        let tools = self.tools.get(id).filter(|_| known);
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

    /// What became of a connection by an attempt. `synced` are those that are so for the first time, or again.
    pub(super) fn of_attempt<'a>(
        &'a self,
        finished: &'a Finished,
        synced: &HashSet<Uuid>,
    ) -> Option<Event<'a>> {
        let (job, verdict) = (&finished.job, &finished.verdict);
        let id = job.connection_id;
        let account = job.account.as_str();
        let written = verdict
            .stored
            .as_ref()
            .and_then(|_| self.of_written(account, id));
        let dead = verdict.outcome == Outcome::Dead;
        let kind = if self.removed.contains(&id) {
            Kind::Removed
        } else if dead {
            Kind::Dead
        } else if synced.contains(&id) {
            Kind::Synced
        } else {
            return written;
        };
        let class = verdict.class.filter(|_| dead);
        Some(Event {
            kind,
            error_class: class.map(|class| class.as_str()),
            ..written.unwrap_or_else(|| Event::bare(account, id, kind))
        })
    }
}

/// Writes events, as the last statement before COMMIT: a number is drawn under a lock that the transaction keeps to its
/// end, so that no larger number is seen before a smaller one. Nothing that others hold may be waited for after it.
pub(super) async fn write(
    conn: &mut PgConnection,
    events: &[Event<'_>],
    notify: bool,
) -> Result<(), sqlx::Error> {
    if events.is_empty() {
        return Ok(());
    }
    macro_rules! column {
        ($event:ident => $value:expr) => {
            events.iter().map(|$event| $value).collect::<Vec<_>>()
        };
    }
    let ids = |pick: fn(&ToolIds) -> &Vec<Uuid>| column!(event => event.tools.map(pick).filter(|ids| !ids.is_empty()).map(|ids| array(ids)));
    sqlx::query!(
        r#"
        WITH turn AS MATERIALIZED (
            SELECT pg_advisory_xact_lock(7305801, 5)
        ), told AS MATERIALIZED (
            SELECT pg_notify('feather_sync_events', '') FROM turn WHERE $9
        )
        INSERT INTO feather.sync_events
            (at, account, connection_id, kind, error_class, changed_columns, tools_added, tools_changed, tools_removed)
        SELECT clock_timestamp(), v.account, v.connection_id, v.kind, v.error_class, v.columns::text[], v.added::uuid[],
               v.changed::uuid[], v.removed::uuid[]
        FROM turn
        LEFT JOIN told ON true
        CROSS JOIN unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
                   AS v (account, connection_id, kind, error_class, columns, added, changed, removed)
        "#,
        &column!(event => event.account) as _,
        &column!(event => event.connection_id),
        &column!(event => event.kind.as_str()) as _,
        &column!(event => event.error_class) as _,
        &column!(event => event.columns.map(array)) as _,
        &ids(|tools| &tools.added) as _,
        &ids(|tools| &tools.changed) as _,
        &ids(|tools| &tools.removed) as _,
        notify
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// An array of names or ids, which need no quotes; arrays of arrays do not unnest into rows of arrays.
fn array<T: ToString>(items: &[T]) -> String {
    let items: Vec<_> = items.iter().map(T::to_string).collect();
    format!("{{{}}}", items.join(","))
}
