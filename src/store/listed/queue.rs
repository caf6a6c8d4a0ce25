//! The queue, as a list sees it: what is under way already, and what it asks for.

use crate::domain::ConnectionSnapshot;
use crate::domain::listed::PRIORITY;
use crate::store::listed::List;
use sqlx::PgConnection;
use std::collections::HashSet;
use uuid::Uuid;

/// What is under way for connections, or has been done about them by hand since the list was asked for.
#[derive(Default)]
pub(super) struct Dealings {
    /// They have a job or a request, or were taken out of the queue.
    pub(super) queued: HashSet<Uuid>,
    pub(super) forgotten: HashSet<Uuid>,
}

/// Connections of a part that have a job which matters to a list.
#[derive(Default)]
pub(super) struct Jobs {
    /// A call is under way.
    pub(super) running: HashSet<Uuid>,
    /// All that it says is that a connection is gone which no request had asked for.
    pub(super) refuted: HashSet<Uuid>,
}

/// Lets nobody forget anything until the transaction ends: what it has put there would not be seen, and stay. A statement of
/// its own, so that those that follow see what was forgotten while it waited.
pub(in crate::store) async fn hold_forget(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!("SELECT pg_advisory_xact_lock_shared(7305801, 4)")
        .execute(conn)
        .await?;
    Ok(())
}

/// Locks their jobs. Has the other statements planned as a commit has them.
pub(super) async fn lock_jobs(conn: &mut PgConnection, ids: &[Uuid]) -> Result<Jobs, sqlx::Error> {
    sqlx::query!(r#"SELECT set_config('enable_nestloop', 'off', true) AS "planned!""#)
        .fetch_one(&mut *conn)
        .await?;
    let rows = sqlx::query!(
        r#"SELECT connection_id, state = 'running' AS "running!",
                  (state = 'dead' AND error_class = 'not_found' AND phase <> 'finalize'
                   AND finalize_started_at = wanted_at) IS TRUE AS "refuted!"
           FROM feather.sync_jobs WHERE connection_id = ANY($1) ORDER BY connection_id FOR UPDATE"#,
        ids
    )
    .fetch_all(conn)
    .await?;
    let mut jobs = Jobs::default();
    for row in rows {
        if row.running {
            jobs.running.insert(row.connection_id);
        } else if row.refuted {
            jobs.refuted.insert(row.connection_id);
        }
    }
    Ok(jobs)
}

/// To be asked once the rows are locked, so that another list's enqueuing is seen; in one statement, so that a request
/// on its way to become a job is seen as either.
pub(super) async fn dealings(
    conn: &mut PgConnection,
    list: List<'_>,
    ids: &[Uuid],
) -> Result<Dealings, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        SELECT connection_id AS "id!", false AS "forgotten!" FROM feather.sync_requests WHERE connection_id = ANY($1)
        UNION
        SELECT connection_id, false FROM feather.sync_jobs WHERE connection_id = ANY($1)
        UNION
        SELECT connection_id, action = 'forget' FROM feather.sync_audit
        WHERE at >= $2 AND action IN ('cancel', 'forget') AND connection_id = ANY($1)
        "#,
        ids,
        list.asked_at
    )
    .fetch_all(conn)
    .await?;
    let mut dealings = Dealings::default();
    for row in rows {
        if row.forgotten {
            dealings.forgotten.insert(row.id);
        } else {
            dealings.queued.insert(row.id);
        }
    }
    Ok(dealings)
}

/// Asks for finalizes, behind all fresh work.
pub(super) async fn finalize(
    conn: &mut PgConnection,
    list: List<'_>,
    connections: &[&ConnectionSnapshot],
) -> Result<(), sqlx::Error> {
    if connections.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = connections.iter().map(|listed| listed.id).collect();
    sqlx::query!(
        "SELECT feather.enqueue_many($1, $2, $3, now())",
        &ids,
        list.account.as_str(),
        i32::from(PRIORITY)
    )
    .fetch_one(conn)
    .await?;
    Ok(())
}

/// Has connections polled that somebody else has finalized, or that are back. Where a job has come up meanwhile, it is in
/// hand.
pub(super) async fn follow(
    conn: &mut PgConnection,
    list: List<'_>,
    connections: &[&ConnectionSnapshot],
) -> Result<(), sqlx::Error> {
    if connections.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = connections.iter().map(|listed| listed.id).collect();
    let prints: Vec<_> = connections
        .iter()
        .map(|listed| listed.fingerprint().to_vec())
        .collect();
    sqlx::query!(
        "INSERT INTO feather.sync_jobs AS j
             (connection_id, account, phase, priority, run_at, wanted_at, finalize_started_at, settle_deadline,
              seen_fingerprint, seen_at)
         SELECT v.id, $3, 'settle', $4, now() + $6 * interval '1 second', $5, $5, now() + $7 * interval '1 second',
                v.fingerprint, now()
         FROM unnest($1::uuid[], $2::bytea[]) AS v (id, fingerprint)
         ORDER BY v.id
         ON CONFLICT (connection_id) DO UPDATE
         SET state = 'pending', error_class = NULL, account = excluded.account, phase = excluded.phase,
             priority = excluded.priority, asked_priority = NULL, run_at = excluded.run_at, not_before = NULL, wanted_at = excluded.wanted_at,
             finalize_started_at = excluded.finalize_started_at, settle_deadline = excluded.settle_deadline, settle_polls = 0,
             seen_fingerprint = excluded.seen_fingerprint, seen_at = excluded.seen_at, attempt = 0, malformed = 0
         WHERE j.state = 'dead' AND j.error_class = 'not_found' AND j.phase <> 'finalize'
           AND j.finalize_started_at = j.wanted_at",
        &ids,
        &prints,
        list.account.as_str(),
        PRIORITY,
        list.asked_at,
        list.settle.initial.as_secs_f64(),
        list.settle.deadline.as_secs_f64()
    )
    .execute(conn)
    .await?;
    Ok(())
}
