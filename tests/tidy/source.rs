//! Layers, walls, sizes and leftovers in Rust sources.

use std::path::Path;
use std::path::PathBuf;

use crate::code::code_only;
use crate::code::paths;

/// Who may import whom: a module those of the rows above its own.
const LAYERS: [&[&str]; 6] = [
    &["domain"],
    &["feather", "store", "metrics", "config", "sim"],
    &["assessment"],
    &["worker", "admin"],
    &["daemon"],
    &["cli"],
];

/// Modules that stand apart from the layers: what they may import, and the first row that may import them.
const APART: [(&str, &[&str], usize); 4] = [
    ("failpoint", &[], 1),
    ("lifecycle", &[], 3),
    ("telemetry", &["config"], 4),
    ("local_postgres", &[], 5),
];

/// Crates that only some modules may name.
const WALLS: [(&str, &[&str]); 6] = [
    ("sqlx", &["store", "local_postgres"]),
    ("reqwest", &["feather"]),
    ("axum", &["admin", "sim"]),
    ("maud", &["admin"]),
    ("hyper", &["admin", "sim"]),
    ("hyper_util", &["admin", "sim"]),
];

const LONGEST: usize = 400;

pub(crate) fn violations(root: &Path, files: &[PathBuf]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files
        .iter()
        .filter(|f| f.extension() == Some("rs".as_ref()))
    {
        let text = super::read(root, file);
        let code = code_only(&text);
        leftovers(file, &code, &mut found);
        let Ok(inside) = file.strip_prefix("src") else {
            continue;
        };
        let lines = text.lines().count();
        if lines > LONGEST {
            found.push(format!(
                "{}: {lines} lines; over {LONGEST} it has more than one subject",
                file.display()
            ));
        }
        if !is_test(inside) {
            imports(file, &module(inside), without_tests(&code), &mut found);
        }
    }
    found
}

/// `worker/tick.rs` is `["worker", "tick"]`; the crate's root is empty.
fn module(inside: &Path) -> Vec<String> {
    let path = inside.with_extension("");
    let mut names: Vec<String> = path
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    if matches!(
        names.last().map(String::as_str),
        Some("lib" | "main" | "mod")
    ) {
        names.pop();
    }
    names
}

/// Tests look at a module from outside, and may use the whole house.
pub(crate) fn is_test(inside: &Path) -> bool {
    inside
        .with_extension("")
        .components()
        .any(|part| part.as_os_str() == "tests")
}

/// Clippy sees to it that the tests of a file come last.
pub(crate) fn without_tests(code: &str) -> &str {
    let mut begin = 0;
    while let Some(at) = code[begin..].find("#[cfg(test)]") {
        let after = begin + at + "#[cfg(test)]".len();
        let line = code[after..]
            .trim_start()
            .lines()
            .next()
            .unwrap_or_default();
        if line.contains("mod ") && line.ends_with('{') {
            return &code[..begin + at];
        }
        begin = after;
    }
    code
}

fn leftovers(file: &Path, code: &str, found: &mut Vec<String>) {
    for (number, line) in (1..).zip(code.lines()) {
        for path in paths(line) {
            if let Some(name @ ("todo!" | "dbg!")) = path.last().copied() {
                found.push(format!("{}:{number}: a leftover `{name}`", file.display()));
            }
        }
    }
}

fn imports(file: &Path, module: &[String], code: &str, found: &mut Vec<String>) {
    let top = module.first().map(String::as_str);
    if let Some(top) = top
        && row(top).is_none()
    {
        found.push(format!(
            "{}: `{top}` has no place in the layers of tests/tidy/source.rs",
            file.display()
        ));
    }
    for (number, line) in (1..).zip(code.lines()) {
        let mut report = |what: String| found.push(format!("{}:{number}: {what}", file.display()));
        for path in paths(line) {
            if let Some((name, allowed)) = WALLS.iter().find(|(name, _)| path[0] == *name)
                && !top.is_some_and(|top| allowed.contains(&top))
            {
                report(format!("`{name}` is for {} only", allowed.join(" and ")));
            }
            let Some(target) = target(&path, module.len()) else {
                continue;
            };
            if target == "{" {
                report("one `use crate::x` per line".to_owned());
            }
            if let Some(top) = top
                && top != target
                && !may_import(top, target)
            {
                report(format!("`{top}` may not import `{target}`"));
            }
        }
    }
}

/// The top module that a path leads to, from a module this deep.
fn target<'a>(path: &[&'a str], depth: usize) -> Option<&'a str> {
    let supers = path.iter().take_while(|part| **part == "super").count();
    match path[0] {
        "crate" | "feather_sync" => path.get(1).copied(),
        "super" if supers == depth => path.get(supers).copied(),
        _ => None,
    }
}

fn row(module: &str) -> Option<usize> {
    LAYERS
        .iter()
        .position(|row| row.contains(&module))
        .or_else(|| {
            APART
                .iter()
                .find(|(name, ..)| *name == module)
                .map(|(_, _, row)| *row)
        })
}

fn may_import(module: &str, target: &str) -> bool {
    let apart = |name: &str| APART.iter().find(|(apart, ..)| *apart == name);
    match (apart(module), apart(target)) {
        (Some((_, allowed, _)), _) => row(target).is_none() || allowed.contains(&target),
        (None, Some((_, _, first))) => row(module) >= Some(*first),
        // An item at the crate's root has no row.
        (None, None) => row(target).is_none_or(|target| row(module) > Some(target)),
    }
}

#[cfg(test)]
mod tests {
    use crate::planted;

    /// The one thing that is wrong with this text as this file.
    fn fault(file: &str, text: &str) -> String {
        let found = planted(&[(file, text)]);
        assert_eq!(found.len(), 1, "{file}: {found:?}");
        found[0].clone()
    }

    fn clean(file: &str, text: &str) {
        assert_eq!(planted(&[(file, text)]), Vec::<String>::new(), "{file}");
    }

    #[test]
    fn an_import_from_a_higher_layer_is_seen() {
        let found = fault("src/domain/job.rs", "//! x\nuse crate::store::Job;\n");
        assert_eq!(
            found,
            "src/domain/job.rs:2: `domain` may not import `store`"
        );
        fault("src/sim.rs", "use crate::feather::Wire;");
        fault("src/worker.rs", "fn f() { crate::admin::serve() }");
        fault("src/store.rs", "use super::metrics;");
        fault("src/store/jobs.rs", "use super::super::worker::run;");
        fault("src/lifecycle.rs", "use crate::domain::Clock;");
        fault("src/daemon.rs", "use crate::local_postgres::LocalPostgres;");
        fault("src/store.rs", "use crate::telemetry;");
    }

    #[test]
    fn an_import_from_a_lower_layer_is_fine() {
        clean(
            "src/worker/tick.rs",
            "use crate::store::claim;\nuse crate::lifecycle::Stop;\n",
        );
        clean("src/telemetry.rs", "use crate::config::Log;");
        clean(
            "src/cli/demo.rs",
            "use crate::local_postgres::Options;\nuse crate::sim::Sim;\n",
        );
        clean(
            "src/store/jobs.rs",
            "use super::pool;\nuse crate::domain::Job;\nuse crate::VERSION;\n",
        );
        clean("src/main.rs", "fn main() { feather_sync::cli::run() }");
    }

    #[test]
    fn a_crate_outside_its_walls_is_seen() {
        let found = fault("src/worker.rs", "use sqlx::PgPool;");
        assert_eq!(
            found,
            "src/worker.rs:1: `sqlx` is for store and local_postgres only"
        );
        fault("src/domain.rs", "#[derive(sqlx::Type)] struct Id;");
        fault("src/cli/doctor.rs", "let client = reqwest::Client::new();");
        fault("src/daemon.rs", "use axum::Router;");
        fault("src/lib.rs", "use hyper::Request;");
        clean("src/store/jobs.rs", "use sqlx::PgPool;");
        clean(
            "src/admin.rs",
            "use axum::Router;\nuse hyper_util::rt::TokioIo;\n",
        );
    }

    #[test]
    fn comments_strings_and_tests_are_free() {
        clean(
            "src/domain.rs",
            "// sqlx\n/* a /* crate::store */ sqlx:: */\nconst A: &str = \"sqlx::x \\\" todo!()\";\n",
        );
        clean(
            "src/domain.rs",
            "const A: &str = r#\"sqlx::x \" dbg!()\"#;\nfn f<'a>(c: &'a char) -> bool { *c == '\"' }\n// sqlx\n",
        );
        clean(
            "src/domain.rs",
            "#[cfg(test)]\nmod tests {\n    use crate::store::x;\n    use sqlx::y;\n}\n",
        );
        clean("src/domain/tests.rs", "use crate::store::x;");
        fault(
            "src/domain.rs",
            "const A: char = '\\'';\nconst B: &str = \"x\";\nuse sqlx::y;\n",
        );
        fault("src/domain.rs", "/* a */ use sqlx::y;");
        fault("src/domain.rs", "#[cfg(test)]\nmod tests;\nuse sqlx::y;\n");
    }

    #[test]
    fn a_grouped_import_is_seen() {
        let found = fault("src/cli.rs", "use crate::{config, daemon};");
        assert_eq!(found, "src/cli.rs:1: one `use crate::x` per line");
    }

    #[test]
    fn a_module_without_a_place_is_seen() {
        let found = fault("src/utils.rs", "//! Odds and ends.");
        assert_eq!(
            found,
            "src/utils.rs: `utils` has no place in the layers of tests/tidy/source.rs"
        );
    }

    #[test]
    fn a_long_file_is_seen() {
        clean("src/store.rs", &"\n".repeat(400));
        assert!(fault("src/store.rs", &"\n".repeat(401)).contains("401 lines"));
    }

    #[test]
    fn leftovers_are_seen_in_tests_too() {
        assert_eq!(
            fault("src/store.rs", "fn f() { todo!() }"),
            "src/store.rs:1: a leftover `todo!`"
        );
        fault("tests/it/main.rs", "fn f() { std::dbg!(1); }");
        clean("src/store.rs", "fn f(todo: u8) -> bool { todo != 1 }");
    }
}
