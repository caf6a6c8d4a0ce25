//! Turns at comparing an account's list with the tables, and the connections that a list lacks.

use crate::domain::AccountName;
use crate::domain::listed::PRIORITY;
use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use crate::store::listed::queue;
use chrono::DateTime;
use chrono::Utc;
use sqlx::Connection;
use std::collections::HashMap;
use std::time::Duration;
use uuid::Uuid;

/// Connections that are looked at by one statement.
const PAGE: i64 = 1_000;

/// Connections of one organisation that are held from an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// All that were held before the list.
    pub all: u64,
    /// Those that the list lacks.
    pub absent: u64,
}

impl Held {
    /// Whether so many are absent that the list is no proof against any.
    pub fn is_mostly_absent(&self) -> bool {
        self.absent > self.all / 2
    }
}

/// What came of a turn.
#[derive(Clone, Debug)]
pub struct Reconciled<'a> {
    /// `done`, `short` or `failed`.
    pub outcome: &'static str,
    /// Why it failed.
    pub error: Option<&'a str>,
    /// Connections that were held before.
    pub held: u64,
    /// Connections in the list.
    pub listed: u64,
    /// Held ones that were not in it.
    pub absent: u64,
}

/// Where an account stands with its comparisons.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ReconcileRow {
    /// Account.
    pub account: String,
    /// The next one is not before.
    pub due_at: DateTime<Utc>,
    /// For how long it has been due without being begun, in seconds; negative when it is not.
    pub overdue_seconds: f64,
    /// Replica that is at it.
    pub worker: Option<String>,
    /// When the last one ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// `done`, `short` or `failed`.
    pub outcome: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// Connections that were held before.
    pub held: Option<i64>,
    /// Connections in the list.
    pub listed: Option<i64>,
    /// Held ones that were not in it.
    pub absent: Option<i64>,
}

impl Db {
    /// Where the accounts stand with their comparisons; without one that has never been compared.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reconciles(&self) -> Result<Vec<ReconcileRow>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_as!(
            ReconcileRow,
            r#"SELECT account, due_at, EXTRACT(epoch FROM now() - due_at)::float8 AS "overdue_seconds!",
                      CASE WHEN lease_until > now() THEN worker END AS worker, finished_at, outcome, error, held, listed,
                      absent
               FROM feather.sync_reconciles ORDER BY account"#
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        session.settle(result)
    }

    /// Takes the account's turn, if it is due and nobody else's; then nobody takes it until the lease has run out. The
    /// first one ever is due after `first`. What is due or leased for longer than anybody sets it, was set before the
    /// database's clock went back. Returns the turn's token.
    ///
    /// # Errors
    /// When the database fails; a turn that was taken then is over with its lease.
    pub async fn begin_reconcile(
        &self,
        account: &AccountName,
        worker: &str,
        first: Duration,
        longest: Duration,
        lease: Duration,
    ) -> Result<Option<Uuid>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_scalar!(
            r#"
            WITH first AS (
                INSERT INTO feather.sync_reconciles (account, due_at) VALUES ($1, now() + $3 * interval '1 second')
                ON CONFLICT (account) DO NOTHING
            )
            UPDATE feather.sync_reconciles
            SET worker = $2, lease_token = gen_random_uuid(), lease_until = clock_timestamp() + $4 * interval '1 second',
                started_at = clock_timestamp()
            WHERE account = $1 AND due_at NOT BETWEEN now() AND now() + $5 * interval '1 second'
              AND (lease_until BETWEEN clock_timestamp() AND clock_timestamp() + $4 * interval '1 second') IS NOT TRUE
            RETURNING lease_token AS "token!"
            "#,
            account.as_str(),
            worker,
            first.as_secs_f64(),
            lease.as_secs_f64(),
            longest.as_secs_f64()
        );
        let result = within(async { Ok(query.fetch_optional(&mut *session).await?) }).await;
        session.settle(result)
    }

    /// Prolongs a turn. Returns whether it is still held.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_reconcile(
        &self,
        account: &AccountName,
        turn: Uuid,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query!(
            "UPDATE feather.sync_reconciles SET lease_until = clock_timestamp() + $3 * interval '1 second'
             WHERE account = $1 AND lease_token = $2",
            account.as_str(),
            turn,
            lease.as_secs_f64()
        );
        let result = within(async { Ok(query.execute(&mut *session).await?) }).await;
        session.settle(result).map(|done| done.rows_affected() > 0)
    }

    /// Ends a turn, if it is still held; the next one is due after so long.
    ///
    /// # Errors
    /// When the database fails; the turn is over with its lease, and due again.
    pub async fn end_reconcile(
        &self,
        account: &AccountName,
        turn: Uuid,
        next: Duration,
        came: &Reconciled<'_>,
    ) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query!(
            "UPDATE feather.sync_reconciles
             SET worker = NULL, lease_token = NULL, lease_until = NULL, finished_at = clock_timestamp(),
                 due_at = now() + $3 * interval '1 second', outcome = $4, error = $5, held = $6, listed = $7, absent = $8
             WHERE account = $1 AND lease_token = $2",
            account.as_str(),
            turn,
            next.as_secs_f64(),
            came.outcome,
            came.error,
            i64::try_from(came.held).unwrap_or(i64::MAX),
            i64::try_from(came.listed).unwrap_or(i64::MAX),
            i64::try_from(came.absent).unwrap_or(i64::MAX)
        );
        let result = within(async { Ok(query.execute(&mut *session).await?) }).await;
        session.settle(result).map(|_| ())
    }

    /// Gives a turn back that a stop has interrupted: the next one may begin at once.
    ///
    /// # Errors
    /// When the database fails; the turn is over with its lease.
    pub async fn give_back_reconcile(
        &self,
        account: &AccountName,
        turn: Uuid,
    ) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query!(
            "UPDATE feather.sync_reconciles SET worker = NULL, lease_token = NULL, lease_until = NULL
             WHERE account = $1 AND lease_token = $2",
            account.as_str(),
            turn
        );
        let result = within(async { Ok(query.execute(&mut *session).await?) }).await;
        session.settle(result).map(|_| ())
    }

    /// Looks which of the connections that are held from the account a list lacks, which was complete and asked for at
    /// that time: they were neither in it nor checked since. By organisation; what the list has brought is not counted.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn look_for_absent(
        &self,
        account: &AccountName,
        listed_at: DateTime<Utc>,
    ) -> Result<HashMap<Uuid, Held>, StoreError> {
        let (mut held, mut behind) = (HashMap::<_, Held>::new(), Uuid::nil());
        loop {
            let mut session = self.session().await?;
            let query = sqlx::query!(
                r#"
                WITH page AS MATERIALIZED (
                    SELECT id, organization_id, _account = $1 AND _removed_at IS NULL AND _first_seen_at < $2 AS held,
                           _synced_at < $2 AS unseen
                    FROM feather.integration_connections WHERE id > $3 ORDER BY id LIMIT $4
                )
                SELECT organization_id, count(*) FILTER (WHERE held) AS "held!",
                       count(*) FILTER (WHERE held AND unseen) AS "absent!",
                       (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS "last!"
                FROM page GROUP BY organization_id
                "#,
                account.as_str(),
                listed_at,
                behind,
                PAGE
            );
            let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
            let page = session.settle(result)?;
            let Some(last) = page.last().map(|row| row.last) else {
                return Ok(held);
            };
            behind = last;
            for row in page {
                let sum = held.entry(row.organization_id).or_default();
                sum.all += row.held.unsigned_abs();
                sum.absent += row.absent.unsigned_abs();
            }
        }
    }

    /// Has every connection asked after that is absent, but for one whose job is dead of a finalize that failed. Only its
    /// own 404 removes it. Polls are made behind all fresh work. Returns how many are absent.
    ///
    /// # Errors
    /// When the database fails; some are asked after then. Safe to repeat.
    pub async fn ask_after_absent(
        &self,
        account: &AccountName,
        listed_at: DateTime<Utc>,
        deadline: Duration,
    ) -> Result<u64, StoreError> {
        let (mut absent, mut behind) = (0, Uuid::nil());
        loop {
            let mut session = self.session().await?;
            let query = sqlx::query!(
                r#"
                WITH page AS MATERIALIZED (
                    SELECT id, _account = $1 AND _removed_at IS NULL AND _first_seen_at < $2 AND _synced_at < $2 AS absent
                    FROM feather.integration_connections WHERE id > $3 ORDER BY id LIMIT $4
                ), asked AS (
                    -- What waits for its turn or has a request will be heard of in any case.
                    INSERT INTO feather.sync_jobs AS j
                        (connection_id, account, phase, priority, run_at, wanted_at, finalize_started_at, settle_deadline)
                    SELECT p.id, $1, 'settle', $5, now(), $2, $2, now() + $6 * interval '1 second'
                    FROM page p
                    WHERE p.absent
                      AND p.id NOT IN (SELECT r.connection_id FROM feather.sync_requests r
                                       WHERE r.connection_id = ANY (ARRAY(SELECT id FROM page WHERE absent)))
                    ORDER BY p.id
                    -- Nor is a dead one heard of: had its account been told of a 404 last, the connection were removed.
                    -- What has died since the list was asked for may just have removed it. It is wanted since it was, and
                    -- follows the finalize that it did: where that has failed no poll is what was asked for, and it stays.
                    ON CONFLICT (connection_id) DO UPDATE
                    SET state = 'pending', error_class = NULL, account = excluded.account, phase = excluded.phase,
                        priority = excluded.priority, asked_priority = NULL, run_at = excluded.run_at, not_before = NULL,
                        settle_deadline = excluded.settle_deadline, settle_polls = 0, seen_fingerprint = NULL,
                        seen_at = NULL, attempt = 0, malformed = 0
                    WHERE j.state = 'dead' AND j.run_at < $2 AND (j.phase <> 'finalize' OR j.error_class = 'tools_failed')
                )
                SELECT count(*) FILTER (WHERE absent) AS "absent!",
                       (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS last
                FROM page
                "#,
                account.as_str(),
                listed_at,
                behind,
                PAGE,
                PRIORITY,
                deadline.as_secs_f64()
            );
            let result = within(async {
                let mut tx = session.begin().await?;
                queue::hold_forget(&mut tx).await?;
                let page = query.fetch_one(&mut *tx).await?;
                tx.commit().await?;
                Ok(page)
            })
            .await;
            let page = session.settle(result)?;
            absent += page.absent.unsigned_abs();
            let Some(last) = page.last else {
                return Ok(absent);
            };
            behind = last;
        }
    }
}
