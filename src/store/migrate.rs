//! The schema: migrated on a connection of its own, which takes every lock with it when it closes.

mod indexes;
mod swap;

use crate::store::connection::Db;
use crate::store::connection::DbSettings;
use crate::store::connection::within;
use crate::store::error::StoreError;
use crate::store::partitions::LeftBehind;
use crate::store::partitions::left_behind;
use crate::store::route::Route;
use sqlx::Connection;
use sqlx::PgConnection;
use sqlx::migrate::MigrateError;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgDatabaseError;
use std::time::Duration;

pub use swap::Bound;

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// The roles that users of ours are members of.
pub(super) const ROLES: [&str; 3] = ["feather_worker", "feather_enqueuer", "feather_reporter"];

/// The number of the last migration that this program has.
pub fn schema_version() -> i64 {
    let versions = MIGRATOR.iter().map(|migration| migration.version);
    versions.max().unwrap_or_default()
}

/// How long to wait for another one that migrates, and how often to look.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long to wait for it where it is only to take something back.
const PATIENCE_BACK: Duration = Duration::from_secs(10);

/// The turn to migrate, and the one to build indexes and to prepare tables: numbers of advisory locks of ours.
const MIGRATING: i32 = 0;
const BUILDING: i32 = 6;
const LOOK: Duration = Duration::from_millis(100);

/// How much of the server's details is told.
const DETAIL_LINES: usize = 20;

/// Oldest server that is supported, as `server_version_num`.
pub(super) const OLDEST_SERVER: i32 = 140_000;

/// How far the database's schema is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// Everything that this program needs is there, perhaps more.
    Current,
    /// So many migrations are missing.
    Behind(usize),
}

/// What to do when the roles are missing and may not be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roles {
    /// Stop, saying what a superuser has to run.
    Required,
    /// Go on without them.
    Optional,
}

/// What `migrate` did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migrated {
    /// Migrations applied.
    pub applied: usize,
    /// Roles created.
    pub roles_created: Vec<&'static str>,
    /// Roles that are missing still.
    pub roles_missing: Vec<&'static str>,
    /// What sees only a part of a table from now on, or did before.
    pub left_behind: Vec<LeftBehind>,
}

impl Db {
    /// Compares the schema with what this program needs. A newer schema is fine: columns are only ever added.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn schema_state(&self) -> Result<SchemaState, StoreError> {
        let mut session = self.session().await?;
        let result = within(async { missing_migrations(&mut session).await }).await;
        Ok(match session.settle(result)? {
            0 => SchemaState::Current,
            missing => SchemaState::Behind(missing),
        })
    }

    /// The indexes that are missing or not valid, of those that `migrate` builds beside the migrations. The daemon works
    /// without them; some of what is asked for on the dashboard takes too long.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn missing_indexes(&self) -> Result<Vec<&'static str>, StoreError> {
        let mut session = self.session().await?;
        let result = within(async { Ok(indexes::missing_names(&mut session).await?) }).await;
        session.settle(result)
    }

    /// Tables that a [`migrate`] which did not end has prepared, and which take no rows from some day on unless another
    /// one ends.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn bounds(&self) -> Result<Vec<Bound>, StoreError> {
        let mut session = self.session().await?;
        let result = within(async { Ok(swap::bounds(&mut session).await?) }).await;
        session.settle(result)
    }
}

/// Brings the schema up to date. Safe to run from many places at once: they take turns.
///
/// Where it fails, it takes back what would stop a running fleet one day, if it can; [`Db::bounds`] tells what is left.
///
/// # Errors
/// When the database cannot be reached, a migration fails (it is rolled back, and no lock stays behind), or roles
/// are missing that may not be created.
pub async fn migrate(settings: &DbSettings, roles: Roles) -> Result<Migrated, StoreError> {
    let mut conn = Route::plain(settings.direct_url())?.connect().await?;
    let result = migrate_on(&mut conn, roles).await;
    // Closing ends the session and, with it, the lock. An error here changes nothing about the result.
    let _ = conn.close().await;
    if result.is_err() {
        // What it cannot take back is asked after by whoever wants to know.
        let _ = take_back(settings).await;
    }
    result
}

/// Takes back what would stop a running fleet one day, for a [`migrate`] that was interrupted. On a connection of its own:
/// the other one may be what has failed. Whoever has either turn meanwhile goes on, or takes it back.
///
/// # Errors
/// When the database fails, or somebody is in the way; [`Db::bounds`] tells what is left.
pub async fn take_back(settings: &DbSettings) -> Result<(), StoreError> {
    let mut conn = Route::plain(settings.direct_url())?.connect().await?;
    let result = async {
        set_up(&mut conn).await?;
        // Of a session that nobody waits for the server may still be at the last statement.
        wait_for_turn(&mut conn, BUILDING, PATIENCE_BACK).await?;
        wait_for_turn(&mut conn, MIGRATING, PATIENCE_BACK).await?;
        swap::take_back(&mut conn).await
    }
    .await;
    // The result is known.
    let _ = conn.close().await;
    result
}

/// A session in which names, times and texts mean what they mean here, and which may take as long as it takes: limits that
/// a database or a role has are meant for reports and requests, and a migration that they cut off begins anew each time.
async fn set_up(conn: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::raw_sql(
        "SET search_path = pg_catalog, pg_temp; SET lock_timeout = '5min'; SET TimeZone = 'UTC'; SET DateStyle = 'ISO';
         SELECT set_config(name, '0', false) FROM pg_settings
         WHERE name IN ('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout',
                        'idle_session_timeout')",
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn migrate_on(conn: &mut PgConnection, roles: Roles) -> Result<Migrated, StoreError> {
    let version =
        sqlx::query_scalar!(r#"SELECT current_setting('server_version_num')::int AS "version!""#)
            .fetch_one(&mut *conn)
            .await?;
    if version < OLDEST_SERVER {
        return Err(StoreError::Other(format!(
            "the server is PostgreSQL {}; feather-sync needs 14 or newer",
            version / 10_000
        )));
    }
    set_up(conn).await?;

    swap::refuse_dependents(conn).await?;
    let mut migrated = Migrated::default();
    for role in ROLES {
        match create_role(conn, role).await? {
            RoleState::Created => migrated.roles_created.push(role),
            RoleState::Exists => {}
            RoleState::Forbidden => migrated.roles_missing.push(role),
        }
    }
    if roles == Roles::Required && !migrated.roles_missing.is_empty() {
        let statements: Vec<_> = migrated
            .roles_missing
            .iter()
            .map(|role| format!("    CREATE ROLE {role} NOLOGIN;"))
            .collect();
        return Err(StoreError::Other(format!(
            "this user may not create roles, and some are missing. Have a superuser run\n{}\nand run `feather-sync \
             migrate` again, or go on without them by `feather-sync migrate --without-roles`",
            statements.join("\n")
        )));
    }

    // After all that can be refused: what is prepared and not swapped takes no rows one day.
    loop {
        swap::prepare(conn).await?;
        wait_for_turn(conn, MIGRATING, PATIENCE).await?;
        // One that failed before this one's turn has taken it back.
        if swap::is_prepared(conn).await? {
            break;
        }
        give_up_turn(conn).await?;
    }

    // The migrations' own table shall lie in our schema, so both come first.
    sqlx::raw_sql("CREATE SCHEMA IF NOT EXISTS feather; SET search_path = feather")
        .execute(&mut *conn)
        .await?;
    let before = missing_migrations(conn).await?;
    let mut migrator = Migrator {
        ..Migrator::DEFAULT
    };
    migrator.migrations = MIGRATOR.migrations.clone();
    migrator.set_locking(false).set_ignore_missing(true);
    migrator.run(&mut *conn).await.map_err(of_migrate_error)?;
    migrated.applied = before;
    sqlx::raw_sql(
        "COMMENT ON TABLE feather._sqlx_migrations IS 'Migrations that have been applied.';
         COMMENT ON COLUMN feather._sqlx_migrations.version IS 'Number of the migration.';
         COMMENT ON COLUMN feather._sqlx_migrations.description IS 'Its name.';
         COMMENT ON COLUMN feather._sqlx_migrations.installed_on IS 'When it was applied.';
         COMMENT ON COLUMN feather._sqlx_migrations.success IS 'Whether it was applied wholly.';
         COMMENT ON COLUMN feather._sqlx_migrations.checksum IS 'Hash of its text.';
         COMMENT ON COLUMN feather._sqlx_migrations.execution_time IS 'How long it took, in nanoseconds.';",
    )
    .execute(&mut *conn)
    .await?;
    if migrated.roles_missing.is_empty() {
        sqlx::raw_sql(include_str!("migrate/grants.sql"))
            .execute(&mut *conn)
            .await?;
    }
    give_up_turn(conn).await?;
    indexes::build(conn).await?;
    migrated.left_behind = left_behind(conn).await?;
    Ok(migrated)
}

/// One migrates at a time. Asked again and again, since building an index waits for every transaction, and one that waits
/// for this lock is one.
async fn wait_for_turn(
    conn: &mut PgConnection,
    turn: i32,
    patience: Duration,
) -> Result<(), StoreError> {
    for _ in 0..patience.as_millis() / LOOK.as_millis() {
        let mine = sqlx::query_scalar!(
            r#"SELECT pg_try_advisory_lock(7305801, $1) AS "mine!""#,
            turn
        )
        .fetch_one(&mut *conn)
        .await?;
        if mine {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    let why = format!("another `feather-sync migrate` has not ended within {patience:?}");
    Err(StoreError::Other(why))
}

async fn give_up_turn(conn: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query!(r#"SELECT pg_advisory_unlock(7305801, 0) AS "unlocked!""#)
        .fetch_one(conn)
        .await?;
    Ok(())
}

enum RoleState {
    Created,
    Exists,
    Forbidden,
}

/// Roles belong to the whole cluster: another database's migration may create the same one at the same time.
async fn create_role(conn: &mut PgConnection, role: &'static str) -> Result<RoleState, StoreError> {
    let exists = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1) AS "exists!""#,
        role
    )
    .fetch_one(&mut *conn)
    .await?;
    if exists {
        return Ok(RoleState::Exists);
    }
    let statement = sqlx::AssertSqlSafe(format!(
        "CREATE ROLE {role} NOLOGIN; COMMENT ON ROLE {role} IS 'feather-sync: grant it to users of your own'"
    ));
    match sqlx::raw_sql(statement).execute(conn).await {
        Ok(_) => Ok(RoleState::Created),
        Err(sqlx::Error::Database(error)) => match error.code().as_deref() {
            Some("42710" | "23505") => Ok(RoleState::Exists),
            Some("42501") => Ok(RoleState::Forbidden),
            _ => Err(sqlx::Error::Database(error).into()),
        },
        Err(error) => Err(error.into()),
    }
}

async fn missing_migrations(conn: &mut PgConnection) -> Result<usize, StoreError> {
    let there = sqlx::query_scalar!(
        r#"SELECT to_regclass('feather._sqlx_migrations') IS NOT NULL AS "there!""#
    )
    .fetch_one(&mut *conn)
    .await?;
    let applied = if there {
        sqlx::query_scalar!("SELECT version FROM feather._sqlx_migrations WHERE success")
            .fetch_all(conn)
            .await?
    } else {
        Vec::new()
    };
    Ok(MIGRATOR
        .iter()
        .filter(|migration| !applied.contains(&migration.version))
        .count())
}

fn of_migrate_error(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) => error.into(),
        MigrateError::ExecuteMigration(error, version) => {
            let detail = detail(&error);
            match StoreError::from(error) {
                StoreError::Conflict(error) => StoreError::Other(format!(
                    "migration {version} did not get its locks in time and was rolled back: {error}. A transaction that \
                     stays open is in its way (pg_stat_activity names it); run `feather-sync migrate` again"
                )),
                passing if passing.is_passing() => passing,
                error => StoreError::Other(format!(
                    "migration {version} failed and was rolled back: {error}{detail}"
                )),
            }
        }
        error => StoreError::Other(error.to_string()),
    }
}

/// What the server says beyond its message, as what depends on something that is dropped: on one line, and not endless.
fn detail(error: &sqlx::Error) -> String {
    let error = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    let Some(detail) = error.and_then(PgDatabaseError::detail) else {
        return String::new();
    };
    let lines: Vec<_> = detail.lines().take(DETAIL_LINES).collect();
    format!(". {}", lines.join(" "))
}
