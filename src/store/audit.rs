//! Who did what.

use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use chrono::DateTime;
use chrono::Utc;
use uuid::Uuid;

/// A row of the record.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the table's comments say it")]
pub struct AuditRow {
    pub id: i64,
    pub at: DateTime<Utc>,
    pub actor: String,
    pub action: String,
    pub account: Option<String>,
    pub connection_id: Option<Uuid>,
    pub detail: Option<String>,
}

impl Db {
    /// Up to `most` rows before the one of this number, newest first; without a number, the newest.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit(&self, before: Option<i64>, most: u32) -> Result<Vec<AuditRow>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_as!(
            AuditRow,
            "SELECT id, at, actor, action, account, connection_id, detail FROM feather.sync_audit
             WHERE id < $1 ORDER BY id DESC LIMIT $2",
            before.unwrap_or(i64::MAX),
            i64::from(most)
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        session.settle(result)
    }
}
