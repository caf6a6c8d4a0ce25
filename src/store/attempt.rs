//! The history: one row per attempt, written once when it ends.

use chrono::DateTime;
use chrono::Utc;
use sqlx::PgConnection;
use std::borrow::Cow;
use std::time::Duration;
use uuid::Uuid;

/// One row of the history.
#[derive(Clone, Debug)]
pub(super) struct AttemptRecord<'a> {
    pub(super) account: &'a str,
    pub(super) connection_id: Uuid,
    pub(super) kind: &'static str,
    pub(super) attempt: i32,
    pub(super) worker: &'a str,
    pub(super) started_at: DateTime<Utc>,
    pub(super) finished_at: DateTime<Utc>,
    pub(super) outcome: &'static str,
    pub(super) http_status: Option<i32>,
    pub(super) error_class: Option<&'static str>,
    pub(super) error: Option<Cow<'a, str>>,
    pub(super) retry_at: Option<DateTime<Utc>>,
    pub(super) tools_status: Option<&'a str>,
    pub(super) tools: ToolChanges,
    pub(super) upstream_request_id: Option<&'a str>,
    /// Start of the finalize that led to a success.
    pub(super) finalize_started_at: Option<DateTime<Utc>>,
    /// From the oldest request's wish to now; of one that is synced.
    pub(super) time_to_sync: Option<Duration>,
}

/// Tools that an attempt added, changed and marked removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ToolChanges {
    /// Added or revived.
    pub added: i32,
    /// Changed.
    pub changed: i32,
    /// Marked removed.
    pub removed: i32,
}

/// What the history says of an attempt that was committed before.
pub(super) struct Recorded {
    pub(super) connection_id: Uuid,
    pub(super) started_at: DateTime<Utc>,
    pub(super) tools: ToolChanges,
    pub(super) error_class: Option<String>,
    /// Until the job is due again, if it is.
    pub(super) due_in: Option<Duration>,
    /// The database's time.
    pub(super) now: DateTime<Utc>,
}

/// Which of these attempts, each by its connection and start, this worker has committed already.
pub(super) async fn recorded(
    conn: &mut PgConnection,
    connection_ids: &[Uuid],
    started_at: &[DateTime<Utc>],
    worker: &str,
) -> Result<Vec<Recorded>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        SELECT a.connection_id, a.started_at, a.tools_added, a.tools_changed, a.tools_removed, a.error_class,
               EXTRACT(epoch FROM a.retry_at - now())::float8 AS due_in, now() AS "now!"
        FROM unnest($1::uuid[], $2::timestamptz[]) AS w (connection_id, started_at)
        JOIN feather.sync_attempts a ON a.connection_id = w.connection_id AND a.started_at = w.started_at
        WHERE a.connection_id = ANY($1) AND a.worker = $3 AND a.outcome NOT IN ('crashed', 'cancelled')
          -- None ends before it begins: this spares a look into older partitions.
          AND a.finished_at >= (SELECT min(s) FROM unnest($2) AS s)
        "#,
        connection_ids,
        started_at,
        worker
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Recorded {
            connection_id: row.connection_id,
            started_at: row.started_at,
            tools: ToolChanges {
                added: row.tools_added,
                changed: row.tools_changed,
                removed: row.tools_removed,
            },
            error_class: row.error_class,
            due_in: row.due_in.map(super::seconds),
            now: row.now,
        })
        .collect())
}
