//! What becomes of jobs that were running and are not done.

use chrono::DateTime;
use chrono::Utc;
use sqlx::PgConnection;
use uuid::Uuid;

/// State of a job after its attempt.
#[derive(Clone, Debug)]
pub(super) struct JobUpdate {
    pub(super) connection_id: Uuid,
    /// `pending`, or `dead` with the class.
    pub(super) dead: Option<&'static str>,
    pub(super) phase: &'static str,
    /// It goes behind what has the same priority and was not tried yet.
    pub(super) behind: bool,
    pub(super) run_at: DateTime<Utc>,
    pub(super) not_before: Option<DateTime<Utc>>,
    pub(super) attempt: i32,
    pub(super) malformed: i32,
    pub(super) settle_deadline: Option<DateTime<Utc>>,
    pub(super) settle_polls: i32,
    pub(super) seen: Option<(Vec<u8>, DateTime<Utc>)>,
}

/// A job that is locked under a lease token that still holds.
pub(super) struct Held {
    pub(super) connection_id: Uuid,
    pub(super) lease_token: Uuid,
}

/// Locks the jobs whose lease token still holds, in id order, and returns them with the database's time.
/// What is missing has been expired, cancelled, forgotten or committed already.
///
/// Also has the transaction's other statements planned without nested loops: their plans are kept, and one that was made
/// for a few rows would compare each with each. With all the tools that fit into one answer that takes longer than a
/// statement may.
pub(super) async fn lock(
    conn: &mut PgConnection,
    connection_ids: &[Uuid],
    lease_tokens: &[Uuid],
) -> Result<(DateTime<Utc>, Vec<Held>), sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        SELECT connection_id, lease_token AS "lease_token!", now() AS "now!",
               (SELECT set_config('enable_nestloop', 'off', true)) AS "planned!"
        FROM feather.sync_jobs
        -- A token is drawn for one claim of one job, so it cannot stand beside another's id.
        WHERE connection_id = ANY($1) AND lease_token = ANY($2)
        ORDER BY connection_id
        FOR UPDATE
        "#,
        connection_ids,
        lease_tokens
    )
    .fetch_all(conn)
    .await?;
    let now = rows.first().map_or(DateTime::UNIX_EPOCH, |row| row.now);
    let held = rows
        .into_iter()
        .map(|row| Held {
            connection_id: row.connection_id,
            lease_token: row.lease_token,
        })
        .collect();
    Ok((now, held))
}

/// Ends the running attempts of jobs that go on or are dead. They must be locked.
pub(super) async fn update(
    conn: &mut PgConnection,
    updates: &[JobUpdate],
) -> Result<(), sqlx::Error> {
    let column =
        |f: fn(&JobUpdate) -> Option<DateTime<Utc>>| updates.iter().map(f).collect::<Vec<_>>();
    let ids: Vec<_> = updates.iter().map(|u| u.connection_id).collect();
    let dead: Vec<_> = updates.iter().map(|u| u.dead).collect();
    let phases: Vec<_> = updates.iter().map(|u| u.phase).collect();
    let behind: Vec<_> = updates.iter().map(|u| u.behind).collect();
    let run_at: Vec<_> = updates.iter().map(|u| u.run_at).collect();
    let not_before = column(|u| u.not_before);
    let attempts: Vec<_> = updates.iter().map(|u| u.attempt).collect();
    let malformed: Vec<_> = updates.iter().map(|u| u.malformed).collect();
    let settle_deadline = column(|u| u.settle_deadline);
    let settle_polls: Vec<_> = updates.iter().map(|u| u.settle_polls).collect();
    let seen: Vec<_> = updates
        .iter()
        .map(|u| u.seen.as_ref().map(|(print, _)| print.as_slice()))
        .collect();
    let seen_at = column(|u| u.seen.as_ref().map(|(_, at)| *at));
    sqlx::query!(
        r#"
        UPDATE feather.sync_jobs j
        SET state = CASE WHEN v.dead IS NULL THEN 'pending' ELSE 'dead' END, error_class = v.dead,
            worker = NULL, lease_token = NULL, lease_until = NULL,
            phase = v.phase, run_at = v.run_at,
            priority = CASE WHEN v.behind AND j.priority < 32767 THEN j.priority + 1
                            WHEN v.phase = 'settle' THEN LEAST(j.priority, j.asked_priority)
                            ELSE j.priority END,
            -- Its polls stand where it stood: a lasting backlog there would else keep them waiting until it is too late.
            asked_priority = CASE WHEN v.behind THEN COALESCE(j.asked_priority, j.priority)
                                  WHEN v.phase = 'settle' THEN NULL
                                  ELSE j.asked_priority END,
            not_before = v.not_before, attempt = v.attempt,
            malformed = v.malformed, settle_deadline = v.settle_deadline, settle_polls = v.settle_polls,
            seen_fingerprint = v.seen, seen_at = v.seen_at
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::int[], $7::int[],
                    $8::timestamptz[], $9::int[], $10::bytea[], $11::timestamptz[], $12::bool[])
             AS v (connection_id, dead, phase, run_at, not_before, attempt, malformed, settle_deadline, settle_polls,
                   seen, seen_at, behind)
        WHERE j.connection_id = v.connection_id AND j.connection_id = ANY($1)
        "#,
        &ids,
        &dead as _,
        &phases as _,
        &run_at,
        &not_before as _,
        &attempts,
        &malformed,
        &settle_deadline as _,
        &settle_polls,
        &seen as _,
        &seen_at as _,
        &behind
    )
    .execute(conn)
    .await?;
    Ok(())
}
