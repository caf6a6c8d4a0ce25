//! The history: one row per attempt, written once when it ends, with the last word per connection and the
//! minute's counts beside it.

use crate::store::minute;
use chrono::DateTime;
use chrono::Utc;
use sqlx::PgConnection;
use std::borrow::Cow;
use std::collections::HashSet;
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

/// Writes rows of the history, at most one per connection, and deletes the jobs that are `done`, which must be locked.
/// Returns the connections that are synced for the first time, or again after a sync of theirs was given up.
pub(super) async fn record(
    conn: &mut PgConnection,
    records: &[AttemptRecord<'_>],
    done: &[Uuid],
) -> Result<HashSet<Uuid>, sqlx::Error> {
    macro_rules! column {
        ($($field:tt)+) => { records.iter().map(|r| r.$($field)+).collect::<Vec<_>>() };
    }
    let finalize_started_at = column!(finalize_started_at);
    let retry_at = column!(retry_at);
    let minute = minute::counts(records);
    macro_rules! counted {
        ($($what:tt)+) => { minute.values().map(|m| m.$($what)+).collect::<Vec<_>>() };
    }
    let (accounts, workers): (Vec<_>, Vec<_>) = minute.keys().copied().unzip();
    let synced = sqlx::query_scalar!(
        r#"
        WITH new AS MATERIALIZED (
            SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::int[], $5::text[], $6::timestamptz[],
                                 $7::timestamptz[], $8::text[], $9::int[], $10::text[], $11::text[],
                                 $12::timestamptz[], $13::text[], $14::int[], $15::int[], $16::int[], $17::text[],
                                 $18::timestamptz[])
                AS v (account, connection_id, kind, attempt, worker, started_at, finished_at, outcome, http_status,
                      error_class, error, retry_at, tools_status, tools_added, tools_changed, tools_removed,
                      upstream_request_id, finalize_started_at)
        ), attempts AS (
            INSERT INTO feather.sync_attempts
                (account, connection_id, kind, attempt, worker, started_at, finished_at, outcome, http_status,
                 error_class, error, retry_at, tools_status, tools_added, tools_changed, tools_removed,
                 upstream_request_id)
            SELECT account, connection_id, kind, attempt, worker, started_at, GREATEST(started_at, finished_at), outcome,
                   http_status, error_class, error, retry_at, tools_status, tools_added, tools_changed, tools_removed,
                   upstream_request_id
            FROM new
        ), results AS (
            INSERT INTO feather.sync_results AS r
                (connection_id, account, last_attempt_at, last_outcome, last_success_at, last_success_started_at,
                 last_error_class, last_error, synced_since)
            SELECT connection_id, account, GREATEST(started_at, finished_at), outcome,
                   CASE WHEN outcome = 'synced' THEN GREATEST(now(), finalize_started_at) END,
                   CASE WHEN outcome = 'synced' THEN finalize_started_at END, error_class, error,
                   CASE WHEN outcome = 'synced' THEN now()
                        -- A crash that is not tried again is the end of its job.
                        WHEN outcome IN ('dead', 'cancelled') OR outcome = 'crashed' AND retry_at IS NULL
                        THEN timestamptz 'infinity' END
            FROM new
            ORDER BY connection_id
            ON CONFLICT (connection_id) DO UPDATE
            SET account = excluded.account, last_attempt_at = excluded.last_attempt_at,
                last_outcome = excluded.last_outcome,
                last_success_at = COALESCE(excluded.last_success_at, r.last_success_at),
                last_success_started_at = COALESCE(excluded.last_success_started_at, r.last_success_started_at),
                last_error_class = excluded.last_error_class, last_error = excluded.last_error,
                -- An older program leaves none.
                synced_since = CASE
                    WHEN excluded.synced_since = 'infinity' THEN excluded.synced_since
                    WHEN r.synced_since = 'infinity' OR r.synced_since IS NULL AND r.last_outcome IN ('dead', 'cancelled')
                        THEN COALESCE(excluded.synced_since, 'infinity')
                    ELSE COALESCE(r.synced_since, r.last_success_at, excluded.synced_since) END
            RETURNING r.connection_id, r.last_outcome = 'synced' AND r.synced_since = now() AS anew
        ), counts AS (
            INSERT INTO feather.sync_throughput AS t
                (account, minute, worker, synced, failed, deferred, calls, failed_by_class, time_to_sync)
            SELECT account, date_trunc('minute', now()), worker, synced, failed, deferred, calls, failed_by_class::jsonb,
                   time_to_sync::bigint[]
            FROM unnest($20::text[], $21::text[], $22::bigint[], $23::bigint[], $24::bigint[], $25::bigint[], $26::text[],
                        $27::text[])
                AS m (account, worker, synced, failed, deferred, calls, failed_by_class, time_to_sync)
            ORDER BY account, worker
            ON CONFLICT (account, minute, worker) DO UPDATE
            SET synced = t.synced + excluded.synced, failed = t.failed + excluded.failed,
                deferred = t.deferred + excluded.deferred, calls = t.calls + excluded.calls,
                failed_by_class = feather.counts_add(t.failed_by_class, excluded.failed_by_class),
                time_to_sync = feather.histogram_add(t.time_to_sync, excluded.time_to_sync)
        ), finished AS (
            DELETE FROM feather.sync_jobs WHERE connection_id = ANY($19)
        )
        SELECT connection_id FROM results WHERE anew
        "#,
        &column!(account) as _,
        &column!(connection_id),
        &column!(kind) as _,
        &column!(attempt),
        &column!(worker) as _,
        &column!(started_at),
        &column!(finished_at),
        &column!(outcome) as _,
        &column!(http_status) as _,
        &column!(error_class) as _,
        &column!(error.as_deref()) as _,
        &retry_at as _,
        &column!(tools_status) as _,
        &column!(tools.added),
        &column!(tools.changed),
        &column!(tools.removed),
        &column!(upstream_request_id) as _,
        &finalize_started_at as _,
        done,
        &accounts as _,
        &workers as _,
        &counted!(synced),
        &counted!(failed),
        &counted!(deferred),
        &counted!(calls),
        &counted!(failed_by_class()),
        &counted!(time_to_sync()) as _
    )
    .fetch_all(conn)
    .await?;
    Ok(synced.into_iter().collect())
}
