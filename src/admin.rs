//! The admin listener: is the process alive, can it work, what does it measure.

use crate::metrics::Metrics;
use axum::Json;
use axum::Router;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde_json::json;
use sha2::Digest;
use sha2::Sha256;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

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
    /// Asked by `/readyz`.
    pub ready: ReadyCheck,
    /// Demanded by everything but `/healthz`, and by `/readyz` for its reason.
    pub token: Option<SecretString>,
}

#[derive(Clone)]
struct Door {
    admin: Admin,
    loopback: bool,
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
    let loopback = listener.local_addr()?.ip().is_loopback();
    let door = Door { admin, loopback };
    let router = Router::new()
        .route("/metrics", get(metrics))
        .layer(middleware::from_fn_with_state(door.clone(), demand_token))
        .route("/readyz", get(readyz))
        .route(
            "/healthz",
            get(|| async { Json(json!({"status": "alive"})) }),
        )
        .layer(middleware::from_fn_with_state(door.clone(), check_host))
        .with_state(door);
    tokio::select! {
        served = axum::serve(listener, router).into_future() => served,
        () = stop.cancelled() => Ok(()),
    }
}

async fn metrics(State(door): State<Door>) -> Response {
    (door.admin.refresh)();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], door.admin.metrics.encode()).into_response()
}

async fn readyz(State(door): State<Door>, headers: HeaderMap) -> Response {
    match (door.admin.ready)().await {
        Ok(()) => Json(json!({"status": "ready"})).into_response(),
        Err(reason) if knows_token(&door, &headers) => {
            let body = Json(json!({"status": "not ready", "reason": reason}));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
        Err(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"status": "not ready"})),
        )
            .into_response(),
    }
}

/// A page elsewhere can make a browser resolve its own name to 127.0.0.1; such a request names that host.
async fn check_host(State(door): State<Door>, request: Request, next: Next) -> Response {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    if door.loopback && !host.is_some_and(is_loopback_host) {
        let message = "this listener is on a loopback address and answers to localhost only\n";
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    next.run(request).await
}

async fn demand_token(State(door): State<Door>, request: Request, next: Next) -> Response {
    if knows_token(&door, request.headers()) {
        return next.run(request).await;
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    (
        StatusCode::UNAUTHORIZED,
        challenge,
        "send the token of admin.token_file as Authorization: Bearer\n",
    )
        .into_response()
}

fn knows_token(door: &Door, headers: &HeaderMap) -> bool {
    let Some(token) = &door.admin.token else {
        return true;
    };
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    // Hashes are compared, so that the time it takes tells nothing about the token.
    given.is_some_and(|given| Sha256::digest(given.trim()) == Sha256::digest(token.expose_secret()))
}

fn is_loopback_host(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.trim_end_matches(']'),
        None => host
            .rsplit_once(':')
            .filter(|(_, port)| port.parse::<u16>().is_ok())
            .map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_loopback_hosts() {
        for host in [
            "localhost",
            "LOCALHOST:9464",
            "127.0.0.1",
            "127.0.0.1:1",
            "127.9.9.9:80",
            "[::1]",
            "[::1]:9464",
        ] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:9464",
            "10.0.0.1",
            "[::2]:1",
        ] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }
}
