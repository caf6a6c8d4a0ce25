//! What commands print: results on stdout, remarks on stderr, neither harmed by a reader that goes away.

use std::io;
use std::io::ErrorKind;
use std::io::Write;

use comfy_table::Table;
use comfy_table::presets;
use serde::Serialize;

use crate::cli::failure::Failure;
pub(super) use crate::domain::words::count;
use crate::domain::words::shortened;
pub(super) use crate::domain::words::time;
use crate::telemetry;

/// Whether somebody still reads stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// As far as one can tell.
    There,
    /// The pipe is closed: `| head` has seen enough, which is no failure.
    Gone,
}

/// Prints text and a line end on stdout.
///
/// # Errors
/// When stdout cannot take it, a full disk say.
pub(super) fn print(text: &str) -> Result<Reader, Failure> {
    write(format!("{text}\n").as_bytes())
}

/// Prints bytes on stdout as they are.
///
/// # Errors
/// As [`print`].
pub(super) fn write(bytes: &[u8]) -> Result<Reader, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::Failed(format!(
            "cannot write to standard output: {error}"
        ))),
    }
}

/// Prints a value as one line of JSON on stdout.
///
/// # Errors
/// As [`print`].
pub(super) fn print_json(value: &impl Serialize) -> Result<Reader, Failure> {
    let json = serde_json::to_string(value)
        .map_err(|error| Failure::Failed(format!("cannot write the result as JSON: {error}")))?;
    print(&json)
}

/// Says something on stderr that is not the result.
pub(super) fn remark(text: &str) {
    // Where stderr is closed, nobody wanted to know.
    let _ = writeln!(io::stderr(), "{text}");
}

/// A table whose columns are as wide as their content, without lines, good for eyes and for awk.
pub(super) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().copied());
    table.add_rows(rows);
    table.trim_fmt()
}

/// Names and values, one pair a line.
pub(super) fn fields(fields: &[(&str, String)]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.add_rows(
        fields
            .iter()
            .map(|(name, value)| [(*name).to_owned(), value.clone()]),
    );
    table.trim_fmt()
}

/// Text from outside with nothing in it that a terminal would act upon.
pub(super) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if telemetry::is_harmful(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// [`harmless`], and short enough for a table.
pub(super) fn short(text: &str) -> String {
    harmless(&shortened(text))
}

/// The value as text, a dash where there is none.
pub(super) fn or_dash<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_speak_to_the_terminal() {
        let nasty = "a\u{1b}[31mb\nc\u{9b}d\u{202e}e\u{2028}é😀";
        assert_eq!(
            harmless(nasty),
            "a\\u{1b}[31mb\\nc\\u{9b}d\\u{202e}e\\u{2028}é😀"
        );
    }

    #[test]
    fn a_table_has_its_columns_in_line_and_no_spaces_at_the_end() {
        let text = table(&["A", "LONGER"], [vec!["value".to_owned(), "x".to_owned()]]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0].find("LONGER"), lines[1].find('x'), "{text}");
        assert!(lines.iter().all(|line| line.trim_end() == *line), "{text}");
    }
}
