//! One request, one answer: deadlines, a bounded body, and every way to fail classified.

mod listing;

pub use listing::Listed;
pub use listing::Listing;

use crate::domain::Answer;
use crate::domain::CallKind;
use crate::domain::ErrorClass;
use crate::domain::Failure;
use crate::failpoint::Point;
use crate::failpoint::reach;
use crate::feather::answer::Received;
use crate::feather::answer::is_success;
use crate::feather::answer::read_answer;
use crate::feather::answer::request_id;
use crate::feather::error_response::EXCERPT_BYTES;
use crate::feather::redact::Redactor;
use crate::feather::room::FREE_BYTES;
use crate::feather::room::Held;
use crate::feather::room::Room;
use reqwest::Method;
use reqwest::Response;
use reqwest::header::CONTENT_LENGTH;
use reqwest::header::DATE;
use reqwest::header::HeaderValue;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use std::error::Error;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Idle connections are dropped well before usual servers (60 s and more) drop theirs: a request on a connection
/// that the server is just closing has an unknown outcome.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// How much of a refusal's body is read: its words are far shorter.
const ERROR_BODY_BYTES: usize = 64 * 1024;

/// Reads the account's API key anew, from where it is configured.
pub type KeyReader = Arc<dyn Fn() -> Result<SecretString, String> + Send + Sync>;

/// How one account's API is reached.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Base URL without trailing slash.
    pub base_url: String,
    /// From the first byte sent to the last byte received, connecting included.
    pub request_timeout: Duration,
    /// DNS, TCP and TLS.
    pub connect_timeout: Duration,
    /// Largest body read, in bytes, after decompression.
    pub max_body_bytes: usize,
}

/// Why a client cannot be made or its key not be read.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The key cannot be had.
    #[error("{0}")]
    Key(String),
    /// The key has characters that no HTTP header may have.
    #[error(
        "the API key has characters that cannot be sent in a header; check the file for stray bytes"
    )]
    KeyCharacters,
    /// The HTTP client cannot be made.
    #[error(
        "the HTTP client cannot be made: {0}; is a CA store installed (package ca-certificates)?"
    )]
    Http(String),
}

/// The API of one account.
pub struct ApiClient {
    http: reqwest::Client,
    settings: ClientSettings,
    key: RwLock<HeaderValue>,
    read_key: KeyReader,
    redactor: Redactor,
    room: Room,
}

impl ApiClient {
    /// Makes a client and reads its key.
    ///
    /// # Errors
    /// When the key cannot be read or the TLS set-up fails.
    pub fn new(
        settings: ClientSettings,
        read_key: KeyReader,
        redactor: Redactor,
    ) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("feather-sync/", env!("CARGO_PKG_VERSION")))
            .timeout(settings.request_timeout)
            .connect_timeout(settings.connect_timeout)
            .pool_idle_timeout(KEEP_ALIVE)
            // A redirect would carry the key to whatever it names.
            .redirect(reqwest::redirect::Policy::none())
            // Attempts are counted in the queue, once.
            .retry(reqwest::retry::never())
            .no_proxy()
            .build()
            .map_err(|error| ClientError::Http(chain(&error)))?;
        let key = header(&read_key, &redactor)?;
        Ok(Self {
            http,
            settings,
            key: RwLock::new(key),
            read_key,
            redactor,
            room: Room::new(),
        })
    }

    /// How long a call may take, and the next piece of a list.
    pub fn request_timeout(&self) -> Duration {
        self.settings.request_timeout
    }

    /// Reads the key anew, as after a rotation, and returns whether it is another. On failure the old one stays.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn reload_key(&self) -> Result<bool, ClientError> {
        let key = header(&self.read_key, &self.redactor)?;
        let mut current = self.key.write().unwrap_or_else(PoisonError::into_inner);
        let changed = *current != key;
        *current = key;
        Ok(changed)
    }

    /// Makes one call about one connection.
    ///
    /// # Errors
    /// Everything but a full answer about this very connection, classified.
    pub async fn call(&self, kind: CallKind, id: Uuid) -> Result<Answer, Failure> {
        self.call_noting(kind, id, &mut None).await
    }

    /// [`call`](Self::call), noting the `Date` of the answer.
    pub(super) async fn call_noting(
        &self,
        kind: CallKind,
        id: Uuid,
        date: &mut Option<HeaderValue>,
    ) -> Result<Answer, Failure> {
        let (method, path) = match kind {
            CallKind::Finalize => (
                Method::POST,
                format!("/v1/integrations/connections/{id}/finalize"),
            ),
            CallKind::Poll => (Method::GET, format!("/v1/integrations/connections/{id}")),
            CallKind::Refresh => (
                Method::POST,
                format!("/v1/integrations/connections/{id}/refresh-tools"),
            ),
        };
        // The one that is sent, whatever is read from the file meanwhile.
        let key = self.current_key();
        let deadline = Instant::now() + self.settings.request_timeout;
        let mut response = self.send(method, &path, key.clone()).await?;
        reach(Point::Head);
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        *date = headers.get(DATE).cloned();
        // Until the body is read and gone, and not while its answer waits to be stored.
        let mut held = None;
        let body = if is_success(status) {
            self.read_body(response, deadline, &mut held)
                .await
                .map_err(|failure| Failure {
                    http_status: Some(status),
                    upstream_request_id: request_id(&headers, &self.redactor),
                    ..failure
                })?
        } else {
            // The status stands, however its body ends.
            read_some(response, ERROR_BODY_BYTES).await
        };
        let received = Received {
            status,
            headers,
            body,
        };
        read_answer(received, id, &self.redactor, key.to_str().ok())
    }

    fn current_key(&self) -> HeaderValue {
        let key = self.key.read().unwrap_or_else(PoisonError::into_inner);
        key.clone()
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        key: HeaderValue,
    ) -> Result<Response, Failure> {
        let mut request = self
            .http
            .request(method.clone(), format!("{}{path}", self.settings.base_url))
            .header("x-api-key", key);
        if method == Method::POST {
            // Some servers answer a POST that does not say that it has no body with 411.
            request = request.header(CONTENT_LENGTH, 0);
        }
        request.send().await.map_err(|error| self.failure(error))
    }

    /// Reads a body, in `held` room where it is a large one.
    async fn read_body(
        &self,
        mut response: Response,
        deadline: Instant,
        held: &mut Option<Held>,
    ) -> Result<Vec<u8>, Failure> {
        let limit = self.settings.max_body_bytes;
        let announced = response.content_length().unwrap_or_default();
        let announced = usize::try_from(announced).unwrap_or(usize::MAX);
        // Of a body that is refused anyway only the start is read, for people.
        let enough = if announced > limit {
            EXCERPT_BYTES
        } else {
            limit
        };
        let expected = announced.min(enough);
        if expected > FREE_BYTES {
            *held = Some(
                self.in_time(deadline, self.room.take(expected, limit))
                    .await?,
            );
        }
        let mut body = Vec::with_capacity(expected);
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(body),
                Err(error) => {
                    let failure = self.failure(error);
                    return Err(match failure.class {
                        ErrorClass::Protocol => self.protocol(&failure.message, &body),
                        _ => failure,
                    });
                }
            };
            let length = body.len() + chunk.len();
            if length > enough {
                // The start of it is all that is of use.
                let missing = ERROR_BODY_BYTES.saturating_sub(body.len());
                body.extend_from_slice(&chunk[..missing.min(chunk.len())]);
                let why = format!(
                    "the body is larger than api.max_body_bytes ({limit}); raise it if such answers are real"
                );
                return Err(self.protocol(&why, &body));
            }
            if length > held.as_ref().map_or(FREE_BYTES, |held| held.bytes) {
                let more = self.room.take_more(length, limit);
                *held = Some(self.in_time(deadline, more).await?);
            }
            if length > body.capacity() {
                let roomier = (2 * body.capacity()).clamp(length, enough);
                body.reserve_exact(roomier - body.len());
            }
            body.extend_from_slice(&chunk);
        }
    }

    /// Waits for room for a body.
    async fn in_time(
        &self,
        deadline: Instant,
        room: impl Future<Output = Option<Held>>,
    ) -> Result<Held, Failure> {
        let held = tokio::time::timeout_at(deadline, room).await;
        held.ok().flatten().ok_or_else(|| {
            let timeout = self.settings.request_timeout;
            let why = format!("no full answer within {timeout:?}: other large bodies came first");
            Failure::new(ErrorClass::Timeout, why)
        })
    }

    /// A body that is not what the API promises, with its start.
    fn protocol(&self, why: &str, body: &[u8]) -> Failure {
        Failure {
            body: Some(self.redactor.excerpt(body, EXCERPT_BYTES)),
            ..Failure::new(ErrorClass::Protocol, why)
        }
    }

    /// Classifies a call without a full answer.
    fn failure(&self, error: reqwest::Error) -> Failure {
        let error = error.without_url();
        let message = self.redactor.redact(&chain(&error));
        if error.is_timeout() {
            let timeout = self.settings.request_timeout;
            return Failure::new(
                ErrorClass::Timeout,
                format!("no full answer within {timeout:?}: {message}"),
            );
        }
        // A body that ends early is the network's doing; one that arrives whole and cannot be decompressed is not.
        let class = if error.is_decode() && !is_cut_short(&error) {
            ErrorClass::Protocol
        } else {
            ErrorClass::Network
        };
        Failure::new(class, message)
    }
}

/// What there is of a body, up to a limit.
async fn read_some(mut response: Response, limit: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < limit
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    body.truncate(limit);
    body
}

fn header(read_key: &KeyReader, redactor: &Redactor) -> Result<HeaderValue, ClientError> {
    let key = read_key().map_err(ClientError::Key)?;
    redactor.learn(&key);
    let mut header =
        HeaderValue::from_str(key.expose_secret()).map_err(|_| ClientError::KeyCharacters)?;
    header.set_sensitive(true);
    Ok(header)
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut words: Vec<String> = causes(error).map(ToString::to_string).collect();
    words.dedup();
    words.join(": ")
}

/// Whether the connection failed before the body was complete. Decompression wraps what the connection reported in
/// the same types as its own complaints; only the words of the HTTP implementation tell them apart.
fn is_cut_short(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| {
        cause
            .to_string()
            .contains("error reading a body from connection")
    })
}

#[cfg(test)]
mod tests;
