//! The change feed: one row per visible change, in the order in which changes become visible.

use crate::outcomes::answer;
use crate::world::PATIENCE;
use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Fault;
use feather_sync::sim::Scenario;
use sqlx::PgPool;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use uuid::Uuid;

/// Kind, class, and how many columns and tools, of a connection's events in order.
async fn told(world: &World, id: Uuid) -> Vec<String> {
    world
        .rows::<(String,)>(&format!(
            "SELECT concat_ws(' ', kind, error_class, 'columns ' || changed_columns::text, 'added ' || cardinality(tools_added),
                              'changed ' || cardinality(tools_changed), 'removed ' || cardinality(tools_removed))
             FROM feather.sync_events WHERE connection_id = '{id}' ORDER BY id"
        ))
        .await
        .into_iter()
        .map(|(line,)| line)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_visible_change_is_told_once_and_what_does_not_change_is_not() {
    let world = World::new().await;
    let id = ids(1)[0];
    world.sync(&[id]).await;
    let mut story = vec!["connection_synced".to_owned()];
    assert_eq!(told(&world, id).await, story);

    world.sync(&[id]).await;
    assert_eq!(told(&world, id).await, story, "nothing has changed");

    world
        .sim
        .edit(id, |truth| truth["nickname"] = "another".into());
    world.sync(&[id]).await;
    story.push("connection_changed columns {nickname,tools_synced_at,updated_at}".into());
    assert_eq!(told(&world, id).await, story);

    world.sim.edit(id, |truth| {
        let tools = truth["tools"].as_array_mut().unwrap();
        tools.pop();
        tools[0]["description"] = "another".into();
    });
    world.sync(&[id]).await;
    story.push("tools_changed changed 1 removed 1".into());
    assert_eq!(told(&world, id).await, story);

    world.sim.script(id, [Fault::status(400)]);
    world.sync(&[id]).await;
    story.push("connection_dead invalid_request".into());
    assert_eq!(told(&world, id).await, story);

    world.sync(&[id]).await;
    story.push("connection_synced".into());
    assert_eq!(told(&world, id).await, story, "it is well again");

    world.sim.delete(id);
    world.sync(&[id]).await;
    story.push("connection_removed not_found".into());
    assert_eq!(told(&world, id).await, story);

    world.sim.restore(id);
    world.sync(&[id]).await;
    let last = told(&world, id).await.split_off(story.len());
    assert!(last[0].starts_with("connection_synced"), "{last:?}");
    assert_eq!(last.len(), 1, "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_settles_is_told_when_it_comes_and_when_it_is_synced() {
    let world = World::with(Scenario::from_toml("tools = 2\nsettle = \"300ms\"").unwrap()).await;
    let id = ids(1)[0];
    world.sync(&[id]).await;
    let lines = told(&world, id).await;
    assert_eq!(lines[0], "connection_added");
    let last = lines.last().unwrap();
    assert!(last.starts_with("connection_synced"), "{lines:?}");
    let synced = lines
        .iter()
        .filter(|line| line.starts_with("connection_synced"));
    assert_eq!(synced.count(), 1, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lists_store_is_told_and_a_rehearsal_is_not() {
    let world = World::new().await;
    let ids = ids(3);
    for id in &ids {
        world
            .sim
            .edit(*id, |truth| truth["nickname"] = "one".into());
    }
    let options = crate::lists::Options {
        rehearse: true,
        ..Default::default()
    };
    crate::lists::take(&world, options).await.1.unwrap();
    let count = "SELECT count(*) FROM feather.sync_events";
    assert_eq!(world.value::<i64>(count).await, 0);
    crate::lists::backfill(&world).await;
    assert_eq!(told(&world, ids[0]).await, ["connection_added"]);
    let after: i64 = world.value(count).await;
    crate::lists::backfill(&world).await;
    assert_eq!(
        world.value::<i64>(count).await,
        after,
        "nothing has changed"
    );
    world
        .sim
        .edit(ids[0], |truth| truth["nickname"] = "another".into());
    crate::lists::backfill(&world).await;
    assert_eq!(
        told(&world, ids[0]).await[1..],
        ["connection_changed columns {nickname,updated_at}"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn crashed_to_death_and_cancelled_are_told_and_forget_takes_everything_along() {
    let world = World::new().await;
    let ids = ids(3);
    world.sync(&ids).await;
    world.sim.edit(ids[2], |truth| {
        truth["nickname"] = "another".into();
        truth["tools"][0]["description"] = "another".into();
    });
    world.sync(&ids[2..]).await;
    let lines = told(&world, ids[2]).await;
    assert_eq!(
        lines[1..],
        ["connection_changed columns {nickname,tools_synced_at,updated_at} changed 1"]
    );
    world
        .execute(&format!(
            "INSERT INTO feather.sync_jobs (connection_id, account, state, priority, run_at, wanted_at, attempt, worker,
                                            lease_token, lease_until, started_at, finalize_started_at)
             VALUES ('{}', 'default', 'running', 0, now(), now(), 1, 'lost', gen_random_uuid(), now() - interval '1 minute',
                     now() - interval '2 minutes', now() - interval '2 minutes')",
            ids[0]
        ))
        .await;
    let db = world.db();
    db.expire(1, 10).await.unwrap();
    let lines = told(&world, ids[0]).await;
    assert_eq!(lines[1..], ["connection_dead lease_lost"]);
    // Nothing has changed, but that it is well again.
    world.enqueue(&ids[..1]).await;
    let replica = world.start();
    world
        .until("SELECT count(*) = 3 FROM feather.sync_status WHERE last_outcome = 'synced'")
        .await;
    replica.stop().await;
    let lines = told(&world, ids[0]).await;
    assert_eq!(lines[2].split(' ').next(), Some("connection_synced"));

    world.enqueue(&ids[1..2]).await;
    db.cancel(&ids[1..2], "somebody").await.unwrap();
    assert_eq!(told(&world, ids[1]).await[1..], ["connection_cancelled"]);

    let kept = "SELECT (SELECT count(*) FROM feather.sync_events), (SELECT count(*) FROM feather.connection_history),
                       (SELECT count(*) FROM feather.tool_history)";
    let before: (i64, i64, i64) = world.row(kept).await;
    assert!(before.0 == 7 && before.1 == 4 && before.2 > 3, "{before:?}");
    db.forget(&ids, "somebody").await.unwrap();
    let left: (i64, i64, i64) = world.row(kept).await;
    assert_eq!(left, (0, 0, 0));
}

/// Reads on from a cursor, a few at a time, until it is told to stop and nothing is left; every id in the order seen.
async fn consume(pool: PgPool, stop: Arc<AtomicBool>) -> Vec<i64> {
    let mut seen = Vec::new();
    loop {
        let stopped = stop.load(Ordering::SeqCst);
        let rows: Vec<(i64,)> =
            sqlx::query_as("SELECT id FROM feather.sync_events WHERE id > $1 ORDER BY id LIMIT 5")
                .bind(seen.last().copied().unwrap_or(0))
                .fetch_all(&pool)
                .await
                .unwrap();
        if rows.is_empty() && stopped {
            return seen;
        }
        seen.extend(rows.into_iter().map(|(id,)| id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_with_one_cursor_misses_nothing_of_several_replicas_and_lists() {
    let chaotic = "tools = 4\nchurn = 0.8\nlatency = \"0ms..20ms\"\nsettle = \"0s..30ms\"";
    let mut world = World::with(Scenario::from_toml(chaotic).unwrap()).await;
    world.set("FEATHER_SYNC__WORKER__BATCH_SIZE", "2");
    let ids = ids(40);
    let stop = Arc::new(AtomicBool::new(false));
    let consumers: Vec<_> = (0..2)
        .map(|_| tokio::spawn(consume(world.pool.clone(), stop.clone())))
        .collect();
    let replicas: Vec<_> = (0..3).map(|_| world.start()).collect();
    for _ in 0..4 {
        world.enqueue(&ids).await;
        crate::lists::backfill(&world).await;
        world
            .until("SELECT count(*) = 0 FROM feather.sync_requests")
            .await;
    }
    world
        .until("SELECT count(*) = 0 FROM feather.sync_jobs")
        .await;
    for replica in replicas {
        replica.stop().await;
    }
    stop.store(true, Ordering::SeqCst);
    let all: Vec<(i64,)> = world
        .rows("SELECT id FROM feather.sync_events ORDER BY id")
        .await;
    let all: Vec<i64> = all.into_iter().map(|(id,)| id).collect();
    assert!(all.len() > 80, "{}", all.len());
    for consumer in consumers {
        assert_eq!(consumer.await.unwrap(), all);
    }
    let backwards: i64 = world
        .value(
            "SELECT count(*) FROM (SELECT at < lag(at) OVER (ORDER BY id) AS back FROM feather.sync_events) AS e WHERE back",
        )
        .await;
    assert_eq!(backwards, 0, "at is in the order of id");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_waits_for_one_that_has_its_number_and_is_not_committed() {
    let world = World::new().await;
    let ids = ids(2);
    let mut other = world.pool.begin().await.unwrap();
    sqlx::query(
        "WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock(7305801, 5))
         INSERT INTO feather.sync_events (at, account, connection_id, kind)
         SELECT clock_timestamp(), 'default', $1, 'connection_changed' FROM turn",
    )
    .bind(ids[1])
    .execute(&mut *other)
    .await
    .unwrap();
    world.enqueue(&ids[..1]).await;
    let replica = world.start();
    world
        .until(
            "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = 5 AND NOT granted
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .await;
    let visible: i64 = world
        .value("SELECT count(*) FROM feather.sync_events")
        .await;
    assert_eq!(visible, 0);
    other.commit().await.unwrap();
    world
        .until("SELECT count(*) = 2 FROM feather.sync_events")
        .await;
    let order: Vec<(Uuid,)> = world
        .rows("SELECT connection_id FROM feather.sync_events ORDER BY id")
        .await;
    assert_eq!(order, [(ids[1],), (ids[0],)]);
    replica.stop().await;
    world.sync(&ids[1..]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_are_notified_only_where_it_is_switched_on() {
    let mut world = World::new().await;
    let ids = ids(2);
    let mut listener = sqlx::postgres::PgListener::connect_with(&world.pool)
        .await
        .unwrap();
    listener.listen("feather_sync_events").await.unwrap();
    world.sync(&ids[..1]).await;
    world.set("FEATHER_SYNC__EVENTS__NOTIFY", "true");
    world.sync(&ids[1..]).await;
    // Notifications come in the order in which they were committed.
    world
        .execute("SELECT pg_notify('feather_sync_events', 'all')")
        .await;
    let mut heard = Vec::new();
    while heard.last().is_none_or(|word| word != "all") {
        let next = tokio::time::timeout(PATIENCE, listener.recv()).await;
        heard.push(next.unwrap().unwrap().payload().to_owned());
    }
    assert_eq!(heard, ["", "all"], "one of two syncs notifies");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_stored_though_the_sync_is_given_up_is_told_with_it() {
    let world = World::new().await;
    let id = ids(1)[0];
    world.sync(&[id]).await;
    let mut truth = world.sim.truth(id);
    truth["tools_status"] = "failed".into();
    truth["tools_synced_at"] = "2031-01-01T00:00:00Z".into();
    world.sim.script(id, [answer(truth.to_string())]);
    world.sync(&[id]).await;
    let last = told(&world, id).await.pop().unwrap();
    let start = "connection_dead tools_failed columns {tools_status,tools_synced_at";
    assert!(last.starts_with(start), "{last}");
}
