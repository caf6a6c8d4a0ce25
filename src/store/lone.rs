//! A request that comes alone: taken in and leased in one statement, for a replica that has nothing else to do.

use crate::domain::AccountName;
use crate::domain::Budget;
use crate::domain::Job;
use crate::domain::Phase;
use crate::domain::StoredSync;
use crate::domain::pace::CLIMB_PER_SECOND;
use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use std::time::Duration;

/// For whom a lone request is begun.
#[derive(Clone, Debug)]
pub struct LoneRequest<'a> {
    /// Accounts of which a call may begin, with their budgets.
    pub accounts: &'a [(AccountName, Budget)],
    /// How long the lease lasts.
    pub lease: Duration,
    /// Name of the replica.
    pub worker: &'a str,
}

/// A request that was begun.
#[derive(Clone, Debug)]
pub struct Lone {
    /// Whose call is to begin at once.
    pub job: Job,
    /// Where the next look into the inbox may go on.
    pub next: i64,
}

impl Db {
    /// Begins the one request of the inbox, as a take-in and a claim would one after the other: its attempt is counted
    /// before it is returned, and its token drawn from the account's bucket, whose row is locked.
    ///
    /// Only what is plain: a request that is due, for a connection without a job, of an account that is not paused and has
    /// a token left; as there is no other, none is put behind it. And only what nobody is in the way of: a replica that
    /// takes in, a claim of the account, a list that stores the connection. `None`: nothing has happened, and it is for a take-in and a claim.
    ///
    /// # Errors
    /// When the database fails. The outcome is unknown then, as of a claim.
    pub async fn begin_lone(&self, asked: &LoneRequest<'_>) -> Result<Option<Lone>, StoreError> {
        let mut session = self.session().await?;
        let accounts: Vec<_> = asked
            .accounts
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let of_budgets = |part: fn(&Budget) -> f64| -> Vec<f64> {
            asked
                .accounts
                .iter()
                .map(|(_, budget)| part(budget))
                .collect()
        };
        let query = sqlx::query!(
            r#"
            WITH turn AS MATERIALIZED (
                SELECT pg_try_advisory_xact_lock(7305801, 2) AS mine, -- That of the take-in.
                       -- A list or a refresh may be inserting the same job; for claims there is the account's row to be had.
                       set_config('lock_timeout', '50ms', true)
            ), waiting AS MATERIALIZED (
                SELECT r.id FROM feather.sync_requests r WHERE (SELECT mine FROM turn) ORDER BY r.id LIMIT 2
            ), lone AS MATERIALIZED (
                SELECT r.id, r.connection_id, r.account, r.priority, r.run_at, GREATEST(r.requested_at, r.run_at) AS wanted_at
                FROM feather.sync_requests r
                WHERE r.id = (SELECT min(id) FROM waiting) AND (SELECT count(*) FROM waiting) = 1 AND r.run_at <= now()
                  -- So that the insert does not wait for one that is about to go. Not EXISTS, which may be planned as a join.
                  AND (SELECT j.state FROM feather.sync_jobs j WHERE j.connection_id = r.connection_id) IS NULL
                FOR UPDATE SKIP LOCKED
            ), account AS MATERIALIZED (
                SELECT a.*, ours.burst, ours.rate, ours."limit"
                FROM lone
                JOIN unnest($1::text[], $2::float8[], $3::float8[], $4::float8[]) AS ours (account, burst, rate, "limit")
                  ON ours.account = lone.account
                CROSS JOIN LATERAL (
                    -- From the end, as a claim does.
                    SELECT a.account, a.tokens, a.tokens_at, a.pace, a.pace_at, a.requests_per_minute,
                           a.pause_reason, a.operator_paused_at, a.paused_until
                    FROM feather.sync_accounts a
                    WHERE a.account >= ours.account AND a.account <= ours.account
                    ORDER BY a.account DESC
                    LIMIT 1
                    FOR UPDATE SKIP LOCKED
                ) AS a
            ), locked AS MATERIALIZED (
                SELECT account.*, clock_timestamp() AS at FROM account
                WHERE pause_reason IS NULL AND operator_paused_at IS NULL AND COALESCE(paused_until <= now(), true)
            ), paced AS (
                -- As Pace::share_at and Budget::at_pace.
                SELECT *, GREATEST(1 / "limit",
                                   LEAST(1, pace + $5::float8 * GREATEST(EXTRACT(epoch FROM at - pace_at)::float8, 0))
                                   * LEAST(1, requests_per_minute / "limit")) AS share
                FROM locked
            ), bucket AS MATERIALIZED (
                SELECT account, at, LEAST(GREATEST(burst * share, 1),
                                          tokens + rate * share * GREATEST(EXTRACT(epoch FROM at - tokens_at)::float8, 0)) AS saved
                FROM paced
            ), begun AS (
                INSERT INTO feather.sync_jobs (connection_id, account, priority, run_at, wanted_at, state, worker, lease_token,
                                               lease_until, started_at, finalize_started_at, attempt)
                SELECT lone.connection_id, bucket.account, lone.priority, lone.run_at, lone.wanted_at, 'running', $6,
                       gen_random_uuid(), bucket.at + $7 * interval '1 second', bucket.at, bucket.at, 1
                FROM lone CROSS JOIN bucket
                WHERE bucket.saved >= 1
                ON CONFLICT (connection_id) DO NOTHING
                RETURNING connection_id, account, lease_token, started_at, wanted_at
            ), drawn AS (
                UPDATE feather.sync_accounts a
                SET tokens = bucket.saved - 1, tokens_at = bucket.at, pace_at = LEAST(a.pace_at, bucket.at)
                FROM bucket
                WHERE a.account = bucket.account AND EXISTS (SELECT FROM begun)
            ), gone AS (
                DELETE FROM feather.sync_requests r
                WHERE r.id = (SELECT id FROM lone) AND EXISTS (SELECT FROM begun)
            )
            SELECT (SELECT id + 1 FROM lone) AS "next!", begun.connection_id, begun.account, begun.lease_token AS "lease_token!",
                   begun.started_at AS "started_at!", begun.wanted_at, c.id AS "stored_id?",
                   c.tools_synced_at AS "stored_tools_synced_at?",
                   CASE WHEN c._account <> begun.account AND c._removed_at IS NULL
                        THEN (SELECT s.account FROM feather.sync_served_accounts s WHERE s.account = c._account) END AS held_by,
                   CASE WHEN c._account <> begun.account AND c._removed_at IS NULL THEN c._account END AS holder
            FROM begun
            LEFT JOIN LATERAL (
                SELECT id, tools_synced_at, _account, _removed_at FROM feather.integration_connections WHERE id = begun.connection_id LIMIT 1
            ) AS c ON true
            "#,
            &accounts as _,
            &of_budgets(|budget| budget.burst),
            &of_budgets(|budget| budget.rate),
            &of_budgets(|budget| budget.limit),
            CLIMB_PER_SECOND,
            asked.worker,
            asked.lease.as_secs_f64()
        );
        let result = within(async { Ok(query.fetch_optional(&mut *session).await?) }).await;
        let begun = match session.settle(result) {
            Err(error) if error.is_in_the_way() => None,
            begun => begun?,
        };
        Ok(begun.map(|row| {
            let held_by = row.held_by.map(AccountName::from);
            let takes_over = row.holder.filter(|_| held_by.is_none());
            Lone {
                next: row.next,
                job: Job {
                    connection_id: row.connection_id,
                    account: AccountName::from(row.account),
                    phase: Phase::Finalize,
                    attempt: 1,
                    malformed: 0,
                    lease_token: row.lease_token,
                    started_at: row.started_at,
                    finalize_started_at: row.started_at,
                    wanted_at: row.wanted_at,
                    settle_deadline: None,
                    settle_polls: 0,
                    seen: None,
                    stored: row.stored_id.map(|_| StoredSync {
                        tools_synced_at: row.stored_tools_synced_at,
                    }),
                    held_by,
                    takes_over: takes_over.map(AccountName::from),
                    probe: false,
                },
            }
        }))
    }
}
