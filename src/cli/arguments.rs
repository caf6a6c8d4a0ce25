//! Values on the command line: durations, times, names.

use std::str::FromStr;
use std::time::Duration;
use std::time::SystemTime;

use chrono::DateTime;
use chrono::TimeDelta;
use chrono::Utc;

use crate::domain::duration;
pub(super) use crate::domain::request::account;
pub(super) use crate::domain::request::connection_id;
use crate::domain::request::time;

/// `30s`, `5m`, `1h 30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const FORM: &str = "write 250ms, 30s, 5m or 2h";
    duration::parse(text).map_err(|why| format!("{why}: {FORM}"))
}

/// A point in time, as given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// At this time.
    At(DateTime<Utc>),
    /// So long from now.
    In(Duration),
}

impl When {
    /// The time that is meant, where it is this time now.
    ///
    /// # Errors
    /// When it is too far ahead to be written down.
    pub(super) fn resolve(self, now: SystemTime) -> Result<DateTime<Utc>, String> {
        match self {
            Self::At(time) => Ok(time),
            Self::In(delay) => TimeDelta::from_std(delay)
                .ok()
                .and_then(|delay| DateTime::<Utc>::from(now).checked_add_signed(delay))
                .ok_or_else(|| "that is too far ahead".to_owned()),
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = time(text) {
            return Ok(Self::At(time));
        }
        let delay = duration(text.strip_prefix('+').unwrap_or(text)).map_err(|_| {
            "neither a time nor a delay: write 2030-01-31T08:00:00Z, or +10m for in ten minutes"
                .to_owned()
        })?;
        let when = Self::In(delay);
        when.resolve(SystemTime::now())?;
        Ok(when)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5_400)));
        for bad in ["", "10", "1.5", "5M", "-1s", "soon", "1y2"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_is_absolute_with_a_zone_or_a_delay_from_now() {
        let epoch = SystemTime::UNIX_EPOCH;
        let resolved = |text: &str| {
            let when: When = text.parse().unwrap();
            when.resolve(epoch).unwrap().to_rfc3339()
        };
        assert_eq!(
            resolved("2030-01-31T08:00:00Z"),
            "2030-01-31T08:00:00+00:00"
        );
        assert_eq!(
            resolved("2030-01-31T08:00:00+02:00"),
            "2030-01-31T06:00:00+00:00"
        );
        assert_eq!(resolved("+10m"), "1970-01-01T00:10:00+00:00");
        assert_eq!(resolved("10m"), "1970-01-01T00:10:00+00:00");
        for bad in [
            "",
            "2030-01-31",
            "2030-01-31T08:00:00",
            "tomorrow",
            "++1m",
            "-10m",
            "infinity",
            "999999999y",
        ] {
            assert!(bad.parse::<When>().is_err(), "{bad}");
        }
    }
}
