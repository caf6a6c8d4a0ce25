//! The pool of working sessions. Why not the driver's: that one tries a server in trouble again for every waiter at
//! once, then says only that it has waited; and it knows one host.

use crate::store::connection::PoolState;
use crate::store::error::StoreError;
use crate::store::route::Route;
use sqlx::Connection;
use sqlx::PgConnection;
use std::ops::Deref;
use std::ops::DerefMut;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::Notify;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

/// How long to wait for one of the sessions to be given back.
const TURN: Duration = Duration::from_secs(5);
/// A session that was idle for longer is tested before it is used. Testing each would double the cost of all that is
/// cheap; what broke meanwhile is found by its use, closed, and the operation tried again.
const TESTED_AFTER: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(2);
/// Idle for longer, or older, a session is closed.
const IDLE: Duration = Duration::from_secs(300);
const OLD: Duration = Duration::from_secs(1_800);

/// At most so many sessions, made when they are needed.
pub(super) struct Pool {
    route: Arc<Route>,
    most: u32,
    slots: Arc<Semaphore>,
    idle: Mutex<Idle>,
    /// One in use is no longer.
    given_back: Notify,
}

#[derive(Default)]
struct Idle {
    /// The one used last is at the end, and used next.
    sessions: Vec<(Made, Instant)>,
    /// Sessions made in an earlier round are not trusted any more: one of them was found broken, or the server
    /// read-only.
    round: u64,
    in_use: u32,
}

struct Made {
    conn: PgConnection,
    at: Instant,
    round: u64,
}

impl Pool {
    pub(super) fn new(route: Arc<Route>, most: u32) -> Self {
        Self {
            route,
            most,
            slots: Arc::new(Semaphore::new(most as usize)),
            idle: Mutex::default(),
            given_back: Notify::new(),
        }
    }

    /// A session of its own for one operation.
    pub(super) async fn borrow(pool: &Arc<Self>) -> Result<Session, StoreError> {
        let slot = match tokio::time::timeout(TURN, pool.slots.clone().acquire_owned()).await {
            Ok(Ok(slot)) => slot,
            Ok(Err(_)) => return Err(StoreError::Unavailable("the pool is closed".into())),
            Err(_) => {
                return Err(StoreError::Unavailable(
                    "no connection became free in time".into(),
                ));
            }
        };
        let began = Instant::now();
        loop {
            if let Some(made) = pool.take_idle().await {
                return Ok(Session::new(pool, made, slot));
            }
            let given_back = pool.given_back.notified();
            let round = pool.lock().round;
            let error = match pool.route.connect().await {
                Ok(conn) => {
                    let at = Instant::now();
                    return Ok(Session::new(pool, Made { conn, at, round }, slot));
                }
                Err(error) => error,
            };
            // There may be no room for one more, and those there are will do.
            let left = TURN.saturating_sub(began.elapsed());
            let alone = pool.lock().in_use == 0;
            if alone || tokio::time::timeout(left, given_back).await.is_err() {
                return Err(error);
            }
        }
    }

    async fn take_idle(&self) -> Option<Made> {
        loop {
            let (mut made, since) = self.lock().sessions.pop()?;
            if since.elapsed() <= TESTED_AFTER {
                return Some(made);
            }
            let answer = tokio::time::timeout(ANSWER, made.conn.ping()).await;
            if matches!(answer, Ok(Ok(()))) {
                return Some(made);
            }
            self.distrust(made.round);
        }
    }

    pub(super) fn most(&self) -> u32 {
        self.most
    }

    pub(super) fn state(&self) -> PoolState {
        let idle = self.lock();
        PoolState {
            idle: u32::try_from(idle.sessions.len()).unwrap_or(u32::MAX),
            busy: idle.in_use,
        }
    }

    pub(super) async fn close(&self) {
        self.slots.close();
        let sessions = std::mem::take(&mut self.lock().sessions);
        for (made, _) in sessions {
            // Leaving politely saves the server a line in its log, no more.
            let _ = made.conn.close().await;
        }
    }

    fn give_back(&self, made: Made) {
        let mut idle = self.lock();
        if made.round == idle.round && made.at.elapsed() < OLD && !self.slots.is_closed() {
            idle.sessions.push((made, Instant::now()));
        }
        idle.sessions.retain(|(_, since)| since.elapsed() < IDLE);
    }

    /// Closes what is idle of this round and whatever of it is still to be given back.
    fn distrust(&self, round: u64) {
        let mut idle = self.lock();
        if idle.round == round {
            idle.round += 1;
            idle.sessions.clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A borrowed session. It goes back to the pool only when [settled](Session::settle) with a success; in every other
/// case (failed, timed out, cancelled) it is closed, and the server ends its transaction.
pub(super) struct Session {
    made: Made,
    /// Counted as in use until this is dropped, after the connection.
    using: Using,
}

struct Using {
    pool: Arc<Pool>,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Using {
    fn drop(&mut self) {
        self.pool.lock().in_use -= 1;
        self.pool.given_back.notify_waiters();
    }
}

impl Session {
    fn new(pool: &Arc<Pool>, made: Made, slot: OwnedSemaphorePermit) -> Self {
        pool.lock().in_use += 1;
        let using = Using {
            pool: pool.clone(),
            _slot: slot,
        };
        Self { made, using }
    }

    pub(super) fn settle<T>(self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        // Reversed at the end of the scope: the connection goes before its slot.
        let Self { using, made } = self;
        match &result {
            Ok(_) => using.pool.give_back(made),
            // The others of this round have the same server and likely the same fate.
            Err(StoreError::Unavailable(_) | StoreError::ReadOnly(_) | StoreError::Timeout(_)) => {
                using.pool.distrust(made.round);
            }
            Err(_) => {}
        }
        result
    }
}

impl Deref for Session {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.made.conn
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.made.conn
    }
}
