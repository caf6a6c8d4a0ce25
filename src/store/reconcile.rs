//! Turns at comparing an account's list with the tables, and the connections that a list lacks.

use crate::domain::AccountName;
use crate::domain::listed::PRIORITY;
use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use chrono::DateTime;
use chrono::Utc;
use std::time::Duration;
use uuid::Uuid;

/// Connections that are looked at by one statement.
const PAGE: i64 = 1_000;

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

impl Db {
    /// Takes the account's turn, if it is due and nobody else's; then nobody takes it until the lease has run out. The
    /// first one ever is due after `first`. Returns the turn's token.
    ///
    /// # Errors
    /// When the database fails; a turn that was taken then is over with its lease.
    pub async fn begin_reconcile(
        &self,
        account: &AccountName,
        worker: &str,
        first: Duration,
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
            WHERE account = $1 AND due_at <= now() AND (lease_until IS NULL OR lease_until < clock_timestamp())
            RETURNING lease_token AS "token!"
            "#,
            account.as_str(),
            worker,
            first.as_secs_f64(),
            lease.as_secs_f64()
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

    /// How many connections are held from the account, and not as removed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn held(&self, account: &AccountName) -> Result<u64, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_scalar!(
            r#"SELECT count(*) AS "held!" FROM feather.integration_connections
               WHERE _account = $1 AND _removed_at IS NULL"#,
            account.as_str()
        );
        let result = within(async { Ok(query.fetch_one(&mut *session).await?) }).await;
        session.settle(result).map(i64::unsigned_abs)
    }

    /// Has every connection asked after that is held from the account and was neither in the list, which was complete and
    /// asked for at that time, nor checked since. Only its own 404 removes it. Polls are made behind all fresh work.
    /// Returns how many there are.
    ///
    /// # Errors
    /// When the database fails; some are asked after then. Safe to repeat.
    pub async fn ask_after_absent(
        &self,
        account: &AccountName,
        listed_at: DateTime<Utc>,
        deadline: Duration,
    ) -> Result<u64, StoreError> {
        let mut session = self.session().await?;
        let result = within(async {
            let (mut absent, mut behind) = (0, Uuid::nil());
            loop {
                let page = sqlx::query!(
                    r#"
                    WITH page AS MATERIALIZED (
                        SELECT id, _account = $1 AND _removed_at IS NULL AND _synced_at < $2 AS absent
                        FROM feather.integration_connections WHERE id > $3 ORDER BY id LIMIT $4
                    ), asked AS (
                        -- What has a job or a request will be heard of in any case.
                        INSERT INTO feather.sync_jobs
                            (connection_id, account, phase, priority, run_at, wanted_at, finalize_started_at, settle_deadline)
                        SELECT p.id, $1, 'settle', $5, now(), $2, $2, now() + $6 * interval '1 second'
                        FROM page p
                        WHERE p.absent
                          AND p.id NOT IN (SELECT r.connection_id FROM feather.sync_requests r
                                           WHERE r.connection_id = ANY (ARRAY(SELECT id FROM page WHERE absent)))
                        ORDER BY p.id
                        ON CONFLICT (connection_id) DO NOTHING
                    )
                    SELECT count(*) FILTER (WHERE absent) AS "absent!", count(*) AS "all!",
                           (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS last
                    FROM page
                    "#,
                    account.as_str(),
                    listed_at,
                    behind,
                    PAGE,
                    PRIORITY,
                    deadline.as_secs_f64()
                )
                .fetch_one(&mut *session)
                .await?;
                absent += page.absent.unsigned_abs();
                match page.last {
                    Some(last) if page.all == PAGE => behind = last,
                    _ => return Ok(absent),
                }
            }
        })
        .await;
        session.settle(result)
    }
}
