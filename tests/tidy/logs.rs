//! Events of the log: their fields are the list of `docs/operating.md`, and whoever reads one about a connection finds it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use crate::code::code_only;
use crate::code::paths;
use crate::source::is_test;
use crate::source::without_tests;

const DOCUMENT: &str = "docs/operating.md";
const LIST: &str = "### Fields of the log";
/// What the last release's log had, a name a line; nothing of it may go.
const KEPT: &str = "log-fields";
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
/// Somebody may have to do something about these.
const LOUD: [&str; 2] = ["error", "warn"];
/// What every line has beside its fields.
const OURS: [&str; 5] = ["timestamp", "level", "message", "target", "span"];

pub(crate) fn violations(root: &Path, files: &[PathBuf]) -> Vec<String> {
    let mut found = Vec::new();
    let mut used: BTreeMap<String, String> = BTreeMap::new();
    let mut loud = Vec::new();
    let is_source = |file: &&PathBuf| {
        file.extension() == Some("rs".as_ref()) && file.starts_with("src") && !is_test(file)
    };
    for file in files.iter().filter(is_source) {
        let text = super::read(root, file);
        let all = code_only(&text);
        let code = without_tests(&all);
        hidden(file, code, &mut found);
        for event in events(code, &text) {
            let place = format!("{}:{}", file.display(), event.line);
            if event.fields.contains("connection.id") != event.message.contains("{id}") {
                found.push(format!(
                    "{place}: what is about a connection has `connection.id`, and {{id}} in its message"
                ));
            }
            if LOUD.contains(&event.level) {
                loud.push((place.clone(), first_words(&event.message)));
            }
            for field in event.fields {
                used.entry(field).or_insert_with(|| place.clone());
            }
        }
    }
    let document = match files.iter().any(|file| file == Path::new(DOCUMENT)) {
        true => super::read(root, Path::new(DOCUMENT)),
        false => String::new(),
    };
    let listed = list(&document);
    let untold = loud.iter().filter(|(_, words)| !document.contains(words));
    found.extend(untold.map(|(place, words)| {
        format!("{place}: {DOCUMENT} does not say what to do about `{words}`")
    }));
    for (field, place) in &used {
        if OURS.contains(&field.as_str()) {
            found.push(format!("{place}: every line has a `{field}` of its own"));
        } else if !listed.contains(field) {
            found.push(format!(
                "{place}: the field `{field}` is not in the list of {DOCUMENT}"
            ));
        }
    }
    let unused = listed.iter().filter(|field| !used.contains_key(*field));
    found.extend(unused.map(|field| format!("{DOCUMENT}: no event has the field `{field}`")));
    for file in files.iter().filter(|file| file.ends_with(KEPT)) {
        let kept = super::read(root, file);
        let gone = kept.lines().filter(|field| !used.contains_key(*field));
        found.extend(gone.map(|field| {
            format!(
                "{}: the field `{field}` is a promise, and gone",
                file.display()
            )
        }));
    }
    found
}

struct Event {
    level: &'static str,
    line: usize,
    fields: BTreeSet<String>,
    message: String,
}

/// What would keep fields out of sight here.
fn hidden(file: &Path, code: &str, found: &mut Vec<String>) {
    for (number, line) in (1..).zip(code.lines()) {
        for path in paths(line) {
            let last = path.last().copied().unwrap_or_default();
            let span = last.ends_with("span!") || matches!(last, "event!" | "instrument");
            let bare = path.len() == 1
                && LEVELS
                    .iter()
                    .any(|level| last.strip_suffix('!') == Some(level));
            if span || bare {
                found.push(format!(
                    "{}:{number}: events are written `tracing::LEVEL!`, without spans: `{last}`",
                    file.display()
                ));
            }
        }
    }
}

/// The events of a source; `code` is the begin of `text` with strings and comments blanked, character by character.
fn events(code: &str, text: &str) -> Vec<Event> {
    let text: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    for level in LEVELS {
        let begin = format!("tracing::{level}!(");
        for (at, _) in code.match_indices(&begin) {
            let inside = code[..at].chars().count() + begin.len();
            found.push(Event {
                level,
                line: code[..at].lines().count().max(1),
                ..event(&code[at + begin.len()..], inside, &text)
            });
        }
    }
    found
}

/// The event whose arguments begin with `rest`, at this place of `text`.
fn event(rest: &str, mut at: usize, text: &[char]) -> Event {
    let mut fields = BTreeSet::new();
    let mut message = String::new();
    for argument in arguments(rest) {
        let length = argument.chars().count();
        let written: String = text[at..at + length].iter().collect();
        at += length + 1;
        if argument.trim().is_empty() {
            // A string: the message. After it come values that the message names.
            message = written;
            break;
        }
        let name = argument.split('=').next().unwrap_or_default();
        fields.insert(name.trim().trim_start_matches(['%', '?']).to_owned());
    }
    Event {
        level: "",
        line: 0,
        fields,
        message,
    }
}

/// The three words by which a message is found, values aside.
fn first_words(message: &str) -> String {
    let fixed = message
        .trim_matches(|c: char| c == '"' || c.is_whitespace())
        .split(['{', '}'])
        .step_by(2)
        .map(|part| part.trim_matches(|c: char| !c.is_alphanumeric()))
        .find(|part| part.len() >= "panicked".len())
        .unwrap_or_default();
    let clause = fixed.split([';', ',', ':']).next().unwrap_or_default();
    let words: Vec<_> = clause.split_whitespace().take(3).collect();
    words.join(" ")
}

/// The arguments of a call, up to its closing parenthesis.
fn arguments(rest: &str) -> Vec<&str> {
    let (mut found, mut begin, mut depth) = (Vec::new(), 0, 0);
    for (at, c) in rest.char_indices() {
        match c {
            ',' if depth == 0 => {
                found.push(&rest[begin..at]);
                begin = at + 1;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => {
                found.push(&rest[begin..at]);
                break;
            }
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
    }
    found
}

/// The names in the first column of the list.
fn list(document: &str) -> BTreeSet<String> {
    let after = document.split_once(LIST).map_or("", |(_, after)| after);
    let rows = after
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with('#'));
    let first = rows.filter_map(|line| line.strip_prefix("| `")?.split('|').next());
    first
        .flat_map(|cell| cell.split('`').step_by(2))
        .map(str::to_owned)
        .filter(|name| !name.trim().is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::DOCUMENT;
    use crate::planted;

    const LISTED: &str = "# Operating\n### Fields of the log\n| field | meaning |\n|---|---|\n\
        | `connection.id` | `it` |\n| `account`, `jobs` | |\n## More\n| `else` | about `it was lost` |\n";
    const SOURCE: &str = "fn f() {\n    tracing::info!(\n        connection.id = %id, account, jobs = of(a, b),\n        \
        \"{} {id}, é = {x}\",\n        word(c)\n    );\n}\n";

    fn found(source: &str) -> Vec<String> {
        planted(&[
            ("README.md", "[it](docs/operating.md)"),
            (DOCUMENT, LISTED),
            ("src/worker.rs", source),
        ])
    }

    #[test]
    fn events_with_the_fields_of_the_list_are_fine() {
        assert_eq!(found(SOURCE), Vec::<String>::new());
        let test = "#[cfg(test)]\nmod tests {\n    fn f() { tracing::info!(any = 1) }\n}\n";
        assert_eq!(found(&format!("{SOURCE}{test}")), Vec::<String>::new());
    }

    #[test]
    fn a_warning_that_the_document_does_not_explain_is_seen() {
        let known = "fn g() { tracing::warn!(\"of {x}: it was lost; of all\") }\n";
        assert_eq!(found(&format!("{SOURCE}{known}")), Vec::<String>::new());
        let unknown = known.replace("lost", "found");
        let fault =
            "src/worker.rs:8: docs/operating.md does not say what to do about `it was found`";
        assert_eq!(found(&format!("{SOURCE}{unknown}")), [fault]);
    }

    #[test]
    fn a_field_that_is_not_in_the_list_is_seen() {
        let source = format!("{SOURCE}fn g() {{ tracing::info!(?acount, \"account, of\") }}\n");
        let fault = "src/worker.rs:8: the field `acount` is not in the list of docs/operating.md";
        assert_eq!(found(&source), [fault]);
        let source = format!("{SOURCE}fn g() {{ tracing::info!(level = 1, \"x\") }}\n");
        assert!(found(&source).concat().contains("a `level` of its own"));
    }

    #[test]
    fn a_field_of_the_list_that_no_event_has_is_seen() {
        let fault = "docs/operating.md: no event has the field `jobs`";
        assert_eq!(found(&SOURCE.replace(", jobs = of(a, b)", "")), [fault]);
    }

    #[test]
    fn an_event_about_a_connection_without_its_id_is_seen() {
        assert!(
            found(&SOURCE.replace("{id}", "it"))
                .concat()
                .contains("{id} in its message")
        );
        let without = format!("{SOURCE}fn g() {{ tracing::info!(\"lost: {{id}}\") }}\n");
        assert!(found(&without).concat().contains("worker.rs:8"));
    }

    #[test]
    fn what_would_hide_a_field_is_seen() {
        for hiding in [
            "use tracing::warn;\nfn g() { warn!(x = 1) }",
            "fn g() { tracing::info_span!(x) }",
        ] {
            assert_eq!(found(&format!("{SOURCE}{hiding}\n")).len(), 1, "{hiding}");
        }
    }

    #[test]
    fn a_field_of_the_last_release_that_is_gone_is_seen() {
        let kept = [
            ("src/worker.rs", SOURCE),
            ("tests/upgrade/0.1.0/log-fields", "account\nkind\n"),
        ];
        let found = planted(&kept).concat();
        assert!(
            found.contains("`kind` is a promise") && !found.contains("`account` is a"),
            "{found}"
        );
    }
}
