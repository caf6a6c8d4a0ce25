//! The wake-up hint. Polling is the truth; this only makes it quicker.

use crate::store::connection::Db;
use crate::store::error::StoreError;
use sqlx::Executor;
use sqlx::postgres::PgListener;
use sqlx::postgres::PgPoolOptions;
use std::time::Duration;

/// How long the wake-ups of requests that keep coming are spared.
const SPARED: Duration = Duration::from_millis(50);
/// Silence after which the listening connection is tested.
const SELF_CHECK: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(10);

/// What a wake-up says of an action on all jobs of a filter.
pub(super) const ACTION: &str = "action";
/// What the trigger says of requests. The version before says it of everything.
const REQUEST: &str = "";
/// What it says where those of many producers have been spared.
const REQUESTS: &str = "requests";
/// What a wake-up says of anything else.
pub(super) const WORK: &str = "work";

/// What a wake-up is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeUp {
    /// An action on all jobs of a filter has been asked for, or given back.
    Action,
    /// A producer's requests are in the inbox.
    Request,
    /// Those of many are, who were spared theirs.
    Requests,
    /// Anything else: jobs have become due, a pause is over.
    Work,
}

/// A connection that listens for wake-ups. To be dropped and made anew on any error: the driver's own reconnection
/// neither covers every error nor may it be cancelled.
pub struct Listener {
    inner: PgListener,
}

impl Db {
    /// Listens on a connection of its own, outside the pool.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn listen(&self) -> Result<Listener, StoreError> {
        // The driver's pool tries a server that is down again and again; so first one that is not is found.
        let options = self.direct().options().await?;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ANSWER)
            .connect_lazy_with(options);
        let mut inner = PgListener::connect_with(&pool).await?;
        inner.ignore_pool_close_event(true);
        inner.eager_reconnect(false);
        inner.listen("feather_sync").await?;
        Ok(Listener { inner })
    }
}

impl Listener {
    /// Waits for a wake-up, and now and then asks the server for a sign of life meanwhile.
    ///
    /// # Errors
    /// When the connection is gone or silent. Not to be used again then.
    pub async fn wait(&mut self) -> Result<WakeUp, StoreError> {
        loop {
            if let Ok(notified) = tokio::time::timeout(SELF_CHECK, self.inner.try_recv()).await {
                return match notified? {
                    Some(told) if told.payload() == ACTION => Ok(WakeUp::Action),
                    Some(told) if told.payload() == REQUEST => Ok(WakeUp::Request),
                    Some(told) if told.payload() == REQUESTS => Ok(WakeUp::Requests),
                    Some(_) => Ok(WakeUp::Work),
                    None => Err(StoreError::Unavailable(
                        "the listening connection was closed".into(),
                    )),
                };
            }
            match tokio::time::timeout(ANSWER, self.inner.execute("SELECT 1")).await {
                Ok(answer) => _ = answer?,
                Err(_) => return Err(StoreError::Timeout(ANSWER)),
            }
        }
    }

    /// Spares producers their wake-ups for a moment, and then gives one for all of them, to all that listen: `true`. Where
    /// another replica does so, or a producer keeps its transaction open, nothing. Wake-ups that come meanwhile are heard
    /// afterwards.
    ///
    /// # Errors
    /// When the connection is gone or silent. Not to be used again then.
    pub async fn spare(&mut self) -> Result<bool, StoreError> {
        // As a producer does whose transaction takes so long: the server ends it, whatever becomes of us. The lock is the
        // trigger's; where many ask, somebody holds it nearly always, and waiting is what makes them find it taken.
        let spare = sqlx::query!(
            r#"
            SELECT set_config('synchronous_commit', 'off', true) AS lazily,
                set_config('lock_timeout', '50ms', true) AS briefly,
                pg_advisory_xact_lock(7305801, 1),
                -- The commit of a notification waits for those of others, and has to happen.
                set_config('lock_timeout', '0', true) AS patiently,
                pg_sleep($1),
                pg_notify('feather_sync', $2)
            WHERE pg_try_advisory_xact_lock(7305801, 8) -- One replica at a time.
            "#,
            SPARED.as_secs_f64(),
            REQUESTS,
        )
        .fetch_optional(&mut self.inner);
        match tokio::time::timeout(ANSWER, spare).await {
            Ok(done) => match done.map_err(StoreError::from) {
                Err(error) if error.is_in_the_way() => Ok(false),
                done => Ok(done?.is_some()),
            },
            Err(_) => Err(StoreError::Timeout(ANSWER)),
        }
    }
}
