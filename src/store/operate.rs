//! What people do: retry, cancel, forget, and what they have begun. Each leaves a row in `sync_audit`.

pub(super) mod queue;

use crate::store::closing::Closing;
use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use crate::store::listen::WORK;
use crate::store::operate::queue::TakenOut;
use sqlx::Connection;
use uuid::Uuid;

/// Which dead jobs.
#[derive(Clone, Debug, Default)]
pub struct DeadFilter {
    /// Only of this account.
    pub account: Option<String>,
    /// Only of this error class.
    pub class: Option<String>,
}

impl DeadFilter {
    /// Most jobs that one call of [`Db::retry_dead`] revives, so that none holds many locks for long.
    pub const CHUNK: u32 = 5_000;
}

impl Db {
    /// Notes that somebody begins something that is about a whole account.
    ///
    /// # Errors
    /// When the database fails; nothing has been noted then.
    pub async fn note(
        &self,
        actor: &str,
        action: &str,
        account: &str,
        detail: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query!(
            "INSERT INTO feather.sync_audit (actor, action, account, detail) VALUES ($1, $2, $3, $4)",
            actor,
            action,
            account,
            detail
        );
        let result = within(async { Ok(query.execute(&mut *session).await?) }).await;
        session.settle(result).map(|_| ())
    }

    /// Makes jobs due now: dead ones with a fresh attempt budget, waiting ones brought forward as far as the
    /// server allows. Returns the ids that had such a job.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn retry(
        &self,
        connection_ids: &[Uuid],
        actor: &str,
    ) -> Result<Vec<Uuid>, StoreError> {
        let mut session = self.session().await?;
        let result = within(async {
            let mut tx = session.begin().await?;
            let due = queue::make_due(&mut tx, connection_ids).await?;
            sqlx::query!(
                "INSERT INTO feather.sync_audit (actor, action, account, connection_id)
                 SELECT $1, 'retry', account, connection_id FROM feather.sync_jobs WHERE connection_id = ANY($2)",
                actor,
                &due
            )
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(due)
        })
        .await;
        session.settle(result)
    }

    /// Revives some of the dead jobs that the filter matches, with a fresh attempt budget. Returns how many; to be
    /// called again while that is [`DeadFilter::CHUNK`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn retry_dead(&self, filter: &DeadFilter, actor: &str) -> Result<u64, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_scalar!(
            r#"
            WITH chosen AS (
                SELECT connection_id FROM feather.sync_jobs
                WHERE state = 'dead' AND ($1::text IS NULL OR account = $1) AND ($2::text IS NULL OR error_class = $2)
                LIMIT $3 FOR UPDATE SKIP LOCKED
            ), revived AS (
                UPDATE feather.sync_jobs j
                SET state = 'pending', phase = 'finalize', error_class = NULL, settle_deadline = NULL, attempt = 0,
                    malformed = 0, not_before = NULL, run_at = now(), wanted_at = now(), settle_polls = 0,
                    priority = LEAST(priority, asked_priority), asked_priority = NULL,
                    seen_fingerprint = NULL, seen_at = NULL
                FROM chosen WHERE j.connection_id = chosen.connection_id
                RETURNING j.connection_id
            ), counted AS (
                SELECT count(*) AS n FROM revived
            ), audit AS (
                INSERT INTO feather.sync_audit (actor, action, account, detail)
                SELECT $4, 'retry', $1, format('%s dead jobs, class %s', n, COALESCE($2, 'any')) FROM counted WHERE n > 0
            ), woken AS (
                SELECT pg_notify('feather_sync', $5)
            )
            SELECT n AS "n!" FROM counted, woken
            "#,
            filter.account,
            filter.class,
            i64::from(DeadFilter::CHUNK),
            actor,
            WORK
        );
        let result = within(async { Ok(query.fetch_one(&mut *session).await?) }).await;
        session.settle(result).map(i64::unsigned_abs)
    }

    /// Takes connections out of the queue, on record. What is requested meanwhile stays. A call under way is not stopped, but what it answers is not
    /// written: its lease is gone. Returns the ids that were in the queue.
    ///
    /// # Errors
    /// When the database fails; nothing has happened then.
    pub async fn cancel(
        &self,
        connection_ids: &[Uuid],
        actor: &str,
    ) -> Result<Vec<Uuid>, StoreError> {
        let mut session = self.session().await?;
        let result = within(async {
            // Where there is nothing to take out, nobody is held up.
            let known = queue::known(&mut session, connection_ids).await?;
            if known.is_empty() {
                return Ok(known);
            }
            let mut tx = session.begin().await?;
            queue::hold_take_in(&mut tx).await?;
            let taken_out = queue::take_out(&mut tx, &known, None, actor).await?;
            let events: Vec<_> = taken_out.iter().map(TakenOut::event).collect();
            let closing = Closing {
                events: &events,
                notify: self.recording().notify,
                ..Closing::default()
            };
            closing.write(&mut tx).await?;
            let ids = taken_out.iter().map(|job| job.connection_id).collect();
            tx.commit().await?;
            Ok(ids)
        })
        .await;
        session.settle(result)
    }

    /// Asks for connections that are known to be synced once more, ahead of all that has not been asked for by hand.
    /// Returns their ids.
    ///
    /// # Errors
    /// When the database fails; nothing has been asked for then.
    pub async fn sync_again(
        &self,
        connection_ids: &[Uuid],
        actor: &str,
    ) -> Result<Vec<Uuid>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_scalar!(
            r#"
            WITH known AS MATERIALIZED (
                SELECT i.id, COALESCE(j.account, c._account, r.account) AS account
                FROM (SELECT DISTINCT id FROM unnest($1::uuid[]) AS id) AS i
                LEFT JOIN LATERAL (SELECT account FROM feather.sync_jobs WHERE connection_id = i.id LIMIT 1) AS j ON true
                LEFT JOIN LATERAL (SELECT _account FROM feather.integration_connections WHERE id = i.id LIMIT 1) AS c ON true
                LEFT JOIN LATERAL (SELECT account FROM feather.sync_results WHERE connection_id = i.id LIMIT 1) AS r ON true
            ), asked AS (
                INSERT INTO feather.sync_requests (connection_id, account, requested_by)
                SELECT id, account, $2 FROM known WHERE account IS NOT NULL ORDER BY id
                RETURNING connection_id, account
            )
            INSERT INTO feather.sync_audit (actor, action, account, connection_id)
            SELECT $2, 'sync', account, connection_id FROM asked
            RETURNING connection_id AS "connection_id!"
            "#,
            connection_ids,
            actor
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        session.settle(result)
    }

    /// Erases connections everywhere, history included; that it was done stays on record. Returns the ids that
    /// were known.
    ///
    /// # Errors
    /// When the database fails; nothing has happened then.
    pub async fn forget(
        &self,
        connection_ids: &[Uuid],
        actor: &str,
    ) -> Result<Vec<Uuid>, StoreError> {
        let mut session = self.session().await?;
        let result = within(async {
            let mut tx = session.begin().await?;
            // No list may put there now what is to go; it looks into the audit afterwards. A list may take its time: until
            // it is waited for, what is requested is taken in.
            sqlx::query!("SELECT pg_advisory_xact_lock(7305801, 4)")
                .execute(&mut *tx)
                .await?;
            queue::hold_take_in(&mut tx).await?;
            // In the order in which others lock them.
            let mut known = sqlx::query_scalar!(
                "DELETE FROM feather.sync_requests WHERE connection_id = ANY($1) RETURNING connection_id",
                connection_ids
            )
            .fetch_all(&mut *tx)
            .await?;
            known.extend(
                sqlx::query_scalar!(
                    "DELETE FROM feather.sync_jobs WHERE connection_id = ANY($1) RETURNING connection_id",
                    connection_ids
                )
                .fetch_all(&mut *tx)
                .await?,
            );
            // Whoever holds a row may be adding tools to it, which a statement that began before would not see.
            sqlx::query!(
                "SELECT id FROM feather.integration_connections WHERE id = ANY($1) ORDER BY id FOR UPDATE",
                connection_ids
            )
            .fetch_all(&mut *tx)
            .await?;
            known.extend(
                sqlx::query_scalar!(
                    r#"
                    WITH connections AS (
                        DELETE FROM feather.integration_connections WHERE id = ANY($1) RETURNING id
                    ), tools AS (
                        DELETE FROM feather.integration_connection_tools WHERE connection_id = ANY($1)
                    ), attempts AS (
                        DELETE FROM feather.sync_attempts WHERE connection_id = ANY($1)
                    ), events AS (
                        DELETE FROM feather.sync_events WHERE connection_id = ANY($1)
                    ), connection_versions AS (
                        DELETE FROM feather.connection_versions WHERE id = ANY($1)
                    ), tool_versions AS (
                        DELETE FROM feather.tool_versions WHERE connection_id = ANY($1)
                    ), results AS (
                        DELETE FROM feather.sync_results WHERE connection_id = ANY($1) RETURNING connection_id
                    )
                    SELECT id AS "id!" FROM connections UNION SELECT connection_id FROM results
                    "#,
                    connection_ids
                )
                .fetch_all(&mut *tx)
                .await?,
            );
            known.sort();
            known.dedup();
            sqlx::query!(
                "INSERT INTO feather.sync_audit (actor, action, connection_id)
                 SELECT $1, 'forget', i FROM unnest($2::uuid[]) AS i",
                actor,
                &known
            )
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(known)
        })
        .await;
        session.settle(result)
    }
}
