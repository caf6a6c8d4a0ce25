-- Rows in every table and every state, in the columns of the first release.
INSERT INTO feather.sync_requests (connection_id, account, priority, run_at, requested_by) VALUES
    ('00000000-0000-4000-8000-000000000001', 'default', -5, '2026-01-02 03:04:05.678901+00', 'a producer'),
    ('00000000-0000-4000-8000-000000000001', 'nobody', 32767, '9999-12-31 00:00:00+00', NULL),
    ('00000000-0000-4000-8000-000000000002', 'default', 0, '2026-01-02 00:00:00+00', 'another');

-- Waiting; held back by the server; settling; seen once; running in both phases; dead in both phases.
INSERT INTO feather.sync_jobs
    (connection_id, account, state, phase, priority, run_at, not_before, wanted_at, attempt, malformed, worker, lease_token,
     lease_until, started_at, finalize_started_at, settle_deadline, settle_polls, seen_fingerprint, seen_at, error_class)
SELECT ('00000000-0000-4000-8000-00000000001' || n)::uuid, CASE WHEN n = 0 THEN 'nobody' ELSE 'default' END, state, phase, n,
       t, CASE WHEN n = 1 THEN t + interval '1 hour' END, t, CASE WHEN n = 0 THEN 0 ELSE n END, n % 3,
       CASE WHEN state = 'running' THEN 'host-1-abc' END,
       CASE WHEN state = 'running' THEN ('00000000-0000-4000-8000-0000000000a' || n)::uuid END,
       CASE WHEN state = 'running' THEN t + interval '90 seconds' END,
       CASE WHEN n > 0 THEN t END, CASE WHEN n > 0 THEN t END,
       CASE WHEN phase = 'settle' THEN t + interval '1 hour' END, CASE WHEN phase = 'settle' THEN n ELSE 0 END,
       CASE WHEN n = 3 THEN '\x00ff'::bytea END, CASE WHEN n = 3 THEN t END, class
FROM (VALUES (0, 'pending', 'finalize', NULL), (1, 'pending', 'finalize', NULL), (2, 'pending', 'settle', NULL),
             (3, 'pending', 'settle', NULL), (4, 'running', 'finalize', NULL), (5, 'running', 'settle', NULL),
             (6, 'dead', 'finalize', 'invalid_request'), (7, 'dead', 'settle', 'settle_timeout'))
     AS job (n, state, phase, class), (VALUES ('2026-01-02 03:04:05.678901+00'::timestamptz)) AS time (t);

INSERT INTO feather.integration_connections
    (id, organization_id, integration_key, nickname_slug, nickname, vendor, vendor_connection_id, status, tools_status,
     tools_synced_at, status_reason, connected_at, last_refreshed_at, last_used_at, metadata, voice_account_cps, created_at,
     updated_at, _account, _extra, _warnings, _first_seen_at, _finalized_at, _synced_at, _changed_at, _removed_at, _hash)
SELECT ('00000000-0000-4000-8000-00000000002' || n)::uuid, '00000000-0000-4000-8000-0000000000ff', 'slack', 'größe', 'Größe "✓"',
       'nango', CASE WHEN n = 1 THEN 'v-1' END, 'active', 'synced', t, NULL, t, NULL, t,
       '{"deep": [1, 12345678901234567890123.4567890, null]}', 0.30000000000000004, t, t, 'default', '{"new_field": true}',
       CASE WHEN n = 1 THEN '["metadata: a NUL was replaced"]'::jsonb END, t, CASE WHEN n = 0 THEN t END, t, t,
       CASE WHEN n = 2 THEN t END, '\x0102'
FROM generate_series(0, 2) AS n, (VALUES ('2026-01-02 03:04:05.678901+00'::timestamptz)) AS time (t);

INSERT INTO feather.integration_connection_tools
    (connection_id, id, organization_id, integration_key, nickname_slug, tool_path, slug, display_name, description,
     input_schema, response_schema, response_field_map, input_defaults, is_enabled, last_seen_at, created_at, updated_at,
     stale_field_paths, default_count, pinned_count, stale_input_fields, merged_input_preview, _extra, _warnings,
     _first_seen_at, _changed_at, _removed_at, _hash)
SELECT ('00000000-0000-4000-8000-00000000002' || n)::uuid, ('00000000-0000-4000-8000-00000000003' || m)::uuid,
       '00000000-0000-4000-8000-0000000000ff', 'slack', 'größe', 'chat.postMessage', 'größe_send', 'Send', NULL,
       '{"type": "object"}', NULL, '{}', '{"a": {"value": 1e40, "type": "number"}}', m = 0, t, t, t,
       '{a.b,"c d"}', 9007199254740993, 0, '{}', 'null', '{}', NULL, t, t, CASE WHEN m = 1 THEN t END, '\x03'
FROM generate_series(0, 2) AS n, generate_series(0, 1) AS m, (VALUES ('2026-01-02 03:04:05.678901+00'::timestamptz)) AS time (t);

INSERT INTO feather.sync_attempts
    (account, connection_id, kind, attempt, worker, started_at, finished_at, outcome, http_status, error_class, error,
     retry_at, tools_status, tools_added, tools_changed, tools_removed, upstream_request_id)
SELECT 'default', '00000000-0000-4000-8000-000000000020', kind, 1, 'host-1-abc', t, t + interval '1 second', outcome,
       CASE outcome WHEN 'synced' THEN 200 WHEN 'retry' THEN 503 END, class, class || ' in words', CASE WHEN outcome = 'retry' THEN t END,
       CASE WHEN outcome = 'synced' THEN 'synced' END, 1, 2, 3, 'req-1'
FROM (VALUES ('finalize', 'synced', NULL), ('finalize', 'settling', NULL), ('poll', 'retry', 'upstream'),
             ('poll', 'dead', 'settle_timeout'), ('finalize', 'deferred', 'rate_limited'), ('finalize', 'crashed', 'lease_lost'),
             ('reconcile', 'cancelled', NULL)) AS attempt (kind, outcome, class),
     (VALUES ('2026-01-02 03:04:05.678901+00'::timestamptz)) AS time (t);

INSERT INTO feather.sync_results
    (connection_id, account, last_attempt_at, last_outcome, last_success_at, last_success_started_at, last_error_class, last_error)
VALUES ('00000000-0000-4000-8000-000000000020', 'default', '2026-01-02 03:04:05+00', 'synced', '2026-01-02 03:04:05+00',
        '2026-01-02 03:04:04+00', NULL, NULL),
       ('00000000-0000-4000-8000-000000000016', 'default', '2026-01-02 03:04:05+00', 'dead', NULL, NULL, 'invalid_request', 'no');

INSERT INTO feather.sync_throughput (account, minute, worker, synced, failed)
VALUES ('default', '2026-01-02 03:04:00+00', 'host-1-abc', 3, 4);

-- As configured; paused by the API in both ways; paused by an operator.
UPDATE feather.sync_accounts SET requests_per_minute = 3000, configured_at = '2026-01-02 03:04:05+00', tokens = 7.25,
       tokens_at = '2026-01-02 03:04:05+00' WHERE account = 'default';
INSERT INTO feather.sync_accounts
    (account, requests_per_minute, configured_at, tokens, tokens_at, pause_reason, paused_until, pause_step, pause_error,
     operator_paused_at, operator_paused_by)
VALUES ('revoked', 10, '2026-01-02 03:04:05+00', 0, '2026-01-02 03:04:05+00', 'auth', '2026-01-02 03:05:05+00', 4, '401', NULL, NULL),
       ('limited', 60, NULL, 1, '2026-01-02 03:04:05+00', 'rate_limited', '2026-01-02 03:05:05+00', 0, NULL, NULL, NULL),
       ('stopped', NULL, NULL, 0, 'epoch', NULL, NULL, 0, NULL, '2026-01-02 03:04:05+00', 'somebody');

INSERT INTO feather.sync_replicas (worker, version, accounts, started_at, seen_at)
VALUES ('host-1-abc', '0.1.0', '{default,revoked}', '2026-01-02 03:04:05+00', '2026-01-02 03:04:05+00');

INSERT INTO feather.sync_counts
    (account, pending_finalize, pending_settle, running_finalize, running_settle, dead_finalize, dead_settle, due,
     oldest_due_at, requests_waiting, as_of)
VALUES ('default', 1, 2, 1, 1, 1, 1, 3, '2026-01-02 03:04:05+00', 2, '2026-01-02 03:04:05+00');

INSERT INTO feather.sync_audit (at, actor, action, account, connection_id, detail)
VALUES ('2026-01-02 03:04:05+00', 'somebody', 'cancel', NULL, '00000000-0000-4000-8000-000000000001', 'in words');
