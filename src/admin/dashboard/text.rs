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
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
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
    fn markup_in_texts_stays_text() {
        let hostile = format!("<script>alert(1)</script>\"'&{}", "é".repeat(SHORT));
        for text in [&hostile[..30], &hostile] {
            let markup = long(text).into_string();
            assert!(
                !markup.contains("<script") && markup.contains("&lt;script&gt;"),
                "{markup}"
            );
        }
    }
}
