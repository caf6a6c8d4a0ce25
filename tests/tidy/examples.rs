//! A page that shows a piece of an example shows what is in its file: the file is what is run.

use std::path::Path;
use std::path::PathBuf;

use crate::docs::links;
use crate::docs::resolve;

const EXAMPLES: &str = "docs/examples";
const FENCE: &str = "```";

pub(crate) fn violations(root: &Path, files: &[PathBuf]) -> Vec<String> {
    let mut found = Vec::new();
    for page in files
        .iter()
        .filter(|file| file.extension() == Some("md".as_ref()))
    {
        for piece in pieces(&super::read(root, page)) {
            let shown: Vec<_> = links(&piece.introduction)
                .iter()
                .filter_map(|(_, link)| resolve(page, link))
                .map(|target| target.file)
                .filter(|file| file.starts_with(EXAMPLES) && files.contains(file))
                .collect();
            let is_there = |file: &PathBuf| contains(&super::read(root, file), &piece.lines);
            if !shown.is_empty() && !shown.iter().any(is_there) {
                found.push(format!(
                    "{}:{}: these lines are not in {}",
                    page.display(),
                    piece.number,
                    shown[0].display()
                ));
            }
        }
    }
    found
}

/// A block of code.
struct Piece<'a> {
    /// The paragraph before it.
    introduction: String,
    /// That of its first line, in the page.
    number: usize,
    lines: Vec<&'a str>,
}

fn pieces(page: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut lines = (1..).zip(page.lines());
    let mut paragraph = String::new();
    let mut ended = false;
    while let Some((number, line)) = lines.next() {
        if line.starts_with(FENCE) {
            let inside = lines.by_ref().map(|(_, line)| line);
            found.push(Piece {
                introduction: std::mem::take(&mut paragraph),
                number: number + 1,
                lines: inside.take_while(|line| !line.starts_with(FENCE)).collect(),
            });
        } else if line.is_empty() {
            ended = true;
        } else {
            if std::mem::take(&mut ended) {
                paragraph.clear();
            }
            paragraph.push_str(line);
            paragraph.push('\n');
        }
    }
    found
}

/// Whether the lines are in the text, one after the other, all of them indented by as much.
fn contains(text: &str, wanted: &[&str]) -> bool {
    let text: Vec<_> = text.lines().collect();
    let Some(first) = wanted.first() else {
        return false;
    };
    text.windows(wanted.len()).any(|window| {
        let Some(indent) = window[0].strip_suffix(first) else {
            return false;
        };
        let same = |(line, wanted): (&&str, &&str)| {
            line.strip_prefix(indent) == Some(wanted) || line.is_empty() && wanted.is_empty()
        };
        indent.trim().is_empty() && window.iter().zip(wanted).all(same)
    })
}

#[cfg(test)]
mod tests {
    use crate::planted;

    const FILE: (&str, &str) = (
        "docs/examples/a.py",
        "def f():\n    with x:\n        y()\n\n    z()\n",
    );

    fn faults(page: &str) -> Vec<String> {
        planted(&[("README.md", page), FILE])
    }

    #[test]
    fn a_piece_that_is_not_in_its_example_is_seen() {
        let page =
            "[It](docs/examples/a.py), with\na driver:\n\n```python\nwith x:\n    z()\n```\n";
        assert_eq!(
            faults(page),
            ["README.md:5: these lines are not in docs/examples/a.py"]
        );
        let reindented = page.replace("    z()", "  y()");
        assert_eq!(faults(&reindented).len(), 1);
        let empty = page.replace("with x:\n    z()\n", "");
        assert_eq!(faults(&empty).len(), 1);
    }

    #[test]
    fn a_piece_of_its_example_is_fine() {
        let page = "[It](docs/examples/a.py):\n\n```python\nwith x:\n    y()\n\nz()\n```\n";
        assert_eq!(faults(page), Vec::<String>::new());
    }

    #[test]
    fn code_after_another_paragraph_is_no_piece() {
        let page = "[It](docs/examples/a.py)\n\nOther:\n\n```\na\n```\n\n```\nb\n```\n";
        assert_eq!(faults(page), Vec::<String>::new());
    }
}
