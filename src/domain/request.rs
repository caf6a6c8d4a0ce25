//! What a request for a sync may say, judged before the database is asked and as its constraints judge.

use chrono::DateTime;
use chrono::Datelike;
use chrono::Utc;
use uuid::Uuid;

/// Longest name of an account that the database takes, in characters.
const LONGEST_NAME: usize = 200;

/// The id of a connection.
///
/// # Errors
/// What an id looks like.
pub fn connection_id(text: &str) -> Result<Uuid, String> {
    Uuid::parse_str(text)
        .map_err(|_| "not a UUID such as 3c90c3cc-0d44-4b50-8888-8dd25736052a".to_owned())
}

/// The name of an account.
///
/// # Errors
/// What a name looks like.
pub fn account(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().count() > LONGEST_NAME || text.contains(char::is_control) {
        return Err(format!(
            "an account's name has 1 to {LONGEST_NAME} characters, as in [accounts.NAME]"
        ));
    }
    Ok(text.to_owned())
}

/// A point in time, in RFC 3339. Of the year 9999 the database takes all but the last day.
///
/// # Errors
/// What a time looks like.
pub fn time(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .ok()
        .filter(|time| (1..=9999).contains(&time.year()))
        .ok_or_else(|| "not a time in the years 1 to 9999 such as 2030-01-31T08:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_a_name() {
        assert_eq!(account("acme"), Ok("acme".to_owned()));
        assert!(account("").is_err());
        assert!(account("a\nb").is_err());
        assert!(account(&"é".repeat(200)).is_ok());
        assert!(account(&"é".repeat(201)).is_err());
    }

    #[test]
    fn a_time_has_a_zone_and_a_year_that_the_database_takes() {
        let written = |text: &str| time(text).map(|time| time.to_rfc3339());
        for (text, expected) in [
            ("2030-01-31T08:00:00Z", "2030-01-31T08:00:00+00:00"),
            ("2030-01-31T08:00:00+02:00", "2030-01-31T06:00:00+00:00"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:00"),
        ] {
            assert_eq!(written(text), Ok(expected.to_owned()));
        }
        for bad in [
            "",
            "2030-01-31",
            "2030-01-31T08:00:00",
            "2030-02-30T08:00:00Z",
            "tomorrow",
            "infinity",
            "-infinity",
            "+10m",
            "0000-12-31T08:00:00Z",
            "0001-01-01T00:00:00+01:00",
            "10000-01-01T00:00:00Z",
        ] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
