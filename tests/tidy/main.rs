//! The rules of the house that the compiler does not check, over the sources and the documentation.
//!
//! Each rule is tried on a planted violation, too: a rule that sees nothing would go unnoticed.

#![expect(clippy::expect_used, reason = "what cannot be read fails the test")]

mod code;
mod docs;
mod evidence;
mod examples;
mod logs;
mod source;
mod watching;

use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Every breach of a rule under `root`, one line each.
fn violations(root: &Path) -> Vec<String> {
    let files = files(root);
    let mut found = source::violations(root, &files);
    found.extend(docs::violations(root, &files));
    found.extend(examples::violations(root, &files));
    found.extend(evidence::violations(root, &files));
    found.extend(logs::violations(root, &files));
    found.extend(watching::violations(root, &files));
    found
}

/// All files under `root`, relative to it and in order; neither hidden nor built ones.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository") {
            let entry = entry.expect("an entry of the repository");
            let name = entry.file_name();
            if name.to_string_lossy().starts_with('.') || name == "target" {
                continue;
            }
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(path) = path.strip_prefix(root) {
                found.push(path.to_owned());
            }
        }
    }
    found.sort();
    found
}

fn read(root: &Path, file: &Path) -> String {
    fs::read_to_string(root.join(file)).expect("sources and documentation are text")
}

#[test]
fn the_house_is_tidy() {
    let found = violations(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// What is found in a tree of just these files.
#[cfg(test)]
fn planted(files: &[(&str, &str)]) -> Vec<String> {
    let root = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a new folder");
        fs::write(path, text).expect("a new file");
    }
    violations(root.path())
}
