//! Indexes of tables that are large and in use when they come. They are built without a lock that anybody waits for, which
//! no transaction can do, and which leaves a useless index behind where it is interrupted; so they are no migrations:
//! every `migrate` builds what is missing and builds anew what is not valid.

use crate::store::error::StoreError;
use sqlx::PgConnection;

/// An index.
struct Index {
    name: &'static str,
    /// What follows `CREATE INDEX CONCURRENTLY … ON feather.`
    on: &'static str,
    comment: &'static str,
}

/// All of them. Their keys are cut to a length that an index takes: what upstream sends may be of any.
const INDEXES: [Index; 6] = [
    Index {
        name: "sync_jobs_deaths",
        on: "sync_jobs (account, error_class, run_at, connection_id) WHERE state = 'dead'",
        comment: "For lists of dead jobs, by account and class, in the order of their deaths.",
    },
    Index {
        name: "integration_connection_tools_changed",
        on: "integration_connection_tools (_changed_at, connection_id, id)",
        comment: "For incremental extracts, and for lists of what was added, changed or removed lately.",
    },
    Index {
        name: "integration_connections_nickname",
        on: r#"integration_connections (lower(left(nickname_slug, 60) COLLATE "C"), id) WHERE _removed_at IS NULL"#,
        comment: "For the search for tools by the beginning of a slug, which begins with the one of its connection.",
    },
    Index {
        name: "integration_connections_integration",
        on: "integration_connections (left(integration_key, 60), id) WHERE _removed_at IS NULL",
        comment: "For the search for tools by integration.",
    },
    Index {
        name: "integration_connection_tools_stale",
        on: "integration_connection_tools (connection_id, id)
             WHERE _removed_at IS NULL AND (stale_field_paths <> '{}' OR stale_input_fields <> '{}')",
        comment: "For lists of tools with stale fields.",
    },
    Index {
        name: "integration_connection_tools_disabled",
        on: "integration_connection_tools (connection_id, id) WHERE _removed_at IS NULL AND NOT is_enabled",
        comment: "For lists of disabled tools.",
    },
];

/// Builds those that are missing or not valid. Whoever migrates takes turns, so none of them is being built.
pub(super) async fn build(conn: &mut PgConnection) -> Result<(), StoreError> {
    for index in &INDEXES {
        let is_valid = sqlx::query_scalar!(
            "SELECT indisvalid FROM pg_catalog.pg_index WHERE indexrelid = to_regclass('feather.' || $1)",
            index.name
        )
        .fetch_optional(&mut *conn)
        .await?;
        if is_valid == Some(true) {
            continue;
        }
        let Index { name, on, comment } = index;
        if is_valid == Some(false) {
            let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS feather.{name}");
            run(conn, drop, name).await?;
        }
        let create = format!("CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON feather.{on}");
        run(conn, create, name).await?;
        let say = format!("COMMENT ON INDEX feather.{name} IS '{comment}'");
        run(conn, say, name).await?;
    }
    Ok(())
}

async fn run(conn: &mut PgConnection, statement: String, name: &str) -> Result<(), StoreError> {
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(conn)
        .await;
    done.map_err(|error| match StoreError::from(error) {
        StoreError::Conflict(error) | StoreError::RowLocked(error) => StoreError::Other(format!(
            "index {name} was not built: {error}. Building it waits for every transaction that began before, and one \
             stays open (pg_stat_activity names it); run `feather-sync migrate` again. The daemon works without the index"
        )),
        error => error,
    })?;
    Ok(())
}
