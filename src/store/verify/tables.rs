//! Invariants of the connections and their tools.

use crate::store::verify::EVENTS_PER_PAGE;
use crate::store::verify::Look;
use crate::store::verify::Violation;
use sqlx::PgConnection;

pub(super) async fn finalized_connections_are_recorded(
    conn: &mut PgConnection,
    look: Look,
) -> Result<Vec<Violation>, sqlx::Error> {
    sqlx::query_as!(
        Violation,
        r#"
        SELECT c.id AS "connection_id?", c._account AS "account?",
               format('finalized at %s, and there is no last word', c._finalized_at) AS "detail!"
        FROM feather.integration_connections c
        WHERE c.ctid >= format('(%s,0)', $1::bigint)::tid AND c.ctid < format('(%s,0)', $2::bigint)::tid
          AND c._finalized_at IS NOT NULL
          AND (SELECT r.connection_id FROM feather.sync_results r WHERE r.connection_id = c.id) IS NULL
        LIMIT $3
        "#,
        look.first,
        look.end,
        look.limit
    )
    .fetch_all(conn)
    .await
}

pub(super) async fn connection_times_are_ordered(
    conn: &mut PgConnection,
    look: Look,
) -> Result<Vec<Violation>, sqlx::Error> {
    sqlx::query_as!(
        Violation,
        r#"
        SELECT c.id AS "connection_id?", c._account AS "account?",
               format('first seen %s, finalized %s, synced %s, changed %s, removed %s', c._first_seen_at,
                      COALESCE(c._finalized_at::text, 'never'), c._synced_at, c._changed_at,
                      COALESCE(c._removed_at::text, 'never')) AS "detail!"
        FROM feather.integration_connections c
        WHERE c.ctid >= format('(%s,0)', $1::bigint)::tid AND c.ctid < format('(%s,0)', $2::bigint)::tid
          AND (c._first_seen_at > LEAST(c._finalized_at, c._synced_at, c._changed_at, c._removed_at)
               OR c._finalized_at > c._synced_at
               OR c._removed_at > c._changed_at
               OR GREATEST(c._synced_at, c._changed_at) > now() + $4 * interval '1 second')
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

pub(super) async fn tools_have_connections(
    conn: &mut PgConnection,
    look: Look,
) -> Result<Vec<Violation>, sqlx::Error> {
    sqlx::query_as!(
        Violation,
        r#"
        WITH parents AS MATERIALIZED (
            SELECT t.connection_id, count(*) AS tools
            FROM feather.integration_connection_tools t
            WHERE t.ctid >= format('(%s,0)', $1::bigint)::tid AND t.ctid < format('(%s,0)', $2::bigint)::tid
            GROUP BY t.connection_id
        )
        SELECT p.connection_id AS "connection_id?", NULL::text AS account,
               format('%s tools, and there is no connection', p.tools) AS "detail!"
        FROM parents p
        WHERE (SELECT c.id FROM feather.integration_connections c WHERE c.id = p.connection_id) IS NULL
        LIMIT $3
        "#,
        look.first,
        look.end,
        look.limit
    )
    .fetch_all(conn)
    .await
}

pub(super) async fn tool_times_are_ordered(
    conn: &mut PgConnection,
    look: Look,
) -> Result<Vec<Violation>, sqlx::Error> {
    sqlx::query_as!(
        Violation,
        r#"
        SELECT t.connection_id AS "connection_id?", NULL::text AS account,
               format('tool %s: first seen %s, changed %s, removed %s', t.id, t._first_seen_at, t._changed_at,
                      COALESCE(t._removed_at::text, 'never')) AS "detail!"
        FROM feather.integration_connection_tools t
        WHERE t.ctid >= format('(%s,0)', $1::bigint)::tid AND t.ctid < format('(%s,0)', $2::bigint)::tid
          AND (t._first_seen_at > LEAST(t._changed_at, t._removed_at)
               OR t._removed_at > t._changed_at
               OR t._changed_at > now() + $4 * interval '1 second')
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

pub(super) async fn events_have_connections(
    conn: &mut PgConnection,
    look: Look,
) -> Result<Vec<Violation>, sqlx::Error> {
    sqlx::query_as!(
        Violation,
        r#"
        WITH told AS MATERIALIZED (
            SELECT e.connection_id, max(e.account) AS account, count(*) AS events
            FROM feather.sync_events e
            WHERE e.id >= $1 AND e.id < $2
            GROUP BY e.connection_id
        )
        SELECT t.connection_id AS "connection_id?", t.account AS "account?",
               format('%s events, and nothing else is known', t.events) AS "detail!"
        FROM told t
        WHERE (SELECT r.connection_id FROM feather.sync_results r WHERE r.connection_id = t.connection_id) IS NULL
          AND (SELECT c.id FROM feather.integration_connections c WHERE c.id = t.connection_id) IS NULL
        LIMIT $3
        "#,
        look.first * EVENTS_PER_PAGE,
        look.end * EVENTS_PER_PAGE,
        look.limit
    )
    .fetch_all(conn)
    .await
}
