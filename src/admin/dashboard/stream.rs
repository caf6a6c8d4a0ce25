//! A page again and again: server-sent events, each with what stands in `main`, for as long as a browser listens.

use crate::admin::Desk;
use crate::admin::connections::Visit;
use crate::admin::dashboard::entrance::Visitor;
use crate::admin::dashboard::look::Page;
use crate::admin::dashboard::look::Trouble;
use crate::admin::dashboard::look::within_turn;
use crate::admin::door;
use axum::body::Body;
use axum::http::HeaderName;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use futures_util::stream;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// Between two looks for one browser.
const EVERY: Duration = Duration::from_secs(2);
/// A browser asks again after this, when a stream has ended.
const AGAIN_MS: u32 = 500;
/// Without a change, something is sent this often, so that either side sees that the other is gone.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// Before the connection is cut off: a stream that ends in order is no error in the browser's console.
const MARGIN: Duration = Duration::from_secs(5);

struct Stream<M> {
    desk: Desk,
    visitor: Visitor,
    make: M,
    sent: String,
    sent_at: Instant,
    until: Option<Instant>,
    begun: bool,
    _seat: OwnedSemaphorePermit,
}

/// Answers with the page, and with each change of it.
pub(super) fn answer<M, F>(desk: Desk, visitor: Visitor, visit: Option<Visit>, make: M) -> Response
where
    M: Fn(Desk) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Page, Trouble>> + Send + 'static,
{
    let Ok(seat) = desk.dashboard.streams.clone().try_acquire_owned() else {
        let why = "too many browsers are kept up to date already; this one has to ask by itself";
        return door::refuse(StatusCode::SERVICE_UNAVAILABLE, why);
    };
    let stream = Stream {
        desk,
        visitor,
        make,
        sent: String::new(),
        sent_at: Instant::now(),
        until: visit.map(|visit| visit.until - MARGIN),
        begun: false,
        _seat: seat,
    };
    let events = stream::unfold(stream, |mut stream| async move {
        let event = stream.next().await?;
        Some((Ok::<_, Infallible>(event), stream))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        // A proxy that waits for more before it passes this on would keep the news to itself.
        (HeaderName::from_static("x-accel-buffering"), "no"),
        // The next stream gets a connection, and with it a time, of its own.
        (header::CONNECTION, "close"),
    ];
    (headers, Body::from_stream(events)).into_response()
}

impl<M, F> Stream<M>
where
    M: Fn(Desk) -> F,
    F: Future<Output = Result<Page, Trouble>>,
{
    /// What to send next; `None` when it is time to end.
    async fn next(&mut self) -> Option<String> {
        loop {
            let is_first = !std::mem::replace(&mut self.begun, true);
            if !is_first {
                tokio::time::sleep(EVERY).await;
            }
            let is_over = self.until.is_some_and(|until| Instant::now() >= until);
            if is_over || !self.visitor.is_still_in(&self.desk) {
                return None;
            }
            let made = within_turn(&self.desk, (self.make)(self.desk.clone())).await;
            let event = match made {
                Ok(page) => event("page", &page.main.into_string()),
                Err(trouble) => event("trouble", &trouble.words()),
            };
            if is_first || event != self.sent {
                self.sent.clone_from(&event);
                self.sent_at = Instant::now();
                return Some(event);
            }
            if self.sent_at.elapsed() >= SIGN_OF_LIFE {
                self.sent_at = Instant::now();
                return Some(same());
            }
        }
    }
}

/// Nothing has changed.
fn same() -> String {
    event("same", "")
}

/// As JSON, which has neither line ends nor carriage returns.
fn event(name: &str, data: &str) -> String {
    let data = serde_json::Value::from(data);
    format!("event: {name}\nretry: {AGAIN_MS}\ndata: {data}\n\n")
}
