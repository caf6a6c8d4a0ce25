//! All connections of an account in one call, read one by one. What is not asked for stays on the wire.

use crate::domain::ConnectionSnapshot;
use crate::domain::ErrorClass;
use crate::domain::Failure;
use crate::feather::answer::is_success;
use crate::feather::answer::request_id;
use crate::feather::body::StorableBody;
use crate::feather::client::ApiClient;
use crate::feather::client::ERROR_BODY_BYTES;
use crate::feather::client::read_some;
use crate::feather::error_response;
use crate::feather::error_response::EXCERPT_BYTES;
use crate::feather::items::Cutter;
use crate::feather::items::Item;
use crate::feather::wire;
use crate::feather::wire::Unfit;
use reqwest::Response;
use reqwest::header::HeaderValue;
use std::time::Duration;
use tokio::time::Instant;

const PATH: &str = "/v1/integrations/connections";

/// A list may take as long as its connections take to be stored; one that drips for ever ends after all.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// An item of a list.
#[derive(Debug)]
pub enum Listed {
    /// A connection, as in any other answer about it.
    Connection(Box<ConnectionSnapshot>),
    /// One that is not what the API promises, in words. The others are not the worse for it.
    Unfit(String),
}

/// A list that is being read.
pub struct Listing<'a> {
    client: &'a ApiClient,
    response: Response,
    key: HeaderValue,
    request_id: Option<String>,
    cutter: Cutter,
    /// What has arrived, and how far it has been cut.
    piece: Vec<u8>,
    at: usize,
    items: u64,
}

impl ApiClient {
    /// Asks for all connections that the key's organisation has. Returns once the answer begins.
    ///
    /// # Errors
    /// Everything but the beginning of a success, classified.
    pub async fn list(&self) -> Result<Listing<'_>, Failure> {
        let key = self.current_key();
        let url = format!("{}{PATH}", self.settings.base_url);
        let request = self
            .http
            .get(url)
            .header("x-api-key", key.clone())
            .timeout(LONGEST);
        let deadline = Instant::now() + self.settings.request_timeout;
        let response = self.by(deadline, request.send()).await?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let request_id = request_id(&headers, &self.redactor);
        if !is_success(status) {
            let body = read_some(response, ERROR_BODY_BYTES);
            // The status stands, however its body ends. Later than a call may take the next probe goes out.
            let body = tokio::time::timeout_at(deadline, body).await;
            return Err(Failure {
                upstream_request_id: request_id,
                ..error_response::describe(
                    status,
                    &headers,
                    &body.unwrap_or_default(),
                    &self.redactor,
                )
            });
        }
        Ok(Listing {
            client: self,
            response,
            key,
            request_id,
            cutter: Cutter::new(self.settings.max_body_bytes),
            piece: Vec::new(),
            at: 0,
            items: 0,
        })
    }

    /// Waits for the answer's head or its next piece.
    async fn by<T>(
        &self,
        deadline: Instant,
        wait: impl Future<Output = Result<T, reqwest::Error>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout_at(deadline, wait).await {
            Ok(result) => result.map_err(|error| self.failure(error)),
            Err(_) => {
                let timeout = self.settings.request_timeout;
                let why = format!("nothing came for {timeout:?} (api.request_timeout)");
                Err(Failure::new(ErrorClass::Timeout, why))
            }
        }
    }
}

impl Listing<'_> {
    /// The next item; `None` once the list has ended as it should.
    ///
    /// # Errors
    /// When the rest of the list cannot be had. What came before it is true all the same.
    pub async fn next(&mut self) -> Result<Option<Listed>, Failure> {
        match self.next_item().await {
            Ok(None) => Ok(None),
            Ok(Some(item)) => {
                self.items += 1;
                Ok(Some(self.read(item)))
            }
            Err(failure) => Err(self.described(failure)),
        }
    }

    async fn next_item(&mut self) -> Result<Option<Item>, Failure> {
        loop {
            let rest = &self.piece[self.at..];
            let (used, item) = self
                .cutter
                .cut(rest)
                .map_err(|why| self.client.protocol(&why, rest))?;
            self.at += used;
            if item.is_some() {
                return Ok(item);
            }
            let deadline = Instant::now() + self.client.settings.request_timeout;
            match self.client.by(deadline, self.response.chunk()).await? {
                Some(piece) => {
                    self.piece.clear();
                    self.piece.extend_from_slice(&piece);
                    self.at = 0;
                }
                None if self.cutter.is_done() => return Ok(None),
                None => {
                    let why = "the list stops before its end";
                    return Err(Failure::new(ErrorClass::Protocol, why));
                }
            }
        }
    }

    fn read(&self, item: Item) -> Listed {
        let number = self.items;
        let bytes = match item {
            Item::Whole(bytes) => bytes,
            Item::TooLarge => {
                let limit = self.client.settings.max_body_bytes;
                return Listed::Unfit(format!(
                    "item {number} is larger than api.max_body_bytes ({limit}); raise it if such connections are real"
                ));
            }
        };
        let body = StorableBody::new(bytes);
        let body = match self.key.to_str() {
            Ok(key) => body.without(key),
            Err(_) => body,
        };
        match wire::read_item(&body) {
            Ok(snapshot) => Listed::Connection(Box::new(snapshot)),
            Err(Unfit { id, why }) => {
                let whose = id.map_or_else(String::new, |id| format!(", {id}"));
                let why = why.to_string();
                let why = self.client.redactor.excerpt(why.as_bytes(), EXCERPT_BYTES);
                Listed::Unfit(format!("item {number}{whose}: {why}"))
            }
        }
    }

    fn described(&self, failure: Failure) -> Failure {
        Failure {
            http_status: Some(self.response.status().as_u16()),
            upstream_request_id: self.request_id.clone(),
            ..failure
        }
    }
}
