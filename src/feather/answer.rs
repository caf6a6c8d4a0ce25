//! What came over the wire, read: the one place where status, headers and bytes become an answer or a failure.

use crate::domain::Answer;
use crate::domain::ErrorClass;
use crate::domain::Failure;
use crate::feather::body::StorableBody;
use crate::feather::error_response;
use crate::feather::error_response::EXCERPT_BYTES;
use crate::feather::redact::Redactor;
use crate::feather::wire;
use crate::feather::wire::WireError;
use reqwest::header::HeaderMap;
use uuid::Uuid;

/// Longest `x-request-id` that is kept, in bytes.
const REQUEST_ID_BYTES: usize = 200;

/// An answer as it came, decompressed.
#[derive(Clone, Debug)]
pub struct Received {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body; of a refusal the start is enough.
    pub body: Vec<u8>,
}

/// Reads the answer to a call about connection `expected`. Any bytes will do; no text of theirs that holds a secret
/// known to `redactor` gets out in a failure, and an answer that gives `own_key` back is stored without it.
///
/// # Errors
/// Everything but a success with a full answer about this very connection, classified.
pub fn read_answer(
    received: Received,
    expected: Uuid,
    redactor: &Redactor,
    own_key: Option<&str>,
) -> Result<Answer, Failure> {
    let Received {
        status,
        headers,
        body,
    } = received;
    let upstream_request_id = request_id(&headers, redactor);
    if !is_success(status) {
        return Err(Failure {
            upstream_request_id,
            ..error_response::describe(status, &headers, &body, redactor)
        });
    }
    let body = StorableBody::new(body);
    let body = match own_key {
        Some(key) => body.without(key),
        None => body,
    };
    match wire::read_connection(&body, expected) {
        Ok(snapshot) => Ok(Answer {
            snapshot: Box::new(snapshot),
            http_status: status,
            upstream_request_id,
        }),
        Err(error) => {
            let class = match error {
                WireError::Malformed(_) => ErrorClass::Protocol,
                WireError::OtherId { .. } => ErrorClass::Mismatch,
            };
            let message = redactor.excerpt(error.to_string().as_bytes(), EXCERPT_BYTES);
            Err(Failure {
                body: Some(redactor.excerpt(body.received(), EXCERPT_BYTES)),
                http_status: Some(status),
                upstream_request_id,
                ..Failure::new(class, message)
            })
        }
    }
}

pub(super) fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

pub(super) fn request_id(headers: &HeaderMap, redactor: &Redactor) -> Option<String> {
    let id = headers.get("x-request-id")?;
    Some(redactor.excerpt(id.as_bytes(), REQUEST_ID_BYTES))
}
