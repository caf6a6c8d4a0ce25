//! Signs of life of the replicas, and the counts that one of them refreshes for all.

use crate::domain::AccountName;
use crate::domain::Pace;
use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use chrono::DateTime;
use chrono::Utc;
use sqlx::Connection;

/// A replica that is alive.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ReplicaRow {
    /// Name.
    pub worker: String,
    /// Version.
    pub version: String,
    /// Accounts that it serves.
    pub accounts: Vec<String>,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// Last sign of life.
    pub seen_at: DateTime<Utc>,
    /// For how many seconds there has been none.
    #[serde(skip)]
    pub unseen_seconds: f64,
}

/// Counts of one account's queue.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the table's comments say it")]
pub struct AccountCounts {
    pub account: String,
    pub pending_finalize: i64,
    pub pending_settle: i64,
    pub running_finalize: i64,
    pub running_settle: i64,
    pub dead_finalize: i64,
    pub dead_settle: i64,
    pub oldest_due_seconds: f64,
    pub requests_waiting: i64,
    pub paused_reason: Option<String>,
    pub pace: f64,
}

impl AccountCounts {
    /// Rows of the queue.
    pub fn rows(&self) -> i64 {
        let jobs = [
            self.pending_finalize,
            self.pending_settle,
            self.running_finalize,
            self.running_settle,
            self.dead_finalize,
            self.dead_settle,
        ];
        jobs.iter().sum::<i64>() + self.requests_waiting
    }

    /// Of an account with nothing in the queue.
    pub fn empty(account: String) -> Self {
        Self {
            account,
            pace: 1.0,
            ..Self::default()
        }
    }
}

impl Db {
    /// Gives a sign of life; forgets replicas that have given none for an hour.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn heartbeat(
        &self,
        worker: &str,
        accounts: &[AccountName],
    ) -> Result<(), StoreError> {
        let names: Vec<_> = accounts.iter().map(AccountName::as_str).collect();
        let mut session = self.session().await?;
        let query = sqlx::query!(
            r#"
            WITH accounts AS (
                -- Whatever became of the rows since the start, a restored backup say.
                INSERT INTO feather.sync_accounts (account, configured_at)
                SELECT name, now() FROM unnest($3::text[]) AS name ORDER BY name
                ON CONFLICT (account) DO NOTHING
            ), lost AS (
                DELETE FROM feather.sync_replicas WHERE seen_at < now() - interval '1 hour' AND worker <> $1
            )
            INSERT INTO feather.sync_replicas (worker, version, accounts) VALUES ($1, $2, $3)
            ON CONFLICT (worker) DO UPDATE SET seen_at = now(), accounts = excluded.accounts
            "#,
            worker,
            env!("CARGO_PKG_VERSION"),
            &names as _
        );
        let result = within(async { Ok(query.execute(&mut *session).await?) }).await;
        session.settle(result).map(|_| ())
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// When the database fails; the replica is then taken for dead after 45 s.
    pub async fn deregister(&self, worker: &str) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query!(
            "DELETE FROM feather.sync_replicas WHERE worker = $1",
            worker
        );
        let result = within(async { Ok(query.execute(&mut *session).await?) }).await;
        session.settle(result).map(|_| ())
    }

    /// Replicas that have given a sign of life in the last 45 s.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn replicas(&self) -> Result<Vec<ReplicaRow>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_as!(
            ReplicaRow,
            r#"SELECT worker, version, accounts, started_at, seen_at,
                      GREATEST(EXTRACT(epoch FROM now() - seen_at), 0)::float8 AS "unseen_seconds!"
               FROM feather.sync_replicas
               WHERE seen_at > now() - interval '45 seconds' ORDER BY worker"#
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        session.settle(result)
    }

    /// Counts the queue anew unless a replica is doing so, or has done so in the last 7 s or in 20 times as long as that
    /// took. `many` rows are added up without being sorted, which takes a transaction of its own.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn refresh_counts(&self, many: bool) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query!(
            r#"
            WITH turn AS MATERIALIZED (
                SELECT COALESCE((SELECT max(as_of + GREATEST(interval '7 seconds', 20 * took)) < now()
                                 FROM feather.sync_counts), true)
                       AND pg_try_advisory_xact_lock(7305801, 3) AS mine
            ), fresh AS MATERIALIZED (
                SELECT * FROM feather.sync_counts_now WHERE (SELECT mine FROM turn)
            ), gone AS (
                DELETE FROM feather.sync_counts c
                WHERE (SELECT mine FROM turn) AND c.account NOT IN (SELECT account FROM fresh)
            )
            INSERT INTO feather.sync_counts
                (account, pending_finalize, pending_settle, running_finalize, running_settle, dead_finalize,
                 dead_settle, due, oldest_due_at, requests_waiting, as_of, took)
            SELECT account, pending_finalize, pending_settle, running_finalize, running_settle, dead_finalize,
                   dead_settle, due, oldest_due_at, requests_waiting, as_of, clock_timestamp() - statement_timestamp()
            FROM fresh
            ORDER BY account
            ON CONFLICT (account) DO UPDATE
            SET pending_finalize = excluded.pending_finalize, pending_settle = excluded.pending_settle,
                running_finalize = excluded.running_finalize, running_settle = excluded.running_settle,
                dead_finalize = excluded.dead_finalize, dead_settle = excluded.dead_settle, due = excluded.due,
                oldest_due_at = excluded.oldest_due_at, requests_waiting = excluded.requests_waiting,
                as_of = excluded.as_of, took = excluded.took
            "#
        );
        let result = within(async {
            if !many {
                query.execute(&mut *session).await?;
                return Ok(());
            }
            let mut tx = session.begin().await?;
            // Where a whole table has to be read, which the planner is told to avoid, it thinks all ways equally dear.
            sqlx::raw_sql("SET LOCAL enable_sort = off")
                .execute(&mut *tx)
                .await?;
            query.execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(())
        })
        .await;
        session.settle(result)
    }

    /// The cached counts, for the metrics.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn counts(&self) -> Result<Vec<AccountCounts>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query!(
            r#"
            SELECT c.account, c.pending_finalize, c.pending_settle, c.running_finalize, c.running_settle,
                   c.dead_finalize, c.dead_settle, c.requests_waiting,
                   COALESCE(EXTRACT(epoch FROM now() - c.oldest_due_at), 0)::float8 AS "oldest_due_seconds!",
                   CASE WHEN a.operator_paused_at IS NOT NULL THEN 'operator'
                        WHEN c.account NOT IN (SELECT s.account FROM feather.sync_served_accounts s) THEN 'unknown_account'
                        ELSE a.pause_reason END AS paused_reason,
                   a.pace AS "pace?", a.pace_at AS "pace_at?", now() AS "now!"
            FROM feather.sync_counts c
            LEFT JOIN feather.sync_accounts a ON a.account = c.account
            "#
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        let rows = session.settle(result)?;
        Ok(rows
            .into_iter()
            .map(|row| AccountCounts {
                pace: row.pace.zip(row.pace_at).map_or(1.0, |(share, since)| {
                    Pace { share, since }.share_at(row.now)
                }),
                account: row.account,
                pending_finalize: row.pending_finalize,
                pending_settle: row.pending_settle,
                running_finalize: row.running_finalize,
                running_settle: row.running_settle,
                dead_finalize: row.dead_finalize,
                dead_settle: row.dead_settle,
                oldest_due_seconds: row.oldest_due_seconds,
                requests_waiting: row.requests_waiting,
                paused_reason: row.paused_reason,
            })
            .collect())
    }
}
