//! Invariants of the history and of the last words on connections.

use crate::store::verify::Look;
use crate::store::verify::Violation;
use sqlx::PgConnection;

pub(super) async fn nothing_is_lost(
    conn: &mut PgConnection,
    look: Look,
) -> Result<Vec<Violation>, sqlx::Error> {
    sqlx::query_as!(
        Violation,
        r#"
        SELECT r.connection_id AS "connection_id?", r.account AS "account?",
               format('the last word is %s of %s, and there is no job', r.last_outcome, r.last_attempt_at) AS "detail!"
        FROM feather.sync_results r
        WHERE r.ctid >= format('(%s,0)', $1::bigint)::tid AND r.ctid < format('(%s,0)', $2::bigint)::tid
          AND r.last_outcome NOT IN ('synced', 'cancelled')
          -- Nobody had asked for a refresh, and it was given up until the next one.
          AND (r.last_outcome = 'deferred' AND r.last_error_class NOT IN ('auth', 'rate_limited')) IS NOT TRUE
          AND (SELECT j.connection_id FROM feather.sync_jobs j WHERE j.connection_id = r.connection_id) IS NULL
        LIMIT $3
        "#,
        look.first,
        look.end,
        look.limit
    )
    .fetch_all(conn)
    .await
}

pub(super) async fn last_words_are_coherent(
    conn: &mut PgConnection,
    look: Look,
) -> Result<Vec<Violation>, sqlx::Error> {
    sqlx::query_as!(
        Violation,
        r#"
        SELECT r.connection_id AS "connection_id?", r.account AS "account?", faults.list AS "detail!"
        FROM feather.sync_results r
        CROSS JOIN LATERAL (SELECT concat_ws('; ',
            CASE WHEN r.last_outcome IN ('retry', 'dead', 'crashed') AND r.last_error_class IS NULL
                   OR r.last_outcome IN ('synced', 'settling', 'cancelled') AND r.last_error_class IS NOT NULL
                 THEN format('%s with class %s', r.last_outcome, COALESCE(r.last_error_class, 'none')) END,
            CASE WHEN (r.last_success_at IS NULL) <> (r.last_success_started_at IS NULL)
                   OR r.last_outcome = 'synced' AND r.last_success_at IS NULL
                 THEN format('%s with last success at %s, started at %s', r.last_outcome,
                             COALESCE(r.last_success_at::text, 'none'),
                             COALESCE(r.last_success_started_at::text, 'none')) END,
            CASE WHEN r.last_success_started_at > r.last_success_at
                 THEN format('last success at %s, before its start at %s', r.last_success_at, r.last_success_started_at)
                 END,
            CASE WHEN GREATEST(r.last_attempt_at, r.last_success_at) > now() + $4 * interval '1 second'
                 THEN format('in the future: %s', GREATEST(r.last_attempt_at, r.last_success_at)) END
        ) AS list) AS faults
        WHERE r.ctid >= format('(%s,0)', $1::bigint)::tid AND r.ctid < format('(%s,0)', $2::bigint)::tid
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

/// Ids ascend within a connection: who writes an attempt holds the connection's job. Retention may have taken all of
/// the history, or its beginning, never its end alone.
pub(super) async fn history_ends_with_the_last_word(
    conn: &mut PgConnection,
    look: Look,
) -> Result<Vec<Violation>, sqlx::Error> {
    sqlx::query_as!(
        Violation,
        r#"
        SELECT r.connection_id AS "connection_id?", r.account AS "account?",
               format('the last word is %s of %s, the newest attempt %s of %s',
                      r.last_outcome || COALESCE(' with ' || r.last_error_class, ''), r.last_attempt_at,
                      a.outcome || COALESCE(' with ' || a.error_class, ''), a.finished_at) AS "detail!"
        FROM feather.sync_results r
        CROSS JOIN LATERAL (
            SELECT outcome, error_class, finished_at FROM feather.sync_attempts
            WHERE connection_id = r.connection_id ORDER BY id DESC LIMIT 1
        ) AS a
        WHERE r.ctid >= format('(%s,0)', $1::bigint)::tid AND r.ctid < format('(%s,0)', $2::bigint)::tid
          AND (a.outcome, a.error_class, a.finished_at)
              IS DISTINCT FROM (r.last_outcome, r.last_error_class, r.last_attempt_at)
        LIMIT $3
        "#,
        look.first,
        look.end,
        look.limit
    )
    .fetch_all(conn)
    .await
}

pub(super) async fn successes_are_stored(
    conn: &mut PgConnection,
    look: Look,
) -> Result<Vec<Violation>, sqlx::Error> {
    sqlx::query_as!(
        Violation,
        r#"
        SELECT r.connection_id AS "connection_id?", r.account AS "account?",
               format('synced at %s, and not stored', r.last_success_at) AS "detail!"
        FROM feather.sync_results r
        WHERE r.ctid >= format('(%s,0)', $1::bigint)::tid AND r.ctid < format('(%s,0)', $2::bigint)::tid
          AND r.last_success_at IS NOT NULL
          AND (SELECT c.id FROM feather.integration_connections c WHERE c.id = r.connection_id) IS NULL
        LIMIT $3
        "#,
        look.first,
        look.end,
        look.limit
    )
    .fetch_all(conn)
    .await
}

pub(super) async fn attempts_are_coherent(
    conn: &mut PgConnection,
    look: Look,
) -> Result<Vec<Violation>, sqlx::Error> {
    sqlx::query_as!(
        Violation,
        r#"
        SELECT a.connection_id AS "connection_id?", a.account AS "account?",
               format('attempt with id %s: %s', a.id, faults.list) AS "detail!"
        FROM feather.sync_attempts a
        CROSS JOIN LATERAL (SELECT concat_ws('; ',
            -- A refresh that failed may be left to the next one.
            CASE WHEN a.outcome IN ('settling', 'retry', 'deferred') AND a.retry_at IS NULL
                      AND (a.kind, a.outcome) IS DISTINCT FROM ('reconcile', 'deferred')
                   OR a.outcome IN ('synced', 'dead', 'cancelled') AND a.retry_at IS NOT NULL
                 THEN format('%s with next try at %s', a.outcome, COALESCE(a.retry_at::text, 'none')) END,
            CASE WHEN a.outcome IN ('retry', 'dead', 'crashed') AND a.error_class IS NULL
                   OR a.outcome IN ('synced', 'settling', 'cancelled') AND a.error_class IS NOT NULL
                   OR a.outcome = 'crashed' AND a.error_class <> 'lease_lost'
                 THEN format('%s with class %s', a.outcome, COALESCE(a.error_class, 'none')) END,
            CASE WHEN a.outcome = 'cancelled' AND a.error IS NULL THEN 'cancelled by nobody' END,
            CASE WHEN a.outcome IN ('synced', 'settling') AND (a.http_status IS NULL OR a.tools_status IS NULL)
                 THEN format('%s without an answer', a.outcome) END,
            CASE WHEN (a.attempt >= CASE a.outcome WHEN 'cancelled' THEN 0 ELSE 1 END) IS NOT TRUE
                 THEN format('number %s', a.attempt) END,
            CASE WHEN (a.tools_added >= 0 AND a.tools_changed >= 0 AND a.tools_removed >= 0) IS NOT TRUE
                 THEN format('tools %s added, %s changed, %s removed', a.tools_added, a.tools_changed, a.tools_removed) END,
            CASE WHEN a.finished_at < a.started_at
                 THEN format('finished at %s, before its start at %s', a.finished_at, a.started_at) END,
            CASE WHEN a.finished_at > now() + $4 * interval '1 second'
                 THEN format('finished in the future, at %s', a.finished_at) END
        ) AS list) AS faults
        WHERE a.ctid >= format('(%s,0)', $1::bigint)::tid AND a.ctid < format('(%s,0)', $2::bigint)::tid
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
