//! Lengths of time, as people write them and as times can bear them.

use std::fmt;
use std::time::Duration;

/// A century: enough for everybody, and far from where adding it to a time overflows.
pub const LONGEST: Duration = Duration::from_secs(36_500 * 86_400);

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotADuration {
    /// A number alone.
    NoUnit,
    /// To the parser `M` is a month, to many people a minute.
    Month,
    /// Anything else.
    Malformed,
}

impl fmt::Display for NotADuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoUnit => "a number without a unit",
            Self::Month => "not a duration, since `M` is not a unit",
            Self::Malformed => "not a duration",
        })
    }
}

/// The duration that is written: `250ms`, `30s`, `1h 30m`.
///
/// # Errors
/// When it is none, or longer than a [`Duration`] can be.
pub fn parse(text: &str) -> Result<Duration, NotADuration> {
    if text.trim().parse::<f64>().is_ok() {
        return Err(NotADuration::NoUnit);
    }
    if text.contains('M') {
        return Err(NotADuration::Month);
    }
    // Part by part: summing up, the parser panics where the nanoseconds fill the last second there is
    // (chronotope/humantime#66).
    parts(text)
        .try_fold(Duration::ZERO, |sum, part| {
            // To the parser a lone `0` is a duration, though no other number is.
            let part = (part != "0").then(|| humantime::parse_duration(part));
            sum.checked_add(part?.ok()?)
        })
        .ok_or(NotADuration::Malformed)
}

/// Each number with its unit. An empty text is one part.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let unit = text.find(char::is_alphabetic).unwrap_or(text.len());
        let next = text[unit..].find(|c: char| c.is_ascii_digit());
        let (part, others) = text.split_at(next.map_or(text.len(), |digit| unit + digit));
        rest = (!others.is_empty()).then_some(others);
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_the_sum_of_its_parts() {
        for (text, millis) in [
            ("250ms", 250),
            ("30s", 30_000),
            (" 1h 30m ", 5_400_000),
            ("1h30m", 5_400_000),
            ("1.5s 500ms", 2_000),
            ("2 days 1s", 172_801_000),
            ("1s 1s", 2_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_says_why() {
        for (text, why) in [
            ("90", NotADuration::NoUnit),
            (" 1.5 ", NotADuration::NoUnit),
            ("0", NotADuration::NoUnit),
            ("5M", NotADuration::Month),
            ("", NotADuration::Malformed),
            ("soon", NotADuration::Malformed),
            ("5 s x", NotADuration::Malformed),
            ("s 5", NotADuration::Malformed),
            ("1s 5", NotADuration::Malformed),
            ("1s 0", NotADuration::Malformed),
            ("-5s", NotADuration::Malformed),
            ("1s, 2s", NotADuration::Malformed),
            ("5ß", NotADuration::Malformed),
        ] {
            assert_eq!(parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn the_longest_duration_there_is_overflows_without_a_panic() {
        let most = u64::MAX;
        assert_eq!(parse(&format!("{most}s 999999999ns")), Ok(Duration::MAX));
        for text in [
            format!("{most}s 1000ms"),
            format!("{most}s1000000000ns"),
            format!("{most}.5s 0.5s"),
            format!("{}s {}s 1000ms", most / 2, most / 2 + 1),
            format!("{most}s 1m"),
        ] {
            assert_eq!(parse(&text), Err(NotADuration::Malformed), "{text}");
        }
    }
}
