-- A large queue is counted by its indexes rather than by reading all of it: those that wait in the order of the claim's, which
-- where vacuum has been is all that is read.
SET LOCAL lock_timeout = '2s';
CREATE OR REPLACE VIEW feather.sync_counts_now AS
WITH kinds AS (
    SELECT account, text 'pending' AS state, phase, count(*) AS jobs, count(*) FILTER (WHERE run_at <= now()) AS due,
           min(run_at) AS first_at
    FROM feather.sync_jobs WHERE state = 'pending' GROUP BY account, phase
    UNION ALL
    SELECT account, state, phase, count(*), 0, NULL::timestamptz FROM feather.sync_jobs WHERE state = 'running' GROUP BY account, state, phase
    UNION ALL
    SELECT account, state, phase, count(*), 0, NULL::timestamptz FROM feather.sync_jobs WHERE state = 'dead' GROUP BY account, state, phase
), jobs AS (
    SELECT account,
           sum(jobs) FILTER (WHERE state = 'pending' AND phase = 'finalize')::bigint  AS pending_finalize,
           sum(jobs) FILTER (WHERE state = 'pending' AND phase <> 'finalize')::bigint AS pending_settle,
           sum(jobs) FILTER (WHERE state = 'running' AND phase = 'finalize')::bigint  AS running_finalize,
           sum(jobs) FILTER (WHERE state = 'running' AND phase <> 'finalize')::bigint AS running_settle,
           sum(jobs) FILTER (WHERE state = 'dead' AND phase = 'finalize')::bigint     AS dead_finalize,
           sum(jobs) FILTER (WHERE state = 'dead' AND phase <> 'finalize')::bigint    AS dead_settle,
           sum(due)::bigint                                                           AS due,
           min(first_at) FILTER (WHERE first_at <= now())                             AS oldest_due_at
    FROM kinds GROUP BY account
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
