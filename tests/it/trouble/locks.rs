//! Others' locks, and transactions that are turned away because of them.

use super::Scene;
use super::synced_at_once;
use crate::world::World;
use crate::world::ids;
use sqlx::Acquire;

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_loses_a_deadlock_is_made_again_and_the_call_is_not() {
    let scene = Scene::new(&[("deadlock_timeout", "1500ms")]).await;
    let id = ids(1)[0];
    let replica = scene.start().await;
    scene.world.enqueue(&[id]).await;
    scene.synced_at_once(&[id]).await;

    let mut other = scene.world.pool.acquire().await.unwrap();
    let mut other = other.begin().await.unwrap();
    // The other one is not the one to give in.
    sqlx::raw_sql(
        "SET LOCAL deadlock_timeout = '1h'; SELECT FROM feather.integration_connections FOR UPDATE",
    )
    .execute(&mut *other)
    .await
    .unwrap();
    scene.world.enqueue(&[id]).await;
    scene
        .world
        .until("SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'feather-sync' AND wait_event_type = 'Lock'")
        .await;
    sqlx::raw_sql("UPDATE feather.sync_jobs SET priority = priority")
        .execute(&mut *other)
        .await
        .unwrap();
    other.commit().await.unwrap();
    scene
        .world
        .until("SELECT count(*) = 2 FROM feather.sync_attempts")
        .await;
    scene
        .world
        .until("SELECT count(*) = 0 FROM feather.sync_jobs")
        .await;
    assert_eq!(scene.world.story(id).await, ["synced", "synced"]);
    scene.world.check().await;
    let log = std::fs::read_to_string(scene.postgres.log_file()).unwrap();
    assert!(log.contains("deadlock detected"), "there was none");
    assert_eq!(scene.metric("feather_sync_leases_lost_total").await, 0.0);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_work_where_serializable_is_the_default() {
    let scene = Scene::new(&[]).await;
    let mut world = scene.world;
    let database = "app";
    world.set("FEATHER_SYNC__ADMIN__LISTEN", "off");
    for setting in [
        "default_transaction_isolation = 'serializable'",
        "default_transaction_deferrable = on",
    ] {
        world
            .execute(&format!("ALTER DATABASE {database} SET {setting}"))
            .await;
    }
    let ids = ids(300);
    let replicas = [world.start(), world.start()];
    for part in ids.chunks(20) {
        world.enqueue(part).await;
    }
    synced_at_once(&world, &ids).await;
    for replica in replicas {
        replica.stop().await;
    }
    let log = std::fs::read_to_string(scene.postgres.log_file()).unwrap();
    assert!(
        !log.contains("could not serialize"),
        "turned away for nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_somebody_locks_is_waited_for_and_said() {
    let scene = Scene::new(&[]).await;
    let replica = scene.start().await;
    let ids = ids(60);
    let mut other = scene.world.pool.acquire().await.unwrap();
    let mut other = other.begin().await.unwrap();
    scene.world.enqueue(&ids[..30]).await;
    scene
        .world
        .until("SELECT count(*) > 3 FROM feather.connections")
        .await;
    sqlx::raw_sql("LOCK TABLE feather.sync_jobs IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *other)
        .await
        .unwrap();
    scene.world.enqueue(&ids[30..]).await;
    scene.is_not_ready("lock timeout").await;
    scene.stays_calm().await;
    other.rollback().await.unwrap();
    scene.is_ready().await;
    scene.synced_at_once(&ids).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_on_the_inbox_keeps_nobody_from_what_is_in_the_queue() {
    let scene = Scene::with(&[], "tools = 1\nlatency = \"20ms\"").await;
    let ids = ids(40);
    scene.world.enqueue(&ids).await;
    // Into the queue, and no further.
    scene
        .world
        .execute("INSERT INTO feather.sync_jobs (connection_id, account, priority, run_at, wanted_at)
                  SELECT connection_id, account, priority, run_at, run_at FROM feather.sync_requests;
                  DELETE FROM feather.sync_requests")
        .await;
    let mut other = scene.world.pool.acquire().await.unwrap();
    let mut other = other.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE feather.sync_requests IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *other)
        .await
        .unwrap();
    let replica = scene.world.start();
    scene
        .world
        .until("SELECT count(*) = 40 FROM feather.connections")
        .await;
    other.rollback().await.unwrap();
    scene.is_ready().await;
    scene.synced_at_once(&ids).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_gives_signs_of_life_while_its_upkeep_waits() {
    let world = World::new().await;
    let replica = world.start();
    world
        .until("EXISTS (SELECT FROM feather.sync_counts)")
        .await;
    let mut other = world.pool.begin().await.unwrap();
    sqlx::raw_sql("SELECT FROM feather.sync_counts FOR UPDATE")
        .execute(&mut *other)
        .await
        .unwrap();
    world
        .until(
            "EXISTS (SELECT FROM pg_stat_activity a, feather.sync_replicas r
                     WHERE a.datname = current_database() AND a.wait_event_type = 'Lock'
                       AND a.query LIKE '%feather.sync_counts%' AND r.seen_at > a.query_start)",
        )
        .await;
    other.rollback().await.unwrap();
    replica.stop().await;
    let replicas: i64 = world
        .value("SELECT count(*) FROM feather.sync_replicas")
        .await;
    assert_eq!(replicas, 0, "it has signed off");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_somebody_holds_is_left_to_its_lease_and_stops_no_other() {
    let mut scene = Scene::new(&[]).await;
    // Longer than it takes to find the row, by halves that wait 10 s each.
    scene.world.set("FEATHER_SYNC__WORKER__LEASE", "55s");
    let ids = ids(9);
    let replica = scene.start().await;
    scene.world.enqueue(&ids[..1]).await;
    scene.synced_at_once(&ids[..1]).await;
    let mut other = scene.world.pool.acquire().await.unwrap();
    let mut other = other.begin().await.unwrap();
    sqlx::raw_sql("SELECT FROM feather.integration_connections FOR UPDATE")
        .execute(&mut *other)
        .await
        .unwrap();
    // All at once, so that they are written down together.
    let gate = scene.world.sim.hold();
    scene.world.enqueue(&ids).await;
    scene
        .world
        .until("SELECT count(*) = 9 FROM feather.sync_jobs WHERE state = 'running'")
        .await;
    gate.release();
    scene
        .world
        .until("SELECT count(*) = 1 FROM feather.sync_jobs")
        .await;
    for id in &ids[1..] {
        assert_eq!(scene.world.story(*id).await, ["synced"], "{id}");
    }
    other.rollback().await.unwrap();
    scene
        .world
        .until("SELECT count(*) = 0 FROM feather.sync_jobs")
        .await;
    // Written late, or made again after its lease, whichever was sooner.
    let story = scene.world.story(ids[0]).await.join(" ");
    assert!(
        ["synced synced", "synced crashed/lease_lost synced"].contains(&story.as_str()),
        "{story}"
    );
    scene.world.check().await;
    replica.stop().await;
}
