//! The queue at a glance, for `status` and `doctor`: what the queue holds, what is due for longest, how much of the rate
//! limits is in use, what has failed lately. Nothing here reads all of a table that can be big.

use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use chrono::DateTime;
use chrono::Utc;
use serde::Serialize;
use uuid::Uuid;

/// A row of `sync_health`.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the view's comments say it")]
pub struct HealthRow {
    pub account: String,
    pub pending: i64,
    pub due: i64,
    pub running: i64,
    pub settling: i64,
    pub dead: i64,
    pub requests_waiting: i64,
    pub oldest_due_seconds: f64,
    pub paused_reason: Option<String>,
    pub synced_last_hour: i64,
    pub failed_last_hour: i64,
    pub as_of: DateTime<Utc>,
}

/// The job of an account that has been due for longest.
#[derive(Clone, Debug, Serialize)]
pub struct OldestDue {
    /// Account.
    pub account: String,
    /// The connection.
    pub connection_id: Uuid,
    /// Since when it has been due.
    pub due_at: DateTime<Utc>,
    /// For how many seconds that is.
    pub due_seconds: f64,
    /// `finalize` or `settle`.
    pub phase: String,
    /// Attempts counted so far.
    pub attempt: i32,
    /// Smaller runs sooner.
    pub priority: i16,
}

/// The first request in the inbox.
#[derive(Clone, Debug, Serialize)]
pub struct OldestRequest {
    /// Account.
    pub account: String,
    /// The connection.
    pub connection_id: Uuid,
    /// When it was made.
    pub requested_at: DateTime<Utc>,
    /// For how many seconds it has waited to be taken in.
    pub waiting_seconds: f64,
}

/// Failed attempts of one account and class.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorCount {
    /// Account.
    pub account: String,
    /// Class of the failures.
    pub error_class: String,
    /// How many.
    pub failures: i64,
}

impl Db {
    /// What the queue holds. The counts are `sync_health`'s, unless that would have to count a long queue because no
    /// daemon has done so lately: then the last ones, of whenever they are, or none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn health(&self) -> Result<Vec<HealthRow>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_as!(
            HealthRow,
            r#"
            WITH counted AS MATERIALIZED (
                SELECT EXISTS (SELECT FROM feather.sync_counts
                               WHERE as_of > now() - GREATEST(interval '15 seconds', 30 * took))
                       OR pg_relation_size('feather.sync_jobs') + pg_relation_size('feather.sync_requests') < 16777216 AS soon
            ), hour AS (
                SELECT account, sum(synced)::bigint AS synced, sum(failed)::bigint AS failed
                FROM feather.sync_throughput WHERE minute > now() - interval '1 hour' GROUP BY account
            )
            SELECT account AS "account!", pending AS "pending!", due AS "due!", running AS "running!",
                   settling AS "settling!", dead AS "dead!", requests_waiting AS "requests_waiting!",
                   oldest_due_seconds AS "oldest_due_seconds!", paused_reason, synced_last_hour AS "synced_last_hour!",
                   failed_last_hour AS "failed_last_hour!", as_of AS "as_of!"
            FROM feather.sync_health WHERE (SELECT soon FROM counted)
            UNION ALL
            SELECT c.account, c.pending_finalize + c.pending_settle, c.due, c.running_finalize + c.running_settle,
                   c.pending_settle + c.running_settle, c.dead_finalize + c.dead_settle, c.requests_waiting,
                   COALESCE(EXTRACT(epoch FROM now() - c.oldest_due_at), 0)::float8,
                   CASE WHEN a.operator_paused_at IS NOT NULL THEN 'operator'
                        WHEN c.account NOT IN (SELECT s.account FROM feather.sync_served_accounts s) THEN 'unknown_account'
                        ELSE a.pause_reason END,
                   COALESCE(h.synced, 0), COALESCE(h.failed, 0), c.as_of
            FROM feather.sync_counts c
            LEFT JOIN feather.sync_accounts a ON a.account = c.account
            LEFT JOIN hour h ON h.account = c.account
            WHERE NOT (SELECT soon FROM counted)
            ORDER BY 1
            "#
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        session.settle(result)
    }

    /// The job of each account that has been due for longest, whether or not the account may work; none of an account
    /// in which nothing is due.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn oldest_due(&self) -> Result<Vec<OldestDue>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_as!(
            OldestDue,
            r#"
            WITH RECURSIVE lanes AS (
                -- The first job of each lane, found by one probe of the claim's index.
                (SELECT account, phase, priority, run_at, connection_id, attempt FROM feather.sync_jobs
                 WHERE state = 'pending' ORDER BY account, phase, priority, run_at LIMIT 1)
                UNION ALL
                SELECT next.* FROM lanes l
                CROSS JOIN LATERAL (
                    SELECT j.account, j.phase, j.priority, j.run_at, j.connection_id, j.attempt FROM feather.sync_jobs j
                    WHERE j.state = 'pending' AND (j.account, j.phase, j.priority) > (l.account, l.phase, l.priority)
                    ORDER BY j.account, j.phase, j.priority, j.run_at LIMIT 1
                ) AS next
            )
            SELECT DISTINCT ON (account) account AS "account!", connection_id AS "connection_id!", run_at AS "due_at!",
                   EXTRACT(epoch FROM now() - run_at)::float8 AS "due_seconds!",
                   CASE phase WHEN 'refresh' THEN 'settle' ELSE phase END AS "phase!",
                   attempt AS "attempt!", priority AS "priority!"
            FROM lanes WHERE run_at <= now() ORDER BY account, run_at
            "#
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        session.settle(result)
    }

    /// The request with the smallest number; those that come next have waited about as long, or less.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn oldest_request(&self) -> Result<Option<OldestRequest>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_as!(
            OldestRequest,
            r#"SELECT account, connection_id, requested_at,
                      GREATEST(EXTRACT(epoch FROM now() - requested_at), 0)::float8 AS "waiting_seconds!"
               FROM feather.sync_requests ORDER BY id LIMIT 1"#
        );
        let result = within(async { Ok(query.fetch_optional(&mut *session).await?) }).await;
        session.settle(result)
    }

    /// Calls of each account that began in the last 60 s, those of all replicas, under way or ended.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn calls_last_minute(&self) -> Result<Vec<(String, i64)>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query!(
            r#"
            SELECT account AS "account!", count(*) AS "calls!"
            FROM (SELECT account FROM feather.sync_attempts
                  -- No attempt ends before it begins, and ends are what the history has an index on.
                  WHERE finished_at > now() - interval '60 seconds' AND started_at > now() - interval '60 seconds'
                    -- What was cancelled while it waited was not called.
                    AND (outcome <> 'cancelled' OR started_at < finished_at)
                  UNION ALL
                  SELECT account FROM feather.sync_jobs
                  WHERE state = 'running' AND lease_until > now() - interval '60 seconds'
                    AND started_at > now() - interval '60 seconds') AS calls
            GROUP BY account
            "#
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        let rows = session.settle(result)?;
        Ok(rows
            .into_iter()
            .map(|row| (row.account, row.calls))
            .collect())
    }

    /// Failures of the last hour by account and class.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn recent_errors(&self) -> Result<Vec<ErrorCount>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_as!(
            ErrorCount,
            r#"SELECT account, error_class AS "error_class!", count(*) AS "failures!" FROM feather.sync_attempts
               WHERE finished_at > now() - interval '1 hour' AND error_class IS NOT NULL
               GROUP BY account, error_class ORDER BY account, count(*) DESC, error_class"#
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        session.settle(result)
    }
}
