//! Times, numbers and words as pages show them.

use chrono::DateTime;
use chrono::SecondsFormat;
use chrono::Utc;
use maud::Markup;
use maud::html;

/// Characters of a long text that a table shows.
const SHORT: usize = 200;

/// A time, to the second.
pub(super) fn time(time: DateTime<Utc>) -> Markup {
    let exact = time.to_rfc3339_opts(SecondsFormat::Millis, true);
    html! { time datetime=(exact) title=(exact) { (time.format("%Y-%m-%d %H:%M:%S")) } }
}

/// A time, or a dash.
pub(super) fn time_or_dash(at: Option<DateTime<Utc>>) -> Markup {
    html! { @if let Some(at) = at { (time(at)) } @else { "–" } }
}

/// `1 234 567`, with thin spaces between the thousands.
pub(super) fn number(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    if number < 0 {
        text.push('−');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A length of time, to its two largest units: `0.05 s`, `12 s`, `3 min 20 s`, `2 h`, `4 d 3 h`.
pub(super) fn seconds(seconds: f64) -> String {
    if seconds < 9.95 {
        let text = format!("{:.2}", seconds.max(0.0));
        let text = text.trim_end_matches('0').trim_end_matches('.');
        return format!("{text} s");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and `as` saturates"
    )]
    let whole = seconds.round() as u64;
    let (large, small) = match whole {
        0..60 => return format!("{whole} s"),
        60..3_600 => ((whole / 60, "min"), (whole % 60, "s")),
        3_600..86_400 => ((whole / 3_600, "h"), (whole % 3_600 / 60, "min")),
        _ => ((whole / 86_400, "d"), (whole % 86_400 / 3_600, "h")),
    };
    match small.0 {
        0 => format!("{} {}", large.0, large.1),
        _ => format!("{} {} {} {}", large.0, large.1, small.0, small.1),
    }
}

/// A length of time, a dash for less than a second.
pub(super) fn age(age: f64) -> String {
    if age < 1.0 {
        "–".to_owned()
    } else {
        seconds(age.floor())
    }
}

/// Words of our own with `commands` in them, between backticks.
pub(super) fn with_code(words: &str) -> Markup {
    html! {
        @for (at, part) in words.split('`').enumerate() {
            @if at % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// A long text in full length for those who open it, and shortened before.
pub(super) fn long(text: &str) -> Markup {
    match text.char_indices().nth(SHORT) {
        None => html! { span.long { (text) } },
        Some((end, _)) => html! {
            details.long { summary { (&text[..end]) "…" } pre { (text) } }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (value, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1\u{202f}000"),
            (1_234_567, "1\u{202f}234\u{202f}567"),
            (-1000, "−1\u{202f}000"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn lengths_of_time_have_their_two_largest_units() {
        for (value, text) in [
            (-1.0, "0 s"),
            (0.0, "0 s"),
            (0.05, "0.05 s"),
            (1.0, "1 s"),
            (9.949, "9.95 s"),
            (9.96, "10 s"),
            (59.4, "59 s"),
            (60.0, "1 min"),
            (200.0, "3 min 20 s"),
            (7_200.0, "2 h"),
            (100_000.0, "1 d 3 h"),
            (f64::INFINITY, "213503982334601 d 7 h"),
            (f64::NAN, "0 s"),
        ] {
            assert_eq!(seconds(value), text, "{value}");
        }
        assert_eq!((age(0.9).as_str(), age(1.9).as_str()), ("–", "1 s"));
    }

    #[test]
    fn markup_in_texts_stays_text() {
        let hostile = format!("<script>alert(1)</script>\"'&{}", "é".repeat(SHORT));
        for markup in [long(&hostile[..30]), long(&hostile), with_code(&hostile)] {
            let markup = markup.into_string();
            assert!(
                !markup.contains("<script") && markup.contains("&lt;script&gt;"),
                "{markup}"
            );
        }
    }
}
