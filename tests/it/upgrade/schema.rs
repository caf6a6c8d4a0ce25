//! The last release's schema and this one's: what was there stays as it was, and the old program can live with the rest.

use crate::upgrade::catalog::Catalog;
use crate::upgrade::catalog::catalog;
use crate::upgrade::kept;
use crate::world::World;
use sqlx::AssertSqlSafe;
use sqlx::Column;
use sqlx::Executor;
use sqlx::SqlSafeStr;
use sqlx::Statement;
use sqlx::TypeInfo;
use std::collections::BTreeMap;

/// Parts whose definition may change from release to release, because nobody relies on the wording: comments, and
/// what views and functions do inside.
const MAY_CHANGE: [&str; 3] = ["comment", "view", "function"];

/// Constraints that this release has widened on purpose. An old program must be able to live with what they let in.
const WIDENED: [&str; 1] = ["sync_jobs.phase_is_known"];

/// Tables that are stored differently from now on: how, is nobody's business but the server's.
const STORED_ANEW: [&str; 5] = [
    "integration_connections",
    "integration_connection_tools",
    "sync_results",
    "sync_attempts",
    "sync_throughput",
];

/// Indexes and keys of tables that are in partitions now: each part has its own, and the key says which part.
const IN_PARTS: [&str; 2] = ["sync_attempts.", "sync_throughput."];

/// Triggers that do what they did on fewer occasions.
const MADE_RARER: [&str; 1] = ["sync_requests.wake_worker"];

async fn migrate(world: &World) {
    let url = world.env()["DATABASE_URL"].clone();
    let settings = feather_sync::store::DbSettings {
        url: url.into(),
        listen_url: None,
        max_connections: 1,
        prepared_statements: true,
    };
    feather_sync::store::migrate(&settings, feather_sync::store::Roles::Required)
        .await
        .unwrap();
}

/// Every row of every table in the columns that a catalog names, as JSON.
async fn data(world: &World, of: &Catalog) -> BTreeMap<String, String> {
    let mut tables: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (kind, name) in of.keys() {
        let (table, column) = name.split_once('.').unwrap_or((name, ""));
        let of_table = of
            .get(&("relation".to_owned(), table.to_owned()))
            .is_some_and(|relation| relation.starts_with('r'));
        if kind == "type" && of_table && table != "_sqlx_migrations" {
            tables.entry(table).or_default().push(column);
        }
    }
    let mut data = BTreeMap::new();
    for (table, columns) in tables {
        let columns = columns.join(", ");
        let sql = format!(
            "SELECT jsonb_pretty(COALESCE(jsonb_agg(to_jsonb(r) ORDER BY to_jsonb(r)), '[]'))
             FROM (SELECT {columns} FROM feather.{table}) AS r"
        );
        data.insert(table.to_owned(), world.value(&sql).await);
    }
    data
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_from_the_last_release_keeps_every_row_as_it_was() {
    let world = kept::world_with_data().await;
    let old = catalog(&world).await;
    let before = data(&world, &old).await;
    for (table, rows) in &before {
        assert_ne!(rows, "[]", "{table} has no row to try it with");
    }
    migrate(&world).await;
    assert_eq!(data(&world, &old).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migrated_schema_equals_a_fresh_one_in_all_its_parts() {
    let migrated = kept::world().await;
    migrate(&migrated).await;
    let fresh = World::new().await;
    let (migrated, fresh) = (catalog(&migrated).await, catalog(&fresh).await);
    for (part, definition) in &fresh {
        assert_eq!(migrated.get(part), Some(definition), "{part:?}");
    }
    for part in migrated.keys() {
        assert!(fresh.contains_key(part), "{part:?} is not in a fresh one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_last_release_had_is_still_there_and_means_the_same() {
    let world = kept::world().await;
    let old = catalog(&world).await;
    migrate(&world).await;
    let new = catalog(&world).await;
    assert!(old.len() > 500, "{}", old.len());
    for (part @ (kind, name), before) in &old {
        let now = new.get(part);
        assert!(now.is_some(), "{kind} {name} is gone");
        let may_change = MAY_CHANGE.contains(&kind.as_str())
            || WIDENED.contains(&name.as_str())
            || MADE_RARER.contains(&name.as_str())
            || (kind == "relation" && STORED_ANEW.contains(&name.as_str()))
            || (["constraint", "index"].contains(&kind.as_str())
                && IN_PARTS.iter().any(|table| name.starts_with(table)));
        assert!(
            may_change || now == Some(before),
            "{kind} {name} was {before}, is {now:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_new_binds_what_the_last_release_writes() {
    let world = kept::world().await;
    let old = catalog(&world).await;
    migrate(&world).await;
    let new = catalog(&world).await;
    let is_new = |kind: &str, name: &str| !old.contains_key(&(kind.to_owned(), name.to_owned()));
    for ((kind, name), definition) in &new {
        let table = name.split('.').next().unwrap_or_default();
        if !is_new(kind, name) || is_new("relation", table) {
            continue;
        }
        match kind.as_str() {
            // An INSERT that does not know the column must go through.
            "null" if definition == "never" => {
                let preset = &new[&("preset".to_owned(), name.clone())];
                assert!(!preset.is_empty(), "{name} demands a value");
            }
            "constraint" => {
                let columns: Vec<String> = world
                    .value(&format!(
                        "SELECT array_agg(a.attname::text) FROM pg_constraint k
                         JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
                         WHERE format('%s.%s', k.conrelid::regclass, k.conname) IN ('{name}', 'feather.{name}')"
                    ))
                    .await;
                for column in columns {
                    let column = format!("{table}.{column}");
                    assert!(
                        is_new("type", &column),
                        "{name} binds {column}: {definition}"
                    );
                }
            }
            "index" => assert!(!definition.contains("UNIQUE"), "{definition}"),
            "trigger" => panic!("{name} fires when the old program writes: {definition}"),
            _ => {}
        }
    }
}

/// Types of a statement's parameters and columns, with the columns' names.
async fn types(world: &World, statement: &str) -> Result<Vec<String>, sqlx::Error> {
    let mut conn = world.pool.acquire().await?;
    let sql = AssertSqlSafe(statement.to_owned()).into_sql_str();
    let prepared = conn.prepare(sql).await?;
    let parameters = prepared.parameters().and_then(|list| list.left());
    let parameters = parameters.unwrap_or_default().iter();
    let columns = prepared.columns().iter();
    Ok(parameters
        .map(|parameter| format!("${}", parameter.name()))
        .chain(columns.map(|c| format!("{} {}", c.name(), c.type_info().name())))
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_of_the_last_release_means_the_same_on_the_new_schema() {
    let old = kept::world().await;
    let new = World::new().await;
    let statements = kept::statements();
    assert!(statements.len() > 40, "{}", statements.len());
    for statement in statements {
        let before = types(&old, &statement).await.unwrap();
        match types(&new, &statement).await {
            Ok(now) => assert_eq!(now, before, "{statement}"),
            Err(error) => panic!("{error}: {statement}"),
        }
    }
}
