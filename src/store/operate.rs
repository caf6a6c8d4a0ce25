//! What people do: retry, cancel, forget, and what they have begun. Each leaves a row in `sync_audit`.

use crate::domain::Outcome;
use crate::domain::Phase;
use crate::store::attempt;
use crate::store::attempt::AttemptRecord;
use crate::store::attempt::ToolChanges;
use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use sqlx::Connection;
use sqlx::PgConnection;
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
        let query = sqlx::query_scalar!(
            r#"
            WITH chosen AS (
                SELECT connection_id FROM feather.sync_jobs
                WHERE connection_id = ANY($1) AND state IN ('pending', 'dead')
                ORDER BY connection_id FOR UPDATE
            ), revived AS (
                UPDATE feather.sync_jobs j
                SET state = 'pending', error_class = NULL,
                    phase = CASE WHEN state = 'dead' THEN 'finalize' ELSE phase END,
                    settle_deadline = CASE WHEN state = 'dead' THEN NULL ELSE settle_deadline END,
                    settle_polls = CASE WHEN state = 'dead' THEN 0 ELSE settle_polls END,
                    seen_fingerprint = CASE WHEN state = 'dead' THEN NULL ELSE seen_fingerprint END,
                    seen_at = CASE WHEN state = 'dead' THEN NULL ELSE seen_at END,
                    attempt = CASE WHEN state = 'dead' THEN 0 ELSE attempt END,
                    malformed = CASE WHEN state = 'dead' THEN 0 ELSE malformed END,
                    not_before = CASE WHEN state = 'dead' THEN NULL ELSE not_before END,
                    wanted_at = CASE WHEN state = 'dead' THEN now() ELSE wanted_at END,
                    run_at = CASE WHEN state = 'dead' THEN now() ELSE GREATEST(LEAST(run_at, now()), not_before) END
                FROM chosen WHERE j.connection_id = chosen.connection_id
                RETURNING j.connection_id, j.account
            ), audit AS (
                INSERT INTO feather.sync_audit (actor, action, account, connection_id)
                SELECT $2, 'retry', account, connection_id FROM revived
            ), woken AS (
                SELECT pg_notify('feather_sync', '')
            )
            SELECT connection_id FROM revived, woken
            "#,
            connection_ids,
            actor
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
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
                    seen_fingerprint = NULL, seen_at = NULL
                FROM chosen WHERE j.connection_id = chosen.connection_id
                RETURNING j.connection_id
            ), counted AS (
                SELECT count(*) AS n FROM revived
            ), audit AS (
                INSERT INTO feather.sync_audit (actor, action, account, detail)
                SELECT $4, 'retry', $1, format('%s dead jobs, class %s', n, COALESCE($2, 'any')) FROM counted WHERE n > 0
            ), woken AS (
                SELECT pg_notify('feather_sync', '')
            )
            SELECT n AS "n!" FROM counted, woken
            "#,
            filter.account,
            filter.class,
            i64::from(DeadFilter::CHUNK),
            actor
        );
        let result = within(async { Ok(query.fetch_one(&mut *session).await?) }).await;
        session.settle(result).map(i64::unsigned_abs)
    }

    /// Takes connections out of the queue, on record. A call under way is not stopped, but what it answers is not
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
            let mut tx = session.begin().await?;
            hold_take_in(&mut tx).await?;
            let requests = sqlx::query!(
                r#"WITH gone AS (DELETE FROM feather.sync_requests WHERE connection_id = ANY($1) RETURNING *)
                   SELECT connection_id, (array_agg(account ORDER BY id DESC))[1] AS "account!", now() AS "now!"
                   FROM gone GROUP BY connection_id"#,
                connection_ids
            )
            .fetch_all(&mut *tx)
            .await?;
            let jobs = sqlx::query!(
                r#"DELETE FROM feather.sync_jobs WHERE connection_id = ANY($1)
                   RETURNING connection_id, account, phase, attempt, started_at, state = 'running' AS "running!",
                             now() AS "now!""#,
                connection_ids
            )
            .fetch_all(&mut *tx)
            .await?;
            let why = format!("cancelled by {actor}");
            let record = |connection_id, account, phase: Phase, attempt, started_at, finished_at| AttemptRecord {
                account,
                connection_id,
                kind: phase.call().as_str(),
                attempt,
                worker: actor,
                started_at,
                finished_at,
                outcome: Outcome::Cancelled.as_str(),
                http_status: None,
                error_class: None,
                error: Some(why.as_str().into()),
                retry_at: None,
                tools_status: None,
                tools: ToolChanges::default(),
                upstream_request_id: None,
                finalize_started_at: None,
            };
            let mut records: Vec<_> = jobs
                .iter()
                .map(|job| {
                    let phase = Phase::parse(&job.phase).unwrap_or(Phase::Finalize);
                    let started_at = job.started_at.filter(|_| job.running).unwrap_or(job.now);
                    record(job.connection_id, job.account.as_str(), phase, job.attempt, started_at, job.now)
                })
                .collect();
            for request in &requests {
                if !jobs.iter().any(|job| job.connection_id == request.connection_id) {
                    let account = request.account.as_str();
                    let now = request.now;
                    records.push(record(request.connection_id, account, Phase::Finalize, 0, now, now));
                }
            }
            attempt::record(&mut tx, &records, &[]).await?;
            let ids: Vec<_> = records.iter().map(|record| record.connection_id).collect();
            let accounts: Vec<_> = records.iter().map(|record| record.account).collect();
            sqlx::query!(
                "INSERT INTO feather.sync_audit (actor, action, account, connection_id)
                 SELECT $1, 'cancel', account, connection_id
                 FROM unnest($2::text[], $3::uuid[]) AS v (account, connection_id)",
                actor,
                &accounts as _,
                &ids
            )
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(ids)
        })
        .await;
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
            hold_take_in(&mut tx).await?;
            // Nor may a list put there now what is to go; it looks into the audit afterwards.
            sqlx::query!("SELECT pg_advisory_xact_lock(7305801, 4)")
                .execute(&mut *tx)
                .await?;
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

/// Lets no replica take in until the transaction ends: a request that comes meanwhile waits, or its new job would begin,
/// and even be called for, while the old one's traces are still being dealt with.
async fn hold_take_in(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!("SELECT pg_advisory_xact_lock(7305801, 2)")
        .execute(conn)
        .await?;
    Ok(())
}
