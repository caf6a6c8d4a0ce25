//! Connections whose tools have become old, put into the queue to be refreshed.

use crate::domain::AccountName;
use crate::domain::listed::PRIORITY;
use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use crate::store::listed::queue;
use sqlx::Connection;
use std::time::Duration;

/// Connections that are looked at in one step.
const PAGE: i64 = 1_000;

/// Which connections of an account are refreshed, and how many at a time.
#[derive(Clone, Copy, Debug)]
pub struct RefreshStep<'a> {
    /// Whose.
    pub account: &'a AccountName,
    /// Tools get no older than this, while the budget allows.
    pub after: Duration,
    /// Words of `tools_status` that say that the last sync failed, in lower case.
    pub failed: &'a [String],
    /// Most that wait to be refreshed, at least 1.
    pub most: f64,
    /// Time between steps, over all replicas.
    pub every: Duration,
}

impl Db {
    /// Looks at some more of the account's connections, in the order of their ids and from the beginning again at the end, and puts into
    /// the queue, behind all fresh work, those that are active and whose tools were last synced or tried a while ago, or,
    /// where the last sync failed, last tried. Each has its own while, of three to four quarters of `after`, so that what
    /// was synced together does not stay together. What is in the queue is left alone, but for a dead job that no
    /// request led to and whose tools failed or did not settle. One replica at a time does it. Returns how many were put there.
    ///
    /// # Errors
    /// When the database fails; nothing has happened then.
    pub async fn ask_for_refreshes(&self, step: RefreshStep<'_>) -> Result<u64, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_scalar!(
            r#"
            WITH first AS (
                INSERT INTO feather.sync_refreshes (account, due_at) VALUES ($1, now()) ON CONFLICT (account) DO NOTHING
            ), turn AS MATERIALIZED (
                -- What is due in a far future was due before the clock went back.
                SELECT behind FROM feather.sync_refreshes
                WHERE account = $1 AND due_at NOT BETWEEN now() AND now() + $2 * interval '1 second'
                FOR UPDATE SKIP LOCKED
            ), room AS MATERIALIZED (
                SELECT GREATEST(ceil($3::float8)::bigint - (SELECT count(*) FROM (
                           SELECT FROM feather.sync_jobs WHERE account = $1 AND phase = 'refresh' AND state = 'pending'
                           LIMIT ceil($3::float8)::bigint) AS waiting), 0) AS n
                FROM turn
            ), page AS MATERIALIZED (
                SELECT id, _removed_at IS NULL AND lower(status) = 'active' AS active, tools_synced_at,
                       lower(tools_status) = ANY($4) AS failed
                FROM feather.integration_connections
                -- As a pair: an index of the ids alone would be gone along, past all that other accounts have, to its end.
                WHERE (_account, id) >= ($1, (SELECT behind FROM turn)) AND _account <= $1
                  -- Which is the beginning, too, and then behind nothing.
                  AND (id > (SELECT behind FROM turn) OR id = '00000000-0000-0000-0000-000000000000')
                ORDER BY _account, id
                LIMIT $5
            ), old AS MATERIALIZED (
                SELECT p.id
                FROM page p
                LEFT JOIN LATERAL (
                    SELECT last_attempt_at FROM feather.sync_results WHERE connection_id = p.id OFFSET 0
                ) AS r ON true
                LEFT JOIN LATERAL (
                    SELECT state, error_class, finalize_started_at = wanted_at AS unasked
                    FROM feather.sync_jobs WHERE connection_id = p.id OFFSET 0
                ) AS j ON true
                LEFT JOIN LATERAL (
                    SELECT true AS waits FROM feather.sync_requests WHERE connection_id = p.id LIMIT 1
                ) AS q ON true
                WHERE p.active AND q.waits IS NULL
                  -- A dead job that a request led to stays until somebody looks at it: a refresh that fails leaves none.
                  AND (j.state IS NULL OR j.unasked AND j.error_class IN ('tools_failed', 'settle_timeout'))
                  -- Upstream's clock may be ahead, by a year as well, and ours may have been: what is still to come says nothing.
                  AND COALESCE(GREATEST(CASE WHEN NOT p.failed AND p.tools_synced_at <= now() THEN p.tools_synced_at END,
                                        CASE WHEN r.last_attempt_at <= now() THEN r.last_attempt_at END), '-infinity')
                      < now() - $6 * interval '1 second' * (0.75 + (uuid_hash(p.id) & 1023) / 4096.0)
                ORDER BY p.id
                LIMIT (SELECT n FROM room)
            ), asked AS (
                -- It says that its finalize began now: whoever asks for one from now on sees it end without being served.
                INSERT INTO feather.sync_jobs AS j
                    (connection_id, account, phase, priority, run_at, wanted_at, finalize_started_at)
                SELECT id, $1, 'refresh', $7, now(), now(), now() FROM old ORDER BY id
                ON CONFLICT (connection_id) DO UPDATE
                SET state = 'pending', error_class = NULL, account = excluded.account, phase = excluded.phase,
                    priority = excluded.priority, asked_priority = NULL, run_at = excluded.run_at, not_before = NULL,
                    wanted_at = excluded.wanted_at, finalize_started_at = excluded.finalize_started_at,
                    settle_deadline = NULL, settle_polls = 0, seen_fingerprint = NULL, seen_at = NULL, attempt = 0,
                    malformed = 0
                WHERE j.state = 'dead' AND j.finalize_started_at = j.wanted_at
                RETURNING j.connection_id
            ), moved AS (
                UPDATE feather.sync_refreshes
                SET due_at = now() + $2 * interval '1 second',
                    behind = CASE WHEN room.n = 0 THEN turn.behind
                                  WHEN (SELECT count(*) FROM old) >= room.n THEN (SELECT id FROM old ORDER BY id DESC LIMIT 1)
                                  WHEN (SELECT count(*) FROM page) >= $5 THEN (SELECT id FROM page ORDER BY id DESC LIMIT 1)
                                  ELSE '00000000-0000-0000-0000-000000000000' END
                FROM turn, room
                WHERE account = $1
            )
            SELECT count(*) AS "asked!" FROM asked
            "#,
            step.account.as_str(),
            step.every.as_secs_f64(),
            step.most,
            step.failed,
            PAGE,
            step.after.as_secs_f64(),
            PRIORITY
        );
        let result = within(async {
            let mut tx = session.begin().await?;
            queue::hold_forget(&mut tx).await?;
            let asked = query.fetch_one(&mut *tx).await?;
            tx.commit().await?;
            Ok(asked)
        })
        .await;
        session.settle(result).map(i64::unsigned_abs)
    }
}
