//! Numbers and times in the words of people.

use chrono::DateTime;
use chrono::SecondsFormat;
use chrono::Utc;
use std::time::Duration;

/// A time, to the second.
pub fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// `1 job`, `2 jobs`.
pub fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// `2h 3m 4s`; a dash for less than a second.
pub fn age(seconds: f64) -> String {
    match Duration::try_from_secs_f64(seconds) {
        Ok(age) if age >= Duration::from_secs(1) => {
            humantime::format_duration(Duration::from_secs(age.as_secs())).to_string()
        }
        _ => "-".to_owned(),
    }
}

/// A part of one in percent, rounded down: 100 % is for those that are not held back at all.
pub fn percent(part: f64) -> String {
    format!("{:.0} %", (part * 100.0).floor())
}
