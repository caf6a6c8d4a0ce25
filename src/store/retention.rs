//! What is deleted by age, a little at a time.

use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use std::time::Duration;

impl Db {
    /// Deletes up to `limit` attempts older than `keep`, actions that were over before, and minutes older than
    /// `keep_minutes`. Returns how many attempts went.
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
            WITH old AS (
                SELECT connection_id, id FROM feather.sync_attempts
                WHERE finished_at < now() - $1 * interval '1 second'
                ORDER BY finished_at
                LIMIT $2
                FOR UPDATE SKIP LOCKED
            ), gone AS (
                DELETE FROM feather.sync_attempts a USING old
                WHERE a.connection_id = old.connection_id AND a.id = old.id
                RETURNING a.id
            ), actions AS (
                DELETE FROM feather.sync_actions WHERE finished_at < now() - $1 * interval '1 second'
            ), counts AS (
                DELETE FROM feather.sync_throughput WHERE minute < now() - $3 * interval '1 second'
            )
            SELECT count(*) AS "gone!" FROM gone
            "#,
            keep.as_secs_f64(),
            i64::from(limit),
            // The last hour is always shown.
            keep_minutes.as_secs_f64().max(7_200.0)
        );
        let result = within(async { Ok(query.fetch_one(&mut *session).await?) }).await;
        session.settle(result).map(i64::unsigned_abs)
    }
}
