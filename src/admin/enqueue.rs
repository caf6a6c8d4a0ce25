//! `POST /api/v1/enqueue`: what the body asks for becomes requests, all of them or none.

mod body;

use crate::admin::Desk;
use crate::admin::connections::Visit;
use crate::admin::door;
use crate::metrics::OfKind;
use crate::store::EnqueueRequest;
use crate::store::StoreError;
use axum::Extension;
use axum::Json;
use axum::body::Body;
use axum::body::HttpBody;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use futures_util::StreamExt;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

/// Longest body: some 25,000 ids.
const LONGEST: usize = 1024 * 1024;
/// For a body to come.
const BODY: Duration = Duration::from_secs(10);
/// Bodies in memory at the same time.
const BODIES: usize = 16;
/// For one's turn, at a body's place and at the database.
const TURN: Duration = Duration::from_secs(5);
/// For the database. With all that is waited for before, less than a connection has.
const STORE: Duration = Duration::from_secs(30);

/// How many are let in at the same time.
#[derive(Clone)]
pub(super) struct Inlet {
    bodies: Arc<Semaphore>,
    /// One: the sessions are for the work.
    asking: Arc<Semaphore>,
}

impl Default for Inlet {
    fn default() -> Self {
        Self {
            bodies: Arc::new(Semaphore::new(BODIES)),
            asking: Arc::new(Semaphore::new(1)),
        }
    }
}

/// Why not, and nothing was enqueued unless it says otherwise.
type Refusal = (StatusCode, String);

pub(super) async fn enqueue(
    State(desk): State<Desk>,
    Extension(visit): Extension<Visit>,
    request: Request,
) -> Response {
    let response = match desk.take(&visit, request).await {
        Ok(enqueued) => (StatusCode::ACCEPTED, Json(json!({"enqueued": enqueued}))).into_response(),
        Err((status, why)) => door::refuse(status, &why),
    };
    // A connection ends after a minute, whatever goes on then. So each has one request, which has all of the minute.
    ([(header::CONNECTION, "close")], response).into_response()
}

impl Desk {
    async fn take(&self, visit: &Visit, request: Request) -> Result<u64, Refusal> {
        let (head, body) = request.into_parts();
        is_plain_json(&head.headers)?;
        let ordered = {
            let held = visit.hold();
            let _place = turn(&self.inlet.bodies).await?;
            drop(held);
            let body = read(body, head.headers.contains_key(header::EXPECT)).await?;
            body::order(&body).map_err(|why| (StatusCode::BAD_REQUEST, why))?
        };
        let _held = visit.hold();
        let _turn = turn(&self.inlet.asking).await?;
        self.ask(&ordered).await
    }

    async fn ask(&self, ordered: &EnqueueRequest) -> Result<u64, Refusal> {
        match self.admin.db.enqueue_within(STORE, ordered).await {
            Ok(enqueued) => {
                tracing::info!(requests = enqueued, "enqueued over HTTP");
                Ok(enqueued)
            }
            Err(error) => {
                let kind = error.why.kind();
                let failed = &self.admin.metrics.db_errors;
                failed.get_or_create(&OfKind { kind }).inc();
                let status = if matches!(error.why, StoreError::Data(_)) {
                    StatusCode::BAD_REQUEST
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                Err((status, error.to_string()))
            }
        }
    }
}

async fn turn(places: &Semaphore) -> Result<SemaphorePermit<'_>, Refusal> {
    match timeout(TURN, places.acquire()).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) | Err(_) => {
            let why = "too many ask at the same time; nothing was enqueued";
            Err((StatusCode::SERVICE_UNAVAILABLE, why.to_owned()))
        }
    }
}

/// A form of another site's page cannot say so, which is one more reason to insist.
fn is_plain_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let told = |name| door::only(headers, &name).map(str::trim);
    let kind = told(header::CONTENT_TYPE).and_then(|kind| kind.split(';').next());
    if !kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err(unsupported("send it as content-type: application/json"));
    }
    if headers.contains_key(header::CONTENT_ENCODING)
        && told(header::CONTENT_ENCODING) != Some("identity")
    {
        return Err(unsupported("send it without content-encoding"));
    }
    Ok(())
}

fn unsupported(why: &str) -> Refusal {
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, why.to_owned())
}

/// The whole body. What is too long is read to its end, within the time, but not kept: a client that is cut off while it
/// sends may never see the answer. One that waits to be asked for the body is told before.
async fn read(body: Body, waits_to_be_asked: bool) -> Result<Vec<u8>, Refusal> {
    let too_long = || {
        let why = format!("the body is longer than {LONGEST} bytes; send several");
        Err((StatusCode::PAYLOAD_TOO_LARGE, why))
    };
    let announced = body.size_hint().lower();
    if waits_to_be_asked && announced > LONGEST as u64 {
        return too_long();
    }
    let mut chunks = body.into_data_stream();
    let mut read = Vec::new();
    let mut length = 0;
    let reading = async {
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            length += chunk.len();
            if length <= LONGEST {
                read.extend_from_slice(&chunk);
            }
        }
        Ok::<_, axum::Error>(())
    };
    let ended = timeout(BODY, reading).await;
    match ended {
        _ if length > LONGEST => too_long(),
        Ok(Ok(())) => Ok(read),
        Ok(Err(_)) => Err((
            StatusCode::BAD_REQUEST,
            "the body ends before its end".to_owned(),
        )),
        Err(_) => Err((
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not come within {BODY:?}"),
        )),
    }
}
