//! Invariants of what the rows live in: the schema, the accounts, our sessions and locks.

use crate::store::verify::Look;
use crate::store::verify::Violation;
use sqlx::PgConnection;

/// Constraints of the schema by table, keys included.
pub(super) const CONSTRAINTS: [(&str, &str); 42] = [
    (
        "integration_connection_tools",
        "integration_connection_tools_pkey",
    ),
    ("integration_connections", "integration_connections_pkey"),
    ("sync_accounts", "account_is_named"),
    ("sync_accounts", "operator_pause_is_whole"),
    ("sync_accounts", "pace_is_a_share"),
    ("sync_accounts", "pause_is_whole"),
    ("sync_accounts", "pause_reason_is_known"),
    ("sync_accounts", "sync_accounts_pkey"),
    ("sync_actions", "action_is_known"),
    ("sync_actions", "counts_are_natural"),
    ("sync_actions", "end_is_whole"),
    ("sync_actions", "outcome_is_known"),
    ("sync_actions", "sync_actions_pkey"),
    ("sync_actions", "turn_is_whole"),
    ("sync_attempts", "finished_after_start"),
    ("sync_attempts", "kind_is_known"),
    ("sync_attempts", "outcome_is_known"),
    ("sync_attempts", "sync_attempts_pkey"),
    ("sync_audit", "sync_audit_pkey"),
    ("sync_counts", "sync_counts_pkey"),
    ("sync_events", "kind_is_known"),
    ("sync_events", "sync_events_pkey"),
    ("sync_jobs", "counts_are_natural"),
    ("sync_jobs", "dead_has_a_class"),
    ("sync_jobs", "phase_is_known"),
    ("sync_jobs", "running_means_leased"),
    ("sync_jobs", "settling_has_a_deadline"),
    ("sync_jobs", "settling_was_finalized"),
    ("sync_jobs", "sighting_is_whole"),
    ("sync_jobs", "state_is_known"),
    ("sync_jobs", "sync_jobs_pkey"),
    ("sync_reconciles", "outcome_is_known"),
    ("sync_reconciles", "sync_reconciles_pkey"),
    ("sync_reconciles", "turn_is_whole"),
    ("sync_refreshes", "sync_refreshes_pkey"),
    ("sync_replicas", "sync_replicas_pkey"),
    ("sync_requests", "account_is_named"),
    ("sync_requests", "requested_at_is_finite"),
    ("sync_requests", "run_at_is_finite"),
    ("sync_requests", "sync_requests_pkey"),
    ("sync_results", "sync_results_pkey"),
    ("sync_throughput", "sync_throughput_pkey"),
];

/// Indexes of the schema by table, those of keys aside.
pub(super) const INDEXES: [(&str, &str); 19] = [
    ("connection_versions", "connection_versions_id"),
    (
        "integration_connection_tools",
        "integration_connection_tools_changed",
    ),
    (
        "integration_connection_tools",
        "integration_connection_tools_disabled",
    ),
    (
        "integration_connection_tools",
        "integration_connection_tools_stale",
    ),
    ("integration_connections", "integration_connections_account"),
    ("integration_connections", "integration_connections_changed"),
    (
        "integration_connections",
        "integration_connections_integration",
    ),
    (
        "integration_connections",
        "integration_connections_nickname",
    ),
    ("sync_actions", "sync_actions_open"),
    ("sync_attempts", "sync_attempts_finished"),
    ("sync_audit", "sync_audit_at"),
    ("sync_events", "sync_events_connection"),
    ("sync_jobs", "sync_jobs_claim"),
    ("sync_jobs", "sync_jobs_dead"),
    ("sync_jobs", "sync_jobs_deaths"),
    ("sync_jobs", "sync_jobs_lease"),
    ("sync_requests", "sync_requests_connection"),
    ("sync_throughput", "sync_throughput_minute"),
    ("tool_versions", "tool_versions_id"),
];

pub(super) async fn schema_is_whole(
    conn: &mut PgConnection,
    look: Look,
) -> Result<Vec<Violation>, sqlx::Error> {
    let (tables, constraints): (Vec<_>, Vec<_>) = CONSTRAINTS.into_iter().unzip();
    let (indexed, indexes): (Vec<_>, Vec<_>) = INDEXES.into_iter().unzip();
    sqlx::query_as!(
        Violation,
        r#"
        SELECT NULL::uuid AS connection_id, NULL::text AS account, format('%s of %s is %s', e.what, e.relation, e.fault) AS "detail!"
        FROM (
            SELECT 'constraint ' || n.name AS what, n.relation,
                   CASE WHEN k.oid IS NULL THEN 'missing'
                        WHEN NOT k.convalidated OR NOT COALESCE(i.indisvalid, true) THEN 'not valid' END AS fault
            FROM unnest($1::text[], $2::text[]) AS n (relation, name)
            LEFT JOIN pg_catalog.pg_constraint k
                ON k.conrelid = to_regclass('feather.' || n.relation) AND k.conname = n.name
            LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = k.conindid AND k.contype IN ('p', 'u')
            UNION ALL
            SELECT 'index ' || n.name, n.relation,
                   CASE WHEN i.indexrelid IS NULL THEN 'missing' WHEN NOT i.indisvalid THEN 'not valid' END
            FROM unnest($3::text[], $4::text[]) AS n (relation, name)
            LEFT JOIN pg_catalog.pg_index i
                ON i.indexrelid = to_regclass('feather.' || n.name) AND i.indrelid = to_regclass('feather.' || n.relation)
        ) AS e
        WHERE e.fault IS NOT NULL
        LIMIT $5
        "#,
        &tables as _,
        &constraints as _,
        &indexed as _,
        &indexes as _,
        look.limit
    )
    .fetch_all(conn)
    .await
}

pub(super) async fn accounts_are_coherent(
    conn: &mut PgConnection,
    look: Look,
) -> Result<Vec<Violation>, sqlx::Error> {
    sqlx::query_as!(
        Violation,
        r#"
        SELECT NULL::uuid AS connection_id, f.account, f.list AS "detail!"
        FROM (
            SELECT a.account, concat_ws('; ',
                CASE WHEN (a.account <> '') IS NOT TRUE THEN 'without a name' END,
                CASE WHEN (a.pause_reason IS NULL) <> (a.paused_until IS NULL)
                       OR a.pause_reason IS NULL AND (a.pause_step <> 0 OR a.pause_error IS NOT NULL)
                     THEN format('paused for %s until %s, step %s', COALESCE(a.pause_reason, 'nothing'),
                                 COALESCE(a.paused_until::text, 'never'), a.pause_step) END,
                CASE WHEN (a.pause_step >= 0) IS NOT TRUE THEN format('pause step is %s', a.pause_step) END,
                CASE WHEN (a.operator_paused_at IS NULL) <> (a.operator_paused_by IS NULL)
                     THEN 'half an operator''s pause' END,
                CASE WHEN a.requests_per_minute < 1 THEN format('%s requests a minute', a.requests_per_minute) END,
                CASE WHEN a.tokens IN ('NaN', 'Infinity', '-Infinity') THEN format('%s tokens', a.tokens) END,
                CASE WHEN a.tokens_at > now() + $1 * interval '1 second'
                     THEN format('its budget was drawn from in the future, at %s', a.tokens_at) END
            ) AS list
            FROM feather.sync_accounts a
            UNION ALL
            SELECT 'default', 'missing' WHERE NOT EXISTS (SELECT FROM feather.sync_accounts WHERE account = 'default')
        ) AS f
        WHERE f.list <> ''
        ORDER BY f.account
        LIMIT $2
        "#,
        look.patience,
        look.limit
    )
    .fetch_all(conn)
    .await
}

/// What other users' sessions do is hidden from most users; these then count as brief.
pub(super) async fn sessions_are_brief(
    conn: &mut PgConnection,
    look: Look,
) -> Result<Vec<Violation>, sqlx::Error> {
    sqlx::query_as!(
        Violation,
        r#"
        SELECT NULL::uuid AS connection_id, NULL::text AS account,
               format('pid %s of user %s has been %s since %s', pid, usename, state, state_change) AS "detail!"
        FROM pg_catalog.pg_stat_activity
        WHERE application_name = 'feather-sync' AND datname = current_database()
          AND state IN ('idle in transaction', 'idle in transaction (aborted)')
          AND state_change < clock_timestamp() - $1 * interval '1 second'
        ORDER BY state_change
        LIMIT $2
        "#,
        look.patience,
        look.limit
    )
    .fetch_all(conn)
    .await
}

/// The lock of a producer's wake-up (key 1) lives as long as the producer's transaction, which is not ours to judge.
pub(super) async fn locks_are_brief(
    conn: &mut PgConnection,
    look: Look,
) -> Result<Vec<Violation>, sqlx::Error> {
    sqlx::query_as!(
        Violation,
        r#"
        SELECT NULL::uuid AS connection_id, NULL::text AS account,
               format('pid %s of user %s holds the lock for %s in a transaction that began at %s', a.pid, a.usename,
                      CASE l.objid WHEN 2 THEN 'taking in' WHEN 3 THEN 'counting' WHEN 4 THEN 'lists and forget'
                                   WHEN 5 THEN 'the change feed' ELSE 'partitions' END, a.xact_start) AS "detail!"
        FROM pg_catalog.pg_locks l
        JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'advisory' AND l.classid = 7305801 AND l.objid IN (2, 3, 4, 5, 7) AND l.objsubid = 2 AND l.granted
          AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
          AND a.xact_start < clock_timestamp() - 2 * $1::float8 * interval '1 second'
        ORDER BY a.xact_start
        LIMIT $2
        "#,
        look.patience,
        look.limit
    )
    .fetch_all(conn)
    .await
}
