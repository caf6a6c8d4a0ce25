//! Listening and speaking HTTP/1.1, close enough to the socket to break connections on purpose.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::api;
use super::api::Hangup;
use super::upstream::Upstream;

/// Accepts until told to stop; every connection is tracked, and stops as well.
pub(super) async fn accept(
    listener: TcpListener,
    upstream: Arc<Upstream>,
    stop: CancellationToken,
    connections: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(converse(stream, Arc::clone(&upstream), stop.clone()));
            }
            // Out of file descriptors, most likely: let some connections end first.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn converse(stream: TcpStream, upstream: Arc<Upstream>, stop: CancellationToken) {
    // Only a delay where the socket refuses.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| api::serve(Arc::clone(&upstream), request));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => return,
        ended = &mut connection => ended,
    };
    let hangup = ended
        .as_ref()
        .err()
        .and_then(|error| error.source()?.downcast_ref::<Hangup>().copied());
    if hangup == Some(Hangup::Reset) {
        let stream = connection.into_parts().io.into_inner();
        // With zero linger, closing sends RST. Where the socket refuses, it has ended already.
        let _ = stream.set_zero_linger();
    }
}
