//! `docs/reliability.md` names tests; each of them is there.

use std::path::Path;
use std::path::PathBuf;

const DOCUMENT: &str = "docs/reliability.md";
/// Where a name like `fleet::budget` begins.
const ROOTS: [&str; 3] = ["tests/it", "tests/commands", "src"];

pub(crate) fn violations(root: &Path, files: &[PathBuf]) -> Vec<String> {
    if !files.iter().any(|file| file == Path::new(DOCUMENT)) {
        return Vec::new();
    }
    let text = super::read(root, Path::new(DOCUMENT));
    let names = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| is_name(code));
    names
        .filter(|name| !is_there(root, files, name))
        .map(|name| format!("{DOCUMENT}: there is no test {name}"))
        .collect()
}

/// `module::test`, or a module of tests inside of another.
fn is_name(code: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    code.contains("::") && code.split("::").all(is_part)
}

fn is_there(root: &Path, files: &[PathBuf], name: &str) -> bool {
    let parts: Vec<_> = name.split("::").collect();
    let Some((last, modules)) = parts.split_last() else {
        return false;
    };
    ROOTS.iter().any(|place| {
        let module = modules
            .iter()
            .fold(PathBuf::from(place), |path, part| path.join(part));
        let has_test = || {
            let file = module.with_extension("rs");
            files.contains(&file) && super::read(root, &file).contains(&format!("fn {last}("))
        };
        files.contains(&module.join(format!("{last}.rs"))) || has_test()
    })
}

#[test]
fn a_test_that_is_named_and_not_there_is_seen() {
    let found = super::planted(&[
        ("README.md", "[it](docs/reliability.md)"),
        (
            DOCUMENT,
            "`fleet::budget`, `fleet::budget::it_holds`, `fleet::budget::it_does_not`, `gone::away`, `POINT:NTH`",
        ),
        ("tests/it/fleet/budget.rs", "#[test]\nfn it_holds() {}\n"),
    ]);
    assert_eq!(
        found,
        [
            "docs/reliability.md: there is no test fleet::budget::it_does_not",
            "docs/reliability.md: there is no test gone::away"
        ]
    );
}
