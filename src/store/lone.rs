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
    /// Only requests from this id on are seen; `None`: all of them.
    pub from: Option<i64>,
}

/// What is in the inbox, and what became of it.
#[derive(Clone, Debug)]
pub enum Lone {
    /// One request, which is a leased job now.
    Begun {
        /// Whose call is to begin at once.
        job: Box<Job>,
        /// Requests from this id on have not been seen.
        next: i64,
    },
    /// No request.
    Nothing,
    /// Several, or one that is not plain: nothing has happened, and it is for a take-in and a claim.
    NotPlain,
}

impl Db {
    /// Begins the one request of the inbox, as a take-in and a claim would one after the other: its attempt is counted
    /// before it is returned, and its token drawn from the account's bucket, whose row is locked.
    ///
    /// Only what is plain: a request that is due, for a connection without a job, of an account that is not paused
    /// and has a token left. As there is no other, none is put behind it. No turn is taken, as a take-in does: a replica
    /// that folds has the request locked, or does not get it and leaves it.
    ///
    /// # Errors
    /// When the database fails. The outcome is unknown then, as of a claim.
    pub async fn begin_lone(&self, asked: &LoneRequest<'_>) -> Result<Lone, StoreError> {
        let mut session = self.session().await?;
        let accounts: Vec<_> = asked
            .accounts
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let bursts: Vec<_> = asked
            .accounts
            .iter()
            .map(|(_, budget)| budget.burst)
            .collect();
        let rates: Vec<_> = asked
            .accounts
            .iter()
            .map(|(_, budget)| budget.rate)
            .collect();
        let limits: Vec<_> = asked
            .accounts
            .iter()
            .map(|(_, budget)| budget.limit)
            .collect();
        let query = sqlx::query!(
            r#"
            WITH waiting AS MATERIALIZED (
                SELECT r.id FROM feather.sync_requests r WHERE r.id >= $1 ORDER BY r.id LIMIT 2
            ), lone AS MATERIALIZED (
                SELECT r.id, r.connection_id, r.account, r.priority, r.run_at, GREATEST(r.requested_at, r.run_at) AS wanted_at
                FROM feather.sync_requests r
                WHERE r.id = (SELECT min(id) FROM waiting) AND (SELECT count(*) FROM waiting) = 1 AND r.run_at <= now()
                FOR UPDATE SKIP LOCKED
            ), account AS MATERIALIZED (
                SELECT a.account, a.tokens, a.tokens_at, a.pace, a.pace_at, a.requests_per_minute,
                       ours.burst, ours.rate, ours."limit"
                FROM lone
                JOIN unnest($2::text[], $3::float8[], $4::float8[], $5::float8[]) AS ours (account, burst, rate, "limit")
                  ON ours.account = lone.account
                CROSS JOIN LATERAL (
                    -- From the end, as a claim does.
                    SELECT * FROM feather.sync_accounts a
                    WHERE a.account >= ours.account AND a.account <= ours.account
                      AND a.pause_reason IS NULL AND a.operator_paused_at IS NULL AND COALESCE(a.paused_until <= now(), true)
                    ORDER BY a.account DESC
                    LIMIT 1
                    FOR UPDATE
                ) AS a
            ), locked AS MATERIALIZED (
                SELECT account.*, clock_timestamp() AS at FROM account
            ), paced AS (
                -- As Pace::share_at and Budget::at_pace.
                SELECT *, GREATEST(1 / "limit",
                                   LEAST(1, pace + $6::float8 * GREATEST(EXTRACT(epoch FROM at - pace_at)::float8, 0))
                                   * LEAST(1, requests_per_minute / "limit")) AS share
                FROM locked
            ), bucket AS MATERIALIZED (
                SELECT account, at, LEAST(GREATEST(burst * share, 1),
                                          tokens + rate * share * GREATEST(EXTRACT(epoch FROM at - tokens_at)::float8, 0)) AS saved
                FROM paced
            ), begun AS (
                INSERT INTO feather.sync_jobs (connection_id, account, priority, run_at, wanted_at, state, worker, lease_token,
                                               lease_until, started_at, finalize_started_at, attempt)
                SELECT lone.connection_id, bucket.account, lone.priority, lone.run_at, lone.wanted_at, 'running', $7,
                       gen_random_uuid(), bucket.at + $8 * interval '1 second', bucket.at, bucket.at, 1
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
            SELECT max.id AS "max_id?", begun.connection_id AS "connection_id?", begun.account AS "account?",
                   begun.lease_token AS "lease_token?", begun.started_at AS "started_at?", begun.wanted_at AS "wanted_at?",
                   c.id AS "stored_id?", c.tools_synced_at AS "stored_tools_synced_at?",
                   CASE WHEN c._account <> begun.account AND c._removed_at IS NULL
                        THEN (SELECT s.account FROM feather.sync_served_accounts s WHERE s.account = c._account) END AS held_by,
                   CASE WHEN c._account <> begun.account AND c._removed_at IS NULL THEN c._account END AS holder
            FROM (SELECT max(id) AS id FROM waiting) AS max
            LEFT JOIN begun ON true
            LEFT JOIN LATERAL (
                SELECT id, tools_synced_at, _account, _removed_at FROM feather.integration_connections WHERE id = begun.connection_id LIMIT 1
            ) AS c ON true
            "#,
            asked.from.unwrap_or(i64::MIN),
            &accounts as _,
            &bursts,
            &rates,
            &limits,
            CLIMB_PER_SECOND,
            asked.worker,
            asked.lease.as_secs_f64()
        );
        let result = within(async { Ok(query.fetch_one(&mut *session).await?) }).await;
        let row = session.settle(result)?;
        let Some(last) = row.max_id else {
            return Ok(Lone::Nothing);
        };
        let begun = row
            .connection_id
            .zip(row.account)
            .zip(row.lease_token)
            .zip(row.started_at.zip(row.wanted_at));
        let Some((((connection_id, account), lease_token), (started_at, wanted_at))) = begun else {
            return Ok(Lone::NotPlain);
        };
        let held_by = row.held_by.map(AccountName::from);
        Ok(Lone::Begun {
            next: last + 1,
            job: Box::new(Job {
                connection_id,
                account: AccountName::from(account),
                phase: Phase::Finalize,
                attempt: 1,
                malformed: 0,
                lease_token,
                started_at,
                finalize_started_at: started_at,
                wanted_at,
                settle_deadline: None,
                settle_polls: 0,
                seen: None,
                stored: row.stored_id.map(|_| StoredSync {
                    tools_synced_at: row.stored_tools_synced_at,
                }),
                takes_over: row
                    .holder
                    .filter(|_| held_by.is_none())
                    .map(AccountName::from),
                held_by,
                probe: false,
            }),
        })
    }
}
