//! An answer that is not a success: its class, the server's hint, and a message for people.

use crate::domain::ErrorClass;
use crate::domain::Failure;
use crate::domain::ServerHint;
use crate::feather::body::StorableBody;
use crate::feather::redact::Redactor;
use chrono::DateTime;
use reqwest::header::DATE;
use reqwest::header::HeaderMap;
use reqwest::header::LOCATION;
use reqwest::header::RETRY_AFTER;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

/// How much of a body is kept for people.
pub(super) const EXCERPT_BYTES: usize = 1024;

/// Describes a refused call.
pub(super) fn describe(
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    redactor: &Redactor,
) -> Failure {
    let body = StorableBody::new(body.to_vec());
    // Each field by itself: one that cannot be read does not hide the others.
    let fields: BTreeMap<String, &RawValue> =
        serde_json::from_slice(body.bytes()).unwrap_or_default();
    let words = |name: &str| read::<String>(&fields, name);
    let api_error = words("error").zip(words("message"));
    let (message, start) = match &api_error {
        Some((error, message)) => {
            let words = format!("HTTP {status}: {error}: {message}");
            (redactor.excerpt(words.as_bytes(), EXCERPT_BYTES), None)
        }
        None => {
            let target = headers.get(LOCATION).map_or_else(String::new, |to| {
                // What a URL carries is nobody's business; where it leads is.
                let place = to
                    .as_bytes()
                    .split(|byte| matches!(byte, b'?' | b'#'))
                    .next();
                let place = redactor.excerpt(place.unwrap_or_default(), EXCERPT_BYTES);
                format!(" to {place}")
            });
            (
                format!("HTTP {status}{target}, not in the API's own words"),
                Some(redactor.excerpt(body.bytes(), EXCERPT_BYTES)),
            )
        }
    };
    Failure {
        body: start,
        hint: ServerHint {
            retryable: read(&fields, "retryable"),
            retry_after: read::<f64>(&fields, "retry_after")
                .filter(|seconds| *seconds >= 0.0)
                // Longer than can be said is longer than is granted.
                .map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
                .or_else(|| retry_after(headers, SystemTime::now())),
        },
        http_status: Some(status),
        own_words: api_error.is_some(),
        ..Failure::new(ErrorClass::of_status(status, api_error.is_some()), message)
    }
}

fn read<T: DeserializeOwned>(fields: &BTreeMap<String, &RawValue>, name: &str) -> Option<T> {
    serde_json::from_str(fields.get(name)?.get()).ok()
}

/// `Retry-After`, in seconds or as a date; a date counts from the server's own `Date` where it names one, so that
/// a skewed clock here does not matter.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let value = text(RETRY_AFTER)?;
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let timestamp = |date: &str| {
        DateTime::parse_from_rfc2822(date)
            .ok()
            .map(|at| at.timestamp())
    };
    let from = text(DATE).and_then(timestamp).or_else(|| {
        let since_epoch = now.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(since_epoch.as_secs()).ok()
    })?;
    let delay = timestamp(value)?.saturating_sub(from);
    Some(Duration::from_secs(
        u64::try_from(delay).unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(status: u16, headers: &[(&'static str, &str)], body: &str) -> Failure {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        describe(status, &headers, body.as_bytes(), &Redactor::default())
    }

    #[test]
    fn the_bodys_hint_beats_the_header() {
        let body = r#"{"error":"busy","message":"later","retryable":false,"retry_after":7}"#;
        let failure = described(503, &[("retry-after", "99")], body);
        assert_eq!(failure.hint.retry_after, Some(Duration::from_secs(7)));
        assert_eq!(failure.hint.retryable, Some(false));
        assert_eq!(failure.message, "HTTP 503: busy: later");
    }

    #[test]
    fn a_retry_after_header_reads_as_seconds_or_as_a_date() {
        let seconds = |headers: &[(&'static str, &str)]| {
            described(503, headers, "<html>")
                .hint
                .retry_after
                .map(|d| d.as_secs())
        };
        assert_eq!(seconds(&[("retry-after", "12")]), Some(12));
        let date = ("date", "Wed, 21 Oct 2015 07:27:30 GMT");
        let at = ("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(seconds(&[date, at]), Some(30));
        assert_eq!(seconds(&[at]), Some(0));
        assert_eq!(seconds(&[("retry-after", "soon")]), None);
        assert_eq!(seconds(&[]), None);
    }

    #[test]
    fn a_404_is_only_a_not_found_in_the_apis_own_words() {
        let own = r#"{"error":"not_found","message":"no such connection"}"#;
        assert_eq!(described(404, &[], own).class, ErrorClass::NotFound);
        for other in [
            "<html>",
            r#"{"detail":"Not Found"}"#,
            "",
            r#"{"error":1,"message":"x"}"#,
        ] {
            assert_eq!(
                described(404, &[], other).class,
                ErrorClass::Protocol,
                "{other}"
            );
        }
    }

    #[test]
    fn a_redirect_is_told_by_where_it_leads_without_what_the_url_carries() {
        for carried in ["?token=t0p", "#t0p"] {
            let to = format!("https://login.example.com/oauth{carried}");
            let failure = described(302, &[("location", &to)], "");
            assert_eq!(
                failure.message,
                "HTTP 302 to https://login.example.com/oauth, not in the API's own words"
            );
        }
    }

    #[test]
    fn a_delay_beyond_all_measure_is_a_very_long_one() {
        let body = r#"{"error":"e","message":"m","retry_after":1e300}"#;
        let long = Some(Duration::MAX);
        assert_eq!(described(500, &[], body).hint.retry_after, long);
        let header = [("retry-after", "99999999999999999999999")];
        let read = described(500, &header, "").hint.retry_after;
        assert_eq!(read, Some(Duration::from_secs(u64::MAX)));
    }

    #[test]
    fn words_that_cannot_be_stored_and_odd_fields_hide_nothing_else() {
        let body = r#"{"error":"e","message":"a\ud800\u0000","retryable":false,"n":1e400}"#;
        let failure = described(404, &[], body);
        assert_eq!(failure.class, ErrorClass::NotFound);
        assert_eq!(failure.hint.retryable, Some(false));
        assert_eq!(failure.message, "HTTP 404: e: a\u{fffd}\u{fffd}");
    }

    #[test]
    fn absurd_hints_are_no_hints() {
        for value in ["-1", "\"soon\"", "null", "[]"] {
            let body =
                format!(r#"{{"error":"e","message":"m","retryable":"x","retry_after":{value}}}"#);
            assert_eq!(
                described(500, &[], &body).hint,
                ServerHint::default(),
                "{value}"
            );
        }
    }
}
