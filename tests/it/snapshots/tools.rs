//! Tools come, change, go and come back.

use super::column;
use super::counts;
use super::settled;
use super::told;
use super::tool_column;
use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Fault;
use serde_json::Value;
use serde_json::json;
use uuid::Uuid;

/// Tools that exist, and all that ever did.
async fn numbers(world: &World, id: Uuid) -> (i64, i64) {
    world
        .row(&format!(
            "SELECT count(*) FILTER (WHERE _removed_at IS NULL), count(*)
             FROM feather.integration_connection_tools WHERE connection_id = '{id}'"
        ))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_settled_answer_with_a_list_removes_tools() {
    let fewer = |truth: &mut Value| truth["tools"].as_array_mut().unwrap().truncate(1);
    let world = World::new().await;
    let ids = ids(9);
    world.sync(&ids).await;
    let table = [
        (Fault::NoTools { missing: false }, 5),
        (Fault::NoTools { missing: true }, 5),
        (Fault::ToolsFailed, 5),
        (Fault::NotActive, 5),
        (
            told(&world, ids[4], |truth| {
                truth["tools_status"] = json!("failed");
                truth["tools_synced_at"] = json!("2026-01-01T00:00:00Z");
                truth["tools"] = json!([]);
            }),
            5,
        ),
        (Fault::EmptyTools, 0),
        (
            told(&world, ids[6], |truth| {
                truth["tools_synced_at"] = json!("2126-01-01T00:00:00Z");
                fewer(truth);
            }),
            1,
        ),
        // Unsettled for good, with nothing.
        (
            told(&world, ids[7], |truth| {
                truth["tools_status"] = json!("syncing");
                truth["tools"] = json!([]);
            }),
            5,
        ),
        (Fault::None, 5),
    ];
    for (id, (fault, _)) in ids.iter().zip(&table) {
        world.sim.script(*id, [fault.clone()]);
    }
    // Whatever the answer was, it is the last one for now.
    world.enqueue(&ids).await;
    let replica = world.start();
    world
        .until("SELECT count(*) = 9 FROM (SELECT connection_id FROM feather.sync_attempts GROUP BY 1 HAVING count(*) >= 2) AS twice")
        .await;
    world
        .until("SELECT count(*) = 0 FROM feather.sync_jobs WHERE state <> 'dead'")
        .await;
    replica.stop().await;
    world.check().await;
    for (id, (fault, left)) in ids.iter().zip(&table) {
        let removed: i64 = world
            .value(&format!(
                "SELECT sum(tools_removed)::bigint FROM feather.sync_attempts WHERE connection_id = '{id}'"
            ))
            .await;
        assert_eq!(removed, 5 - left, "{fault:?}");
        assert_eq!(
            numbers(&world, *id).await.1,
            5,
            "a removed tool keeps its row"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_upstream_drops_keeps_its_row_and_one_that_comes_back_is_revived() {
    let world = World::new().await;
    let id = ids(1)[0];
    world.sync(&[id]).await;
    assert_eq!(counts(&world, id).await, (5, 0, 0));
    let first_seen = tool_column(&world, id, "_first_seen_at").await;
    let whole = world.sim.truth(id)["tools"].clone();
    world.sim.edit(id, |truth| {
        let tools = truth["tools"].as_array_mut().unwrap();
        tools.remove(1);
        tools.remove(1);
        tools[0]["display_name"] = json!("Renamed");
    });
    world.sync(&[id]).await;
    assert_eq!(counts(&world, id).await, (0, 1, 2));
    assert_eq!(numbers(&world, id).await, (3, 5));
    world.equals_truth(id).await.unwrap();
    let shown: i64 = world.value("SELECT count(*) FROM feather.tools").await;
    assert_eq!(shown, 3);
    let moved: i64 = world
        .value("SELECT count(*) FROM feather.integration_connection_tools WHERE _changed_at > _first_seen_at")
        .await;
    assert_eq!(moved, 3, "one changed, two removed");
    let gone_at = tool_column(&world, id, "_removed_at").await;
    // Found missing once more, nothing moves.
    world.sync(&[id]).await;
    assert_eq!(tool_column(&world, id, "_removed_at").await, gone_at);
    assert_eq!(counts(&world, id).await, (0, 0, 0));

    let removed_at: Vec<Option<String>> = gone_at.into_iter().flatten().map(Some).collect();
    world.sim.edit(id, |truth| {
        let tools = truth["tools"].as_array_mut().unwrap();
        tools[0]["display_name"] = whole[0]["display_name"].clone();
        let mut new = tools[0].clone();
        new["id"] = json!(Uuid::max());
        tools.extend([whole[1].clone(), whole[2].clone(), new]);
    });
    world.sync(&[id]).await;
    assert_eq!(
        counts(&world, id).await,
        (3, 1, 0),
        "two revived and a new one, one renamed back"
    );
    assert_eq!(numbers(&world, id).await, (6, 6));
    world.equals_truth(id).await.unwrap();
    assert_eq!(
        tool_column(&world, id, "_first_seen_at").await[..5],
        first_seen
    );
    let later: i64 = world
        .value(&format!(
            "SELECT count(*) FROM feather.tools WHERE _changed_at > '{}'",
            removed_at[0].as_deref().unwrap()
        ))
        .await;
    assert_eq!(later, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsettled_answer_adds_and_changes_tools_and_the_settled_one_removes() {
    let (world, id) = settled().await;
    let partial = told(&world, id, |truth| {
        truth["tools_status"] = json!("syncing");
        let tools = truth["tools"].as_array_mut().unwrap();
        tools.truncate(2);
        tools[0]["display_name"] = json!("Renamed");
        let mut new = tools[1].clone();
        new["id"] = json!(Uuid::max());
        tools.push(new);
    });
    world.sim.script(id, [partial]);
    world.sync(&[id]).await;
    let story: Vec<(String, i32, i32, i32)> = world
        .rows("SELECT outcome, tools_added, tools_changed, tools_removed FROM feather.sync_attempts ORDER BY id")
        .await;
    assert_eq!(
        story,
        [
            ("synced".into(), 5, 0, 0),
            ("settling".into(), 1, 1, 0),
            ("synced".into(), 0, 1, 1)
        ]
    );
    world.equals_truth(id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_a_connection_and_all_its_tools_or_none_of_them() {
    let world = World::new().await;
    let ids = ids(12);
    let rename = |round: u32| {
        for id in &ids {
            world.sim.edit(*id, |truth| {
                truth["nickname"] = json!(format!("round {round}"));
                for tool in truth["tools"].as_array_mut().unwrap() {
                    tool["display_name"] = json!(format!("round {round}"));
                }
            });
        }
    };
    rename(0);
    let replica = world.start();
    let reading = async {
        let sql = "SELECT count(*) FILTER (WHERE t.display_name <> c.nickname), count(t.id) % 5, count(*) FROM feather.connections c
                   LEFT JOIN feather.tools t ON t.connection_id = c.id";
        loop {
            let (mixed, partial, _): (i64, i64, i64) = world.row(sql).await;
            assert_eq!((mixed, partial), (0, 0));
        }
    };
    let writing = async {
        for round in 0..6 {
            rename(round);
            world.enqueue(&ids).await;
            world
                .until(&format!(
                    "SELECT count(*) = 12 FROM feather.connections WHERE nickname = 'round {round}'"
                ))
                .await;
            world
                .until("SELECT count(*) = 0 FROM feather.sync_jobs")
                .await;
        }
    };
    tokio::select! {
        () = writing => {}
        () = reading => {}
    }
    replica.stop().await;
    world.check().await;
    assert_eq!(
        column(&world, ids[0], "nickname").await.as_deref(),
        Some("round 5")
    );
}
