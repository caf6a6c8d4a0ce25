//! What keeps the server from cleaning up: the oldest transaction that may still look at what was.

use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use std::time::Duration;

impl Db {
    /// Age of the oldest transaction in this database, a prepared one included. While it is open no row that has died
    /// since is taken away, and the queue's index grows. Sessions of other roles show their age to members of
    /// `pg_read_all_stats` only.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn oldest_transaction(&self) -> Result<Duration, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_scalar!(
            r#"
            SELECT GREATEST(
                (SELECT max(EXTRACT(epoch FROM clock_timestamp() - xact_start)) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()
                   AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)),
                (SELECT max(EXTRACT(epoch FROM clock_timestamp() - prepared)) FROM pg_prepared_xacts
                 WHERE database = current_database()),
                0)::float8 AS "seconds!"
            "#
        );
        let result = within(async { Ok(query.fetch_one(&mut *session).await?) }).await;
        session.settle(result).map(super::seconds)
    }
}
