//! What is kept of the last release.

use crate::world::World;
use feather_sync::sim::Scenario;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// One or more rows in every table and every state that a row can be in, with the columns of the first release.
const DATA: &str = include_str!("data.sql");

/// `tests/upgrade/VERSION`.
fn folder() -> PathBuf {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade");
    let mut versions: Vec<_> = fs::read_dir(&all)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    assert_eq!(versions.len(), 1, "one release is kept: {versions:?}");
    versions.remove(0)
}

fn read(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap()
}

/// What creates the schema of the last release.
pub(crate) fn schema() -> String {
    read("schema.sql")
}

/// Every statement of the last release's program.
pub(crate) fn statements() -> Vec<String> {
    read("statements.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A world whose schema is that of the last release, without data. It may end so, and lack what this one has.
pub(crate) async fn world() -> World {
    let mut world = world_with(Scenario::default()).await;
    world.leave_broken();
    world
}

pub(crate) async fn world_with(scenario: Scenario) -> World {
    let world = World::from_template("template0", scenario).await;
    world.execute(&schema()).await;
    world
}

/// A world of the last release with made-up data in every table, coherent only as far as the schema demands.
pub(crate) async fn world_with_data() -> World {
    let world = world().await;
    world.execute(DATA).await;
    world
}
