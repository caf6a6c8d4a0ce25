-- Counts that took long hold long. Not in one transaction with the column: whoever reads the view locks it first and its
-- tables then, and would wait for a table whose owner waits for the view.
SET LOCAL lock_timeout = '2s';

CREATE OR REPLACE VIEW feather.sync_health AS
WITH fresh AS MATERIALIZED (
    SELECT * FROM feather.sync_counts WHERE as_of > now() - GREATEST(interval '15 seconds', 30 * took)
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
COMMENT ON VIEW feather.sync_health IS 'One row per account that is configured or known: the queue at a glance, from counts at most 15 s or 30 times as long as counting takes old.';
