//! Links in Markdown files: none is broken, and every document is found from the table of contents.

use std::collections::HashSet;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

/// The files that lead to all others.
const CONTENTS: [&str; 2] = ["README.md", "docs/README.md"];

pub(crate) fn violations(root: &Path, files: &[PathBuf]) -> Vec<String> {
    let mut found = Vec::new();
    let mut listed = HashSet::new();
    let documents = || {
        files
            .iter()
            .filter(|f| f.extension() == Some("md".as_ref()))
    };
    for file in documents() {
        let contents = CONTENTS.iter().any(|c| file == Path::new(c));
        for (number, link) in links(&super::read(root, file)) {
            let Some(target) = resolve(file, &link) else {
                continue;
            };
            if contents {
                listed.insert(target.file.clone());
            }
            if let Some(fault) = broken(root, &target) {
                found.push(format!(
                    "{}:{number}: {link} leads nowhere: {fault}",
                    file.display()
                ));
            }
        }
    }
    if CONTENTS.iter().any(|c| root.join(c).exists()) {
        for file in documents().filter(|f| f.starts_with("docs") && !listed.contains(*f)) {
            // Without a README above it, docs/README.md is the beginning.
            if file != Path::new(CONTENTS[1]) || root.join(CONTENTS[0]).exists() {
                found.push(format!(
                    "{}: no link in {} leads here",
                    file.display(),
                    CONTENTS.join(" or ")
                ));
            }
        }
    }
    found
}

/// Where a link leads, relative to the root.
pub(crate) struct Target {
    pub(crate) file: PathBuf,
    anchor: Option<String>,
}

/// `None` for a link that leaves the repository.
pub(crate) fn resolve(from: &Path, link: &str) -> Option<Target> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = match link.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor.to_owned())),
        None => (link, None),
    };
    let joined = match path.strip_prefix('/') {
        Some(path) => PathBuf::from(path),
        None if path.is_empty() => from.to_owned(),
        None => from.parent().unwrap_or(Path::new("")).join(path),
    };
    let mut file = PathBuf::new();
    for part in joined.components() {
        match part {
            Component::ParentDir => {
                file.pop();
            }
            Component::Normal(name) => file.push(name),
            _ => {}
        }
    }
    Some(Target { file, anchor })
}

fn broken(root: &Path, target: &Target) -> Option<String> {
    let file = target.file.display();
    if !root.join(&target.file).exists() {
        return Some(format!("there is no {file}"));
    }
    let anchor = target.anchor.as_ref()?;
    let is_document = target.file.extension() == Some("md".as_ref());
    if is_document && !anchors(&super::read(root, &target.file)).contains(anchor) {
        return Some(format!("{file} has no heading #{anchor}"));
    }
    None
}

/// Lines outside of code blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fence: Option<&str> = None;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let line = line.trim_start();
        match fence {
            Some(mark) => {
                if line.starts_with(mark) {
                    fence = None;
                }
                false
            }
            None => {
                fence = ["```", "~~~"]
                    .into_iter()
                    .find(|mark| line.starts_with(mark));
                fence.is_none()
            }
        }
    })
}

/// The targets of `[…](target)` and `[…]: target`, with the line they are on.
pub(crate) fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        // Every second piece between backticks is code.
        let line: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let inline = line
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'));
        let inline = inline.map(|(target, _)| target);
        let named = line
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("]: "));
        for target in inline.chain(named.map(|(_, target)| target)) {
            // A title may follow.
            if let Some(target) = target.split_whitespace().next() {
                found.push((number, target.trim_matches(['<', '>']).to_owned()));
            }
        }
    }
    found
}

/// The anchors that GitHub gives to the headings of a document, and those set by hand.
fn anchors(text: &str) -> HashSet<String> {
    let mut found = HashSet::new();
    for (_, line) in prose(text) {
        for attribute in ["id=\"", "name=\""] {
            let set = line
                .split(attribute)
                .skip(1)
                .filter_map(|rest| rest.split_once('"'));
            found.extend(set.map(|(name, _)| name.to_owned()));
        }
        let title = line.trim_start_matches('#');
        if !(1..=6).contains(&(line.len() - title.len())) || !title.starts_with(' ') {
            continue;
        }
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let name: String = title.trim().to_lowercase().chars().filter(kept).collect();
        let name = name.replace(' ', "-");
        let mut unique = name.clone();
        let mut count = 0;
        while !found.insert(unique) {
            count += 1;
            unique = format!("{name}-{count}");
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::planted;

    #[test]
    fn a_link_to_a_missing_file_is_seen() {
        let found = planted(&[("README.md", "# Hello\n\n[there](docs/there.md)\n")]);
        assert_eq!(
            found,
            ["README.md:3: docs/there.md leads nowhere: there is no docs/there.md"]
        );
        assert_eq!(planted(&[("README.md", "[a]: ../LICENSE\n")]).len(), 1);
    }

    #[test]
    fn a_link_to_a_missing_heading_is_seen() {
        let found = planted(&[("README.md", "# Hello\n\n[up](#goodbye)\n")]);
        assert_eq!(
            found,
            ["README.md:3: #goodbye leads nowhere: README.md has no heading #goodbye"]
        );
    }

    #[test]
    fn links_that_lead_somewhere_are_fine() {
        let readme = "# The `one` & only: x_y\n# Twice\n# Twice\n<a id=\"by-hand\"></a>\n\
            [a](#the-one--only-x_y) [b](#twice-1) [c](docs/) [d](docs/README.md#more \"title\") [h](#by-hand)\n\
            [e](https://example.org/nowhere.md) `[f](nowhere.md)`\n```\n[g](nowhere.md)\n# Code\n```\n";
        let docs = "## More\n[back](../README.md#twice)\n[deep](decisions/one.md)\n";
        let found = planted(&[
            ("README.md", readme),
            ("docs/README.md", docs),
            ("docs/decisions/one.md", "[root](/README.md)"),
        ]);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn a_document_that_nothing_leads_to_is_seen() {
        let found = planted(&[("README.md", "Hello."), ("docs/lost.md", "Alone.")]);
        assert_eq!(
            found,
            ["docs/lost.md: no link in README.md or docs/README.md leads here"]
        );
        // From one that is itself lost does not count.
        let chain = planted(&[
            ("README.md", "[a](docs/a.md)"),
            ("docs/a.md", "[b](b.md)"),
            ("docs/b.md", "Alone."),
        ]);
        assert_eq!(chain.len(), 1);
        assert_eq!(planted(&[("docs/early.md", "No contents yet.")]).len(), 0);
    }
}
