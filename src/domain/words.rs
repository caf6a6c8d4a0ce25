//! Numbers and times in the words of people.

use chrono::DateTime;
use chrono::SecondsFormat;
use chrono::Utc;
use std::time::Duration;

/// Characters that a table or a sentence has room for.
const SHORT: usize = 160;

/// The beginning of a text that may be of any length.
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHORT) {
        Some((end, _)) => text[..end].to_owned() + "…",
        None => text.to_owned(),
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "é".repeat(SHORT + 1);
        assert_eq!(shortened(&long), "é".repeat(SHORT) + "…");
        assert_eq!(shortened(&long[2..]), "é".repeat(SHORT));
    }
}
