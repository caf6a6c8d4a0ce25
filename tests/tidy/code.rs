//! Just enough of Rust's grammar to tell code from comments and strings.

/// The paths that a line of code names: `use crate::store::Job;` has `use` and `crate::store::Job`.
/// A macro's name keeps its `!`, and `crate::{` has the brace as its last part.
pub(crate) fn paths(line: &str) -> Vec<Vec<&str>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(start) = rest.find(is_word) {
        rest = &rest[start..];
        let mut path = Vec::new();
        loop {
            let mut end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            if rest[end..].starts_with('!') && !rest[end..].starts_with("!=") {
                end += 1;
            }
            path.push(&rest[..end]);
            rest = &rest[end..];
            let Some(after) = rest.strip_prefix("::") else {
                break;
            };
            if after.starts_with('{') {
                path.push(&after[..1]);
            }
            if !after.starts_with(is_word) {
                break;
            }
            rest = after;
        }
        found.push(path);
    }
    found
}

/// The text with comments and the content of strings blanked; lines stay where they are.
pub(crate) fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let before = code.chars().last();
        let skipped = not_code(rest, before);
        let taken = if skipped == 0 {
            next.len_utf8()
        } else {
            skipped
        };
        if skipped == 0 {
            code.push(next);
        } else {
            code.extend(
                rest[..taken]
                    .chars()
                    .map(|c| if c == '\n' { '\n' } else { ' ' }),
            );
        }
        rest = &rest[taken..];
    }
    code
}

/// How many bytes at the beginning of `rest` are a comment, a string or a character.
fn not_code(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        let mut depth = 0;
        for (at, _) in rest.char_indices() {
            if rest[at..].starts_with("/*") {
                depth += 1;
            } else if at > 2 && rest[..at].ends_with("*/") {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
        }
        return rest.len();
    }
    let raw = rest.trim_start_matches(['b', 'c']).strip_prefix('r');
    if let Some(raw) = raw
        && !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    {
        let marks = raw.len() - raw.trim_start_matches('#').len();
        if raw[marks..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(marks));
            let begin = rest.len() - raw.len() + marks + 1;
            return rest[begin..]
                .find(&end)
                .map_or(rest.len(), |at| begin + at + end.len());
        }
    }
    let quote = match rest.as_bytes()[0] {
        b'"' => '"',
        // A character, not a lifetime.
        b'\'' if rest[1..].starts_with('\\') || rest[1..].chars().nth(1) == Some('\'') => '\'',
        _ => return 0,
    };
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}
