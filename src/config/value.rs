//! Single values: from what was written to what its key demands. Each error completes the sentence "`key` …".

use std::fmt::Display;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::config::LogFormat;
use crate::config::file::list_from_text;
use crate::config::layers::Raw;
use crate::domain::duration;

const OFF: &str = "off";

pub(super) fn text(raw: &Raw) -> Result<&str, String> {
    match raw {
        Raw::Text(text) => Ok(text),
        Raw::Bare(bare) => Err(format!(
            "is {}, but must be a string: put it in quotes",
            shown(bare)
        )),
        Raw::List(_) => Err("is a list, but must be a string in quotes".to_owned()),
        Raw::Other(what) => Err(format!("is {what}, but must be a string in quotes")),
    }
}

/// A number or boolean, which a file writes without quotes and a variable as its text.
fn scalar<'r>(raw: &'r Raw, wanted: &str) -> Result<&'r str, String> {
    match raw {
        Raw::Text(text) | Raw::Bare(text) => Ok(text.trim()),
        Raw::List(_) => Err(format!("is a list, but must be {wanted}")),
        Raw::Other(what) => Err(format!("is {what}, but must be {wanted}")),
    }
}

/// A duration of at least `least`.
pub(super) fn duration(raw: &Raw, least: Duration) -> Result<Duration, String> {
    duration_within(raw, least..=duration::LONGEST)
}

pub(super) fn duration_within(
    raw: &Raw,
    range: RangeInclusive<Duration>,
) -> Result<Duration, String> {
    const FORM: &str = "write it as \"250ms\", \"30s\", \"5m\", \"2h\" or \"90d\"";
    let written = scalar(raw, "a duration")?;
    let duration =
        duration::parse(written).map_err(|why| format!("is {}, {why}: {FORM}", shown(written)))?;
    if !range.contains(&duration) {
        let (least, most) = (
            format_duration(*range.start()),
            format_duration(*range.end()),
        );
        return Err(format!(
            "is {}, but must be between \"{least}\" and \"{most}\"",
            shown(written)
        ));
    }
    Ok(duration)
}

/// A minute or more, since it costs a long call, or "off".
pub(super) fn interval(raw: &Raw) -> Result<Option<Duration>, String> {
    match raw {
        Raw::Text(text) if text.trim() == OFF => Ok(None),
        raw => duration(raw, Duration::from_secs(60))
            .map(Some)
            .map_err(|why| format!("{why}; or \"off\"")),
    }
}

pub(super) fn count(raw: &Raw, range: RangeInclusive<u32>) -> Result<u32, String> {
    number(raw, "a whole number", &range)
}

pub(super) fn factor(raw: &Raw, range: RangeInclusive<f64>) -> Result<f64, String> {
    number(raw, "a number", &range)
}

fn number<T>(raw: &Raw, wanted: &str, range: &RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    let wanted = format!("{wanted} from {} to {}", range.start(), range.end());
    let written = scalar(raw, &wanted)?;
    match written.replace('_', "").parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("is {}, but must be {wanted}", shown(written))),
    }
}

pub(super) fn flag(raw: &Raw) -> Result<bool, String> {
    let wanted = "true or false";
    let written = scalar(raw, wanted)?;
    written
        .parse()
        .map_err(|_| format!("is {}, but must be {wanted}", shown(written)))
}

/// Bytes: a bare number, or one with a unit.
pub(super) fn size(raw: &Raw, range: RangeInclusive<usize>) -> Result<usize, String> {
    let wanted = format!(
        "a size from {} to {} bytes, such as 8388608 or \"8MiB\"",
        range.start(),
        range.end()
    );
    let written = scalar(raw, &wanted)?;
    let digits = written
        .find(|c: char| !c.is_ascii_digit() && c != '_')
        .unwrap_or(written.len());
    let (number, unit) = written.split_at(digits);
    let factor: Option<usize> = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "kb" => Some(1_000),
        "kib" => Some(1 << 10),
        "mb" => Some(1_000_000),
        "mib" => Some(1 << 20),
        "gb" => Some(1_000_000_000),
        "gib" => Some(1 << 30),
        _ => None,
    };
    let number: Option<usize> = number.replace('_', "").parse().ok();
    number
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .filter(|bytes| range.contains(bytes))
        .ok_or_else(|| format!("is {}, but must be {wanted}", shown(written)))
}

/// A list of words, each without surrounding whitespace and not empty.
pub(super) fn words(raw: &Raw) -> Result<Vec<String>, String> {
    const FORM: &str = "must be a list of strings, such as [\"synced\", \"ready\"]";
    let words = match raw {
        Raw::List(words) => words.clone(),
        Raw::Text(text) => {
            list_from_text(text).ok_or_else(|| format!("is {}, but {FORM}", shown(text)))?
        }
        Raw::Bare(bare) => return Err(format!("is {}, but {FORM}", shown(bare))),
        Raw::Other(what) => return Err(format!("is {what}, but {FORM}")),
    };
    match words
        .iter()
        .find(|word| word.is_empty() || word.trim() != word.as_str())
    {
        Some(word) => Err(format!(
            "holds {}: words are not empty and have no spaces around them",
            shown(word)
        )),
        None => Ok(words),
    }
}

/// The path of a file that holds a secret.
pub(super) fn secret_path(raw: &Raw) -> Result<PathBuf, String> {
    let path = PathBuf::from(not_a_key(raw, "the path of a file")?);
    // It may be the secret itself, which every message about the file would show.
    if path.is_relative() && !path.exists() {
        return Err("is not the path of a file that is there: write the whole path, as in \"/etc/feather-sync/secret\"; a \
                    secret is not written into the configuration"
            .to_owned());
    }
    Ok(path)
}

/// The name of an environment variable that holds a secret.
pub(super) fn secret_variable(raw: &Raw) -> Result<String, String> {
    let name = not_a_key(raw, "the name of an environment variable")?;
    if name.contains(['=', '\0']) {
        return Err("is not the name of an environment variable".to_owned());
    }
    Ok(name.to_owned())
}

/// A key put where its place is wanted would be shown by every message about that place.
fn not_a_key<'r>(raw: &'r Raw, wanted: &str) -> Result<&'r str, String> {
    let text = text(raw)?;
    if text.trim().is_empty() {
        return Err(format!("is empty, but must be {wanted}"));
    }
    if text.trim().starts_with("fth_") {
        return Err(format!(
            "looks like an API key itself, but must be {wanted}"
        ));
    }
    Ok(text)
}

/// `address:port`, `localhost:port`, or "off".
pub(super) fn listen(raw: &Raw) -> Result<Option<SocketAddr>, String> {
    let written = text(raw)?.trim();
    if written == OFF {
        return Ok(None);
    }
    let on_localhost = || {
        let port = written.strip_prefix("localhost:")?.parse().ok()?;
        Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    };
    written.parse().ok().or_else(on_localhost).map(Some).ok_or_else(|| {
        format!("is {}, but must be an IP address and a port, such as \"127.0.0.1:9464\", or \"off\"", shown(written))
    })
}

pub(super) fn log_format(raw: &Raw) -> Result<LogFormat, String> {
    let written = text(raw)?.trim();
    let known = [
        LogFormat::Auto,
        LogFormat::Text,
        LogFormat::Json,
        LogFormat::Journald,
    ];
    known
        .into_iter()
        .find(|format| format.as_str() == written)
        .ok_or_else(|| {
            format!(
                "is {}, but must be \"auto\", \"text\", \"json\" or \"journald\"",
                shown(written)
            )
        })
}

/// What was written, short enough for a message and without control characters; not where it looks like a secret that
/// slipped into the wrong place.
pub(super) fn shown(written: &str) -> String {
    if written.contains("://") || written.contains("fth_") {
        return "something that may hold a secret".to_owned();
    }
    let mut start: String = written.chars().take(60).collect();
    if start.len() < written.len() {
        start.push('…');
    }
    format!("{start:?}")
}

/// The shortest form that reads back as the same duration: "90s", "15m", "90d".
pub(super) fn format_duration(duration: Duration) -> String {
    const UNITS: [(u128, &str); 6] = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
    ];
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    match UNITS.iter().find(|(unit, _)| nanos.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", nanos / unit),
        None => format!("{nanos}ns"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(text: &str) -> Raw {
        Raw::Text(text.to_owned())
    }

    #[test]
    fn durations_need_a_unit() {
        let read = |text: &str| duration(&raw(text), Duration::ZERO);
        assert_eq!(read("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(read("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(read("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(read("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert_eq!(read("0s"), Ok(Duration::ZERO));
        for bad in [
            "30",
            "0",
            "1.5",
            "5M",
            "-5s",
            "",
            "soon",
            "40000d",
            "99999999999999999999s",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(
            duration(&Raw::Bare("90".to_owned()), Duration::ZERO)
                .unwrap_err()
                .contains("\"30s\"")
        );
    }

    #[test]
    fn sizes_read_as_bytes_or_with_a_unit() {
        let read = |text: &str| size(&raw(text), 1024..=1 << 30);
        assert_eq!(read("8388608"), Ok(8 << 20));
        assert_eq!(read("8MiB"), Ok(8 << 20));
        assert_eq!(read("8 mib"), Ok(8 << 20));
        assert_eq!(read("2kB"), Ok(2000));
        for bad in [
            "1023",
            "2GiB",
            "8 potatoes",
            "MiB",
            "-1",
            "18446744073709551615GiB",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_of_a_variable_are_toml() {
        assert_eq!(
            words(&raw(r#"["a", 'b']"#)),
            Ok(vec!["a".to_owned(), "b".to_owned()])
        );
        assert_eq!(words(&raw("[]")), Ok(Vec::new()));
        for bad in ["a,b", "[1]", "[\"a\"]\nx = 1", "[\"\"]", "[\" a\"]"] {
            assert!(words(&raw(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_in_place_of_its_path_is_not_shown() {
        let why = secret_path(&raw("fth_live_hunter2")).unwrap_err();
        assert!(!why.contains("hunter2"), "{why}");
        assert!(secret_variable(&raw("fth_live_hunter2")).is_err());
        for secret in ["fth_live_hunter2", "postgres://u:hunter2@h/d"] {
            let why = count(&raw(secret), 1..=9).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
    }

    #[test]
    fn listen_is_an_address_or_off() {
        assert_eq!(listen(&raw("off")), Ok(None));
        assert_eq!(
            listen(&raw("localhost:0")),
            Ok(Some("127.0.0.1:0".parse().unwrap()))
        );
        assert_eq!(
            listen(&raw("[::1]:80")),
            Ok(Some("[::1]:80".parse().unwrap()))
        );
        assert!(listen(&raw("example.com:80")).is_err());
        assert!(listen(&raw("127.0.0.1")).is_err());
    }

    proptest! {
        #[test]
        fn a_duration_shown_reads_back_as_itself(nanos in 0u64..3_000_000_000_000_000_000, unit in 0usize..6) {
            let unit = [1, 1_000, 1_000_000, 1_000_000_000, 60_000_000_000, 86_400_000_000_000][unit];
            let duration = Duration::from_nanos(nanos - nanos % unit);
            prop_assert_eq!(super::duration(&raw(&format_duration(duration)), Duration::ZERO), Ok(duration));
        }

        #[test]
        fn no_text_makes_a_value_panic(text in any::<String>()) {
            for raw in [raw(&text), Raw::Bare(text.clone())] {
                let _ = (duration(&raw, Duration::ZERO), interval(&raw), count(&raw, 1..=9), factor(&raw, 1.0..=9.0));
                let _ = (flag(&raw), size(&raw, 1..=9), words(&raw), secret_path(&raw), listen(&raw), log_format(&raw));
            }
        }
    }
}
