//! The claim: due jobs are leased within the account's shared budget, in one statement.

use crate::domain::AccountName;
use crate::domain::Budget;
use crate::domain::Job;
use crate::domain::Phase;
use crate::domain::Sighting;
use crate::domain::StoredSync;
use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use std::time::Duration;

/// What a replica asks for.
#[derive(Clone, Debug)]
pub struct ClaimRequest<'a> {
    /// Whose jobs.
    pub account: &'a AccountName,
    /// At most so many.
    pub slots: u32,
    /// The account's budget.
    pub budget: Budget,
    /// How long the lease lasts.
    pub lease: Duration,
    /// Name of the replica.
    pub worker: &'a str,
    /// Which phase goes first among jobs of the same priority.
    pub prefer: Phase,
}

/// What a claim came to.
#[derive(Clone, Debug)]
pub enum Claim {
    /// Nothing is due, or other replicas hold it.
    Nothing,
    /// These jobs are ours, at least one.
    Jobs {
        /// Whose calls are to begin at once.
        jobs: Vec<Job>,
        /// It was the budget that allowed no more.
        budget_bound: bool,
    },
    /// Jobs are due, and the budget allows the next one after this long.
    Budget(Duration),
    /// Jobs are due, and the account is paused for this long, as far as is known.
    Paused(Duration),
}

/// How long to leave an account alone that an operator has paused, before looking again.
const OPERATOR_PAUSE: Duration = Duration::from_secs(5);

impl Db {
    /// Leases due jobs of one account. Each is counted as an attempt before it is returned, so that no call can
    /// go unrecorded. The account's row is locked first, which makes the budget exact over all replicas.
    ///
    /// # Errors
    /// When the database fails. The outcome is unknown then: what was claimed is expired with its lease.
    pub async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query!(
            r#"
            WITH RECURSIVE lanes (phase, priority) AS (
                -- The (phase, priority) pairs in use, each found by one probe of the index.
                SELECT p.phase, (SELECT min(j.priority) FROM feather.sync_jobs j
                                 WHERE j.account = $1 AND j.phase = p.phase AND j.state = 'pending')
                FROM (VALUES ('finalize'), ('settle')) AS p (phase)
                UNION ALL
                SELECT l.phase, (SELECT min(j.priority) FROM feather.sync_jobs j
                                 WHERE j.account = $1 AND j.phase = l.phase AND j.state = 'pending'
                                   AND j.priority > l.priority)
                FROM lanes l WHERE l.priority IS NOT NULL
            ), account AS MATERIALIZED (
                SELECT a.account, a.pause_reason, a.operator_paused_at,
                       GREATEST(EXTRACT(epoch FROM a.paused_until - now()), 0)::float8 AS paused_for,
                       LEAST($3, a.tokens + $4::float8 * GREATEST(EXTRACT(epoch FROM now() - a.tokens_at)::float8, 0)) AS tokens
                FROM feather.sync_accounts a
                WHERE a.account = $1
                  AND EXISTS (SELECT FROM lanes l WHERE l.priority IS NOT NULL
                              AND EXISTS (SELECT FROM feather.sync_jobs j
                                          WHERE j.account = $1 AND j.phase = l.phase AND j.state = 'pending'
                                            AND j.priority = l.priority AND j.run_at <= now()))
                FOR UPDATE
            ), permits AS MATERIALIZED (
                SELECT CASE WHEN operator_paused_at IS NOT NULL OR paused_for > 0 THEN 0
                            WHEN pause_reason IS NOT NULL THEN LEAST(1, $2::float8, floor(tokens))
                            ELSE LEAST($2, floor(tokens)) END::bigint AS n
                FROM account
            ), due AS MATERIALIZED (
                SELECT j.connection_id
                FROM (SELECT phase, priority FROM lanes WHERE priority IS NOT NULL
                      ORDER BY priority, phase <> $7) AS lane
                CROSS JOIN LATERAL (
                    SELECT connection_id FROM feather.sync_jobs
                    WHERE account = $1 AND phase = lane.phase AND state = 'pending' AND priority = lane.priority
                      AND run_at <= now()
                    ORDER BY run_at
                    LIMIT (SELECT n FROM permits)
                    FOR UPDATE SKIP LOCKED
                ) AS j
                LIMIT (SELECT n FROM permits)
            ), moment AS MATERIALIZED (
                -- Not now(): a claim that waited for the account's row sees, and serves, requests that came meanwhile,
                -- and has to say that it began after them.
                SELECT clock_timestamp() AS at FROM (SELECT count(*) FROM due) AS locked
            ), claimed AS (
                UPDATE feather.sync_jobs j
                SET state = 'running', worker = $6, lease_token = gen_random_uuid(),
                    lease_until = (SELECT at FROM moment) + $5 * interval '1 second',
                    started_at = (SELECT at FROM moment), attempt = j.attempt + 1,
                    finalize_started_at = CASE WHEN j.phase = 'finalize' THEN (SELECT at FROM moment)
                                               ELSE j.finalize_started_at END
                WHERE j.connection_id = ANY (ARRAY(SELECT connection_id FROM due))
                RETURNING j.*
            ), drawn AS (
                UPDATE feather.sync_accounts a
                SET tokens = account.tokens - (SELECT count(*) FROM claimed), tokens_at = GREATEST(a.tokens_at, now()),
                    -- While the probe is out nobody else calls; if it is lost, its lease ends that.
                    paused_until = CASE WHEN a.pause_reason IS NULL THEN NULL
                                        ELSE now() + $5 * interval '1 second' END
                FROM account
                WHERE a.account = account.account AND EXISTS (SELECT FROM claimed)
            )
            SELECT permits.n AS "permits!", account.tokens AS "tokens!", account.paused_for,
                   account.operator_paused_at IS NOT NULL AS "operator_paused!",
                   account.pause_reason IS NOT NULL AS "probe!",
                   claimed.connection_id AS "connection_id?", claimed.phase AS "phase?", claimed.attempt AS "attempt?",
                   claimed.malformed AS "malformed?", claimed.lease_token AS "lease_token?",
                   claimed.started_at AS "started_at?", claimed.finalize_started_at AS "finalize_started_at?",
                   claimed.wanted_at AS "wanted_at?", claimed.settle_deadline AS "settle_deadline?",
                   claimed.settle_polls AS "settle_polls?", claimed.seen_fingerprint AS "seen_fingerprint?",
                   claimed.seen_at AS "seen_at?", c.id AS "stored_id?", c.tools_synced_at AS "stored_tools_synced_at?"
            FROM account
            CROSS JOIN permits
            LEFT JOIN claimed ON true
            LEFT JOIN LATERAL (
                SELECT id, tools_synced_at FROM feather.integration_connections WHERE id = claimed.connection_id LIMIT 1
            ) AS c ON true
            "#,
            request.account.as_str(),
            f64::from(request.slots),
            request.budget.burst,
            request.budget.rate,
            request.lease.as_secs_f64(),
            request.worker,
            request.prefer.as_str()
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        let rows = session.settle(result)?;
        let Some(first) = rows.first() else {
            return Ok(Claim::Nothing);
        };
        if first.permits == 0 {
            return Ok(match first.paused_for.filter(|left| *left > 0.0) {
                _ if first.operator_paused => Claim::Paused(OPERATOR_PAUSE),
                Some(left) => Claim::Paused(super::seconds(left)),
                None => Claim::Budget(super::seconds((1.0 - first.tokens) / request.budget.rate)),
            });
        }
        let jobs: Option<Vec<Job>> = rows
            .iter()
            .filter(|row| row.connection_id.is_some())
            .map(|row| {
                Some(Job {
                    connection_id: row.connection_id?,
                    account: request.account.clone(),
                    phase: Phase::parse(row.phase.as_deref()?)?,
                    attempt: row.attempt?.unsigned_abs(),
                    malformed: row.malformed?.unsigned_abs(),
                    lease_token: row.lease_token?,
                    started_at: row.started_at?,
                    finalize_started_at: row.finalize_started_at?,
                    wanted_at: row.wanted_at?,
                    settle_deadline: row.settle_deadline,
                    settle_polls: row.settle_polls?.unsigned_abs(),
                    seen: row
                        .seen_fingerprint
                        .clone()
                        .zip(row.seen_at)
                        .map(|(fingerprint, at)| Sighting { fingerprint, at }),
                    stored: row.stored_id.map(|_| StoredSync {
                        tools_synced_at: row.stored_tools_synced_at,
                    }),
                    probe: row.probe,
                })
            })
            .collect();
        match jobs {
            Some(jobs) if jobs.is_empty() => Ok(Claim::Nothing),
            Some(jobs) => Ok(Claim::Jobs {
                budget_bound: first.permits < i64::from(request.slots)
                    && i64::try_from(jobs.len()).ok() == Some(first.permits),
                jobs,
            }),
            // The schema's constraints rule it out; the leases would run out and be recorded as crashed.
            None => Err(StoreError::Other(
                "a claimed job lacks a value that the schema demands".into(),
            )),
        }
    }
}
