//! A portion of an action: some jobs are chosen, locked, looked at once more, and acted on.

use crate::store::actions::Action;
use crate::store::actions::Ended;
use crate::store::actions::Turn;
use crate::store::closing::Closing;
use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use crate::store::jobs::JobState;
use crate::store::jobs::keys::Walk;
use crate::store::operate::queue;
use crate::store::operate::queue::TakenOut;
use chrono::DateTime;
use chrono::Utc;
use sqlx::Connection;
use sqlx::PgConnection;
use std::collections::HashSet;
use std::time::Duration;
use uuid::Uuid;

/// Jobs that are acted on in one transaction.
const MOST: usize = 2_000;

/// What came of a portion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Portion {
    /// So many were acted on, and there may be more.
    More(u64),
    /// The next one is locked by somebody, for a moment.
    Locked,
    /// The action is over; so many have been acted on in all.
    Over(Ended, u64),
    /// The turn is another replica's.
    Lost,
}

/// Jobs that are to be acted on next.
struct Chosen {
    ids: Vec<Uuid>,
    /// Of dead jobs: when the last of them died.
    last_death: Option<DateTime<Utc>>,
    /// Where the next ones are, unless these leave what the filter matches.
    next: Next,
}

enum Next {
    /// Behind this one.
    Behind(Uuid),
    /// There are none.
    End,
    /// In front: those that have been acted on are no longer there.
    Front,
}

impl Db {
    /// Acts on the next jobs of an action, and prolongs the turn. None is acted on twice, whatever becomes of the replica:
    /// what was done and how far it is are committed together. A job that somebody else has locked is come back to.
    ///
    /// # Errors
    /// When the database fails; of this portion nothing has happened then, or all of it.
    pub async fn act(&self, turn: &mut Turn, lease: Duration) -> Result<Portion, StoreError> {
        let mut session = self.session().await?;
        let result = within(async {
            let mut tx = session.begin().await?;
            let mut taken_out = Vec::new();
            let (portion, dead_from) = act(&mut tx, turn, lease, &mut taken_out).await?;
            let events: Vec<_> = taken_out.iter().map(TakenOut::event).collect();
            let closing = Closing {
                events: &events,
                notify: self.recording().notify,
                ..Closing::default()
            };
            closing.write(&mut tx).await?;
            tx.commit().await?;
            Ok((portion, dead_from))
        })
        .await;
        let (portion, dead_from) = session.settle(result)?;
        turn.dead_from = dead_from.or(turn.dead_from);
        Ok(portion)
    }
}

async fn act(
    conn: &mut PgConnection,
    turn: &Turn,
    lease: Duration,
    taken_out: &mut Vec<TakenOut>,
) -> Result<(Portion, Option<DateTime<Utc>>), sqlx::Error> {
    // Locked until the end, so nobody takes over meanwhile, however long this takes.
    let state = sqlx::query!(
        "SELECT behind, stopped_by, done FROM feather.sync_actions
         WHERE id = $1 AND lease_token = $2 AND finished_at IS NULL FOR UPDATE",
        turn.id,
        turn.token
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(state) = state else {
        return Ok((Portion::Lost, None));
    };
    if state.stopped_by.is_some() {
        end(conn, turn, Ended::Stopped, None).await?;
        let over = Portion::Over(Ended::Stopped, state.done.unsigned_abs());
        return Ok((over, None));
    }
    let chosen = choose(conn, turn, state.behind).await?;
    if turn.action == Action::Cancel && !chosen.ids.is_empty() {
        queue::hold_take_in(conn).await?;
    }
    let locked = lock(conn, turn, &chosen.ids).await?;
    let held_up = first_held_up(conn, &chosen.ids, &locked).await?;
    // Behind what somebody else has locked nothing is acted on, or the way back to it would lead by that once more.
    let is_reached = |id: &Uuid| match (&chosen.next, held_up) {
        (Next::Front, _) | (_, None) => true,
        (_, Some(first)) => *id < first,
    };
    let reached: Vec<_> = locked.iter().filter(|job| is_reached(&job.id)).collect();
    let ids = |dead: Option<bool>| -> Vec<Uuid> {
        let matching = reached.iter().filter(|job| job.matches);
        matching
            .filter(|job| dead.is_none_or(|dead| job.dead == dead))
            .map(|job| job.id)
            .collect()
    };
    let acted = match turn.action {
        _ if ids(None).is_empty() => 0,
        Action::Retry => count(&queue::make_due(conn, &ids(None)).await?),
        Action::Sync => {
            let asked = queue::ask_anew(conn, &ids(Some(false)), &turn.requested_by).await?;
            asked + count(&queue::make_due(conn, &ids(Some(true))).await?)
        }
        Action::Cancel => {
            let asked_at = Some(turn.requested_at);
            *taken_out = queue::take_out(conn, &ids(None), asked_at, &turn.requested_by).await?;
            count(taken_out)
        }
    };
    let behind = match (&chosen.next, held_up) {
        (Next::Front, _) => None,
        (_, Some(_)) => reached.last().map(|job| job.id).or(state.behind),
        (Next::Behind(id), None) => Some(*id),
        (Next::End, None) => chosen.ids.last().copied().or(state.behind),
    };
    sqlx::query!(
        "UPDATE feather.sync_actions
         SET done = done + $2, behind = $3, lease_until = clock_timestamp() + $4 * interval '1 second' WHERE id = $1",
        turn.id,
        i64::try_from(acted).unwrap_or(i64::MAX),
        behind,
        lease.as_secs_f64()
    )
    .execute(&mut *conn)
    .await?;
    let is_over = match chosen.next {
        Next::Behind(_) => false,
        Next::End => held_up.is_none(),
        Next::Front => chosen.ids.is_empty(),
    };
    if is_over {
        end(conn, turn, Ended::Done, None).await?;
        let over = Portion::Over(Ended::Done, state.done.unsigned_abs() + acted);
        return Ok((over, None));
    }
    Ok(match held_up {
        Some(_) if acted == 0 => (Portion::Locked, None),
        Some(_) => (Portion::More(acted), None),
        None => (Portion::More(acted), chosen.last_death),
    })
}

/// Ends an action, on record.
pub(super) async fn end(
    conn: &mut PgConnection,
    turn: &Turn,
    ended: Ended,
    error: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        WITH over AS (
            UPDATE feather.sync_actions
            SET finished_at = clock_timestamp(), outcome = $3, error = $4, worker = NULL, lease_token = NULL,
                lease_until = NULL
            WHERE id = $1 AND lease_token = $2
            RETURNING id, action, requested_by, stopped_by, done, outcome
        )
        INSERT INTO feather.sync_audit (actor, action, account, detail)
        SELECT COALESCE(stopped_by, requested_by), action, $5,
               format('action %s %s after %s jobs: %s', id, CASE outcome WHEN 'done' THEN 'ends' ELSE outcome END, done,
                      $6::text)
        FROM over
        "#,
        turn.id,
        turn.token,
        ended.as_str(),
        error,
        turn.filter.account,
        turn.filter.to_string()
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn choose(
    conn: &mut PgConnection,
    turn: &Turn,
    behind: Option<Uuid>,
) -> Result<Chosen, sqlx::Error> {
    let filter = &turn.filter;
    if filter.connection.is_none() {
        match filter.effective_state() {
            Some(JobState::Dead) => return choose_dead(conn, turn).await,
            Some(JobState::Running) => return choose_running(conn, turn, behind).await,
            Some(JobState::Pending | JobState::Due | JobState::Settling) | None => {}
        }
    }
    let walk = Walk {
        filter,
        behind,
        asked_at: Some(turn.requested_at),
        but_running: turn.action == Action::Retry,
        most: MOST,
    };
    let (ids, next) = walk.on(conn).await?;
    Ok(Chosen {
        ids,
        last_death: None,
        next: next.map_or(Next::End, Next::Behind),
    })
}

/// Those that died first. Whatever is done to dead jobs, they are dead no more, or since later than the action was asked for.
async fn choose_dead(conn: &mut PgConnection, turn: &Turn) -> Result<Chosen, sqlx::Error> {
    let dead = sqlx::query!(
        r#"
        WITH RECURSIVE kinds AS (
            (SELECT account, error_class FROM feather.sync_jobs WHERE state = 'dead' ORDER BY account, error_class LIMIT 1)
            UNION ALL
            SELECT next.account, next.error_class
            FROM kinds k
            CROSS JOIN LATERAL (
                SELECT j.account, j.error_class FROM feather.sync_jobs j
                WHERE j.state = 'dead' AND (j.account, j.error_class) > (k.account, k.error_class)
                ORDER BY j.account, j.error_class LIMIT 1
            ) AS next
        )
        SELECT j.connection_id AS "id!", j.run_at AS "died_at!"
        FROM (SELECT account, error_class FROM kinds
              WHERE ($1::text IS NULL OR account = $1) AND ($2::text IS NULL OR error_class = $2)) AS k
        CROSS JOIN LATERAL (
            SELECT d.connection_id, d.run_at FROM feather.sync_jobs d
            WHERE d.state = 'dead' AND d.account = k.account AND d.error_class = k.error_class
              -- Those before have been acted on, and stay in the index until a vacuum.
              AND d.run_at >= COALESCE($6, '-infinity'::timestamptz)
              AND d.run_at <= $4::timestamptz - COALESCE($3::float8, 0) * interval '1 second' AND d.wanted_at <= $4
            ORDER BY d.run_at
            LIMIT $5
        ) AS j
        ORDER BY j.run_at
        LIMIT $5
        "#,
        turn.filter.account,
        turn.filter.class,
        turn.filter.for_seconds.map(f64::from),
        turn.requested_at,
        i64::try_from(MOST).unwrap_or(i64::MAX),
        turn.dead_from
    )
    .fetch_all(conn)
    .await?;
    Ok(Chosen {
        ids: dead.iter().map(|job| job.id).collect(),
        last_death: dead.last().map(|job| job.died_at),
        next: Next::Front,
    })
}

async fn choose_running(
    conn: &mut PgConnection,
    turn: &Turn,
    behind: Option<Uuid>,
) -> Result<Chosen, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        r#"
        SELECT connection_id FROM feather.sync_jobs
        WHERE state = 'running' AND lease_until IS NOT NULL AND ($1::text IS NULL OR account = $1) AND $2::text IS NULL
          AND started_at <= $4::timestamptz - COALESCE($3::float8, 0) * interval '1 second' AND NOT $7
          AND ($5::uuid IS NULL OR connection_id > $5)
        ORDER BY connection_id
        LIMIT $6
        "#,
        turn.filter.account,
        turn.filter.class,
        turn.filter.for_seconds.map(f64::from),
        turn.requested_at,
        behind,
        i64::try_from(MOST).unwrap_or(i64::MAX),
        turn.action == Action::Retry
    )
    .fetch_all(conn)
    .await?;
    let next = match ids.last() {
        Some(last) if ids.len() == MOST => Next::Behind(*last),
        _ => Next::End,
    };
    Ok(Chosen {
        ids,
        last_death: None,
        next,
    })
}

/// A job that is locked here.
struct Locked {
    id: Uuid,
    dead: bool,
    /// Still what the filter asks for.
    matches: bool,
}

/// Locks those of the jobs that nobody else has locked, in the order of their ids.
async fn lock(
    conn: &mut PgConnection,
    turn: &Turn,
    ids: &[Uuid],
) -> Result<Vec<Locked>, sqlx::Error> {
    sqlx::query_as!(
        Locked,
        r#"
        SELECT j.connection_id AS id, j.state = 'dead' AS "dead!",
               (($2::text IS NULL OR j.account = $2) AND ($3::text IS NULL OR j.error_class = $3)
                AND CASE $4::text WHEN 'settling' THEN j.phase <> 'finalize' AND j.state <> 'dead'
                                  WHEN 'due' THEN j.state = 'pending' AND j.run_at <= $6
                                  WHEN 'running' THEN j.state = 'running' AND j.started_at <= $6
                                  WHEN 'dead' THEN j.state = 'dead' AND j.run_at <= $6
                                  WHEN 'pending' THEN j.state = 'pending'
                                  ELSE true END
                AND ($5::float8 IS NULL OR CASE j.state WHEN 'running' THEN j.started_at ELSE j.run_at END
                                           <= $6::timestamptz - $5 * interval '1 second')
                AND (j.wanted_at <= $6 OR j.state = 'pending' AND j.wanted_at > now())
                AND NOT ($7 AND j.state = 'running')) IS TRUE AS "matches!"
        FROM feather.sync_jobs j
        WHERE j.connection_id = ANY($1)
        ORDER BY j.connection_id
        FOR UPDATE SKIP LOCKED
        "#,
        ids,
        turn.filter.account,
        turn.filter.class,
        turn.filter.effective_state().map(JobState::as_str),
        turn.filter.for_seconds.map(f64::from),
        turn.requested_at,
        turn.action == Action::Retry
    )
    .fetch_all(conn)
    .await
}

/// The first of the jobs that is there and not among the locked ones.
async fn first_held_up(
    conn: &mut PgConnection,
    ids: &[Uuid],
    locked: &[Locked],
) -> Result<Option<Uuid>, sqlx::Error> {
    let locked: HashSet<_> = locked.iter().map(|job| job.id).collect();
    let others: Vec<Uuid> = ids
        .iter()
        .filter(|id| !locked.contains(id))
        .copied()
        .collect();
    if others.is_empty() {
        return Ok(None);
    }
    sqlx::query_scalar!(
        "SELECT connection_id FROM feather.sync_jobs WHERE connection_id = ANY($1) ORDER BY connection_id LIMIT 1",
        &others
    )
    .fetch_optional(conn)
    .await
}

fn count<T>(done: &[T]) -> u64 {
    u64::try_from(done.len()).unwrap_or(u64::MAX)
}
