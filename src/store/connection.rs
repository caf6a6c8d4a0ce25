//! The pool, and sessions that are closed rather than reused when in doubt.

use crate::store::error::StoreError;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use sqlx::ConnectOptions;
use sqlx::Connection;
use sqlx::PgConnection;
use sqlx::PgPool;
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::PgPoolOptions;
use std::ops::Deref;
use std::ops::DerefMut;
use std::str::FromStr;
use std::time::Duration;

/// How long any one operation may take before its connection is given up.
const DEADLINE: Duration = Duration::from_secs(40);
/// How long to wait for a connection.
const ACQUIRE: Duration = Duration::from_secs(5);

/// A connection that was idle for longer is tested before it is used.
const TESTED_AFTER: Duration = Duration::from_secs(30);

/// How the database is reached.
#[derive(Clone, Debug)]
pub struct DbSettings {
    /// `postgres://…`.
    pub url: SecretString,
    /// A direct connection for LISTEN and migrations, where `url` leads through a transaction pooler.
    pub listen_url: Option<SecretString>,
    /// Most connections of this process.
    pub max_connections: u32,
    /// Whether to keep prepared statements.
    pub prepared_statements: bool,
}

impl DbSettings {
    pub(super) fn options(&self) -> Result<PgConnectOptions, StoreError> {
        let options = connect_options(&self.url)?;
        Ok(if self.prepared_statements {
            options
        } else {
            options.statement_cache_capacity(0)
        })
    }

    pub(super) fn direct_options(&self) -> Result<PgConnectOptions, StoreError> {
        connect_options(self.listen_url.as_ref().unwrap_or(&self.url))
    }
}

/// A connection of its own, or why there is none, soon enough for somebody who waits.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    match tokio::time::timeout(ACQUIRE, PgConnection::connect_with(options)).await {
        Ok(conn) => Ok(conn?),
        Err(_) => Err(StoreError::Timeout(ACQUIRE)),
    }
}

fn connect_options(url: &SecretString) -> Result<PgConnectOptions, StoreError> {
    let url = url.expose_secret();
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return Err(StoreError::Url(
            "it must begin with postgres:// or postgresql://".into(),
        ));
    }
    // What an operation came to is logged where it is handled; the driver's own log would repeat whole queries.
    let options = PgConnectOptions::from_str(url)?
        .application_name("feather-sync")
        .disable_statement_logging();
    // The driver may fall back to the user "anonymous"; libpq's rule is the operating system's user.
    let names_user = url.split_once("://").is_some_and(|(_, rest)| {
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        authority.contains('@') || rest.contains("?user=") || rest.contains("&user=")
    });
    if names_user || std::env::var_os("PGUSER").is_some() {
        return Ok(options);
    }
    Ok(match std::env::var("USER") {
        Ok(user) if !user.is_empty() => options.username(&user),
        _ => options,
    })
}

/// Connections in the pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolState {
    /// Not in use.
    pub idle: u32,
    /// In use.
    pub busy: u32,
}

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    pool: PgPool,
    settings: DbSettings,
}

impl Db {
    /// Makes the pool. Nothing is connected yet.
    ///
    /// # Errors
    /// When the URL cannot be read.
    pub fn new(settings: &DbSettings) -> Result<Self, StoreError> {
        let pool = PgPoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(ACQUIRE)
            .idle_timeout(Duration::from_secs(300))
            // A round trip before every use would double the cost of all that is cheap; what broke meanwhile is
            // found by its use, closed, and the operation tried again.
            .test_before_acquire(false)
            .before_acquire(|conn, meta| {
                Box::pin(async move {
                    if meta.idle_for > TESTED_AFTER {
                        conn.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(|conn, _| Box::pin(prepare_session(conn)))
            .connect_lazy_with(settings.options()?);
        Ok(Self {
            pool,
            settings: settings.clone(),
        })
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        let answer = within(async { Ok(session.ping().await?) }).await;
        session.settle(answer)
    }

    /// Connects once, without the pool's patience for a server that is down.
    ///
    /// # Errors
    /// Why it cannot be reached.
    pub async fn reach(&self) -> Result<(), StoreError> {
        let conn = connect(&self.settings.options()?).await?;
        // It was reached; how it is left changes nothing about that.
        let _ = conn.close().await;
        Ok(())
    }

    /// Connections as of now.
    pub fn pool_state(&self) -> PoolState {
        let idle = u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX);
        PoolState {
            idle,
            busy: self.pool.size().saturating_sub(idle),
        }
    }

    /// Closes the pool.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    pub(super) fn settings(&self) -> &DbSettings {
        &self.settings
    }

    pub(super) async fn session(&self) -> Result<Session, StoreError> {
        let conn = self.pool.acquire().await?;
        Ok(Session { conn, clean: false })
    }
}

/// Limits on the server's side, so that no lock or snapshot of ours outlives a lost worker for long. And no plan that
/// was made and kept while a table was empty may read the whole table later: every query here has its index. Compiling queries that take a millisecond takes
/// hundreds.
pub(super) async fn prepare_session(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(
        "SET statement_timeout = '30s'; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '15s'; \
         SET enable_seqscan = off; SET jit = off",
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// From so many rows on, a statement gets a plan of its own.
const MANY_ROWS: usize = 1_000;

/// Prepares the transaction for statements about so many rows. The kept plan is for few and may compare each with
/// each: with all the tools that fit into one answer, that takes longer than a statement may. Every join has its
/// `= ANY`, so that none of these plans reads a whole table either.
pub(super) async fn plan_for(conn: &mut PgConnection, rows: usize) -> Result<(), sqlx::Error> {
    if rows >= MANY_ROWS {
        sqlx::raw_sql(
            "SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL enable_nestloop = off",
        )
        .execute(conn)
        .await?;
    }
    Ok(())
}

/// Bounds an operation in time. The session that it used is not [settled](Session::settle) then, and so closed.
pub(super) async fn within<T>(
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(DEADLINE, operation).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Timeout(DEADLINE)),
    }
}

/// A borrowed connection that goes back to the pool only when [settled](Session::settle) after a success or an
/// error that leaves no transaction open. Dropped otherwise (cancelled, timed out, broken), it is closed: a
/// connection of sqlx 0.9 whose `begin` was cancelled would keep the next borrower inside that transaction.
pub(super) struct Session {
    conn: PoolConnection<Postgres>,
    clean: bool,
}

impl Session {
    pub(super) fn settle<T>(mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.clean = match &result {
            Ok(_) => true,
            Err(error) => matches!(
                error,
                StoreError::Data(_) | StoreError::Conflict(_) | StoreError::CutOff(_)
            ),
        };
        result
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.clean {
            self.conn.close_on_drop();
        }
    }
}

impl Deref for Session {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.conn
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.conn
    }
}
