-- no-transaction
-- Tools that have become old are refreshed: a call of its own, made for a phase of its own, with a part of the budget.
--
-- In steps, each in a transaction of its own: whoever reads a view locks it first and its tables then, and would wait for a
-- table whose owner waits for the view. What was done can be done again.
BEGIN;
SET LOCAL lock_timeout = '2s';

-- To the outside a refresh is the beginning of a settle.
CREATE OR REPLACE VIEW feather.sync_counts_now AS
WITH jobs AS (
    SELECT account,
           count(*) FILTER (WHERE state = 'pending' AND phase = 'finalize')  AS pending_finalize,
           count(*) FILTER (WHERE state = 'pending' AND phase <> 'finalize') AS pending_settle,
           count(*) FILTER (WHERE state = 'running' AND phase = 'finalize')  AS running_finalize,
           count(*) FILTER (WHERE state = 'running' AND phase <> 'finalize') AS running_settle,
           count(*) FILTER (WHERE state = 'dead' AND phase = 'finalize')     AS dead_finalize,
           count(*) FILTER (WHERE state = 'dead' AND phase <> 'finalize')    AS dead_settle,
           count(*) FILTER (WHERE state = 'pending' AND run_at <= now())     AS due,
           min(run_at) FILTER (WHERE state = 'pending' AND run_at <= now())  AS oldest_due_at
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
COMMIT;

BEGIN;
SET LOCAL lock_timeout = '2s';
CREATE OR REPLACE VIEW feather.sync_status AS
SELECT COALESCE(j.account, q.account, r.account, c._account) AS account,
       k.connection_id,
       CASE WHEN j.state IN ('pending', 'running') THEN j.state
            WHEN q.connection_id IS NOT NULL THEN 'requested'
            WHEN j.state = 'dead' THEN 'dead'
            ELSE 'idle' END AS state,
       CASE WHEN j.state IN ('pending', 'running') AND j.phase = 'refresh' THEN 'settle'
            WHEN j.state IN ('pending', 'running') THEN j.phase
            WHEN q.connection_id IS NOT NULL THEN 'finalize'
            WHEN j.phase = 'refresh' THEN 'settle'
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
COMMENT ON COLUMN feather.sync_status.phase IS 'finalize, or settle (tools are being refreshed or followed); null when idle.';
COMMIT;

BEGIN;
SET LOCAL lock_timeout = '2s';
ALTER TABLE feather.sync_jobs DROP CONSTRAINT IF EXISTS phase_is_known;
-- A version that does not know the phase looks for its own ones, and leaves such a row alone.
ALTER TABLE feather.sync_jobs ADD CONSTRAINT phase_is_known CHECK (phase IN ('finalize', 'settle', 'refresh')) NOT VALID;
COMMENT ON COLUMN feather.sync_jobs.phase IS 'What the next call is: finalize (POST finalize), settle (GET, until the tools have settled) or refresh (POST refresh-tools).';
COMMENT ON COLUMN feather.sync_jobs.finalize_started_at IS 'When the finalize attempt that is being followed was claimed; of a job that no request asked for, wanted_at.';
COMMIT;

BEGIN;
SET LOCAL lock_timeout = '2s';
-- Reads all rows, and keeps nobody from writing meanwhile.
ALTER TABLE feather.sync_jobs VALIDATE CONSTRAINT phase_is_known;
COMMIT;

BEGIN;
SET LOCAL lock_timeout = '2s';
ALTER TABLE feather.sync_jobs ADD COLUMN IF NOT EXISTS asked_priority smallint;
COMMENT ON COLUMN feather.sync_jobs.asked_priority IS 'Of a job that was moved behind fresh work by a failure: the priority before, which its polls have again; else null.';
COMMIT;

BEGIN;
SET LOCAL lock_timeout = '2s';
ALTER TABLE feather.sync_accounts
    ADD COLUMN IF NOT EXISTS spare_tokens double precision NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS spare_at     timestamptz      NOT NULL DEFAULT 'epoch';
COMMENT ON COLUMN feather.sync_accounts.spare_tokens IS 'The part of the budget that refreshes may use, as of spare_at; less than nothing after polls that nobody asked for.';
COMMENT ON COLUMN feather.sync_accounts.spare_at IS 'When spare_tokens was last brought up to date; single calls, which move tokens_at, leave it.';
COMMIT;

BEGIN;
SET LOCAL lock_timeout = '2s';
CREATE TABLE IF NOT EXISTS feather.sync_refreshes (
    account text        PRIMARY KEY,
    due_at  timestamptz NOT NULL,
    behind  uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
) WITH (fillfactor = 50);
COMMENT ON TABLE  feather.sync_refreshes IS 'How far the look for connections whose tools have become old has come, by account.';
COMMENT ON COLUMN feather.sync_refreshes.account IS 'Account.';
COMMENT ON COLUMN feather.sync_refreshes.due_at IS 'The next step is not before.';
COMMENT ON COLUMN feather.sync_refreshes.behind IS 'The next step begins behind this connection.';
COMMIT;
