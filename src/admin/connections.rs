//! Connections to the admin listener, none of which can hold it up: bounded in number, in time and in what they send.

use axum::Extension;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use std::net::IpAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// At the same time; more wait to be accepted.
const MOST: usize = 128;
/// For the head of a request, waiting for it on an open connection included.
const HEAD: Duration = Duration::from_secs(5);
/// For a connection as a whole: whoever reads too slowly loses it.
const WHOLE: Duration = Duration::from_secs(60);
/// Read of a request's head before it is refused (431).
const HEAD_BYTES: usize = 16 * 1024;
/// Headers of a request before it is refused (431).
const HEADERS: usize = 64;
/// Between tries while the system is out of file descriptors.
const BREATH: Duration = Duration::from_millis(50);

/// What is known of the connection that a request came on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visit {
    /// Who is at its other end, a proxy perhaps.
    pub(super) from: IpAddr,
    /// When it is cut off, whatever goes on then.
    pub(super) until: Instant,
}

/// Accepts until dropped, which ends every connection.
pub(super) async fn accept(listener: TcpListener, router: Router) {
    let mut open = JoinSet::new();
    let mut is_told = false;
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < MOST => match accepted {
                Ok((stream, peer)) => {
                    let visit = Visit { from: peer.ip().to_canonical(), until: Instant::now() + WHOLE };
                    open.spawn(converse(stream, visit, router.clone()));
                }
                Err(error) => {
                    // Once: it is tried many times a second.
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(%error, "connections to the admin listener cannot be accepted; trying again");
                    }
                    tokio::time::sleep(BREATH).await;
                }
            },
            Some(_) = open.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream, visit: Visit, router: Router) {
    let router = router.layer(Extension(visit));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout_at(visit.until, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the admin listener broke"),
        Err(_) => tracing::debug!("a connection to the admin listener took too long"),
    }
}
