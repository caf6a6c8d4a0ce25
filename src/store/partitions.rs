//! The tables that are kept in partitions by time: made ahead, and dropped whole when their time is over.

use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use sqlx::PgConnection;
use std::time::Duration;

/// Far enough back for every clock, and not further than a timestamp goes.
const LONGEST: Duration = Duration::from_secs(1_000 * 365 * 86_400);

/// The last hour is always shown.
pub(super) const LEAST_OF_MINUTES: Duration = Duration::from_secs(7_200);

/// A table that is kept in partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitioned {
    /// Attempts that have ended.
    Attempts,
    /// Statistics by the minute.
    Minutes,
    /// The change feed.
    Events,
    /// Former versions of connections.
    ConnectionVersions,
    /// Former versions of tools.
    ToolVersions,
}

impl Partitioned {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Attempts,
        Self::Minutes,
        Self::Events,
        Self::ConnectionVersions,
        Self::ToolVersions,
    ];

    /// Its name in the schema.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "sync_attempts",
            Self::Minutes => "sync_throughput",
            Self::Events => "sync_events",
            Self::ConnectionVersions => "connection_versions",
            Self::ToolVersions => "tool_versions",
        }
    }
}

/// What was done about a table's partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Partitions made.
    pub made: i32,
    /// Partitions dropped, one at most.
    pub dropped: i32,
    /// Rows deleted that no partition covered.
    pub deleted: i32,
    /// Something was in the way that passes, or is left to do.
    pub unfinished: bool,
    /// Partitions that are past their time and stay, because something depends on them: which, and what.
    pub stuck: Vec<String>,
}

/// How a table's partitions stand.
#[derive(Clone, Debug)]
pub struct PartitionState {
    /// The table.
    pub relation: String,
    /// For how many seconds from now on there are partitions without a gap; 0 when there is none now.
    pub ahead_seconds: f64,
    /// Rows lie where no partition covers them.
    pub strays: bool,
    /// The oldest partition; empty when there is none.
    pub oldest: String,
    /// For how many seconds everything in it has been older than now; negative while rows of its time may come.
    pub oldest_ended_seconds: f64,
}

/// What is of a part of a table, and was meant for the whole: it was there before the table was kept in partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftBehind {
    /// A view, a function, a place in a publication, an index, a trigger or a policy, as the server describes it.
    pub what: String,
    /// The table.
    pub relation: String,
}

/// What sees no more than what became the first part, or holds for no more.
pub(super) async fn left_behind(conn: &mut PgConnection) -> Result<Vec<LeftBehind>, sqlx::Error> {
    sqlx::query_as!(
        LeftBehind,
        r#"
        SELECT DISTINCT COALESCE(pg_describe_object('pg_catalog.pg_class'::regclass, r.ev_class, 0),
                                 pg_describe_object(d.classid, d.objid, 0)) AS "what!", whole.relname::text AS "relation!"
        FROM pg_catalog.pg_inherits i
        JOIN pg_catalog.pg_class whole ON whole.oid = i.inhparent AND whole.relnamespace = 'feather'::regnamespace
        JOIN pg_catalog.pg_class part ON part.oid = i.inhrelid AND part.relname = whole.relname || '_before'
        JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = part.oid
                                       OR d.refclassid = 'pg_catalog.pg_type'::regclass AND d.refobjid = part.reltype
        LEFT JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND r.oid = d.objid
        LEFT JOIN pg_catalog.pg_trigger t ON d.classid = 'pg_catalog.pg_trigger'::regclass AND t.oid = d.objid
        LEFT JOIN pg_catalog.pg_index x ON d.classid = 'pg_catalog.pg_class'::regclass AND x.indexrelid = d.objid
        WHERE d.classid IN ('pg_catalog.pg_rewrite'::regclass, 'pg_catalog.pg_proc'::regclass,
                            'pg_catalog.pg_publication_rel'::regclass, 'pg_catalog.pg_policy'::regclass)
           OR NOT t.tgisinternal AND t.tgparentid = 0
           -- One that belongs to an index of the whole is a part of that.
           OR x.indexrelid IS NOT NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits of WHERE of.inhrelid = x.indexrelid)
        ORDER BY 1
        "#
    )
    .fetch_all(conn)
    .await
}

impl Db {
    /// What goes on seeing only what a table held before it was kept in partitions, or holding for that alone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn left_behind(&self) -> Result<Vec<LeftBehind>, StoreError> {
        let mut session = self.session().await?;
        let result = within(async { Ok(left_behind(&mut session).await?) }).await;
        session.settle(result)
    }

    /// Makes partitions of a table ahead, and drops one whose rows are all older than `keep`. Nobody waits for it longer
    /// than a tenth of a second. Safe in every replica at once.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_partitions(
        &self,
        table: Partitioned,
        keep: Duration,
    ) -> Result<Kept, StoreError> {
        let keep = match table {
            Partitioned::Minutes => keep.max(LEAST_OF_MINUTES),
            _ => keep,
        };
        let mut session = self.session().await?;
        let query = sqlx::query_as!(
            Kept,
            r#"SELECT made AS "made!", dropped AS "dropped!", deleted AS "deleted!", unfinished AS "unfinished!",
                      stuck AS "stuck!"
               FROM feather.keep_partitions($1, $2 * interval '1 second')"#,
            table.as_str(),
            keep.min(LONGEST).as_secs_f64()
        );
        let result = within(async { Ok(query.fetch_one(&mut *session).await?) }).await;
        let kept = session.settle(result)?;
        for part in &kept.stuck {
            tracing::warn!(
                relation = table.as_str(),
                "a partition that is past its time cannot be dropped: {part}"
            );
        }
        Ok(kept)
    }

    /// How the partitions stand, of every table that has them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn partitions(&self) -> Result<Vec<PartitionState>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_as!(
            PartitionState,
            r#"
            WITH RECURSIVE bounds AS MATERIALIZED (
                SELECT t.relation, b.name, b.since, b.until
                FROM (VALUES ('sync_attempts'), ('sync_throughput'), ('sync_events'), ('connection_versions'),
                             ('tool_versions')) AS t (relation)
                CROSS JOIN LATERAL feather.partition_bounds(t.relation) AS b
            ), covered (relation, until) AS (
                SELECT relation, until FROM bounds WHERE since <= now() AND now() < until
                UNION ALL
                SELECT b.relation, b.until FROM covered c JOIN bounds b ON b.relation = c.relation AND b.since = c.until
            )
            SELECT s.relation AS "relation!", s.strays AS "strays!",
                   COALESCE((SELECT EXTRACT(epoch FROM max(c.until) - now()) FROM covered c WHERE c.relation = s.relation), 0)::float8
                       AS "ahead_seconds!",
                   COALESCE(o.name, '') AS "oldest!",
                   COALESCE(EXTRACT(epoch FROM now() - o.until), 0)::float8 AS "oldest_ended_seconds!"
            FROM (VALUES ('sync_attempts', EXISTS (SELECT FROM feather.sync_attempts_default)),
                         ('sync_throughput', EXISTS (SELECT FROM feather.sync_throughput_default)),
                         ('sync_events', EXISTS (SELECT FROM feather.sync_events_default)),
                         ('connection_versions', EXISTS (SELECT FROM feather.connection_versions_default)),
                         ('tool_versions', EXISTS (SELECT FROM feather.tool_versions_default))) AS s (relation, strays)
            LEFT JOIN LATERAL (SELECT b.name, b.until FROM bounds b WHERE b.relation = s.relation ORDER BY b.until LIMIT 1) AS o
                ON true
            "#
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        session.settle(result)
    }
}
