//! What is stored of an answer: every column, every digit, and nothing rewritten without need.

use crate::outcomes::answer;
use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Fault;
use serde_json::Value;
use uuid::Uuid;

mod fidelity;
mod guards;
mod rewrites;
mod tools;

/// The truth about a connection, edited, as an answer. Numbers are as wide as a double.
fn told(world: &World, id: Uuid, edit: impl FnOnce(&mut Value)) -> Fault {
    let mut truth = world.sim.truth(id);
    edit(&mut truth);
    answer(truth.to_string())
}

/// Added, changed and removed tools of a connection's last sync, its polls included.
async fn counts(world: &World, id: Uuid) -> (i64, i64, i64) {
    world
        .row(&format!(
            "SELECT sum(tools_added), sum(tools_changed), sum(tools_removed) FROM feather.sync_attempts
             WHERE connection_id = '{id}'
               AND id >= (SELECT max(id) FROM feather.sync_attempts WHERE connection_id = '{id}' AND kind = 'finalize')"
        ))
        .await
}

/// Where each tool's row lies: another place means that it was written.
async fn places(world: &World, id: Uuid) -> Vec<(String, String)> {
    world
        .rows(&format!(
            "SELECT ctid::text, xmin::text FROM feather.integration_connection_tools WHERE connection_id = '{id}' ORDER BY id"
        ))
        .await
}

/// A column of a connection, as text.
async fn column(world: &World, id: Uuid, column: &str) -> Option<String> {
    world
        .value(&format!(
            "SELECT ({column})::text FROM feather.integration_connections WHERE id = '{id}'"
        ))
        .await
}

/// A column of each of a connection's tools in order of their ids, as text.
async fn tool_column(world: &World, id: Uuid, column: &str) -> Vec<Option<String>> {
    world
        .rows::<(Option<String>,)>(&format!(
            "SELECT ({column})::text FROM feather.integration_connection_tools WHERE connection_id = '{id}' ORDER BY id"
        ))
        .await
        .into_iter()
        .map(|(value,)| value)
        .collect()
}

/// Syncs with this answer, to the poll too: a finalize that shows the sync already stored is followed by one.
async fn sync(world: &World, id: Uuid, fault: Fault) {
    world.sim.script(id, [fault.clone(), fault]);
    world.enqueue(&[id]).await;
    world.drain().await;
    world.check().await;
}

/// One connection that has been synced, with the truth standing still.
async fn settled() -> (World, Uuid) {
    let scenario = "tools_synced_at = \"frozen\"\nlast_seen_at = \"fixed\"";
    let world = World::with(feather_sync::sim::Scenario::from_toml(scenario).unwrap()).await;
    let id = ids(1)[0];
    world.sync(&[id]).await;
    world.equals_truth(id).await.unwrap();
    (world, id)
}
