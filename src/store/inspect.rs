//! What people ask about one connection, and what is left to do.

use crate::domain::AccountName;
use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use chrono::DateTime;
use chrono::Utc;
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

/// A row of `sync_status`.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the view's comments say it")]
pub struct StatusRow {
    pub account: String,
    pub connection_id: Uuid,
    pub state: String,
    pub phase: Option<String>,
    pub attempt: i32,
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub priority: Option<i16>,
    pub status: Option<String>,
    pub tools_status: Option<String>,
    pub tools_synced_at: Option<DateTime<Utc>>,
    pub last_attempt_at: Option<DateTime<Utc>>,
    pub last_outcome: Option<String>,
    pub last_success_at: Option<DateTime<Utc>>,
    pub last_success_started_at: Option<DateTime<Utc>>,
    pub last_error_class: Option<String>,
    pub last_error: Option<String>,
}

/// A row of the history.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the table's comments say it")]
pub struct AttemptRow {
    pub id: i64,
    pub kind: String,
    pub attempt: i32,
    pub worker: String,
    pub started_at: DateTime<Utc>,
    pub finished_at: DateTime<Utc>,
    pub outcome: String,
    pub http_status: Option<i32>,
    pub error_class: Option<String>,
    pub error: Option<String>,
    pub retry_at: Option<DateTime<Utc>>,
    pub tools_status: Option<String>,
    pub tools_added: i32,
    pub tools_changed: i32,
    pub tools_removed: i32,
    pub upstream_request_id: Option<String>,
}

/// A tool, as far as `show` names it.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the table's comments say it")]
pub struct ToolRow {
    pub id: Uuid,
    pub slug: String,
    pub display_name: String,
    pub is_enabled: bool,
    pub changed_at: DateTime<Utc>,
    pub removed_at: Option<DateTime<Utc>>,
}

/// Everything about one connection.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectionReport {
    /// Where it stands.
    pub status: StatusRow,
    /// Its row in `integration_connections` as a JSON object with all digits, if it was ever received.
    pub connection: Option<Box<RawValue>>,
    /// Its tools, removed ones included.
    pub tools: Vec<ToolRow>,
    /// Its last attempts, newest first.
    pub attempts: Vec<AttemptRow>,
}

/// What is left of the work of some accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    /// Requests not yet taken in.
    pub requests: i64,
    /// Jobs that wait, due or not.
    pub pending: i64,
    /// Jobs that run.
    pub running: i64,
    /// Requests and waiting jobs of accounts that an operator has paused; in none of the other counts.
    pub paused: i64,
}

impl Db {
    /// Everything about one connection; `None` when neither queue nor tables know it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn show(
        &self,
        connection_id: Uuid,
        attempts: u32,
    ) -> Result<Option<ConnectionReport>, StoreError> {
        let mut session = self.session().await?;
        let result = within(async {
            let status = status(&mut session, connection_id).await?;
            let Some(status) = status else {
                return Ok(None);
            };
            let connection = sqlx::query_scalar!(
                r#"SELECT to_jsonb(c) - '_hash' AS "row!: Json<Box<RawValue>>" FROM feather.integration_connections c WHERE id = $1"#,
                connection_id
            )
            .fetch_optional(&mut *session)
            .await?
            .map(|row| row.0);
            let tools = sqlx::query_as!(
                ToolRow,
                "SELECT id, slug, display_name, is_enabled, _changed_at AS changed_at, _removed_at AS removed_at
                 FROM feather.integration_connection_tools WHERE connection_id = $1
                 ORDER BY _removed_at IS NOT NULL, slug, id",
                connection_id
            )
            .fetch_all(&mut *session)
            .await?;
            let attempts = sqlx::query_as!(
                AttemptRow,
                "SELECT id, kind, attempt, worker, started_at, finished_at, outcome, http_status, error_class, error,
                        retry_at, tools_status, tools_added, tools_changed, tools_removed, upstream_request_id
                 FROM feather.sync_attempts WHERE connection_id = $1 ORDER BY id DESC LIMIT $2",
                connection_id,
                i64::from(attempts)
            )
            .fetch_all(&mut *session)
            .await?;
            Ok(Some(ConnectionReport { status, connection, tools, attempts }))
        })
        .await;
        session.settle(result)
    }

    /// Where one connection stands; `None` when neither queue nor tables know it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn status(&self, connection_id: Uuid) -> Result<Option<StatusRow>, StoreError> {
        let mut session = self.session().await?;
        let result = within(async { Ok(status(&mut session, connection_id).await?) }).await;
        session.settle(result)
    }

    /// What is left of the work of `accounts`; each count stops at 1,000.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn remaining(&self, accounts: &[AccountName]) -> Result<Remaining, StoreError> {
        let names: Vec<_> = accounts.iter().map(AccountName::as_str).collect();
        let mut session = self.session().await?;
        let query = sqlx::query_as!(
            Remaining,
            r#"
            WITH known AS MATERIALIZED (
                SELECT n AS account, EXISTS (SELECT FROM feather.sync_accounts a
                                             WHERE a.account = n AND a.operator_paused_at IS NOT NULL) AS paused
                FROM unnest($1::text[]) AS n
            ), work AS (
                (SELECT k.paused, 'requested' AS state FROM feather.sync_requests r JOIN known k USING (account) LIMIT 1000)
                UNION ALL
                (SELECT k.paused, 'pending' FROM feather.sync_jobs j JOIN known k USING (account)
                 WHERE j.state = 'pending' LIMIT 1000)
                UNION ALL
                (SELECT false, 'running' FROM feather.sync_jobs j JOIN known k USING (account)
                 WHERE j.state = 'running' LIMIT 1000)
            )
            SELECT count(*) FILTER (WHERE state = 'requested' AND NOT paused) AS "requests!",
                   count(*) FILTER (WHERE state = 'pending' AND NOT paused) AS "pending!",
                   count(*) FILTER (WHERE state = 'running') AS "running!",
                   count(*) FILTER (WHERE paused) AS "paused!"
            FROM work
            "#,
            &names as _
        );
        let result = within(async { Ok(query.fetch_one(&mut *session).await?) }).await;
        session.settle(result)
    }
}

async fn status(
    conn: &mut PgConnection,
    connection_id: Uuid,
) -> Result<Option<StatusRow>, sqlx::Error> {
    sqlx::query_as!(
        StatusRow,
        r#"SELECT account AS "account!", connection_id AS "connection_id!", state AS "state!", phase,
                  attempt AS "attempt!", next_attempt_at, priority, status, tools_status, tools_synced_at,
                  last_attempt_at, last_outcome, last_success_at, last_success_started_at, last_error_class,
                  last_error
           FROM feather.sync_status WHERE connection_id = $1"#,
        connection_id
    )
    .fetch_optional(conn)
    .await
}
