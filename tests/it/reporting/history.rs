//! History: what was so at a time can be asked for later.

use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Scenario;
use serde_json::Value;
use uuid::Uuid;

/// What moves without being a change is no part of history.
const MOVING: &str = "'{last_refreshed_at,last_used_at,_finalized_at,_synced_at,_warnings,_hash,last_seen_at,connection_synced_at,
tools_synced_at,updated_at,_changed_at}'::text[]";

/// Rows of a relation, without what moves.
async fn rows(world: &World, relation: &str) -> Vec<(String,)> {
    world
        .rows(&format!(
            "SELECT jsonb_pretty(to_jsonb(r) - {MOVING}) FROM {relation} AS r ORDER BY 1"
        ))
        .await
}

struct Moment {
    at: String,
    connections: Vec<(String,)>,
    tools: Vec<(String,)>,
}

impl Moment {
    async fn now(world: &World) -> Self {
        Self {
            at: world.value("SELECT clock_timestamp()::text").await,
            connections: rows(world, "feather.connections").await,
            tools: rows(world, "feather.tools").await,
        }
    }
}

async fn versions(world: &World, id: Uuid) -> Vec<(String, Option<Vec<String>>, bool)> {
    world
        .rows(&format!(
            "SELECT nickname, changed_columns, valid_to IS NULL FROM feather.connection_history
             WHERE id = '{id}' ORDER BY valid_from"
        ))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn as_of_a_time_equals_what_readers_saw_then() {
    let world = World::with(Scenario::from_toml("tools = 5\nchurn = 0.7").unwrap()).await;
    let ids = ids(8);
    let mut moments = vec![Moment::now(&world).await];
    let rename = |id: Uuid, name: &str| world.sim.edit(id, |truth| truth["nickname"] = name.into());
    for round in 0..6 {
        match round {
            1 => rename(ids[0], "first"),
            2 => world.sim.delete(ids[1]),
            3 => world
                .sim
                .edit(ids[2], |truth| truth["tools"] = Value::Array(Vec::new())),
            4 => {
                world.sim.restore(ids[1]);
                rename(ids[0], "second");
            }
            _ => {}
        }
        world.sync(&ids).await;
        moments.push(Moment::now(&world).await);
    }
    assert!(moments[0].connections.is_empty());
    for (number, moment) in moments.iter().enumerate() {
        let of = |function: &str| format!("feather.{function}('{}')", moment.at);
        let connections = rows(&world, &of("connections_as_of")).await;
        assert_eq!(
            connections, moment.connections,
            "connections of moment {number}"
        );
        let tools = rows(&world, &of("tools_as_of")).await;
        assert_eq!(tools, moment.tools, "tools of moment {number}");
    }
    let distinct: std::collections::HashSet<_> =
        moments.iter().map(|moment| &moment.tools).collect();
    assert!(distinct.len() > 4, "the moments differ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_names_the_columns_in_which_it_differs_from_the_one_before() {
    let world = World::new().await;
    let id = ids(1)[0];
    world.sim.edit(id, |truth| truth["nickname"] = "a".into());
    world.sync(&[id]).await;
    world.sync(&[id]).await;
    world.sim.edit(id, |truth| {
        truth["nickname"] = "b".into();
        truth["metadata"] = serde_json::json!({"team": 1});
    });
    world.sync(&[id]).await;
    world.sim.delete(id);
    world.sync(&[id]).await;
    world.sim.restore(id);
    world.sync(&[id]).await;
    let story = versions(&world, id).await;
    let columns = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(story[0], ("a".into(), None, false));
    let changed = columns(&["nickname", "tools_synced_at", "metadata", "updated_at"]);
    assert_eq!(story[1], ("b".into(), changed, false));
    assert_eq!(story[2], ("b".into(), columns(&["_removed_at"]), false));
    let (_, back, holds) = story[3].clone();
    assert!(back.unwrap().contains(&"_removed_at".to_owned()) && holds);
    assert_eq!(story.len(), 4);
    let gaps: i64 = world
        .value(
            "SELECT count(*) FROM (SELECT valid_from, lag(valid_to) OVER (PARTITION BY id ORDER BY valid_from) AS before
                                   FROM feather.connection_history) AS v WHERE before <> valid_from",
        )
        .await;
    assert_eq!(gaps, 0, "versions follow each other without a gap");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_sync_and_an_unchanged_one_leave_no_version() {
    let world = World::new().await;
    let ids = ids(5);
    world.sync(&ids).await;
    // A finalize moves tools_synced_at, updated_at and the time at which tools were last seen.
    world.sim.edit(ids[0], |truth| {
        truth["last_used_at"] = "2026-01-31T08:00:00Z".into();
    });
    world.sync(&ids).await;
    let kept: (i64, i64, i64) = world
        .row(
            "SELECT (SELECT count(*) FROM feather.connection_versions), (SELECT count(*) FROM feather.tool_versions),
                    (SELECT count(*) FROM feather.sync_events)",
        )
        .await;
    assert_eq!(kept, (0, 0, 5), "an event for each first sync is all");
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_it_keeps_nothing() {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__HISTORY__ENABLED", "false");
    let id = ids(1)[0];
    world.sync(&[id]).await;
    world.sim.edit(id, |truth| {
        truth["nickname"] = "another".into();
        truth["tools"][0]["description"] = "another".into();
        truth["tools"].as_array_mut().unwrap().pop();
    });
    world.sync(&[id]).await;
    world.sim.delete(id);
    world.sync(&[id]).await;
    let kept: (i64, i64, i64) = world
        .row(
            "SELECT (SELECT count(*) FROM feather.connection_versions), (SELECT count(*) FROM feather.tool_versions),
                    (SELECT count(*) FROM feather.sync_events)",
        )
        .await;
    assert_eq!(kept, (0, 0, 3), "the feed is another matter");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_list_changes_is_kept_as_well() {
    let world = World::new().await;
    let id = ids(1)[0];
    world.sim.edit(id, |truth| truth["nickname"] = "a".into());
    crate::lists::backfill(&world).await;
    world.sim.edit(id, |truth| truth["nickname"] = "b".into());
    crate::lists::backfill(&world).await;
    let names: Vec<_> = versions(&world, id)
        .await
        .into_iter()
        .map(|v| v.0)
        .collect();
    assert_eq!(names, ["a", "b"]);
}
