//! How the database is reached, and within which time it has to answer.

use crate::store::error::StoreError;
use crate::store::pool::Pool;
use crate::store::pool::Session;
use crate::store::route::Route;
use secrecy::SecretString;
use sqlx::Connection;
use std::sync::Arc;
use std::time::Duration;

/// How long any one operation may take before its connection is given up.
pub(super) const DEADLINE: Duration = Duration::from_secs(40);

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
    pub(super) fn direct_url(&self) -> &SecretString {
        self.listen_url.as_ref().unwrap_or(&self.url)
    }
}

/// What is written beside the rows themselves when they change.
#[derive(Clone, Copy, Debug)]
pub struct Recording {
    /// What they were before is kept.
    pub history: bool,
    /// Whoever listens on `feather_sync_events` hears of new events.
    pub notify: bool,
}

impl Default for Recording {
    fn default() -> Self {
        Self {
            history: true,
            notify: false,
        }
    }
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
    pool: Arc<Pool>,
    direct: Arc<Route>,
    recording: Recording,
}

impl Db {
    /// Makes the pool. Nothing is connected yet.
    ///
    /// # Errors
    /// When the URL cannot be read.
    pub fn new(settings: &DbSettings) -> Result<Self, StoreError> {
        let route = Route::working(&settings.url, settings.prepared_statements)?;
        Ok(Self {
            pool: Arc::new(Pool::new(route, settings.max_connections)),
            direct: Route::plain(settings.direct_url())?,
            recording: Recording::default(),
        })
    }

    /// The same database, of whose changes something else is recorded.
    #[must_use]
    pub fn recorded(self, recording: Recording) -> Self {
        Self { recording, ..self }
    }

    pub(super) fn recording(&self) -> Recording {
        self.recording
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

    /// Most connections of this process.
    pub fn max_connections(&self) -> u32 {
        self.pool.most()
    }

    /// Connections as of now.
    pub fn pool_state(&self) -> PoolState {
        self.pool.state()
    }

    /// Closes the pool. Sessions in use are closed when they are given back.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    pub(super) fn direct(&self) -> &Arc<Route> {
        &self.direct
    }

    pub(super) async fn session(&self) -> Result<Session, StoreError> {
        Pool::borrow(&self.pool).await.map_err(|error| match error {
            // No statement has run: whatever it is, it is the server's trouble and no row's fault.
            StoreError::Other(why) => StoreError::Unavailable(why),
            error => error,
        })
    }
}

/// Bounds an operation in time. The session that it used is not [settled](Session::settle) then, and so closed.
pub(super) async fn within<T>(
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    within_time(DEADLINE, operation).await
}

/// [`within`] another time than the usual.
pub(super) async fn within_time<T>(
    deadline: Duration,
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(deadline, operation).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Timeout(deadline)),
    }
}
