//! How one event becomes one line, whatever it holds.

use std::fmt;

use tracing::Event;
use tracing::Level;
use tracing::Subscriber;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::FormatEvent;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::registry::LookupSpan;

/// A longer value is cut, in bytes as written: the journal breaks lines of more than 48 KiB apart.
pub(super) const LONGEST_VALUE: usize = 16 * 1024;
const CUT: char = '…';

/// `message key=value key=value`, with nothing in them that a terminal or a line reader would act upon.
pub(super) fn escaped_fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    let field = |writer: &mut Writer<'_>, field: &tracing::field::Field, value: &dyn fmt::Debug| {
        if field.name() != "message" {
            write!(writer, "{}=", field.name())?;
        }
        let mut escaped = Escaped {
            writer,
            left: Some(LONGEST_VALUE),
        };
        fmt::write(&mut escaped, format_args!("{value:?}"))
    };
    format::debug_fn(field).delimited(" ")
}

/// Writes what is harmful as Rust writes it in a string.
struct Escaped<'a, 'w> {
    writer: &'a mut Writer<'w>,
    /// Bytes that may still be written; `None` once the rest was cut.
    left: Option<usize>,
}

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let Some(left) = self.left else {
                return Ok(());
            };
            let escape = is_harmful(c).then(|| c.escape_default());
            let length = escape.as_ref().map_or(c.len_utf8(), ExactSizeIterator::len);
            self.left = left.checked_sub(length);
            match (self.left, escape) {
                (None, _) => self.writer.write_char(CUT)?,
                (Some(_), Some(escape)) => write!(self.writer, "{escape}")?,
                (Some(_), None) => self.writer.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Whether a terminal or a reader of lines acts upon it, or the eye is led astray: control characters, the two of
/// Unicode's own that end a line, and the marks that turn the direction of writing.
#[must_use]
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A line with the syslog priority that the journal strips off and files the entry under.
pub(super) struct Journald<F> {
    pub(super) line: F,
}

impl<S, N, F> FormatEvent<S, N> for Journald<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        self.line.format_event(ctx, writer, event)
    }
}

/// A JSON object whose strings are of bearable length, and without the line ends and marks that JSON leaves unescaped but
/// readers heed (U+0085, U+2028, U+202E, ...).
pub(super) struct OneLine<F> {
    pub(super) object: F,
}

impl<S, N, F> FormatEvent<S, N> for OneLine<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut object = String::new();
        self.object
            .format_event(ctx, Writer::new(&mut object), event)?;
        write_json(&mut writer, object.trim_end_matches('\n'))?;
        writer.write_char('\n')
    }
}

fn write_json(writer: &mut Writer<'_>, object: &str) -> fmt::Result {
    // Within a string: the bytes that may still be written of it, `None` once the rest was cut.
    let mut string: Option<Option<usize>> = None;
    let mut rest = object;
    while let Some(c) = rest.chars().next() {
        let (unit, after) = rest.split_at(unit_length(rest, c));
        rest = after;
        match &mut string {
            _ if c == '"' => {
                string = string.is_none().then_some(Some(LONGEST_VALUE));
                writer.write_char(c)?;
            }
            None => writer.write_str(unit)?,
            Some(None) => {}
            Some(Some(left)) => {
                // It can stand inside of a string only, where this escape means the same character.
                let escape = is_harmful(c).then(|| format!("\\u{:04x}", u32::from(c)));
                let written = escape.as_deref().unwrap_or(unit);
                if let Some(less) = left.checked_sub(written.len()) {
                    *left = less;
                    writer.write_str(written)?;
                } else {
                    string = Some(None);
                    writer.write_char(CUT)?;
                }
            }
        }
    }
    Ok(())
}

/// How many bytes of JSON stand for one character of a string.
fn unit_length(json: &str, first: char) -> usize {
    match first {
        '\\' if json[1..].starts_with('u') => 6,
        '\\' => 2,
        _ => first.len_utf8(),
    }
}
