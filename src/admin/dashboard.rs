//! The dashboard: pages for people, made on the server, of this one binary alone.
//!
//! A **page** is a handler that takes a [`Look`] and gives it a function from the [`Desk`] to [`Page`]. The function is
//! called for each look, and again every few seconds for a browser that keeps listening; so every page is live, with
//! the filters in its address. An **action** is a handler below [`door::DO`] that takes an [`Act`] and ends with
//! [`Act::done`]. Guards stand before both: by the time a handler runs, whoever asks may.
//!
//! | module | subject |
//! |---|---|
//! | `look`, `stream` | from a request to a page, once or again and again |
//! | `act` | from a form to what is done and said |
//! | `entrance`, `sessions` | who may come in |
//! | `layout`, `text`, `state`, `chart`, `timeline`, `assets` | what pages are made of |
//! | `memory` | what is not asked anew for each look |
//! | all others | one page each, with its actions |

mod accounts;
mod act;
mod actions;
mod assets;
mod audit;
mod chart;
mod connection;
mod entrance;
mod jobs;
mod layout;
mod look;
mod memory;
mod overview;
mod sessions;
mod state;
mod stream;
mod text;
mod timeline;
mod tools;

use crate::admin::Desk;
use crate::admin::dashboard::memory::Memory;
use crate::admin::dashboard::sessions::Sessions;
use crate::admin::dashboard::timeline::Timelines;
use crate::assessment::Status;
use crate::store::LastError;
use crate::store::StoreError;
use axum::Router;
use axum::middleware;
use axum::routing::get;
use axum::routing::post;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Pages that are being made at the same time, with a pool of so many sessions: these are for the work. One more is taken
/// by what is done here, and one by what others enqueue.
fn looks(sessions: u32) -> usize {
    if sessions < 5 { 1 } else { 2 }
}

/// Browsers that are kept up to date at the same time.
const STREAMS: usize = 16;

/// How long a look at the queue holds.
const STATUS_HOLDS: Duration = Duration::from_millis(1_500);

/// What the dashboard keeps from one request to the next.
#[derive(Clone)]
pub(super) struct Dashboard {
    sessions: Sessions,
    looks: Arc<Semaphore>,
    /// One: what is done may have to wait for its locks, with a session in hand.
    acts: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    said: act::Said,
    status: Memory<Arc<Status>>,
    timelines: Timelines,
    errors: Memory<Arc<Vec<LastError>>>,
}

impl Desk {
    /// What `status` shows, too, from a moment ago.
    async fn status(&self) -> Result<Arc<Status>, StoreError> {
        let look = async { Status::look(&self.admin.db).await.map(Arc::new) };
        self.dashboard.status.get(STATUS_HOLDS, look).await
    }
}

impl Dashboard {
    /// `port` tells the cookies of several daemons of one host apart, which browsers do not. `sessions` is how many the pool
    /// has.
    pub(super) fn new(port: u16, sessions: u32) -> Self {
        Self {
            sessions: Sessions::new(port),
            looks: Arc::new(Semaphore::new(looks(sessions))),
            acts: Arc::new(Semaphore::new(1)),
            streams: Arc::new(Semaphore::new(STREAMS)),
            said: act::Said::default(),
            status: Memory::default(),
            timelines: Timelines::default(),
            errors: Memory::default(),
        }
    }
}

/// A page in the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    Overview,
    Jobs,
    Connections,
    Tools,
    Accounts,
    Audit,
}

impl Tab {
    const ALL: [Self; 6] = [
        Self::Overview,
        Self::Jobs,
        Self::Connections,
        Self::Tools,
        Self::Accounts,
        Self::Audit,
    ];

    fn path(self) -> &'static str {
        match self {
            Self::Overview => "/",
            Self::Jobs => "/jobs",
            Self::Connections => "/connections",
            Self::Tools => "/tools",
            Self::Accounts => "/accounts",
            Self::Audit => "/audit",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Jobs => "Jobs",
            Self::Connections => "Connections",
            Self::Tools => "Tools",
            Self::Accounts => "Accounts",
            Self::Audit => "Audit",
        }
    }
}

/// Pages and actions, for those who are let in.
pub(super) fn guarded(desk: &Desk) -> Router<Desk> {
    Router::new()
        .route("/", get(overview::page))
        .route("/jobs", get(jobs::page))
        .route("/jobs/all", get(actions::confirm))
        .route("/actions", get(actions::page))
        .route("/actions/{id}", get(actions::one))
        .route("/connections", get(connection::find))
        .route("/connections/{id}", get(connection::page))
        .route("/connections/{id}/tools/{tool}", get(tools::one))
        .route("/tools", get(tools::page))
        .route("/do/jobs", post(jobs::act))
        .route("/do/all", post(actions::begin))
        .route("/do/stop", post(actions::stop))
        .route("/accounts", get(accounts::page))
        .route("/audit", get(audit::page))
        .route("/do/pause", post(accounts::pause))
        .route("/do/resume", post(accounts::resume))
        .route("/do/logout", post(entrance::logout))
        .fallback(look::nothing)
        .layer(middleware::from_fn_with_state(
            desk.clone(),
            entrance::admit,
        ))
}

/// What is there before one is let in.
pub(super) fn open() -> Router<Desk> {
    Router::new()
        .route(entrance::LOGIN, get(entrance::page))
        .route("/do/login", post(entrance::login))
        .route("/assets/{name}", get(assets::asset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_small_pool_pages_take_one_session_alone() {
        for (sessions, pages) in [(2, 1), (4, 1), (5, 2), (50, 2)] {
            let dashboard = Dashboard::new(1, sessions);
            assert_eq!(dashboard.looks.available_permits(), pages, "{sessions}");
        }
    }
}
