-- 1 synced, with a removed tool; 2 waits after two failures and a refusal; 3 dead; 4 settling; 5 and 6 running, 6 for the
-- third time after a crash; 7 cancelled; 8 dead after its last lease ran out; 9 removed, its last word a 404.
CREATE FUNCTION id(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS
    $$ SELECT ('fea70000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;

INSERT INTO feather.integration_connections
    (id, organization_id, integration_key, nickname_slug, nickname, vendor, status, tools_status, tools_synced_at, metadata,
     created_at, updated_at, _account, _first_seen_at, _finalized_at, _synced_at, _changed_at, _removed_at, _hash)
SELECT id(n), id(0), 'slack', 'crm', 'CRM', 'nango', 'active', 'synced', now(), '{}', now(), now(), 'default',
       now() - interval '20 min', now() - interval '15 min', now() - interval '10 min', now() - interval '10 min',
       CASE WHEN n = 9 THEN now() - interval '10 min' END, ''
FROM unnest(ARRAY[1, 4, 9]) AS n;

INSERT INTO feather.integration_connection_tools
    (connection_id, id, organization_id, integration_key, nickname_slug, tool_path, slug, display_name, input_schema,
     is_enabled, last_seen_at, created_at, updated_at, stale_field_paths, default_count, pinned_count, stale_input_fields,
     merged_input_preview, _first_seen_at, _changed_at, _removed_at, _hash)
SELECT id(1), id(n), id(0), 'slack', 'crm', 'p', 's', 'd', '{}', true, now(), now(), now(), '{}', 0, 0, '{}', '{}',
       now() - interval '20 min', now() - interval '15 min', CASE WHEN n = 11 THEN now() - interval '15 min' END, ''
FROM generate_series(10, 11) AS n;

INSERT INTO feather.sync_attempts
    (account, connection_id, kind, attempt, worker, started_at, finished_at, outcome, http_status, error_class, error,
     retry_at, tools_status)
SELECT 'default', id(n), kind, attempt, 'w', at - interval '1 s', at, outcome, status, class, class,
       CASE WHEN next THEN at + interval '1 min' END, CASE WHEN outcome IN ('synced', 'settling') THEN 'synced' END
FROM (VALUES (1, 'finalize', 1, 15, 'settling', 200, NULL, true), (1, 'poll', 1, 10, 'synced', 200, NULL, false),
             (2, 'finalize', 1, 25, 'retry', 503, 'upstream', true), (2, 'finalize', 2, 20, 'crashed', NULL, 'lease_lost', true),
             (2, 'finalize', 3, 10, 'deferred', 401, 'auth', true),
             (3, 'finalize', 1, 10, 'dead', 400, 'invalid_request', false), (4, 'finalize', 1, 10, 'settling', 200, NULL, true),
             (6, 'finalize', 1, 10, 'retry', 503, 'upstream', true), (6, 'finalize', 2, 8, 'crashed', NULL, 'lease_lost', true),
             (7, 'finalize', 0, 10, 'cancelled', NULL, NULL, false),
             (8, 'finalize', 1, 10, 'crashed', NULL, 'lease_lost', false),
             (9, 'finalize', 1, 12, 'synced', 200, NULL, false), (9, 'finalize', 1, 10, 'dead', 404, 'not_found', false))
     AS v (n, kind, attempt, minutes, outcome, status, class, next)
CROSS JOIN LATERAL (SELECT now() - minutes * interval '1 min' AS at) AS t;
UPDATE feather.sync_attempts SET error = 'cancelled by me' WHERE outcome = 'cancelled';

INSERT INTO feather.sync_results
    (connection_id, account, last_attempt_at, last_outcome, last_error_class, last_error, last_success_at, last_success_started_at)
SELECT DISTINCT ON (connection_id) connection_id, account, finished_at, outcome, error_class, error,
       CASE WHEN connection_id IN (id(1), id(9)) THEN now() - interval '10 min' END,
       CASE WHEN connection_id IN (id(1), id(9)) THEN now() - interval '15 min' END
FROM feather.sync_attempts ORDER BY connection_id, id DESC;

INSERT INTO feather.sync_jobs
    (connection_id, account, state, phase, priority, run_at, not_before, wanted_at, attempt, malformed, worker,
     lease_token, lease_until, started_at, finalize_started_at, settle_deadline, settle_polls, seen_fingerprint, seen_at,
     error_class)
SELECT id(n), 'default', state, phase, 0, now(), NULL, now() - interval '30 min', attempt, 0,
       CASE WHEN state = 'running' THEN 'w' END, CASE WHEN state = 'running' THEN gen_random_uuid() END,
       CASE WHEN state = 'running' THEN now() + interval '1 hour' END, now() - interval '1 min', now() - interval '1 min',
       CASE WHEN phase = 'settle' THEN now() + interval '1 hour' END, 0,
       CASE WHEN phase = 'settle' THEN '\x00'::bytea END, CASE WHEN phase = 'settle' THEN now() - interval '10 min' END, class
FROM (VALUES (2, 'pending', 'finalize', 2, NULL), (3, 'dead', 'finalize', 1, 'invalid_request'),
             (4, 'pending', 'settle', 0, NULL), (5, 'running', 'finalize', 1, NULL), (6, 'running', 'finalize', 3, NULL),
             (8, 'dead', 'finalize', 1, 'lease_lost'), (9, 'dead', 'finalize', 1, 'not_found'))
     AS v (n, state, phase, attempt, class);
