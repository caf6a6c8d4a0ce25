//! Indexes of tables that are large and in use when they come. They are built without a lock that anybody waits for, which
//! no transaction can do, and which leaves a useless index behind where it is interrupted; so they are no migrations:
//! every `migrate` builds what is missing and builds anew what is not valid.

use crate::store::error::StoreError;
use sqlx::PgConnection;
use std::time::Duration;

/// An index.
struct Index {
    name: &'static str,
    /// What follows `CREATE INDEX CONCURRENTLY … ON feather.`
    on: &'static str,
    comment: &'static str,
}

/// All of them. Their keys are cut to a length that an index takes: what upstream sends may be of any.
static INDEXES: [Index; 7] = [
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
        name: "integration_connections_account",
        on: "integration_connections (_account, id)",
        comment: "For the look for old tools, account by account.",
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

/// Between two looks whether somebody else is done.
const AGAIN: Duration = Duration::from_millis(100);

/// Builds those that are missing or not valid, if nobody else does.
///
/// No lock may be held that others wait for: a build waits for every transaction that began before it, and so for theirs.
/// For the same reason, whose turn it is to build is asked again and again, never waited for.
pub(super) async fn build(conn: &mut PgConnection) -> Result<(), StoreError> {
    if missing(conn).await?.is_empty() {
        return Ok(());
    }
    while !sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock(7305801, 6) AS "mine!""#)
        .fetch_one(&mut *conn)
        .await?
    {
        tokio::time::sleep(AGAIN).await;
    }
    for (Index { name, on, comment }, is_there) in missing(conn).await? {
        if is_there {
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

/// The names of those that are not there, or not valid.
pub(super) async fn missing_names(
    conn: &mut PgConnection,
) -> Result<Vec<&'static str>, sqlx::Error> {
    let missing = missing(conn).await?;
    Ok(missing.iter().map(|(index, _)| index.name).collect())
}

/// Those that are not there, or not valid: then they are being built, or a build was interrupted.
async fn missing(conn: &mut PgConnection) -> Result<Vec<(&'static Index, bool)>, sqlx::Error> {
    let names: Vec<_> = INDEXES.iter().map(|index| index.name).collect();
    let there = sqlx::query!(
        r#"SELECT n.name AS "name!", i.indisvalid AS valid FROM unnest($1::text[]) AS n (name)
           JOIN pg_catalog.pg_index i ON i.indexrelid = to_regclass('feather.' || n.name)"#,
        &names as _
    )
    .fetch_all(conn)
    .await?;
    let is = |index: &Index, valid: bool| {
        let mut rows = there.iter();
        rows.any(|row| row.name == index.name && row.valid == valid)
    };
    let lacking = INDEXES.iter().filter(|index| !is(index, true));
    Ok(lacking.map(|index| (index, is(index, false))).collect())
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
