//! Invariants of the queue.
//!
//! Rows of other tables are looked up one by one (`OFFSET 0`, or a subquery for a value): where the planner knows
//! nothing about the range of pages, a join might read the whole of a large table per slice.

use crate::store::verify::Look;
use crate::store::verify::Violation;
use sqlx::PgConnection;

pub(super) async fn jobs_are_coherent(
    conn: &mut PgConnection,
    look: Look,
) -> Result<Vec<Violation>, sqlx::Error> {
    sqlx::query_as!(
        Violation,
        r#"
        SELECT j.connection_id AS "connection_id?", j.account AS "account?", faults.list AS "detail!"
        FROM feather.sync_jobs j
        CROSS JOIN LATERAL (SELECT concat_ws('; ',
            CASE WHEN (j.state IN ('pending', 'running', 'dead')) IS NOT TRUE THEN format('state is %L', j.state) END,
            CASE WHEN (j.phase IN ('finalize', 'settle', 'refresh')) IS NOT TRUE THEN format('phase is %L', j.phase) END,
            CASE WHEN (j.account <> '') IS NOT TRUE THEN 'without an account' END,
            CASE WHEN (j.state = 'running') IS DISTINCT FROM (j.lease_token IS NOT NULL)
                   OR (j.state = 'running') IS DISTINCT FROM (j.lease_until IS NOT NULL)
                   OR (j.state = 'running') IS DISTINCT FROM (j.worker IS NOT NULL)
                 THEN format('%s with lease token %s, lease until %s, worker %s', j.state,
                             COALESCE(j.lease_token::text, 'none'), COALESCE(j.lease_until::text, 'none'),
                             COALESCE(j.worker, 'none')) END,
            CASE WHEN (j.state IN ('running', 'dead') OR j.attempt > 0)
                      AND (j.started_at IS NULL OR j.finalize_started_at IS NULL AND j.phase = 'settle')
                 THEN format('%s in attempt %s without a start', j.state, j.attempt) END,
            CASE WHEN j.state IN ('running', 'dead') AND (j.attempt >= 1) IS NOT TRUE
                 THEN format('%s without an attempt', j.state) END,
            CASE WHEN j.lease_until <= j.started_at
                 THEN format('lease until %s, before the start at %s', j.lease_until, j.started_at) END,
            CASE WHEN (j.phase = 'settle') IS DISTINCT FROM (j.settle_deadline IS NOT NULL)
                 THEN format('phase %s with deadline %s', j.phase, COALESCE(j.settle_deadline::text, 'none')) END,
            CASE WHEN j.phase <> 'settle' AND (j.settle_polls > 0 OR j.seen_fingerprint IS NOT NULL)
                 THEN format('phase %s with what a poll saw', j.phase) END,
            CASE WHEN (j.seen_fingerprint IS NULL) <> (j.seen_at IS NULL) THEN 'half a sighting' END,
            CASE WHEN (j.state = 'dead') IS DISTINCT FROM (j.error_class IS NOT NULL)
                 THEN format('%s with class %s', j.state, COALESCE(j.error_class, 'none')) END,
            CASE WHEN (j.attempt >= 0 AND j.settle_polls >= 0 AND j.malformed BETWEEN 0 AND j.attempt) IS NOT TRUE
                 THEN format('counts are attempt %s, malformed %s, polls %s', j.attempt, j.malformed, j.settle_polls) END,
            CASE WHEN j.state = 'pending' AND j.run_at < j.not_before
                 THEN format('due at %s, before %s that the server asked for', j.run_at, j.not_before) END,
            CASE WHEN (isfinite(j.run_at) AND isfinite(j.wanted_at)) IS NOT TRUE
                 THEN format('due at %s, wanted at %s', j.run_at, j.wanted_at) END,
            CASE WHEN GREATEST(j.started_at, j.finalize_started_at, j.seen_at) > now() + $4 * interval '1 second'
                 THEN format('started or seen in the future: %s',
                             GREATEST(j.started_at, j.finalize_started_at, j.seen_at)) END
        ) AS list) AS faults
        WHERE j.ctid >= format('(%s,0)', $1::bigint)::tid AND j.ctid < format('(%s,0)', $2::bigint)::tid
          AND faults.list <> ''
        LIMIT $3
        "#,
        look.first,
        look.end,
        look.limit,
        look.patience
    )
    .fetch_all(conn)
    .await
}

/// A lease may be found late by a daemon that, or whose database, was away and has just come back.
pub(super) async fn leases_end(
    conn: &mut PgConnection,
    look: Look,
) -> Result<Vec<Violation>, sqlx::Error> {
    sqlx::query_as!(
        Violation,
        r#"
        WITH alive AS MATERIALIZED (
            SELECT started_at FROM feather.sync_replicas WHERE seen_at > now() - interval '45 seconds'
        )
        SELECT connection_id AS "connection_id?", account AS "account?",
               format('the lease of worker %s ran out at %s', worker, lease_until) AS "detail!"
        FROM feather.sync_jobs
        WHERE state = 'running' AND lease_until < now() - $1 * interval '1 second'
          AND pg_postmaster_start_time() < now() - $1 * interval '1 second'
          AND (NOT EXISTS (SELECT FROM alive)
               OR EXISTS (SELECT FROM alive WHERE started_at < now() - $1 * interval '1 second'))
        ORDER BY lease_until
        LIMIT $2
        "#,
        look.patience,
        look.limit
    )
    .fetch_all(conn)
    .await
}

pub(super) async fn tokens_are_unique(
    conn: &mut PgConnection,
    look: Look,
) -> Result<Vec<Violation>, sqlx::Error> {
    sqlx::query_as!(
        Violation,
        r#"
        SELECT connection_id AS "connection_id?", account AS "account?",
               format('its lease token is also that of %s other running jobs', holders - 1) AS "detail!"
        FROM (SELECT connection_id, account, count(*) OVER (PARTITION BY lease_token) AS holders
              FROM feather.sync_jobs WHERE state = 'running' AND lease_token IS NOT NULL) AS held
        WHERE holders > 1
        ORDER BY connection_id
        LIMIT $1
        "#,
        look.limit
    )
    .fetch_all(conn)
    .await
}

/// The counted attempts of a job are the newest of its connection's history, deferred ones aside: numbers n to 1, each
/// a failure. What a job counted before its history was cut is excused: by age, by `retention.attempts`, and, since
/// a replica may have been told a shorter one, also by the oldest attempt there is, unless that is of the last hour.
pub(super) async fn attempts_are_recorded(
    conn: &mut PgConnection,
    look: Look,
) -> Result<Vec<Violation>, sqlx::Error> {
    sqlx::query_as!(
        Violation,
        r#"
        WITH oldest AS MATERIALIZED (
            SELECT finished_at FROM feather.sync_attempts ORDER BY finished_at LIMIT 1
        ), kept AS MATERIALIZED (
            SELECT GREATEST(now() - $4 * interval '1 second',
                            (SELECT finished_at FROM oldest WHERE finished_at < now() - interval '1 hour')) AS since
        )
        SELECT j.connection_id AS "connection_id?", j.account AS "account?",
               format('%s of %s counted attempts are in the history', h.recorded, j.counted) AS "detail!"
        FROM (SELECT connection_id, account, wanted_at,
                     attempt - CASE WHEN state = 'running' THEN 1 ELSE 0 END AS counted
              FROM feather.sync_jobs
              WHERE ctid >= format('(%s,0)', $1::bigint)::tid AND ctid < format('(%s,0)', $2::bigint)::tid
              OFFSET 0) AS j
        CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE a.attempt = j.counted + 1 - a.nth AND a.outcome IN ('retry', 'crashed', 'dead'))
                       AS recorded
            FROM (SELECT attempt, outcome, row_number() OVER (ORDER BY id DESC) AS nth
                  FROM feather.sync_attempts
                  WHERE connection_id = j.connection_id AND outcome <> 'deferred'
                  ORDER BY id DESC
                  LIMIT j.counted) AS a
        ) AS h
        WHERE j.counted > 0 AND h.recorded < j.counted AND j.wanted_at > (SELECT since FROM kept)
        LIMIT $3
        "#,
        look.first,
        look.end,
        look.limit,
        look.history
    )
    .fetch_all(conn)
    .await
}

pub(super) async fn dead_jobs_say_why(
    conn: &mut PgConnection,
    look: Look,
) -> Result<Vec<Violation>, sqlx::Error> {
    sqlx::query_as!(
        Violation,
        r#"
        SELECT j.connection_id AS "connection_id?", j.account AS "account?",
               format('dead of %s, but the last word is %s', j.error_class,
                      COALESCE(r.last_outcome || COALESCE(' of ' || r.last_error_class, ''), 'missing')) AS "detail!"
        FROM feather.sync_jobs j
        LEFT JOIN LATERAL (
            SELECT last_outcome, last_error_class FROM feather.sync_results
            WHERE connection_id = j.connection_id OFFSET 0
        ) AS r ON true
        WHERE j.ctid >= format('(%s,0)', $1::bigint)::tid AND j.ctid < format('(%s,0)', $2::bigint)::tid
          AND j.state = 'dead' AND j.error_class IS NOT NULL
          AND (r.last_outcome IN ('dead', 'crashed') AND r.last_error_class = j.error_class) IS NOT TRUE
        LIMIT $3
        "#,
        look.first,
        look.end,
        look.limit
    )
    .fetch_all(conn)
    .await
}

pub(super) async fn settling_jobs_are_stored(
    conn: &mut PgConnection,
    look: Look,
) -> Result<Vec<Violation>, sqlx::Error> {
    sqlx::query_as!(
        Violation,
        r#"
        SELECT j.connection_id AS "connection_id?", j.account AS "account?",
               'it settles, but no connection is stored that was finalized or listed' AS "detail!"
        FROM feather.sync_jobs j
        WHERE j.ctid >= format('(%s,0)', $1::bigint)::tid AND j.ctid < format('(%s,0)', $2::bigint)::tid
          AND j.phase = 'settle'
          -- What a list had followed has been wanted since that list, and somebody else has finalized it.
          AND (SELECT CASE WHEN j.finalize_started_at = j.wanted_at THEN c._synced_at ELSE c._finalized_at END
               FROM feather.integration_connections c WHERE c.id = j.connection_id) IS NULL
        LIMIT $3
        "#,
        look.first,
        look.end,
        look.limit
    )
    .fetch_all(conn)
    .await
}
