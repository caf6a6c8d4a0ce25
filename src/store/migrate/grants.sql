-- Who may do what. Run by every `migrate` in which the three roles exist; saying it twice changes nothing.
GRANT USAGE ON SCHEMA feather TO feather_worker, feather_enqueuer, feather_reporter;

GRANT SELECT, INSERT, UPDATE, DELETE ON
    feather.sync_requests, feather.sync_jobs, feather.integration_connections, feather.integration_connection_tools,
    feather.sync_attempts, feather.sync_results, feather.sync_throughput, feather.sync_accounts,
    feather.sync_replicas, feather.sync_counts, feather.sync_audit, feather.sync_reconciles, feather.sync_refreshes,
    feather.sync_actions, feather.sync_events, feather.connection_versions, feather.tool_versions
    TO feather_worker;
GRANT SELECT ON
    feather.connections, feather.tools, feather.sync_status, feather.sync_health, feather.sync_counts_now,
    feather.sync_served_accounts, feather.sync_minutes, feather.connection_history,
    feather.tool_history, feather._sqlx_migrations
    TO feather_worker;

REVOKE EXECUTE ON FUNCTION
    feather.enqueue(uuid, text, integer, timestamptz), feather.enqueue_many(uuid[], text, integer, timestamptz),
    feather.wake_worker(), feather.time_to_sync_bounds(), feather.histogram_add(bigint[], bigint[]),
    feather.histogram_sum(bigint[]), feather.counts_add(jsonb, jsonb), feather.counts_sum(jsonb),
    feather.time_to_sync_percentile(bigint[], double precision), feather.connections_as_of(timestamptz),
    feather.tools_as_of(timestamptz), feather.partition_bounds(text), feather.keep_partitions(text, interval)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION feather.keep_partitions(text, interval) TO feather_worker;
-- Whether rows lie where no partition covers them.
GRANT SELECT ON
    feather.sync_attempts_default, feather.sync_throughput_default, feather.sync_events_default,
    feather.connection_versions_default, feather.tool_versions_default
    TO feather_worker;
GRANT EXECUTE ON FUNCTION
    feather.enqueue(uuid, text, integer, timestamptz), feather.enqueue_many(uuid[], text, integer, timestamptz)
    TO feather_worker, feather_enqueuer;
GRANT EXECUTE ON FUNCTION
    feather.time_to_sync_bounds(), feather.histogram_add(bigint[], bigint[]), feather.histogram_sum(bigint[]),
    feather.counts_add(jsonb, jsonb), feather.counts_sum(jsonb),
    feather.time_to_sync_percentile(bigint[], double precision), feather.connections_as_of(timestamptz),
    feather.tools_as_of(timestamptz), feather.partition_bounds(text)
    TO feather_worker, feather_reporter;

-- RETURNING id needs to see the id, and nothing else.
GRANT INSERT ON feather.sync_requests TO feather_enqueuer;
GRANT SELECT (id) ON feather.sync_requests TO feather_enqueuer;
GRANT SELECT ON feather.sync_status TO feather_enqueuer;

GRANT SELECT ON
    feather.integration_connections, feather.integration_connection_tools, feather.sync_attempts,
    feather.connections, feather.tools, feather.sync_status, feather.sync_health,
    feather.sync_minutes, feather.sync_events, feather.connection_history, feather.tool_history,
    feather.connection_versions, feather.tool_versions
    TO feather_reporter;

-- Names in them mean what they meant to us, whatever stands first in the caller's search_path; pg_temp would, unless named.
ALTER FUNCTION feather.enqueue(uuid, text, integer, timestamptz) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION feather.enqueue_many(uuid[], text, integer, timestamptz) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION feather.wake_worker() SET search_path = pg_catalog, pg_temp;
