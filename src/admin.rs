//! The admin listener: is the process alive, can it work, what does it measure; and what others may have it do.

mod connections;
mod dashboard;
mod door;
mod enqueue;

use crate::admin::connections::Visit;
use crate::admin::dashboard::Dashboard;
use crate::admin::door::Door;
use crate::admin::enqueue::Inlet;
use crate::metrics::Metrics;
use crate::store::Db;
use axum::Extension;
use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use secrecy::SecretString;
use serde_json::json;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// How long an answer of `/readyz` holds, so that however many ask, the database is asked rarely.
const READY_FOR: Duration = Duration::from_millis(250);

/// Says why the process cannot do its work, if it cannot.
pub type ReadyCheck =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// What the listener serves.
#[derive(Clone)]
pub struct Admin {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Brings metrics up to date that are only looked at when read.
    pub refresh: Arc<dyn Fn() + Send + Sync>,
    /// Where requests for syncs are put.
    pub db: Db,
    /// Asked by `/readyz`.
    pub ready: ReadyCheck,
    /// Demanded by everything but `/healthz`, and by `/readyz` for its reason.
    pub token: Option<SecretString>,
}

/// What `/readyz` found out last.
struct Known {
    at: Instant,
    ready: Result<(), String>,
}

#[derive(Clone)]
struct Desk {
    admin: Admin,
    door: Door,
    known: Arc<Mutex<Option<Known>>>,
    inlet: Inlet,
    dashboard: Dashboard,
}

/// Serves until the token is cancelled. Answers under way are not waited for: a client that never closes must not
/// hold up a stop.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    admin: Admin,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let address = listener.local_addr()?;
    let door = Door::new(address, admin.token.clone());
    let dashboard = Dashboard::new(address.port(), admin.db.max_connections());
    let desk = Desk {
        admin,
        door: door.clone(),
        known: Arc::default(),
        inlet: Inlet::default(),
        dashboard,
    };
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route(door::ENQUEUE, post(enqueue::enqueue))
        .layer(middleware::from_fn_with_state(
            door.clone(),
            door::demand_token,
        ))
        .merge(dashboard::guarded(&desk))
        .merge(dashboard::open())
        .route(door::READINESS, get(readyz))
        .route(
            door::HEALTH,
            get(|| async { Json(json!({"status": "alive"})) }),
        )
        .layer(middleware::from_fn_with_state(door, door::check))
        .layer(middleware::map_response(door::forbid_embedding))
        .with_state(desk);
    tokio::select! {
        () = connections::accept(listener, router) => Ok(()),
        () = stop.cancelled() => Ok(()),
    }
}

async fn metrics(State(desk): State<Desk>) -> Response {
    (desk.admin.refresh)();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], desk.admin.metrics.encode()).into_response()
}

async fn readyz(
    State(desk): State<Desk>,
    Extension(visit): Extension<Visit>,
    headers: HeaderMap,
) -> Response {
    let Err(reason) = desk.is_ready().await else {
        return Json(json!({"status": "ready"})).into_response();
    };
    let may_know_why = desk.door.admits(&headers, visit.from).await == Some(true);
    let body = if may_know_why {
        json!({"status": "not ready", "reason": reason})
    } else {
        json!({"status": "not ready"})
    };
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

impl Desk {
    /// One asks at a time; who had to wait takes what that one found out.
    async fn is_ready(&self) -> Result<(), String> {
        let mut known = self.known.lock().await;
        match &*known {
            Some(known) if known.at.elapsed() < READY_FOR => known.ready.clone(),
            _ => {
                let ready = (self.admin.ready)().await;
                *known = Some(Known {
                    at: Instant::now(),
                    ready: ready.clone(),
                });
                ready
            }
        }
    }
}
