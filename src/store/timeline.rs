//! The statistics by the minute as charts need them, and what went wrong last. What is read grows with accounts and
//! replicas, not with the queue.

use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use chrono::DateTime;
use chrono::Duration;
use chrono::Utc;
use sqlx::types::Json;
use std::collections::BTreeMap;
use uuid::Uuid;

/// How attempts ended in some minutes, over all replicas.
#[derive(Clone, Debug)]
pub struct Slot {
    /// When it begins.
    pub begins: DateTime<Utc>,
    /// Attempts that ended synced.
    pub synced: i64,
    /// Attempts that ended retry, dead or crashed.
    pub failed: i64,
    /// The failed ones by error class.
    pub by_class: BTreeMap<String, i64>,
    /// Median time to sync in seconds; none where none was synced.
    pub p50: Option<f64>,
    /// 95th percentile of it.
    pub p95: Option<f64>,
}

/// Which slots: as many as end now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Minutes of one slot, from 1 to 60.
    pub minutes: u8,
    /// How many there are.
    pub slots: u16,
}

/// A failed attempt.
#[derive(Clone, Debug)]
pub struct LastError {
    /// Account.
    pub account: String,
    /// The connection.
    pub connection_id: Uuid,
    /// When the attempt ended.
    pub at: DateTime<Utc>,
    /// Outcome.
    pub outcome: String,
    /// Error class.
    pub error_class: String,
    /// Status code of the answer, if there was one.
    pub http_status: Option<i32>,
    /// In words.
    pub error: Option<String>,
}

impl Db {
    /// The slots of the span, oldest first; the last is the one that goes on. One without attempts is there, too.
    /// Of one account, or of all together.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn timeline(
        &self,
        account: Option<&str>,
        span: Span,
    ) -> Result<Vec<Slot>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query!(
            r#"
            WITH slots AS (
                SELECT n, date_bin(make_interval(mins => $2), now(), 'epoch') - n * make_interval(mins => $2) AS begins
                FROM generate_series(0, $3 - 1) AS n
            ), counted AS (
                SELECT date_bin(make_interval(mins => $2), minute, 'epoch') AS begins, sum(synced)::bigint AS synced,
                       sum(failed)::bigint AS failed, feather.counts_sum(failed_by_class) AS by_class,
                       feather.histogram_sum(time_to_sync_histogram) AS histogram
                FROM feather.sync_minutes
                WHERE minute >= (SELECT min(begins) FROM slots) AND ($1::text IS NULL OR account = $1)
                GROUP BY 1
            )
            SELECT s.begins AS "begins!", COALESCE(c.synced, 0) AS "synced!", COALESCE(c.failed, 0) AS "failed!",
                   COALESCE(c.by_class, '{}') AS "by_class!: Json<BTreeMap<String, i64>>",
                   feather.time_to_sync_percentile(c.histogram, 0.5) AS p50,
                   feather.time_to_sync_percentile(c.histogram, 0.95) AS p95
            FROM slots s LEFT JOIN counted c USING (begins) ORDER BY s.n DESC
            "#,
            account,
            i32::from(span.minutes),
            i32::from(span.slots)
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        let rows = session.settle(result)?;
        Ok(rows
            .into_iter()
            .map(|row| Slot {
                begins: row.begins,
                synced: row.synced,
                failed: row.failed,
                by_class: row.by_class.0,
                p50: row.p50,
                p95: row.p95,
            })
            .collect())
    }

    /// The last failures of each account: up to `most` of its last minute, within a day, that had one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn last_errors(&self, most: u8) -> Result<Vec<LastError>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_as!(
            LastError,
            r#"
            WITH minutes AS (
                SELECT account, max(minute) AS minute FROM feather.sync_throughput
                WHERE minute > now() - interval '1 day' AND failed > 0 GROUP BY account
            )
            SELECT m.account AS "account!", a.connection_id AS "connection_id!", a.finished_at AS "at!",
                   a.outcome AS "outcome!", a.error_class AS "error_class!", a.http_status, a.error
            FROM minutes m
            CROSS JOIN LATERAL (
                -- An attempt ends some moments before it is committed, and counted in the minute of that.
                SELECT * FROM feather.sync_attempts
                WHERE finished_at >= m.minute - interval '15 seconds' AND finished_at < m.minute + interval '75 seconds'
                  AND account = m.account AND error_class IS NOT NULL
                ORDER BY finished_at DESC LIMIT $1
            ) AS a
            ORDER BY m.account, a.finished_at DESC
            "#,
            i64::from(most)
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        session.settle(result)
    }
}

impl Span {
    /// The last hour, minute by minute.
    pub const HOUR: Self = Self {
        minutes: 1,
        slots: 60,
    };
    /// The last day, by quarters of an hour.
    pub const DAY: Self = Self {
        minutes: 15,
        slots: 96,
    };

    /// How long one slot is.
    pub fn step(self) -> Duration {
        Duration::minutes(self.minutes.into())
    }
}
