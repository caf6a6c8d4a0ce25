//! The inbox: requests come in by anyone's INSERT and are folded into jobs, one per connection.

use crate::domain::AccountName;
use crate::domain::Phase;
use crate::store::claim::Lane;
use crate::store::connection::DEADLINE;
use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::connection::within_time;
use crate::store::error::StoreError;
use chrono::DateTime;
use chrono::Utc;
use sqlx::Connection;
use std::fmt;
use std::time::Duration;
use uuid::Uuid;

/// What a take-in looks at.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// Requests folded by their age, at most; 1 or more.
    pub limit: u32,
    /// Only at requests from this id on, and at nothing else; `None`: at all of them, at the queue and at its leases,
    /// which while somebody's snapshot is open takes as long as there is dead in the indexes.
    pub from: Option<i64>,
    /// Connections that are worked on here.
    pub running: &'a [Uuid],
}

/// What one take-in did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenIn {
    /// Requests folded into jobs.
    pub requests: u64,
    /// Until the first of those jobs is due, zero when one is due now; `None` when none was taken in.
    pub next_due_in: Option<Duration>,
    /// Where the next look may go on; requests that are committed late can have smaller ids, as those that were left.
    pub next: Option<i64>,
    /// Those of the running connections that are asked for once more: their requests wait until the job is let go.
    pub passed_over: Vec<Uuid>,
    /// Requests were left where they are, for a moment: another replica was looking, or somebody held a row.
    pub left: bool,
    /// Some job waits, due or not; `None`: not looked at.
    pub pending: Option<bool>,
    /// Some lease has run out; `None`: not looked at.
    pub expired: Option<bool>,
    /// Where those of the jobs are found that are due.
    pub lanes: Vec<(AccountName, Lane)>,
}

impl TakenIn {
    /// Nothing was looked at.
    pub fn another_was_looking(&self) -> bool {
        self.left && self.next.is_none()
    }
}

/// Connections to enqueue together.
#[derive(Clone, Debug)]
pub struct EnqueueRequest {
    /// The connections.
    pub connection_ids: Vec<Uuid>,
    /// Whose key to use.
    pub account: String,
    /// Smaller runs sooner.
    pub priority: i16,
    /// Not before this time; `None` means now.
    pub run_at: Option<DateTime<Utc>>,
}

/// Why connections were not enqueued.
#[derive(Clone, Debug, thiserror::Error)]
pub struct EnqueueError {
    /// What went wrong.
    pub why: StoreError,
    /// The answer to COMMIT did not come: all of them may have been enqueued, or none.
    pub may_have_happened: bool,
}

impl fmt::Display for EnqueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.may_have_happened {
            "whether anything was enqueued is not known. Asking again does no harm: all requests for a connection become \
             one sync"
        } else {
            "nothing was enqueued"
        };
        write!(f, "{}; {what}", self.why)
    }
}

/// Rows per INSERT of an enqueue.
const CHUNK: usize = 10_000;

impl Db {
    /// Folds waiting requests into jobs: the `limit` oldest, a quarter as many of the newest, so that a fresh
    /// request need not wait behind a backlog, and what else waits for the same connections, so that a connection's
    /// requests are folded in their order and together (up to ten times `limit` of them).
    ///
    /// One replica folds at a time; the others find nothing. A request is deleted only where its fold is seen to
    /// have happened, so none can be lost to a race; where its job is running or locked it waits for the next time.
    ///
    /// # Errors
    /// When the database fails; nothing has happened then.
    pub async fn take_in(&self, look: &Look<'_>) -> Result<TakenIn, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query!(
            r#"
            WITH turn AS MATERIALIZED (
                SELECT pg_try_advisory_xact_lock(7305801, 2) AS mine,
                       -- A take-in that a crash of the server undoes leaves its requests where they were. The claim
                       -- that follows waits for the disk, and what came before it in the log is there then too.
                       set_config('synchronous_commit', 'off', true)
            ), oldest AS MATERIALIZED (
                SELECT r.id, r.connection_id FROM feather.sync_requests r
                WHERE (SELECT mine FROM turn) AND r.id >= $2
                  -- Asked one by one: while a snapshot is open, those that run are not told from all that ever ran.
                  AND COALESCE((SELECT j.state FROM feather.sync_jobs j WHERE j.connection_id = r.connection_id), '') <> 'running'
                ORDER BY r.id
                LIMIT $1
            ), newest AS MATERIALIZED (
                SELECT r.id, r.connection_id FROM feather.sync_requests r
                WHERE (SELECT count(*) FROM oldest) >= $1 AND r.id >= $2
                  AND COALESCE((SELECT j.state FROM feather.sync_jobs j WHERE j.connection_id = r.connection_id), '') <> 'running'
                ORDER BY r.id DESC
                LIMIT $1::bigint / 4
            ), siblings AS MATERIALIZED (
                SELECT s.id
                FROM (SELECT connection_id FROM (TABLE newest UNION ALL TABLE oldest) AS ends
                      GROUP BY connection_id ORDER BY max(id) DESC) AS e
                CROSS JOIN LATERAL (
                    -- Not by the primary key, which would walk a whole backlog to find the requests of one connection.
                    SELECT r.id FROM feather.sync_requests r
                    WHERE r.connection_id = e.connection_id ORDER BY r.id + 0 LIMIT 5 * $1
                ) AS s
                LIMIT 10 * $1
            ), pick AS MATERIALIZED (
                SELECT r.id, r.connection_id, r.account, r.priority, r.run_at, r.requested_at
                FROM feather.sync_requests r
                WHERE r.id = ANY (ARRAY(SELECT id FROM oldest UNION SELECT id FROM siblings))
                FOR UPDATE OF r SKIP LOCKED
            ), wanted AS MATERIALIZED (
                SELECT connection_id, (array_agg(account ORDER BY id DESC))[1] AS account, min(priority) AS priority,
                       min(run_at) AS run_at, min(GREATEST(requested_at, run_at)) AS wanted_at,
                       row_number() OVER (ORDER BY min(id)) - 1 AS place
                FROM pick GROUP BY connection_id
            ), there AS MATERIALIZED (
                SELECT connection_id FROM feather.sync_jobs
                WHERE connection_id = ANY (ARRAY(SELECT connection_id FROM wanted))
            ), held AS MATERIALIZED (
                SELECT connection_id FROM feather.sync_jobs
                WHERE connection_id = ANY (ARRAY(SELECT connection_id FROM there)) AND state <> 'running'
                ORDER BY connection_id
                FOR UPDATE SKIP LOCKED
            ), again AS (
                UPDATE feather.sync_jobs j
                SET state = 'pending', phase = 'finalize', account = w.account, error_class = NULL,
                    settle_deadline = NULL, settle_polls = 0, seen_fingerprint = NULL, seen_at = NULL,
                    -- One that nobody had asked for gives way: its time, its place in line and what was tried in vain were
                    -- nobody's wish.
                    priority = CASE WHEN j.state = 'dead' OR j.phase <> 'finalize' AND j.finalize_started_at = j.wanted_at
                                    THEN w.priority ELSE LEAST(j.priority, w.priority) END,
                    asked_priority = CASE WHEN j.state = 'dead' OR j.phase <> 'finalize' AND j.finalize_started_at = j.wanted_at
                                          THEN NULL ELSE j.asked_priority END,
                    run_at = CASE WHEN j.state = 'dead' THEN w.run_at
                                  WHEN j.phase <> 'finalize' AND j.finalize_started_at = j.wanted_at
                                  THEN GREATEST(w.run_at, j.not_before)
                                  ELSE GREATEST(LEAST(j.run_at, w.run_at), j.not_before) END,
                    not_before = CASE WHEN j.state = 'dead' THEN NULL ELSE j.not_before END,
                    wanted_at = CASE WHEN j.state = 'dead' OR j.phase <> 'finalize' AND j.finalize_started_at = j.wanted_at
                                     THEN w.wanted_at ELSE LEAST(j.wanted_at, w.wanted_at) END,
                    attempt = CASE WHEN j.state = 'dead' OR j.phase <> 'finalize' AND j.finalize_started_at = j.wanted_at
                                   THEN 0 ELSE j.attempt END,
                    malformed = CASE WHEN j.state = 'dead' OR j.phase <> 'finalize' AND j.finalize_started_at = j.wanted_at
                                     THEN 0 ELSE j.malformed END
                FROM wanted w
                WHERE j.connection_id = w.connection_id AND j.connection_id = ANY (ARRAY(SELECT connection_id FROM held))
                RETURNING j.connection_id, j.account, j.priority, j.run_at
            ), fresh AS (
                INSERT INTO feather.sync_jobs (connection_id, account, priority, run_at, wanted_at)
                SELECT w.connection_id, w.account, w.priority,
                       -- What is due at the same moment is due in its order, so that a claim can go on where the last ended.
                       CASE WHEN w.run_at > now() THEN w.run_at
                            ELSE LEAST(w.run_at + w.place * interval '1 microsecond', now()) END,
                       w.wanted_at
                FROM wanted w
                WHERE w.connection_id NOT IN (SELECT connection_id FROM there)
                ORDER BY w.connection_id
                ON CONFLICT (connection_id) DO NOTHING
                RETURNING connection_id, account, priority, run_at
            ), folded AS (
                TABLE again UNION ALL TABLE fresh
            ), lane AS (
                SELECT account, priority, min(run_at) AS due_at FROM folded WHERE run_at <= now() GROUP BY account, priority
            ), gone AS (
                DELETE FROM feather.sync_requests r
                WHERE r.id = ANY (ARRAY(SELECT p.id FROM pick p JOIN folded f ON f.connection_id = p.connection_id))
                RETURNING r.id
            )
            SELECT (SELECT count(*) FROM gone) AS "requests!",
                   (SELECT EXTRACT(epoch FROM min(run_at) - now())::float8 FROM folded) AS next_due_in,
                   (SELECT max(id) + 1 FROM oldest) AS next,
                   ARRAY(SELECT running.id FROM unnest($3::uuid[]) AS running (id)
                         CROSS JOIN LATERAL (
                             SELECT FROM feather.sync_requests r WHERE r.connection_id = running.id LIMIT 1
                         ) AS again
                         WHERE (SELECT j.state FROM feather.sync_jobs j WHERE j.connection_id = running.id) = 'running')
                       AS "passed_over!",
                   NOT (SELECT mine FROM turn) OR (SELECT count(*) FROM pick) > (SELECT count(*) FROM gone) AS "left!",
                   CASE WHEN EXISTS (SELECT FROM folded) THEN true
                        WHEN $4 THEN EXISTS (SELECT FROM feather.sync_jobs WHERE state = 'pending') END AS pending,
                   CASE WHEN $4 THEN EXISTS (SELECT FROM feather.sync_jobs
                                             WHERE state = 'running' AND lease_until < clock_timestamp()) END AS expired,
                   lane.account AS "account?", lane.priority AS "priority?", lane.due_at
            FROM turn LEFT JOIN lane ON true
            "#,
            i64::from(look.limit),
            look.from.unwrap_or(i64::MIN),
            look.running,
            look.from.is_none()
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        let mut rows = session.settle(result)?;
        let lanes = rows
            .iter_mut()
            .filter_map(|row| {
                let lane = Lane {
                    phase: Phase::Finalize,
                    priority: row.priority?,
                    from: row.due_at?,
                };
                Some((AccountName::from(row.account.take()?), lane))
            })
            .collect();
        let Some(row) = rows.into_iter().next() else {
            return Err(StoreError::Other(
                "a look into the inbox came to nothing".into(),
            ));
        };
        Ok(TakenIn {
            requests: row.requests.unsigned_abs(),
            next_due_in: row.next_due_in.map(super::seconds),
            next: row.next,
            passed_over: row.passed_over,
            left: row.left,
            pending: row.pending,
            expired: row.expired,
            lanes,
        })
    }

    /// Puts connections into the inbox, all or none. Returns how many requests that made.
    ///
    /// # Errors
    /// When the database fails or refuses a value.
    pub async fn enqueue(&self, request: &EnqueueRequest) -> Result<u64, EnqueueError> {
        self.enqueue_within(DEADLINE, request).await
    }

    /// [`enqueue`](Self::enqueue), given up after this time, that for a session included.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    pub async fn enqueue_within(
        &self,
        deadline: Duration,
        request: &EnqueueRequest,
    ) -> Result<u64, EnqueueError> {
        let mut may_have_happened = false;
        let result = within_time(deadline, async {
            let mut session = self.session().await?;
            let result = async {
                let mut tx = session.begin().await?;
                let mut enqueued = 0;
                for chunk in request.connection_ids.chunks(CHUNK) {
                    enqueued += sqlx::query_scalar!(
                        r#"SELECT feather.enqueue_many($1, $2, $3, COALESCE($4, now())) AS "enqueued!""#,
                        chunk,
                        request.account,
                        i32::from(request.priority),
                        request.run_at
                    )
                    .fetch_one(&mut *tx)
                    .await?;
                }
                may_have_happened = true;
                tx.commit().await?;
                Ok::<_, StoreError>(enqueued.unsigned_abs())
            }
            .await;
            session.settle(result)
        })
        .await;
        result.map_err(|why| EnqueueError {
            why,
            may_have_happened,
        })
    }
}
