//! What is done to jobs and to the inbox, in somebody's transaction.

use crate::domain::Outcome;
use crate::domain::Phase;
use crate::store::attempt::AttemptRecord;
use crate::store::attempt::ToolChanges;
use crate::store::closing::Closing;
use crate::store::event::Event;
use crate::store::event::Kind;
use crate::store::listen::WORK;
use chrono::DateTime;
use chrono::Utc;
use sqlx::PgConnection;
use uuid::Uuid;

/// A connection that was taken out of the queue.
pub(in crate::store) struct TakenOut {
    pub(in crate::store) connection_id: Uuid,
    account: String,
}

impl TakenOut {
    /// What the change feed says of it.
    pub(in crate::store) fn event(&self) -> Event<'_> {
        Event::bare(&self.account, self.connection_id, Kind::Cancelled)
    }
}

/// Makes jobs due now, and wakes who does them. Returns the ids that had such a job.
pub(in crate::store) async fn make_due(
    conn: &mut PgConnection,
    connection_ids: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
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
                priority = CASE WHEN state = 'dead' THEN LEAST(priority, asked_priority) ELSE priority END,
                asked_priority = CASE WHEN state = 'dead' THEN NULL ELSE asked_priority END,
                malformed = CASE WHEN state = 'dead' THEN 0 ELSE malformed END,
                not_before = CASE WHEN state = 'dead' THEN NULL ELSE not_before END,
                wanted_at = CASE WHEN state = 'dead' THEN now() ELSE wanted_at END,
                run_at = CASE WHEN state = 'dead' THEN now() ELSE GREATEST(LEAST(run_at, now()), not_before) END
            FROM chosen WHERE j.connection_id = chosen.connection_id
            RETURNING j.connection_id
        ), woken AS (
            SELECT pg_notify('feather_sync', $2)
        )
        SELECT connection_id FROM revived, woken
        "#,
        connection_ids,
        WORK
    )
    .fetch_all(conn)
    .await
}

/// Asks for connections that have a job to be synced once more, each as urgently as its job. Returns how many.
pub(in crate::store) async fn ask_anew(
    conn: &mut PgConnection,
    connection_ids: &[Uuid],
    actor: &str,
) -> Result<u64, sqlx::Error> {
    let asked = sqlx::query!(
        "INSERT INTO feather.sync_requests (connection_id, account, priority, requested_by)
         SELECT connection_id, account, priority, $2 FROM feather.sync_jobs WHERE connection_id = ANY($1)
         ORDER BY connection_id",
        connection_ids,
        actor
    )
    .execute(conn)
    .await?;
    Ok(asked.rows_affected())
}

/// Those that have a job or a request.
pub(in crate::store) async fn known(
    conn: &mut PgConnection,
    connection_ids: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT connection_id AS "id!" FROM feather.sync_jobs WHERE connection_id = ANY($1)
           UNION
           SELECT connection_id FROM feather.sync_requests WHERE connection_id = ANY($1)"#,
        connection_ids
    )
    .fetch_all(conn)
    .await
}

/// Takes connections out of the queue, on record: their jobs, and what was requested by then; by the beginning of the
/// transaction where no time is told. No replica may be taking in. The caller writes their events, last.
pub(in crate::store) async fn take_out(
    conn: &mut PgConnection,
    connection_ids: &[Uuid],
    requested_by_then: Option<DateTime<Utc>>,
    actor: &str,
) -> Result<Vec<TakenOut>, sqlx::Error> {
    let requests = sqlx::query!(
        r#"WITH gone AS (
               DELETE FROM feather.sync_requests WHERE connection_id = ANY($1) AND requested_at <= COALESCE($2, now())
               RETURNING *
           )
           SELECT connection_id, (array_agg(account ORDER BY id DESC))[1] AS "account!", now() AS "now!"
           FROM gone GROUP BY connection_id"#,
        connection_ids,
        requested_by_then
    )
    .fetch_all(&mut *conn)
    .await?;
    let jobs = sqlx::query!(
        r#"DELETE FROM feather.sync_jobs WHERE connection_id = ANY($1)
           RETURNING connection_id, account, phase, attempt, started_at, state = 'running' AS "running!",
                     now() AS "now!""#,
        connection_ids
    )
    .fetch_all(&mut *conn)
    .await?;
    let why = format!("cancelled by {actor}");
    let record =
        |connection_id, account, phase: Phase, attempt, started_at, finished_at| AttemptRecord {
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
            time_to_sync: None,
        };
    let mut records: Vec<_> = jobs
        .iter()
        .map(|job| {
            let phase = Phase::parse(&job.phase).unwrap_or(Phase::Finalize);
            let started_at = job.started_at.filter(|_| job.running).unwrap_or(job.now);
            record(
                job.connection_id,
                job.account.as_str(),
                phase,
                job.attempt,
                started_at,
                job.now,
            )
        })
        .collect();
    for request in &requests {
        if !jobs
            .iter()
            .any(|job| job.connection_id == request.connection_id)
        {
            let account = request.account.as_str();
            let now = request.now;
            records.push(record(
                request.connection_id,
                account,
                Phase::Finalize,
                0,
                now,
                now,
            ));
        }
    }
    let closing = Closing {
        attempts: &records,
        ..Closing::default()
    };
    closing.write(&mut *conn).await?;
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
    .execute(&mut *conn)
    .await?;
    let taken_out = records.iter().map(|record| TakenOut {
        connection_id: record.connection_id,
        account: record.account.to_owned(),
    });
    Ok(taken_out.collect())
}

/// Lets no replica take in until the transaction ends: a request that comes meanwhile waits, or its new job would begin,
/// and even be called for, while the old one's traces are still being dealt with.
pub(in crate::store) async fn hold_take_in(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!("SELECT pg_advisory_xact_lock(7305801, 2)")
        .execute(conn)
        .await?;
    Ok(())
}
