//! The claim: due jobs are leased within the account's shared budget, in one statement.

use crate::domain::AccountName;
use crate::domain::Budget;
use crate::domain::Job;
use crate::domain::Phase;
use crate::domain::Sighting;
use crate::domain::StoredSync;
use crate::domain::pace::CLIMB_PER_SECOND;
use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use chrono::DateTime;
use chrono::Utc;
use std::time::Duration;

/// What a replica asks for.
#[derive(Clone, Debug)]
pub struct ClaimRequest<'a> {
    /// Whose jobs.
    pub account: &'a AccountName,
    /// At most so many.
    pub slots: u32,
    /// The account's budget, whole.
    pub budget: Budget,
    /// How long the lease lasts.
    pub lease: Duration,
    /// Name of the replica.
    pub worker: &'a str,
    /// Which phase goes first among jobs of the same priority.
    pub prefer: Phase,
    /// The part of the budget that is spared for refreshes, `0.0..=1.0`.
    pub spare: f64,
    /// At most so many refreshes, 0 or more.
    pub refreshes: f64,
    /// Look in these lanes only, from there on. Empty: in all of them, from their beginning.
    pub known: &'a [Lane],
}

/// Jobs of one account that are claimed in the order in which they are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Their phase.
    pub phase: Phase,
    /// Their priority.
    pub priority: i16,
    /// Those that were due before have been claimed, but for stragglers.
    pub from: DateTime<Utc>,
}

impl Lane {
    /// Whether it is the same lane, wherever in it.
    pub fn is(&self, other: &Self) -> bool {
        (self.phase, self.priority) == (other.phase, other.priority)
    }
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
        /// Where they were found.
        lanes: Vec<Lane>,
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
        let phases: Vec<_> = request
            .known
            .iter()
            .map(|lane| lane.phase.as_str())
            .collect();
        let priorities: Vec<_> = request.known.iter().map(|lane| lane.priority).collect();
        let from: Vec<_> = request.known.iter().map(|lane| lane.from).collect();
        let query = sqlx::query!(
            r#"
            WITH RECURSIVE all_lanes (phase, priority, due_at) AS (
                -- The (phase, priority) pairs in use, each found by one probe of the index, which tells too when the
                -- first of its jobs is due.
                SELECT p.phase, first.priority, first.run_at
                FROM (SELECT phase FROM (VALUES ('finalize'), ('settle'), ('refresh')) AS p (phase) WHERE cardinality($10::text[]) = 0) AS p
                CROSS JOIN LATERAL (
                    SELECT j.priority, j.run_at FROM feather.sync_jobs j
                    WHERE j.account = $1 AND j.phase = p.phase AND j.state = 'pending'
                    ORDER BY j.priority, j.run_at LIMIT 1
                ) AS first
                UNION ALL
                SELECT l.phase, next.priority, next.run_at
                FROM all_lanes l
                CROSS JOIN LATERAL (
                    SELECT j.priority, j.run_at FROM feather.sync_jobs j
                    WHERE j.account = $1 AND j.phase = l.phase AND j.state = 'pending' AND j.priority > l.priority
                    ORDER BY j.priority, j.run_at LIMIT 1
                ) AS next
            ), lanes AS MATERIALIZED (
                -- While somebody's snapshot is open, what was claimed stays in the index, dead; a known lane begins behind it.
                SELECT phase, priority, due_at FROM all_lanes
                UNION ALL
                SELECT known.phase, known.priority, first.run_at
                FROM unnest($10::text[], $11::smallint[], $12::timestamptz[]) AS known (phase, priority, since)
                CROSS JOIN LATERAL (
                    SELECT j.run_at FROM feather.sync_jobs j
                    WHERE j.account = $1 AND j.phase = known.phase AND j.state = 'pending' AND j.priority = known.priority
                      AND j.run_at >= known.since
                    ORDER BY j.run_at LIMIT 1
                ) AS first
            ), account AS MATERIALIZED (
                SELECT a.account, a.pause_reason, a.operator_paused_at, a.requests_per_minute, a.tokens, a.tokens_at,
                       a.spare_tokens, a.spare_at, a.pace, a.pace_at, GREATEST(EXTRACT(epoch FROM a.paused_until - now()), 0)::float8 AS paused_for
                FROM feather.sync_accounts a
                -- The one row of this account, and from the end: while somebody's snapshot is open, all that it has
                -- been since then lie before it in the index.
                WHERE a.account >= $1 AND a.account <= $1
                  -- Asked of the lanes: an EXISTS over the jobs may be planned as a join with every one that is due.
                  AND EXISTS (SELECT FROM lanes WHERE due_at <= now())
                ORDER BY a.account DESC
                LIMIT 1
                FOR UPDATE
            ), locked AS MATERIALIZED (
                -- The time once the row is locked: later than any draw that this statement waited for, unless the
                -- clock went back. Then nothing has been saved up meanwhile, and both times begin anew.
                SELECT account.*, clock_timestamp() AS at FROM account
            ), paced AS (
                -- As Pace::share_at and Budget::at_pace; while replicas differ, the limit as last configured holds.
                SELECT *, GREATEST(1 / $9::float8,
                                   LEAST(1, pace + $8::float8 * GREATEST(EXTRACT(epoch FROM at - pace_at)::float8, 0))
                                   * LEAST(1, requests_per_minute / $9::float8)) AS share
                FROM locked
            ), bucket AS MATERIALIZED (
                SELECT *, $4::float8 * share AS rate,
                       LEAST(GREATEST($3::float8 * share, 1),
                             tokens + $4::float8 * share * GREATEST(EXTRACT(epoch FROM at - tokens_at)::float8, 0)) AS saved,
                       LEAST(GREATEST($3::float8 * share * $13::float8, 1),
                             spare_tokens + $4::float8 * share * $13::float8
                                            * GREATEST(EXTRACT(epoch FROM at - spare_at)::float8, 0)) AS spare
                FROM paced
            ), permits AS MATERIALIZED (
                SELECT CASE WHEN operator_paused_at IS NOT NULL OR paused_for > 0 THEN 0
                            WHEN pause_reason IS NOT NULL THEN LEAST(1, $2::float8, floor(saved))
                            ELSE LEAST($2, floor(saved)) END::bigint AS n,
                       GREATEST(LEAST($14, floor(spare)), 0)::bigint AS refreshes
                FROM bucket
            ), picked AS MATERIALIZED (
                SELECT j.connection_id, lane.phase
                FROM (SELECT phase, priority, due_at FROM lanes WHERE due_at <= now()
                      -- A probe is what has been due longest in any lane. A refused job goes to the end, so the next
                      -- probe is another one: were it always the same, and the API refused just that one, the
                      -- account would never go on.
                      ORDER BY CASE WHEN (SELECT pause_reason FROM account) IS NOT NULL THEN due_at END,
                               priority, phase <> $7, phase = 'refresh') AS lane
                CROSS JOIN LATERAL (
                    SELECT connection_id FROM feather.sync_jobs
                    WHERE account = $1 AND phase = lane.phase AND state = 'pending' AND priority = lane.priority
                      AND run_at >= lane.due_at AND run_at <= now()
                    ORDER BY run_at
                    LIMIT (SELECT CASE WHEN lane.phase = 'refresh' THEN LEAST(n, refreshes) ELSE n END FROM permits)
                    FOR UPDATE SKIP LOCKED
                ) AS j
                LIMIT (SELECT n FROM permits)
            ), due AS MATERIALIZED (
                -- Each lane of refreshes keeps to their limit, and here all together.
                SELECT connection_id FROM picked WHERE phase <> 'refresh'
                UNION ALL
                (SELECT connection_id FROM picked WHERE phase = 'refresh' LIMIT (SELECT refreshes FROM permits))
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
                SET tokens = bucket.saved - (SELECT count(*) FROM claimed), tokens_at = bucket.at,
                    -- What nobody asked for counts, and only refreshes wait for it: for a minute at most.
                    spare_tokens = GREATEST(bucket.spare - (SELECT count(*) FROM claimed
                                                            WHERE phase <> 'finalize' AND finalize_started_at = wanted_at),
                                            -60 * bucket.rate * $13::float8),
                    spare_at = bucket.at,
                    pace_at = LEAST(a.pace_at, bucket.at),
                    -- While the probe is out nobody else calls; if it is lost, its lease ends that.
                    paused_until = CASE WHEN a.pause_reason IS NULL THEN a.paused_until
                                        ELSE COALESCE((SELECT max(lease_until) FROM claimed), a.paused_until) END
                FROM bucket
                WHERE a.account = bucket.account AND (EXISTS (SELECT FROM claimed) OR GREATEST(bucket.tokens_at, bucket.spare_at) > bucket.at)
            )
            SELECT permits.n AS "permits!", bucket.saved AS "tokens!", bucket.rate AS "rate!", bucket.paused_for,
                   bucket.operator_paused_at IS NOT NULL AS "operator_paused!",
                   bucket.pause_reason IS NOT NULL AS "probe!",
                   claimed.connection_id AS "connection_id?", claimed.phase AS "phase?", claimed.attempt AS "attempt?",
                   claimed.malformed AS "malformed?", claimed.lease_token AS "lease_token?",
                   claimed.started_at AS "started_at?", claimed.finalize_started_at AS "finalize_started_at?",
                   claimed.wanted_at AS "wanted_at?", claimed.settle_deadline AS "settle_deadline?",
                   claimed.settle_polls AS "settle_polls?", claimed.seen_fingerprint AS "seen_fingerprint?",
                   claimed.seen_at AS "seen_at?", claimed.priority AS "priority?", claimed.run_at AS "run_at?", c.id AS "stored_id?", c.tools_synced_at AS "stored_tools_synced_at?",
                   CASE WHEN c._account <> $1 AND c._removed_at IS NULL
                        THEN (SELECT s.account FROM feather.sync_served_accounts s WHERE s.account = c._account) END AS held_by,
                   CASE WHEN c._account <> $1 AND c._removed_at IS NULL THEN c._account END AS holder
            FROM bucket
            CROSS JOIN permits
            LEFT JOIN claimed ON true
            LEFT JOIN LATERAL (
                SELECT id, tools_synced_at, _account, _removed_at FROM feather.integration_connections WHERE id = claimed.connection_id LIMIT 1
            ) AS c ON true
            "#,
            request.account.as_str(),
            f64::from(request.slots),
            request.budget.burst,
            request.budget.rate,
            request.lease.as_secs_f64(),
            request.worker,
            request.prefer.as_str(),
            CLIMB_PER_SECOND,
            request.budget.limit,
            &phases as _,
            &priorities,
            &from,
            request.spare,
            request.refreshes
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
                None => Claim::Budget(super::seconds((1.0 - first.tokens) / first.rate)),
            });
        }
        let mut lanes: Vec<Lane> = Vec::new();
        for row in &rows {
            let phase = row.phase.as_deref().and_then(Phase::parse);
            let Some(((phase, priority), from)) = phase.zip(row.priority).zip(row.run_at) else {
                continue;
            };
            let found = Lane {
                phase,
                priority,
                from,
            };
            match lanes.iter_mut().find(|lane| lane.is(&found)) {
                Some(lane) => lane.from = lane.from.max(from),
                None => lanes.push(found),
            }
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
                    held_by: row.held_by.as_deref().map(AccountName::from),
                    takes_over: row
                        .holder
                        .as_deref()
                        .filter(|_| row.held_by.is_none())
                        .map(AccountName::from),
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
                lanes,
            }),
            // The schema's constraints rule it out; the leases would run out and be recorded as crashed.
            None => Err(StoreError::Other(
                "a claimed job lacks a value that the schema demands".into(),
            )),
        }
    }
}
