-- What readers see. Columns are listed, never `*`: a view's columns are a promise.
SET LOCAL lock_timeout = '5s';

CREATE VIEW feather.connections AS
SELECT id, organization_id, integration_key, nickname_slug, nickname, vendor, vendor_connection_id, status, tools_status,
       tools_synced_at, status_reason, connected_at, last_refreshed_at, last_used_at, metadata, voice_account_cps,
       created_at, updated_at, _account, _extra, _warnings, _first_seen_at, _finalized_at, _synced_at, _changed_at,
       _removed_at, _hash
FROM feather.integration_connections
WHERE _removed_at IS NULL;
COMMENT ON VIEW feather.connections IS 'Connections that exist upstream, as last received.';

CREATE VIEW feather.tools AS
SELECT t.connection_id, t.id, t.organization_id, t.integration_key, t.nickname_slug, t.tool_path, t.slug, t.display_name,
       t.description, t.input_schema, t.response_schema, t.response_field_map, t.input_defaults, t.is_enabled,
       t.last_seen_at, t.created_at, t.updated_at, t.stale_field_paths, t.default_count, t.pinned_count,
       t.stale_input_fields, t.merged_input_preview, t._extra, t._warnings, t._first_seen_at, t._changed_at,
       t._removed_at, t._hash,
       c.nickname AS connection_nickname, c.status AS connection_status, c.tools_status AS connection_tools_status,
       c._synced_at AS connection_synced_at, c._account
FROM feather.integration_connection_tools t
JOIN feather.integration_connections c ON c.id = t.connection_id
WHERE t._removed_at IS NULL AND c._removed_at IS NULL;
COMMENT ON VIEW feather.tools IS 'Tools that exist, of connections that exist, with what reports need of the connection.';
COMMENT ON COLUMN feather.tools.connection_nickname IS 'nickname of the connection.';
COMMENT ON COLUMN feather.tools.connection_status IS 'status of the connection.';
COMMENT ON COLUMN feather.tools.connection_tools_status IS 'tools_status of the connection.';
COMMENT ON COLUMN feather.tools.connection_synced_at IS 'When the connection was last checked successfully.';
COMMENT ON COLUMN feather.tools._account IS 'Account of the daemon that received the connection.';

-- The other columns of the two views mean what they mean in their tables.
DO $$
DECLARE
    col record;
BEGIN
    FOR col IN
        SELECT v.relname AS view_name, a.attname AS column_name, pg_catalog.col_description(t.oid, b.attnum) AS meaning
        FROM (VALUES ('connections', 'integration_connections'), ('tools', 'integration_connection_tools')) AS pair (v, t)
        JOIN pg_catalog.pg_class v ON v.oid = ('feather.' || pair.v)::pg_catalog.regclass
        JOIN pg_catalog.pg_class t ON t.oid = ('feather.' || pair.t)::pg_catalog.regclass
        JOIN pg_catalog.pg_attribute a ON a.attrelid = v.oid AND a.attnum > 0
        JOIN pg_catalog.pg_attribute b ON b.attrelid = t.oid AND b.attname = a.attname
    LOOP
        EXECUTE pg_catalog.format('COMMENT ON COLUMN feather.%I.%I IS %L', col.view_name, col.column_name, col.meaning);
    END LOOP;
END $$;

-- With no daemon alive, an account that was ever configured counts as served: it is stopped, not unknown.
CREATE VIEW feather.sync_served_accounts AS
WITH alive AS MATERIALIZED (
    SELECT accounts FROM feather.sync_replicas WHERE seen_at > now() - interval '45 seconds'
)
SELECT DISTINCT pg_catalog.unnest(accounts) AS account FROM alive
UNION
SELECT account FROM feather.sync_accounts
WHERE NOT EXISTS (SELECT FROM alive) AND (configured_at IS NOT NULL OR account = 'default');
COMMENT ON VIEW feather.sync_served_accounts IS 'Accounts that a live replica serves.';
COMMENT ON COLUMN feather.sync_served_accounts.account IS 'Account.';

CREATE VIEW feather.sync_status AS
SELECT COALESCE(j.account, q.account, r.account, c._account) AS account,
       k.connection_id,
       CASE WHEN j.state IN ('pending', 'running') THEN j.state
            WHEN q.connection_id IS NOT NULL THEN 'requested'
            WHEN j.state = 'dead' THEN 'dead'
            ELSE 'idle' END AS state,
       CASE WHEN j.state IN ('pending', 'running') THEN j.phase
            WHEN q.connection_id IS NOT NULL THEN 'finalize'
            ELSE j.phase END AS phase,
       COALESCE(j.attempt, 0) AS attempt,
       CASE WHEN j.state = 'pending' THEN GREATEST(j.run_at, CASE WHEN a.pause_reason IS NOT NULL THEN a.paused_until END)
            WHEN j.state = 'running' THEN NULL
            ELSE q.run_at END AS next_attempt_at,
       LEAST(j.priority, q.priority) AS priority,
       c.status,
       c.tools_status,
       c.tools_synced_at,
       r.last_attempt_at,
       r.last_outcome,
       r.last_success_at,
       r.last_success_started_at,
       CASE WHEN waits_unserved.yes THEN 'unknown_account' ELSE r.last_error_class END AS last_error_class,
       CASE WHEN waits_unserved.yes
            THEN pg_catalog.format('no running feather-sync knows account %s: add [accounts.%s] to its configuration, or enqueue for another account',
                                   COALESCE(j.account, q.account), COALESCE(j.account, q.account))
            ELSE r.last_error END AS last_error
FROM (SELECT connection_id FROM feather.sync_results
      UNION SELECT connection_id FROM feather.sync_jobs
      UNION SELECT connection_id FROM feather.sync_requests
      UNION SELECT id FROM feather.integration_connections) AS k (connection_id)
LEFT JOIN feather.sync_jobs j ON j.connection_id = k.connection_id
LEFT JOIN (SELECT connection_id, min(run_at) AS run_at, min(priority) AS priority,
                  (array_agg(account ORDER BY id DESC))[1] AS account
           FROM feather.sync_requests GROUP BY connection_id) q ON q.connection_id = k.connection_id
LEFT JOIN feather.sync_results r ON r.connection_id = k.connection_id
LEFT JOIN feather.integration_connections c ON c.id = k.connection_id
LEFT JOIN feather.sync_accounts a ON a.account = j.account
CROSS JOIN LATERAL (
    SELECT COALESCE(j.state = 'pending', q.connection_id IS NOT NULL)
           AND COALESCE(j.account, q.account) NOT IN (SELECT s.account FROM feather.sync_served_accounts s) AS yes
) AS waits_unserved;
COMMENT ON VIEW feather.sync_status IS 'One row per connection that the queue or the tables know: where it stands and how it went.';
COMMENT ON COLUMN feather.sync_status.account IS 'Account of the job, request or connection.';
COMMENT ON COLUMN feather.sync_status.connection_id IS 'The connection.';
COMMENT ON COLUMN feather.sync_status.state IS 'requested (request not yet taken in), pending, running, dead or idle (nothing queued).';
COMMENT ON COLUMN feather.sync_status.phase IS 'finalize or settle; null when idle.';
COMMENT ON COLUMN feather.sync_status.attempt IS 'Attempts counted so far.';
COMMENT ON COLUMN feather.sync_status.next_attempt_at IS 'When the next attempt is due.';
COMMENT ON COLUMN feather.sync_status.priority IS 'Smaller runs sooner.';
COMMENT ON COLUMN feather.sync_status.status IS 'status of the connection as last received.';
COMMENT ON COLUMN feather.sync_status.tools_status IS 'tools_status of the connection as last received.';
COMMENT ON COLUMN feather.sync_status.tools_synced_at IS 'tools_synced_at of the connection as last received.';
COMMENT ON COLUMN feather.sync_status.last_attempt_at IS 'When the last attempt ended.';
COMMENT ON COLUMN feather.sync_status.last_outcome IS 'How the last attempt ended.';
COMMENT ON COLUMN feather.sync_status.last_success_at IS 'When the connection was last synced, tools settled.';
COMMENT ON COLUMN feather.sync_status.last_success_started_at IS 'Later than your commit means that your request has been served.';
COMMENT ON COLUMN feather.sync_status.last_error_class IS 'Class of the last attempt''s failure, or unknown_account while no replica serves the account; null when all is well.';
COMMENT ON COLUMN feather.sync_status.last_error IS 'The same in words.';

-- Counts of now. sync_health falls back on it where no daemon refreshes the cached ones.
CREATE VIEW feather.sync_counts_now AS
WITH jobs AS (
    SELECT account,
           count(*) FILTER (WHERE state = 'pending' AND phase = 'finalize') AS pending_finalize,
           count(*) FILTER (WHERE state = 'pending' AND phase = 'settle')   AS pending_settle,
           count(*) FILTER (WHERE state = 'running' AND phase = 'finalize') AS running_finalize,
           count(*) FILTER (WHERE state = 'running' AND phase = 'settle')   AS running_settle,
           count(*) FILTER (WHERE state = 'dead' AND phase = 'finalize')    AS dead_finalize,
           count(*) FILTER (WHERE state = 'dead' AND phase = 'settle')      AS dead_settle,
           count(*) FILTER (WHERE state = 'pending' AND run_at <= now())    AS due,
           min(run_at) FILTER (WHERE state = 'pending' AND run_at <= now()) AS oldest_due_at
    FROM feather.sync_jobs GROUP BY account
), requests AS (
    SELECT account, count(*) AS waiting FROM feather.sync_requests GROUP BY account
)
SELECT k.account,
       COALESCE(j.pending_finalize, 0) AS pending_finalize,
       COALESCE(j.pending_settle, 0)   AS pending_settle,
       COALESCE(j.running_finalize, 0) AS running_finalize,
       COALESCE(j.running_settle, 0)   AS running_settle,
       COALESCE(j.dead_finalize, 0)    AS dead_finalize,
       COALESCE(j.dead_settle, 0)      AS dead_settle,
       COALESCE(j.due, 0)              AS due,
       j.oldest_due_at,
       COALESCE(r.waiting, 0)          AS requests_waiting,
       now()                           AS as_of
FROM (SELECT account FROM feather.sync_accounts UNION SELECT account FROM jobs UNION SELECT account FROM requests) AS k
LEFT JOIN jobs j USING (account)
LEFT JOIN requests r USING (account);
COMMENT ON VIEW feather.sync_counts_now IS 'Counts of the queue as of now; reads the whole queue.';

DO $$
DECLARE
    col record;
BEGIN
    FOR col IN
        SELECT a.attname AS column_name, pg_catalog.col_description('feather.sync_counts'::pg_catalog.regclass, a.attnum) AS meaning
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = 'feather.sync_counts'::pg_catalog.regclass AND a.attnum > 0
    LOOP
        EXECUTE pg_catalog.format('COMMENT ON COLUMN feather.sync_counts_now.%I IS %L', col.column_name, col.meaning);
    END LOOP;
END $$;

CREATE VIEW feather.sync_health AS
WITH fresh AS MATERIALIZED (
    SELECT * FROM feather.sync_counts WHERE as_of > now() - interval '15 seconds'
), counts AS (
    SELECT account, pending_finalize, pending_settle, running_finalize, running_settle, dead_finalize, dead_settle, due,
           oldest_due_at, requests_waiting, as_of FROM fresh
    UNION ALL
    SELECT account, pending_finalize, pending_settle, running_finalize, running_settle, dead_finalize, dead_settle, due,
           oldest_due_at, requests_waiting, as_of FROM feather.sync_counts_now WHERE NOT EXISTS (SELECT FROM fresh)
), hour AS (
    SELECT account, sum(synced)::bigint AS synced, sum(failed)::bigint AS failed
    FROM feather.sync_throughput WHERE minute > now() - interval '1 hour' GROUP BY account
)
SELECT c.account,
       c.pending_finalize + c.pending_settle AS pending,
       c.due,
       c.running_finalize + c.running_settle AS running,
       c.pending_settle + c.running_settle   AS settling,
       c.dead_finalize + c.dead_settle       AS dead,
       c.requests_waiting,
       COALESCE(EXTRACT(epoch FROM now() - c.oldest_due_at), 0)::double precision AS oldest_due_seconds,
       CASE WHEN a.operator_paused_at IS NOT NULL THEN 'operator'
            WHEN c.account NOT IN (SELECT s.account FROM feather.sync_served_accounts s) THEN 'unknown_account'
            ELSE a.pause_reason END AS paused_reason,
       COALESCE(h.synced, 0) AS synced_last_hour,
       COALESCE(h.failed, 0) AS failed_last_hour,
       c.as_of
FROM counts c
LEFT JOIN feather.sync_accounts a ON a.account = c.account
LEFT JOIN hour h ON h.account = c.account;
COMMENT ON VIEW feather.sync_health IS 'One row per account that is configured or known: the queue at a glance, from counts at most 15 s old.';
COMMENT ON COLUMN feather.sync_health.account IS 'Account.';
COMMENT ON COLUMN feather.sync_health.pending IS 'Jobs that wait, due or not, settling ones included.';
COMMENT ON COLUMN feather.sync_health.due IS 'Jobs that wait and are due.';
COMMENT ON COLUMN feather.sync_health.running IS 'Calls under way.';
COMMENT ON COLUMN feather.sync_health.settling IS 'Finalized connections whose tools upstream is still syncing.';
COMMENT ON COLUMN feather.sync_health.dead IS 'Jobs given up; revive them with retry.';
COMMENT ON COLUMN feather.sync_health.requests_waiting IS 'Requests not yet taken in.';
COMMENT ON COLUMN feather.sync_health.oldest_due_seconds IS 'For how long the oldest due job has been due, in seconds; 0 when none is.';
COMMENT ON COLUMN feather.sync_health.paused_reason IS 'operator, unknown_account, auth or rate_limited; null when the account works.';
COMMENT ON COLUMN feather.sync_health.synced_last_hour IS 'Attempts that ended synced in the last hour.';
COMMENT ON COLUMN feather.sync_health.failed_last_hour IS 'Attempts that ended retry, dead or crashed in the last hour.';
COMMENT ON COLUMN feather.sync_health.as_of IS 'When the queue was counted.';
