//! What is said about the schema outside of it is made from it: the diagram and the columns for people, the sources for
//! dbt. With `FEATHER_SYNC_WRITE_PAGES=1` these files are written, else they are compared.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::database::Database;

/// What reporting reads, in the order in which it is told.
const RELATIONS: [&str; 11] = [
    "connections",
    "tools",
    "sync_status",
    "sync_health",
    "sync_minutes",
    "sync_attempts",
    "sync_events",
    "connection_history",
    "tool_history",
    "integration_connections",
    "integration_connection_tools",
];

struct Column {
    name: String,
    kind: String,
    comment: String,
}

struct Relation {
    name: &'static str,
    comment: String,
    columns: Vec<Column>,
    /// Columns of the primary key.
    key: Vec<String>,
}

fn relations(db: &Database) -> Vec<Relation> {
    RELATIONS
        .into_iter()
        .map(|name| {
            let columns = db.rows(&format!(
                "SELECT a.attname, format_type(a.atttypid, a.atttypmod), col_description(a.attrelid, a.attnum)
                 FROM pg_attribute a WHERE a.attrelid = 'feather.{name}'::regclass AND a.attnum > 0 AND NOT a.attisdropped
                 ORDER BY a.attnum"
            ));
            let key = db.rows(&format!(
                "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
                 WHERE i.indrelid = 'feather.{name}'::regclass AND i.indisprimary ORDER BY a.attnum"
            ));
            Relation {
                name,
                comment: db.value(&format!(
                    "SELECT obj_description('feather.{name}'::regclass, 'pg_class')"
                )),
                columns: columns
                    .into_iter()
                    .map(|row| Column {
                        name: row[0].clone(),
                        kind: short(&row[1]),
                        comment: row[2].clone(),
                    })
                    .collect(),
                key: key.concat(),
            }
        })
        .collect()
}

/// A type by the name that people use.
fn short(kind: &str) -> String {
    kind.replace("timestamp with time zone", "timestamptz")
        .replace("double precision", "float8")
}

/// Relations with the columns by which they are put together, and what belongs to what.
fn diagram(relations: &[Relation]) -> String {
    const LINKS: [&str; 12] = [
        "id",
        "connection_id",
        "account",
        "_account",
        "minute",
        "kind",
        "state",
        "at",
        "_changed_at",
        "_removed_at",
        "valid_from",
        "valid_to",
    ];
    let mut text = "erDiagram\n".to_owned();
    let has = |relation: &Relation, name: &str| relation.columns.iter().any(|c| c.name == name);
    for relation in relations {
        let (whole, on) = match relation.name {
            "connections" | "integration_connections" | "sync_health" => continue,
            "connection_history" => ("integration_connections", "id"),
            "tool_history" => ("integration_connection_tools", "connection_id, id"),
            "tools" => ("connections", "connection_id"),
            name if name.starts_with("sync_minutes") => ("sync_health", "account"),
            _ => ("integration_connections", "connection_id"),
        };
        for column in on.split(", ") {
            assert!(has(relation, column), "{} {column}", relation.name);
        }
        writeln!(text, "    {whole} ||--o{{ {} : \"{on}\"", relation.name).unwrap();
    }
    for relation in relations {
        writeln!(text, "    {} {{", relation.name).unwrap();
        for column in &relation.columns {
            if LINKS.contains(&column.name.as_str()) {
                let key = if relation.key.contains(&column.name) {
                    " PK"
                } else {
                    ""
                };
                writeln!(
                    text,
                    "        {} {}{key}",
                    column.kind.replace(' ', "_"),
                    column.name
                )
                .unwrap();
            }
        }
        text.push_str("    }\n");
    }
    text
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn columns_page(db: &Database, relations: &[Relation]) -> String {
    let mut page = "# Columns\n\nEvery relation that reporting reads, every column and every function, as their comments in the\nschema say it. \
                    A test holds this page against a live schema. How to use them is in [reporting.md](reporting.md).\n"
        .to_owned();
    for relation in relations {
        write!(
            page,
            "\n## {}\n\n{}\n\n| column | type | meaning |\n|---|---|---|\n",
            relation.name, relation.comment
        )
        .unwrap();
        for column in &relation.columns {
            writeln!(
                page,
                "| `{}` | {} | {} |",
                column.name,
                cell(&column.kind),
                cell(&column.comment)
            )
            .unwrap();
        }
    }
    page.push_str("\n## Functions\n\n| function | returns | meaning |\n|---|---|---|\n");
    for row in db.rows(
        "SELECT format('%s(%s)', p.proname, pg_get_function_arguments(p.oid)), pg_get_function_result(p.oid),
                obj_description(p.oid, 'pg_proc')
         FROM pg_proc p WHERE p.pronamespace = 'feather'::regnamespace AND has_function_privilege('feather_reporter', p.oid, 'EXECUTE')
         ORDER BY p.proname",
    ) {
        writeln!(page, "| `{}` | {} | {} |", short(&row[0]), cell(&short(&row[1])), cell(&row[2])).unwrap();
    }
    page
}

/// What dbt tests of a column, beside that it is there.
fn tests_of(relation: &Relation, column: &str) -> Vec<String> {
    let mut tests = Vec::new();
    let single = relation.key.len() == 1 && relation.key[0] == column;
    match (relation.name, column) {
        ("connections", "id")
        | ("sync_status", "connection_id")
        | ("sync_health", "account")
        | ("sync_events", "id") => {
            tests.push("unique".to_owned());
            tests.push("not_null".to_owned());
        }
        _ if single => tests.extend(["unique".to_owned(), "not_null".to_owned()]),
        _ if relation.key.iter().any(|key| key == column) => tests.push("not_null".to_owned()),
        _ => {}
    }
    let words = |words: &[&str]| {
        format!(
            "accepted_values:\n                  values: [{}]",
            words.join(", ")
        )
    };
    match (relation.name, column) {
        ("sync_status", "state") => tests.push(words(&["requested", "pending", "running", "dead", "idle"])),
        ("sync_attempts", "outcome") => tests.push(words(&[
            "synced", "settling", "retry", "dead", "deferred", "crashed", "cancelled",
        ])),
        ("sync_events", "kind") => tests.push(words(&[
            "connection_added", "connection_synced", "connection_changed", "connection_removed", "connection_revived",
            "connection_dead", "connection_cancelled", "tools_changed",
        ])),
        ("tools", "connection_id") => tests.push(
            "relationships:\n                  to: source('feather', 'connections')\n                  field: id".to_owned(),
        ),
        _ => {}
    }
    tests
}

/// When a relation counts as stale: the time to look at, and after how many minutes to warn and to fail.
fn freshness(relation: &str) -> Option<(&'static str, u32, u32)> {
    Some(match relation {
        "connections" | "integration_connections" => ("_synced_at", 24 * 60, 7 * 24 * 60),
        "sync_health" => ("as_of", 10, 60),
        "sync_attempts" => ("finished_at", 24 * 60, 7 * 24 * 60),
        _ => return None,
    })
}

fn dbt(relations: &[Relation]) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut page = "# feather-sync's tables as sources of dbt. Descriptions are the schema's own comments; a test holds this\n\
                    # file against a live schema. Set the times of `freshness` to how often your connections are synced.\n\
                    version: 2\n\nsources:\n  - name: feather\n    schema: feather\n    loader: feather-sync\n    tables:\n"
        .to_owned();
    for relation in relations {
        writeln!(
            page,
            "      - name: {}\n        description: {}",
            relation.name,
            quoted(&relation.comment)
        )
        .unwrap();
        if let Some((column, warn, error)) = freshness(relation.name) {
            assert!(
                relation.columns.iter().any(|c| c.name == column),
                "{column}"
            );
            writeln!(
                page,
                "        loaded_at_field: {column}\n        freshness:\n          warn_after: {{count: {warn}, period: minute}}\n          \
                 error_after: {{count: {error}, period: minute}}"
            )
            .unwrap();
        }
        page.push_str("        columns:\n");
        for column in &relation.columns {
            writeln!(
                page,
                "          - name: {}\n            description: {}",
                column.name,
                quoted(&column.comment)
            )
            .unwrap();
            let tests = tests_of(relation, &column.name);
            if !tests.is_empty() {
                page.push_str("            data_tests:\n");
                for test in tests {
                    writeln!(page, "            - {test}").unwrap();
                }
            }
        }
    }
    page
}

/// Compares a file with what it ought to be, or writes it.
fn hold(path: &str, wanted: &str) -> Option<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let there = fs::read_to_string(&file).unwrap_or_default();
    if there == wanted {
        return None;
    }
    if std::env::var_os("FEATHER_SYNC_WRITE_PAGES").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, wanted).unwrap();
    }
    let line = there.lines().zip(wanted.lines()).find(|(a, b)| a != b);
    Some(format!("{path} is not what the schema says, at {line:?}"))
}

/// A page with one of its fenced blocks replaced.
fn with_block(path: &str, fence: &str, block: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let start = page.find(fence).expect("the block is there") + fence.len();
    let end = start + page[start..].find("```").expect("the block ends");
    format!("{}{block}{}", &page[..start], &page[end..])
}

#[test]
fn what_is_said_about_the_schema_is_what_it_says_itself() {
    let db = Database::migrated();
    let relations = relations(&db);
    let diagram = diagram(&relations);
    let faults: BTreeMap<_, _> = [
        ("docs/columns.md", columns_page(&db, &relations)),
        ("docs/dbt/feather.yml", dbt(&relations)),
        (
            "docs/reporting.md",
            with_block("docs/reporting.md", "```mermaid\n", &diagram),
        ),
    ]
    .into_iter()
    .filter_map(|(path, wanted)| Some((path, hold(path, &wanted)?)))
    .collect();
    assert!(
        faults.is_empty(),
        "{faults:#?}; run this test with FEATHER_SYNC_WRITE_PAGES=1, and look at what has changed"
    );
}

/// Values that dbt accepts are those that the schema allows.
#[test]
fn words_for_dbt_are_the_words_of_the_schema() {
    let db = Database::migrated();
    for relation in relations(&db) {
        for (column, constraint) in [("outcome", "outcome_is_known"), ("kind", "kind_is_known")] {
            let accepted = tests_of(&relation, column);
            let Some(accepted) = accepted.iter().find(|test| test.starts_with("accepted")) else {
                continue;
            };
            let definition = db.value(&format!(
                "SELECT pg_get_constraintdef(oid) FROM pg_constraint
                 WHERE conrelid = 'feather.{}'::regclass AND conname = '{constraint}'",
                relation.name
            ));
            let allowed: Vec<_> = definition.split('\'').skip(1).step_by(2).collect();
            let words = accepted.split(['[', ']']).nth(1).unwrap();
            let words: Vec<_> = words.split(", ").collect();
            assert_eq!(words, allowed, "{} {column}", relation.name);
        }
    }
}
