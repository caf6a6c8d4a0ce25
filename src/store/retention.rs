//! What is deleted by age, a little at a time: what no partition is dropped with.

use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use crate::store::partitions::LEAST_OF_MINUTES;
use std::time::Duration;

impl Db {
    /// Deletes actions that were over longer than `keep` ago and, of the rows from before there were partitions, up to
    /// `limit` attempts older than `keep` and up to `limit` minutes older than `keep_minutes`. Returns how many attempts
    /// or minutes went, whichever are more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_history(
        &self,
        keep: Duration,
        keep_minutes: Duration,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_scalar!(
            r#"
            WITH bounds AS MATERIALIZED (
                -- Of the part that holds what was there before: it and the rest alone are looked into.
                SELECT (SELECT LEAST(p.until, now() - $1 * interval '1 second')
                        FROM feather.partition_bounds('sync_attempts') AS p WHERE p.since = '-infinity') AS attempts,
                       (SELECT LEAST(p.until, now() - $3 * interval '1 second')
                        FROM feather.partition_bounds('sync_throughput') AS p WHERE p.since = '-infinity') AS minutes
            ), old_attempts AS (
                SELECT ctid AS place FROM feather.sync_attempts WHERE finished_at < (SELECT attempts FROM bounds)
                ORDER BY finished_at
                LIMIT $2
                FOR UPDATE SKIP LOCKED
            ), attempts AS (
                -- By place, so that no plan reads all of a part. The same place in the other one is as old, or not there.
                DELETE FROM feather.sync_attempts
                WHERE ctid = ANY (ARRAY(SELECT place FROM old_attempts)) AND finished_at < (SELECT attempts FROM bounds)
                RETURNING 1
            ), old_minutes AS (
                SELECT ctid AS place FROM feather.sync_throughput WHERE minute < (SELECT minutes FROM bounds)
                ORDER BY minute
                LIMIT $2
                FOR UPDATE SKIP LOCKED
            ), minutes AS (
                DELETE FROM feather.sync_throughput
                WHERE ctid = ANY (ARRAY(SELECT place FROM old_minutes)) AND minute < (SELECT minutes FROM bounds)
                RETURNING 1
            ), actions AS (
                DELETE FROM feather.sync_actions WHERE finished_at < now() - $1 * interval '1 second'
            )
            SELECT GREATEST((SELECT count(*) FROM attempts), (SELECT count(*) FROM minutes)) AS "gone!"
            "#,
            keep.as_secs_f64(),
            i64::from(limit),
            keep_minutes.max(LEAST_OF_MINUTES).as_secs_f64()
        );
        let result = within(async { Ok(query.fetch_one(&mut *session).await?) }).await;
        session.settle(result).map(i64::unsigned_abs)
    }
}
