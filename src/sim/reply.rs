//! Answers: plain JSON, and the ways to refuse.

use axum::body::Body;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::header;
use serde_json::json;

use super::clock::Clock;
use super::clock::http_date;
use super::clock::micros;
use super::fault::RetryAfter;
use super::fault::StatusFault;
use super::range::parse_duration;
use super::scenario::Limit;

pub(super) type Reply = Response<Body>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

pub(super) fn json(code: u16, body: impl Into<Body>) -> Reply {
    typed(code, JSON, body.into())
}

pub(super) fn html(code: u16, body: impl Into<Body>) -> Reply {
    typed(code, HTML, body.into())
}

fn typed(code: u16, content_type: HeaderValue, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    reply
}

/// Adds a header, unless the value could not be one.
pub(super) fn with_header(mut reply: Reply, name: HeaderName, value: &str) -> Reply {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
    reply
}

fn error(code: u16, name: &str, message: &str) -> Reply {
    json(code, json!({"error": name, "message": message}).to_string())
}

pub(super) fn unauthorized() -> Reply {
    error(
        401,
        "unauthorized",
        "The API key is missing, unknown or revoked.",
    )
}

pub(super) fn not_found() -> Reply {
    let body = json!({"error": "not_found", "message": "Connection not found", "retryable": false, "retry_after": null});
    json(404, body.to_string())
}

pub(super) fn not_refreshable() -> Reply {
    error(
        422,
        "connection_not_active",
        "Only an active connection can sync its tools.",
    )
}

pub(super) fn unknown_route() -> Reply {
    json(404, r#"{"detail":"Not Found"}"#)
}

pub(super) fn not_allowed() -> Reply {
    json(405, r#"{"detail":"Method Not Allowed"}"#)
}

pub(super) fn not_a_uuid(text: &str) -> Reply {
    let detail = json!([{
        "type": "uuid_parsing",
        "loc": ["path", "connection_id"],
        "msg": "Input should be a valid UUID",
        "input": text,
        "ctx": {"error": "invalid UUID"},
    }]);
    json(422, json!({ "detail": detail }).to_string())
}

pub(super) fn invalid() -> Reply {
    let detail = json!([{"loc": ["body", 0, "simulated"], "msg": "Simulated refusal", "type": "value_error"}]);
    json(422, json!({ "detail": detail }).to_string())
}

pub(super) fn html_not_found() -> Reply {
    html(
        404,
        "<html><head><title>404 Not Found</title></head><body><center><h1>404 Not Found</h1></center></body></html>",
    )
}

pub(super) fn redirect(code: u16, location: &str) -> Reply {
    with_header(html(code, ""), header::LOCATION, location)
}

pub(super) fn rate_limited(limit: &Limit, clock: &Clock) -> Reply {
    let mut body = json!({
        "error": "rate_limited",
        "message": format!("More than {} requests within a minute.", limit.requests_per_minute),
    });
    if let Some(seconds) = limit.retry_after {
        body["retry_after"] = json!(seconds);
    }
    let reply = json(429, body.to_string());
    with_retry_after(reply, limit.retry_after_header.as_ref(), clock)
}

pub(super) fn status(fault: &StatusFault, key: Option<&HeaderValue>, clock: &Clock) -> Reply {
    let key = key.and_then(|key| key.to_str().ok()).unwrap_or_default();
    let reply = match &fault.body {
        Some(text) => {
            let text = if fault.echo_key {
                format!("{text}{key}")
            } else {
                text.clone()
            };
            if text.trim_start().starts_with(['{', '[']) {
                json(fault.code, text)
            } else {
                html(fault.code, text)
            }
        }
        None => {
            let mut message = "Simulated failure".to_owned();
            if fault.echo_key {
                message = format!("Simulated failure for key {key}");
            }
            let mut body = json!({"error": name_of(fault.code), "message": message});
            if let Some(retryable) = fault.retryable {
                body["retryable"] = json!(retryable);
            }
            if let Some(seconds) = fault.retry_after {
                body["retry_after"] = json!(seconds);
            }
            json(fault.code, body.to_string())
        }
    };
    with_retry_after(reply, fault.retry_after_header.as_ref(), clock)
}

fn with_retry_after(reply: Reply, after: Option<&RetryAfter>, clock: &Clock) -> Reply {
    let text = match after {
        None => return reply,
        Some(RetryAfter::Seconds(seconds)) => seconds.to_string(),
        Some(RetryAfter::Text(text)) => text
            .strip_prefix('+')
            .and_then(|ahead| parse_duration(ahead).ok())
            .map_or_else(
                || text.clone(),
                |ahead| http_date(clock.now() + micros(ahead)),
            ),
    };
    with_header(reply, header::RETRY_AFTER, &text)
}

fn name_of(code: u16) -> &'static str {
    match code {
        400 => "bad_request",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        409 => "conflict",
        422 => "unprocessable",
        429 => "rate_limited",
        503 => "service_unavailable",
        500..=599 => "internal_error",
        _ => "error",
    }
}
