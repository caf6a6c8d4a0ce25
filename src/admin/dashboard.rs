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
//! | `layout`, `text`, `assets` | what pages are made of |
//! | all others | one page each, with its actions |

mod accounts;
mod act;
mod assets;
mod entrance;
mod layout;
mod look;
mod sessions;
mod stream;
mod text;

use crate::admin::Desk;
use crate::admin::dashboard::sessions::Sessions;
use axum::Router;
use axum::middleware;
use axum::routing::get;
use axum::routing::post;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Pages that are being made at the same time: the database's sessions are for the work.
const LOOKS: usize = 2;
/// Browsers that are kept up to date at the same time.
const STREAMS: usize = 16;

/// What the dashboard keeps from one request to the next.
#[derive(Clone)]
pub(super) struct Dashboard {
    sessions: Sessions,
    looks: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    said: act::Said,
}

impl Dashboard {
    /// `port` tells the cookies of several daemons of one host apart, which browsers do not.
    pub(super) fn new(port: u16) -> Self {
        Self {
            sessions: Sessions::new(port),
            looks: Arc::new(Semaphore::new(LOOKS)),
            streams: Arc::new(Semaphore::new(STREAMS)),
            said: act::Said::default(),
        }
    }
}

/// A page in the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    Accounts,
}

impl Tab {
    const ALL: [Self; 1] = [Self::Accounts];

    fn path(self) -> &'static str {
        match self {
            Self::Accounts => "/accounts",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Accounts => "Accounts",
        }
    }
}

/// Pages and actions, for those who are let in.
pub(super) fn guarded(desk: &Desk) -> Router<Desk> {
    Router::new()
        .route("/accounts", get(accounts::page))
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
