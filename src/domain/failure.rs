//! What went wrong with an attempt: the classes of the contract, and what the server said about it.

use std::fmt;
use std::time::Duration;

/// Why an attempt did not end `synced` or `settling`. One class per row of the contract's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorClass {
    /// 401: the key is not accepted.
    Auth,
    /// 429.
    RateLimited,
    /// 403.
    Forbidden,
    /// 404 in the API's own words.
    NotFound,
    /// 400, 422 and other 4xx.
    InvalidRequest,
    /// 408, 409, 425.
    Conflict,
    /// 5xx.
    Upstream,
    /// No full answer in time.
    Timeout,
    /// DNS, TCP, TLS, reset, body shorter than announced.
    Network,
    /// A body that is not what the API promises.
    Protocol,
    /// An answer for another connection.
    Mismatch,
    /// Another account holds the connection.
    OtherAccount,
    /// OAuth is not finished.
    NotActive,
    /// Still unsettled after the deadline.
    SettleTimeout,
    /// The tools settled as failed.
    ToolsFailed,
    /// Postgres refused this very row.
    Storage,
    /// The lease ran out.
    LeaseLost,
}

impl ErrorClass {
    /// Every class, in the order of the contract's table.
    pub const ALL: [Self; 17] = [
        Self::Auth,
        Self::RateLimited,
        Self::Forbidden,
        Self::NotFound,
        Self::InvalidRequest,
        Self::Conflict,
        Self::Upstream,
        Self::Timeout,
        Self::Network,
        Self::Protocol,
        Self::Mismatch,
        Self::OtherAccount,
        Self::NotActive,
        Self::SettleTimeout,
        Self::ToolsFailed,
        Self::Storage,
        Self::LeaseLost,
    ];

    /// The word used in tables, metrics, logs and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::RateLimited => "rate_limited",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::InvalidRequest => "invalid_request",
            Self::Conflict => "conflict",
            Self::Upstream => "upstream",
            Self::Timeout => "timeout",
            Self::Network => "network",
            Self::Protocol => "protocol",
            Self::Mismatch => "mismatch",
            Self::OtherAccount => "other_account",
            Self::NotActive => "not_active",
            Self::SettleTimeout => "settle_timeout",
            Self::ToolsFailed => "tools_failed",
            Self::Storage => "storage",
            Self::LeaseLost => "lease_lost",
        }
    }

    /// The class of an HTTP status that is not a success. `api_error` tells whether the body was an
    /// `ErrorResponse`: a 404 without one comes from something in between and says nothing of the connection.
    pub fn of_status(status: u16, api_error: bool) -> Self {
        match status {
            401 => Self::Auth,
            403 => Self::Forbidden,
            404 if api_error => Self::NotFound,
            404 => Self::Protocol,
            408 | 409 | 425 => Self::Conflict,
            429 => Self::RateLimited,
            400..=499 => Self::InvalidRequest,
            500..=599 => Self::Upstream,
            _ => Self::Protocol,
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The server's own word on trying again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerHint {
    /// `retryable` of the body.
    pub retryable: Option<bool>,
    /// `retry_after` of the body, else the `Retry-After` header. Not yet clamped.
    pub retry_after: Option<Duration>,
}

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its class.
    pub class: ErrorClass,
    /// What happened, in words. Free of secrets.
    pub message: String,
    /// The start of the body, where the answer was not understood. Free of secrets, but not of somebody's data: it is kept
    /// with the attempt, and never logged.
    pub body: Option<String>,
    /// Status code of the answer, if there was one.
    pub http_status: Option<u16>,
    /// The answer was the API's own: an ErrorResponse, not a proxy's page.
    pub own_words: bool,
    /// What the server said about trying again.
    pub hint: ServerHint,
    /// `x-request-id` of the answer.
    pub upstream_request_id: Option<String>,
}

impl Failure {
    /// A failure without an answer, or with an answer that carries no hint.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            body: None,
            http_status: None,
            own_words: false,
            hint: ServerHint::default(),
            upstream_request_id: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_the_class_of_the_contract() {
        let table = [
            (401, true, "auth"),
            (429, false, "rate_limited"),
            (403, true, "forbidden"),
            (404, true, "not_found"),
            (404, false, "protocol"),
            (400, true, "invalid_request"),
            (422, false, "invalid_request"),
            (418, true, "invalid_request"),
            (408, false, "conflict"),
            (409, true, "conflict"),
            (425, true, "conflict"),
            (500, true, "upstream"),
            (503, false, "upstream"),
            (599, false, "upstream"),
            (301, false, "protocol"),
            (204, false, "protocol"),
        ];
        for (status, api_error, class) in table {
            assert_eq!(
                ErrorClass::of_status(status, api_error).as_str(),
                class,
                "{status}"
            );
        }
    }

    #[test]
    fn class_names_are_distinct() {
        let names: std::collections::BTreeSet<_> =
            ErrorClass::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(names.len(), ErrorClass::ALL.len());
    }
}
