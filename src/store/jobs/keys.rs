//! Which jobs a filter matches: their ids, a page at a time.

use crate::store::jobs::COUNTED;
use crate::store::jobs::JobFilter;
use crate::store::jobs::JobState;
use crate::store::jobs::PAGE;
use crate::store::jobs::Place;
use chrono::DateTime;
use chrono::Utc;
use sqlx::PgConnection;
use uuid::Uuid;

/// Jobs that are looked at in the order of ids before a page ends, whatever it has found.
const LOOKED_AT: i64 = 5_000;
/// Times so many are looked at to count.
const COUNTED_PARTS: u32 = 20;

/// Ids of a page.
pub(in crate::store) struct Keys {
    pub(in crate::store) ids: Vec<Uuid>,
    pub(in crate::store) next: Option<Place>,
}

/// Of jobs in the order of some time.
struct Key {
    connection_id: Uuid,
    at: DateTime<Utc>,
}

/// Lets the transaction's statements take no longer than somebody waits for a page.
pub(in crate::store) async fn hurry(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!(r#"SELECT set_config('statement_timeout', '3s', true) AS "set!""#)
        .fetch_one(conn)
        .await?;
    Ok(())
}

/// A page of the jobs that the filter matches.
pub(super) async fn page(
    conn: &mut PgConnection,
    filter: &JobFilter,
    behind: Option<Place>,
) -> Result<Keys, sqlx::Error> {
    let state = filter.effective_state();
    let keys = match state {
        Some(state) if filter.connection.is_none() => match state {
            JobState::Dead => dead(conn, filter, behind).await?,
            JobState::Running => running(conn, filter, behind).await?,
            JobState::Pending | JobState::Due | JobState::Settling => {
                waiting(conn, filter, state, behind).await?
            }
        },
        _ => {
            let walk = Walk {
                filter,
                behind: behind.map(|place| place.id),
                asked_at: None,
                but_running: false,
                most: PAGE,
            };
            let (ids, next) = walk.on(conn).await?;
            let at = DateTime::UNIX_EPOCH;
            return Ok(Keys {
                ids,
                next: next.map(|id| Place { at, id }),
            });
        }
    };
    // Each asks for one more than a page has.
    let next = keys.get(PAGE - 1).filter(|_| keys.len() > PAGE);
    Ok(Keys {
        next: next.map(|key| Place {
            at: key.at,
            id: key.connection_id,
        }),
        ids: keys
            .iter()
            .take(PAGE)
            .map(|key| key.connection_id)
            .collect(),
    })
}

/// Dead jobs from the latest death on. Each account and class in use is found by one probe of the index.
async fn dead(
    conn: &mut PgConnection,
    filter: &JobFilter,
    behind: Option<Place>,
) -> Result<Vec<Key>, sqlx::Error> {
    sqlx::query_as!(
        Key,
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
        SELECT j.connection_id AS "connection_id!", j.run_at AS "at!"
        FROM (SELECT account, error_class FROM kinds
              WHERE ($1::text IS NULL OR account = $1) AND ($2::text IS NULL OR error_class = $2)) AS k
        CROSS JOIN LATERAL (
            SELECT d.connection_id, d.run_at FROM feather.sync_jobs d
            WHERE d.state = 'dead' AND d.account = k.account AND d.error_class = k.error_class
              AND (d.run_at, d.connection_id) < (COALESCE($4, 'infinity'::timestamptz),
                                                 COALESCE($5, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
              AND d.run_at <= now() - COALESCE($3::float8, 0) * interval '1 second'
            ORDER BY d.run_at DESC, d.connection_id DESC
            LIMIT 51
        ) AS j
        ORDER BY j.run_at DESC, j.connection_id DESC
        LIMIT 51
        "#,
        filter.account,
        filter.class,
        filter.for_seconds.map(f64::from),
        behind.map(|place| place.at),
        behind.map(|place| place.id)
    )
    .fetch_all(conn)
    .await
}

/// Running jobs from the first begun on. There are no more of them than all replicas make calls at a time.
async fn running(
    conn: &mut PgConnection,
    filter: &JobFilter,
    behind: Option<Place>,
) -> Result<Vec<Key>, sqlx::Error> {
    sqlx::query_as!(
        Key,
        r#"
        SELECT connection_id, started_at AS "at!" FROM feather.sync_jobs
        WHERE state = 'running' AND lease_until IS NOT NULL
          AND ($1::text IS NULL OR account = $1) AND ($2::text IS NULL OR error_class = $2)
          AND ($3::float8 IS NULL OR started_at <= now() - $3 * interval '1 second')
          AND (started_at, connection_id) > (COALESCE($4, '-infinity'::timestamptz), COALESCE($5, '00000000-0000-0000-0000-000000000000'::uuid))
        ORDER BY started_at, connection_id
        LIMIT 51
        "#,
        filter.account,
        filter.class,
        filter.for_seconds.map(f64::from),
        behind.map(|place| place.at),
        behind.map(|place| place.id)
    )
    .fetch_all(conn)
    .await
}

/// Waiting jobs from the first due on, from each of the claim's lanes. Settling ones include those that are polled just now.
async fn waiting(
    conn: &mut PgConnection,
    filter: &JobFilter,
    state: JobState,
    behind: Option<Place>,
) -> Result<Vec<Key>, sqlx::Error> {
    let due = state == JobState::Due || filter.for_seconds.is_some();
    sqlx::query_as!(
        Key,
        r#"
        WITH RECURSIVE lanes AS (
            (SELECT account, phase, priority FROM feather.sync_jobs WHERE state = 'pending'
             ORDER BY account, phase, priority LIMIT 1)
            UNION ALL
            SELECT next.account, next.phase, next.priority
            FROM lanes l
            CROSS JOIN LATERAL (
                SELECT j.account, j.phase, j.priority FROM feather.sync_jobs j
                WHERE j.state = 'pending' AND (j.account, j.phase, j.priority) > (l.account, l.phase, l.priority)
                ORDER BY j.account, j.phase, j.priority LIMIT 1
            ) AS next
        ), bounds AS MATERIALIZED (
            SELECT COALESCE($4, '-infinity'::timestamptz) AS at, COALESCE($5, '00000000-0000-0000-0000-000000000000'::uuid) AS id,
                   CASE WHEN $6 THEN now() - COALESCE($3::float8, 0) * interval '1 second' ELSE 'infinity' END AS until
        )
        SELECT connection_id AS "connection_id!", at AS "at!"
        FROM (
            SELECT j.connection_id, j.run_at AS at
            FROM (SELECT account, phase, priority FROM lanes
                  WHERE ($1::text IS NULL OR account = $1) AND $2::text IS NULL AND (NOT $7 OR phase <> 'finalize')) AS lane
            CROSS JOIN LATERAL (
                SELECT p.connection_id, p.run_at FROM feather.sync_jobs p
                WHERE p.state = 'pending' AND p.account = lane.account AND p.phase = lane.phase AND p.priority = lane.priority
                  AND p.run_at >= (SELECT at FROM bounds) AND p.run_at <= (SELECT until FROM bounds)
                  AND (p.run_at > (SELECT at FROM bounds) OR p.connection_id > (SELECT id FROM bounds))
                ORDER BY p.run_at, p.connection_id
                LIMIT 51
            ) AS j
            UNION ALL
            SELECT r.connection_id, r.started_at FROM feather.sync_jobs r
            WHERE $7 AND r.state = 'running' AND r.lease_until IS NOT NULL AND r.phase <> 'finalize'
              AND ($1::text IS NULL OR r.account = $1) AND $2::text IS NULL
              AND r.started_at <= (SELECT until FROM bounds)
              AND (r.started_at, r.connection_id) > ((SELECT at FROM bounds), (SELECT id FROM bounds))
        ) AS found
        ORDER BY at, connection_id
        LIMIT 51
        "#,
        filter.account,
        filter.class,
        filter.for_seconds.map(f64::from),
        behind.map(|place| place.at),
        behind.map(|place| place.id),
        due,
        state == JobState::Settling
    )
    .fetch_all(conn)
    .await
}

/// A way through the queue in the order of ids.
pub(in crate::store) struct Walk<'a> {
    pub(in crate::store) filter: &'a JobFilter,
    /// Where it begins.
    pub(in crate::store) behind: Option<Uuid>,
    /// Only jobs that matched at that time, as far as their rows tell: an action was asked for then.
    pub(in crate::store) asked_at: Option<DateTime<Utc>>,
    /// Only what waits or is dead.
    pub(in crate::store) but_running: bool,
    /// At most so many.
    pub(in crate::store) most: usize,
}

impl Walk<'_> {
    /// Those that it comes by, and where to go on, unless that was the end.
    pub(in crate::store) async fn on(
        &self,
        conn: &mut PgConnection,
    ) -> Result<(Vec<Uuid>, Option<Uuid>), sqlx::Error> {
        let (first, last) = self.filter.ids();
        let row = sqlx::query!(
            r#"
            WITH seen AS MATERIALIZED (
                SELECT connection_id, account, state, phase, error_class, run_at, started_at, wanted_at
                FROM feather.sync_jobs
                WHERE connection_id BETWEEN GREATEST($1::uuid, $2) AND $3 AND connection_id IS DISTINCT FROM $1
                ORDER BY connection_id
                LIMIT $10
            ), chosen AS MATERIALIZED (
                SELECT j.connection_id FROM seen j
                WHERE ($4::text IS NULL OR j.account = $4) AND ($5::text IS NULL OR j.error_class = $5)
                  AND CASE $6::text WHEN 'settling' THEN j.phase <> 'finalize' AND j.state <> 'dead'
                                    WHEN 'due' THEN j.state = 'pending' AND j.run_at <= COALESCE($8, now())
                                    WHEN 'running' THEN j.state = 'running' AND j.started_at <= COALESCE($8, now())
                                    WHEN 'dead' THEN j.state = 'dead' AND j.run_at <= COALESCE($8, now())
                                    WHEN 'pending' THEN j.state = 'pending'
                                    ELSE true END
                  AND ($7::float8 IS NULL OR CASE j.state WHEN 'running' THEN j.started_at ELSE j.run_at END
                                             <= COALESCE($8, now()) - $7 * interval '1 second')
                  AND ($8::timestamptz IS NULL OR j.wanted_at <= $8 OR j.state = 'pending' AND j.wanted_at > now())
                  AND NOT ($9 AND j.state = 'running')
                ORDER BY j.connection_id
                LIMIT $11
            )
            SELECT ARRAY(SELECT connection_id FROM chosen ORDER BY connection_id) AS "chosen!",
                   (SELECT count(*) FROM seen) AS "seen!",
                   (SELECT connection_id FROM seen ORDER BY connection_id DESC LIMIT 1) AS last
            "#,
            self.behind,
            first,
            last,
            self.filter.account,
            self.filter.class,
            self.filter.effective_state().map(JobState::as_str),
            self.filter.for_seconds.map(f64::from),
            self.asked_at,
            self.but_running,
            LOOKED_AT,
            i64::try_from(self.most).unwrap_or(i64::MAX)
        )
        .fetch_one(conn)
        .await?;
        let is_full = row.chosen.len() == self.most;
        let next = match row.chosen.last() {
            Some(id) if is_full => Some(*id),
            _ if row.seen == LOOKED_AT => row.last,
            _ => None,
        };
        Ok((row.chosen, next))
    }
}

/// How many jobs the filter matches, counted as far as one more than [`COUNTED`]; `None` when too many others are in
/// between.
pub(super) async fn count(
    conn: &mut PgConnection,
    filter: &JobFilter,
) -> Result<Option<i64>, sqlx::Error> {
    if filter.connection.is_some() {
        return count_by_id(conn, filter).await;
    }
    let state = filter.effective_state();
    let is = |states: &[JobState]| state.is_none_or(|state| states.contains(&state));
    sqlx::query_scalar!(
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
        ), lanes AS (
            (SELECT account, phase, priority FROM feather.sync_jobs WHERE state = 'pending'
             ORDER BY account, phase, priority LIMIT 1)
            UNION ALL
            SELECT next.account, next.phase, next.priority
            FROM lanes l
            CROSS JOIN LATERAL (
                SELECT j.account, j.phase, j.priority FROM feather.sync_jobs j
                WHERE j.state = 'pending' AND (j.account, j.phase, j.priority) > (l.account, l.phase, l.priority)
                ORDER BY j.account, j.phase, j.priority LIMIT 1
            ) AS next
        ), bounds AS MATERIALIZED (
            SELECT now() - COALESCE($3::float8, 0) * interval '1 second' AS since,
                   CASE WHEN $8 THEN now() - COALESCE($3, 0) * interval '1 second' ELSE 'infinity' END AS due
        )
        SELECT count(*) AS "count!"
        FROM (
            SELECT FROM (SELECT account, error_class FROM kinds
                         WHERE $4 AND ($1::text IS NULL OR account = $1) AND ($2::text IS NULL OR error_class = $2)) AS k
            CROSS JOIN LATERAL (
                SELECT FROM feather.sync_jobs d
                WHERE d.state = 'dead' AND d.account = k.account AND d.error_class = k.error_class
                  AND d.run_at <= (SELECT since FROM bounds)
            ) AS j
            UNION ALL
            SELECT FROM (SELECT account, phase, priority FROM lanes
                         WHERE $5 AND ($1::text IS NULL OR account = $1) AND $2::text IS NULL
                           AND (NOT $7 OR phase <> 'finalize')) AS lane
            CROSS JOIN LATERAL (
                SELECT FROM feather.sync_jobs p
                WHERE p.state = 'pending' AND p.account = lane.account AND p.phase = lane.phase
                  AND p.priority = lane.priority AND p.run_at <= (SELECT due FROM bounds)
            ) AS j
            UNION ALL
            SELECT FROM feather.sync_jobs r
            WHERE $6 AND r.state = 'running' AND r.lease_until IS NOT NULL AND (NOT $7 OR r.phase <> 'finalize')
              AND ($1::text IS NULL OR r.account = $1) AND $2::text IS NULL
              AND r.started_at <= (SELECT since FROM bounds)
            LIMIT $9
        ) AS found
        "#,
        filter.account,
        filter.class,
        filter.for_seconds.map(f64::from),
        is(&[JobState::Dead]),
        is(&[JobState::Pending, JobState::Due, JobState::Settling]),
        is(&[JobState::Running, JobState::Settling]),
        state == Some(JobState::Settling),
        state == Some(JobState::Due) || filter.for_seconds.is_some(),
        COUNTED + 1
    )
    .fetch_one(conn)
    .await
    .map(Some)
}

async fn count_by_id(
    conn: &mut PgConnection,
    filter: &JobFilter,
) -> Result<Option<i64>, sqlx::Error> {
    let (mut count, mut behind) = (0, None);
    for _ in 0..COUNTED_PARTS {
        let walk = Walk {
            filter,
            behind,
            asked_at: None,
            but_running: false,
            most: usize::try_from(COUNTED + 1).unwrap_or(usize::MAX),
        };
        let (ids, next) = walk.on(conn).await?;
        count += i64::try_from(ids.len()).unwrap_or(i64::MAX);
        if count > COUNTED || next.is_none() {
            return Ok(Some(count));
        }
        behind = next;
    }
    Ok(None)
}
