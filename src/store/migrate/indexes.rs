//! Indexes on tables that may be large and busy when they come: built beside those who write, which no transaction can
//! do, and so not by a migration.

use crate::store::error::StoreError;
use sqlx::PgConnection;

/// An index that is built while the daemons work.
struct Index {
    name: &'static str,
    build: &'static str,
    drop: &'static str,
    comment: &'static str,
}

const INDEXES: [Index; 1] = [Index {
    name: "integration_connection_tools_changed",
    build: "CREATE INDEX CONCURRENTLY integration_connection_tools_changed
                ON feather.integration_connection_tools (_changed_at, connection_id, id)",
    drop: "DROP INDEX CONCURRENTLY feather.integration_connection_tools_changed",
    comment: "COMMENT ON INDEX feather.integration_connection_tools_changed IS 'For incremental extracts.'",
}];

/// Builds what is missing, and anew what somebody has interrupted. Waits for all transactions that are older: so nobody
/// may wait within one for the caller's locks.
///
/// # Errors
/// When the database fails, or a transaction stays open for longer than the session's `lock_timeout`. What was begun is
/// done away with next time.
pub(super) async fn build(conn: &mut PgConnection) -> Result<(), StoreError> {
    for index in INDEXES {
        let valid = sqlx::query_scalar!(
            r#"SELECT indisvalid FROM pg_catalog.pg_index WHERE indexrelid = to_regclass('feather.' || $1::text)"#,
            index.name
        )
        .fetch_optional(&mut *conn)
        .await?;
        if valid == Some(true) {
            continue;
        }
        if valid == Some(false) {
            run(conn, index.drop).await?;
        }
        run(conn, index.build).await?;
        run(conn, index.comment).await?;
    }
    Ok(())
}

async fn run(conn: &mut PgConnection, statement: &'static str) -> Result<(), StoreError> {
    match sqlx::raw_sql(statement).execute(conn).await {
        Ok(_) => Ok(()),
        Err(error) => Err(match StoreError::from(error) {
            StoreError::Conflict(error) => StoreError::Other(format!(
                "an index could not be built: {error}. A transaction that stays open is in its way (pg_stat_activity names \
                 it); everything else is done, and `feather-sync migrate` tries again"
            )),
            error => error,
        }),
    }
}
