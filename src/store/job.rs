//! What becomes of jobs that were running and are not done.

use crate::domain::Finished;
use crate::domain::Next;
use crate::domain::Phase;
use crate::domain::settle::time_delta;
use chrono::DateTime;
use chrono::Utc;
use sqlx::PgConnection;
use std::time::Duration;
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

impl JobUpdate {
    /// The job's next state at `now`; `None` when it is done.
    pub(super) fn after(
        Finished { job, verdict, .. }: &Finished,
        now: DateTime<Utc>,
        settle_deadline: Duration,
    ) -> Option<Self> {
        let same = Self {
            connection_id: job.connection_id,
            dead: None,
            phase: job.phase.as_str(),
            behind: false,
            run_at: now,
            not_before: None,
            attempt: super::signed(job.attempt),
            malformed: super::signed(verdict.malformed),
            settle_deadline: job.settle_deadline,
            settle_polls: super::signed(job.settle_polls),
            seen: job
                .seen
                .as_ref()
                .map(|seen| (seen.fingerprint.clone(), seen.at)),
        };
        match &verdict.next {
            Next::Done => None,
            Next::Poll { delay, fingerprint } => {
                let since = job
                    .seen
                    .as_ref()
                    .filter(|seen| seen.fingerprint == fingerprint)
                    .map_or(now, |seen| seen.at);
                let (deadline, polls) = match job.phase {
                    Phase::Finalize | Phase::Refresh => (now + time_delta(settle_deadline), 0),
                    // It may have stood behind fresh work for long: its time begins with the first look.
                    Phase::Settle if job.is_first_look() => (now + time_delta(settle_deadline), 1),
                    Phase::Settle => (
                        job.settle_deadline.unwrap_or(now),
                        job.settle_polls.saturating_add(1),
                    ),
                };
                Some(Self {
                    phase: Phase::Settle.as_str(),
                    run_at: now + time_delta(*delay),
                    attempt: 0,
                    settle_deadline: Some(deadline),
                    settle_polls: super::signed(polls),
                    seen: Some((fingerprint.to_vec(), since)),
                    ..same
                })
            }
            Next::Retry {
                phase: phase @ (Phase::Finalize | Phase::Refresh),
                delay,
                server_delay,
            } => Some(Self {
                phase: phase.as_str(),
                // Once: a pile of retries stands behind the fresh requests, not behind everything.
                behind: job.attempt == 1,
                run_at: now + time_delta(*delay),
                not_before: server_delay.map(|delay| now + time_delta(delay)),
                settle_deadline: None,
                settle_polls: 0,
                seen: None,
                ..same
            }),
            Next::Retry {
                phase: Phase::Settle,
                delay,
                server_delay,
            } => Some(Self {
                run_at: now + time_delta(*delay),
                not_before: server_delay.map(|delay| now + time_delta(delay)),
                ..same
            }),
            Next::Defer => Some(Self {
                attempt: super::signed(job.attempt.saturating_sub(1)),
                ..same
            }),
            Next::Bury => Some(Self {
                dead: verdict.class.map(|class| class.as_str()),
                ..same
            }),
        }
    }
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
