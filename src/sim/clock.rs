//! The simulator's own clock: real time, which a test may push forward, and how times are written.

use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use chrono::DateTime;
use chrono::SecondsFormat;
use chrono::Utc;

/// Microseconds since 1970, UTC.
pub(super) type Micros = i64;

pub(super) const SECOND: Micros = 1_000_000;

#[derive(Debug)]
pub(super) struct Clock {
    began: Instant,
    began_at: Micros,
    pushed: AtomicI64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            began_at: DateTime::<Utc>::from(SystemTime::now()).timestamp_micros(),
            pushed: AtomicI64::new(0),
        }
    }

    /// Never goes back, whatever the system's clock does.
    pub(super) fn now(&self) -> Micros {
        self.began_at + self.since_start()
    }

    pub(super) fn since_start(&self) -> Micros {
        micros(self.began.elapsed()) + self.pushed.load(Ordering::Relaxed)
    }

    pub(super) fn advance(&self, by: Duration) {
        self.pushed.fetch_add(micros(by), Ordering::Relaxed);
    }
}

pub(super) fn micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX / 4)
}

/// RFC 3339 with microseconds; upstreams write UTC either as `Z` or as `+00:00`.
pub(super) fn rfc3339(at: Micros, zulu: bool) -> String {
    date_time(at).to_rfc3339_opts(SecondsFormat::Micros, zulu)
}

pub(super) fn parse_rfc3339(text: &str) -> Option<Micros> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|time| time.timestamp_micros())
}

/// As in `Retry-After: Wed, 21 Oct 2026 07:28:00 GMT`.
pub(super) fn http_date(at: Micros) -> String {
    date_time(at)
        .format("%a, %d %b %Y %H:%M:%S GMT")
        .to_string()
}

pub(super) fn date_time(at: Micros) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_all_six_digits_and_read_back() {
        assert_eq!(
            rfc3339(1_700_000_000_000_010, true),
            "2023-11-14T22:13:20.000010Z"
        );
        assert_eq!(
            rfc3339(1_700_000_000_000_010, false),
            "2023-11-14T22:13:20.000010+00:00"
        );
        assert_eq!(
            parse_rfc3339("2023-11-14T22:13:20.000010+00:00"),
            Some(1_700_000_000_000_010)
        );
        assert_eq!(
            http_date(1_700_000_000_000_010),
            "Tue, 14 Nov 2023 22:13:20 GMT"
        );
    }

    #[test]
    fn a_pushed_clock_is_ahead_by_as_much() {
        let clock = Clock::new();
        let before = clock.now();
        clock.advance(Duration::from_secs(3600));
        assert!(clock.now() - before >= 3600 * SECOND);
    }
}
