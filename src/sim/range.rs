//! Ranges in scenarios: `"20ms..80ms"`, `"1s"`, `"3..9"`, `5`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::Error;

use super::chance::Chance;
use crate::domain::duration;

/// A duration, or a range of them to choose from: `"250ms"` or `"20ms..80ms"`, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The shortest.
    pub min: Duration,
    /// The longest; never less than `min` when parsed.
    pub max: Duration,
}

impl Span {
    /// Always this duration.
    pub const fn exactly(duration: Duration) -> Self {
        Self {
            min: duration,
            max: duration,
        }
    }

    pub(super) fn choose(&self, chance: &mut Chance) -> Duration {
        if self.max <= self.min {
            return self.min;
        }
        let width = u64::try_from((self.max - self.min).as_micros()).unwrap_or(u64::MAX - 1);
        self.min + Duration::from_micros(chance.below(width.saturating_add(1)))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        let (min, max) = (parse_duration(min)?, parse_duration(max)?);
        if min > max {
            return Err(format!(
                "`{text}` runs backwards: write the shorter duration first"
            ));
        }
        Ok(Self { min, max })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.min))?;
        if self.max > self.min {
            write!(f, "..{}", humantime::format_duration(self.max))?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// A number, or a range of them to choose from: `5` or `"3..9"`, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// The least.
    pub min: u32,
    /// The most; never less than `min` when parsed.
    pub max: u32,
}

impl Count {
    /// Always this number.
    pub const fn exactly(number: u32) -> Self {
        Self {
            min: number,
            max: number,
        }
    }

    pub(super) fn choose(&self, chance: &mut Chance) -> u32 {
        let width = u64::from(self.max.saturating_sub(self.min)) + 1;
        self.min + u32::try_from(chance.below(width)).unwrap_or(0)
    }
}

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        let number = |part: &str| {
            part.trim()
                .parse::<u32>()
                .map_err(|_| format!("`{text}` is not a number such as 5 or a range such as 3..9"))
        };
        let (min, max) = (number(min)?, number(max)?);
        if min > max {
            return Err(format!(
                "`{text}` runs backwards: write the smaller number first"
            ));
        }
        Ok(Self { min, max })
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "expected a number such as 5 or a range such as \"3..9\""
        )]
        enum Written {
            Number(u32),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(number) => Ok(Self::exactly(number)),
            Written::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

/// A duration; zero needs no unit.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    duration::parse(text).map_err(|why| format!("`{text}` is {why}: write 250ms or 3s"))
}

/// For serde's `deserialize_with`: `"250ms"`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// For serde's `deserialize_with`, where the key may be left out.
pub(super) fn some_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn ranges_are_read_and_chosen_from_with_both_ends() {
        let span: Span = "20ms..80ms".parse().unwrap();
        assert_eq!(
            (span.min, span.max),
            (Duration::from_millis(20), Duration::from_millis(80))
        );
        let count: Count = "3..5".parse().unwrap();
        let mut seen = [false; 6];
        for n in 0..200 {
            let mut chance = Chance::new(1, Uuid::nil(), "range", n);
            assert!((span.min..=span.max).contains(&span.choose(&mut chance)));
            seen[count.choose(&mut chance) as usize] = true;
        }
        assert_eq!(seen, [false, false, false, true, true, true]);
        for zero in ["0ms", "0"] {
            let span: Span = zero.parse().unwrap();
            assert_eq!(span, Span::exactly(Duration::ZERO));
        }
        assert_eq!(
            "20ms..80ms".parse::<Span>().unwrap().to_string(),
            "20ms..80ms"
        );
    }

    #[test]
    fn a_range_that_runs_backwards_or_is_no_range_is_named() {
        assert!(
            "3s..1s"
                .parse::<Span>()
                .unwrap_err()
                .contains("`3s..1s` runs backwards")
        );
        assert!("soon".parse::<Span>().unwrap_err().contains("`soon`"));
        assert!(
            "9..3"
                .parse::<Count>()
                .unwrap_err()
                .contains("runs backwards")
        );
        assert!("many".parse::<Count>().unwrap_err().contains("`many`"));
    }
}
