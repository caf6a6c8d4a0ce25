//! Slots that are freed before results are written, and what wakes the loop when nothing polls.

use crate::world::PATIENCE;
use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Scenario;
use feather_sync::store::WakeUp;
use sqlx::postgres::PgListener;
use std::time::Duration;
use std::time::Instant;
use uuid::Uuid;

/// The daemon hears wake-ups.
const LISTENING: &str = "SELECT count(*) > 0 FROM pg_stat_activity
    WHERE datname = current_database() AND query ILIKE 'LISTEN %'";

/// The next poll is 45 s away or more.
async fn world_that_hardly_polls() -> World {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__WORKER__POLL_INTERVAL", "60s");
    world
}

async fn no_poll_was_waited_for(world: &World) {
    let quick = "SELECT max(started_at) - min(started_at) < interval '40 seconds' FROM feather.sync_attempts";
    assert!(world.value::<bool>(quick).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_a_connection_that_is_worked_on_is_served_as_soon_as_that_is_over() {
    let world = world_that_hardly_polls().await;
    let gate = world.sim.hold();
    let replica = world.start();
    let ids = ids(1);
    world.enqueue(&ids).await;
    world.called(1).await;
    world.enqueue(&ids).await;
    gate.release();
    world.called(2).await;
    world
        .until("SELECT state = 'idle' FROM feather.sync_status")
        .await;
    assert_eq!(world.finalizes(ids[0]), 2);
    no_poll_was_waited_for(&world).await;
    replica.stop().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_committed_behind_later_ones_is_found_without_a_poll() {
    let world = world_that_hardly_polls().await;
    let replica = world.start();
    world.until(LISTENING).await;
    for pair in ids(20).chunks(2) {
        let (late, prompt) = pair.split_at(1);
        let mut open = world.pool.begin().await.unwrap();
        // It wakes the daemon when it commits, and keeps nobody else from that.
        sqlx::raw_sql("SET LOCAL feather.wake_up = off; SELECT pg_notify('feather_sync', '')")
            .execute(&mut *open)
            .await
            .unwrap();
        sqlx::query("SELECT feather.enqueue_many($1)")
            .bind(late)
            .execute(&mut *open)
            .await
            .unwrap();
        world.enqueue(prompt).await;
        let taken_in = format!(
            "SELECT NOT EXISTS (SELECT FROM feather.sync_requests WHERE connection_id = '{}')",
            prompt[0]
        );
        world.until(&taken_in).await;
        open.commit().await.unwrap();
        let synced = format!(
            "SELECT count(*) = 2 FROM feather.connections WHERE id IN ('{}', '{}')",
            late[0], prompt[0]
        );
        world.until(&synced).await;
    }
    no_poll_was_waited_for(&world).await;
    replica.stop().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_become_free_are_filled_without_a_poll() {
    let mut world = world_that_hardly_polls().await;
    world.set("FEATHER_SYNC__WORKER__CONCURRENCY", "3");
    let ids = ids(60);
    world.enqueue(&ids).await;
    let replica = world.start();
    world
        .until("SELECT count(*) = 60 FROM feather.connections")
        .await;
    no_poll_was_waited_for(&world).await;
    replica.stop().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_is_due_sooner_than_the_next_poll_is_made_when_it_is_due() {
    let scenario = "[[fault]]\nkind = \"status\"\ncode = 503\ntimes = 1";
    let mut world = World::with(Scenario::from_toml(scenario).unwrap()).await;
    world.set("FEATHER_SYNC__WORKER__POLL_INTERVAL", "60s");
    let replica = world.start();
    let ids = ids(3);
    world.enqueue(&ids).await;
    world
        .until("SELECT count(*) = 3 FROM feather.connections")
        .await;
    no_poll_was_waited_for(&world).await;
    replica.stop().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_come_while_others_are_taken_in_wait_for_no_poll() {
    let mut world = world_that_hardly_polls().await;
    world.set("FEATHER_SYNC__WORKER__CONCURRENCY", "50");
    let replica = world.start();
    world.until(LISTENING).await;
    let ids = ids(200);
    let producers = ids.chunks(50).map(async |ids| {
        for id in ids {
            world.enqueue(&[*id]).await;
        }
    });
    futures_util::future::join_all(producers).await;
    // Whoever commits right after another has been heard may not be.
    world.enqueue(&[Uuid::new_v4()]).await;
    world
        .until("SELECT count(*) = 201 FROM feather.connections")
        .await;
    no_poll_was_waited_for(&world).await;
    replica.stop().await;
    world.check().await;
}

async fn listen(world: &World) -> PgListener {
    let mut listener = PgListener::connect_with(&world.pool).await.unwrap();
    listener.listen("feather_sync").await.unwrap();
    listener
}

/// What the next wake-up says.
async fn next(heard: &mut PgListener) -> String {
    let next = tokio::time::timeout(PATIENCE, heard.recv()).await;
    next.unwrap().unwrap().payload().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_wake_ups_are_spared_producers_give_none_and_one_for_all_follows() {
    const SPARED: &str = "SELECT EXISTS (SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND classid = 7305801 AND objid = 1 AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
    let world = World::new().await;
    let mut heard = listen(&world).await;
    let mut replica = world.db().listen().await.unwrap();
    let ids = ids(100);
    let mut asked = 0;
    loop {
        let sparing = tokio::spawn(async move {
            let told = replica.spare().await.unwrap();
            (replica, told)
        });
        while !sparing.is_finished() && !world.value::<bool>(SPARED).await {}
        world.enqueue(&ids[asked..=asked]).await;
        asked += 1;
        let fell_into_it = world.value::<bool>(SPARED).await;
        let told;
        (replica, told) = sparing.await.unwrap();
        world
            .execute("SELECT pg_notify('feather_sync', 'all of them')")
            .await;
        let mut said = Vec::new();
        while said.last().is_none_or(|said| said != "all of them") {
            said.push(next(&mut heard).await);
        }
        if fell_into_it && told {
            assert_eq!(said, ["requests", "all of them"]);
            break;
        }
        assert!(asked < ids.len(), "no request fell into the time");
    }
    let daemon = world.start();
    world
        .until(&format!(
            "SELECT count(*) = {asked} FROM feather.connections"
        ))
        .await;
    daemon.stop().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_stays_open_keeps_nobody_from_listening() {
    let world = World::new().await;
    let mut heard = listen(&world).await;
    let (mut replica, mut another) = (
        world.db().listen().await.unwrap(),
        world.db().listen().await.unwrap(),
    );
    let mut open = world.pool.begin().await.unwrap();
    sqlx::query("SELECT feather.enqueue(gen_random_uuid())")
        .execute(&mut *open)
        .await
        .unwrap();
    let began = Instant::now();
    let (one, other) = tokio::join!(replica.spare(), another.spare());
    assert!(began.elapsed() > Duration::from_millis(40));
    assert_eq!((one.unwrap(), other.unwrap()), (false, false));
    open.commit().await.unwrap();
    assert_eq!(next(&mut heard).await, "");
    for replica in [&mut replica, &mut another] {
        assert_eq!(replica.wait().await.unwrap(), WakeUp::Request);
    }
    let daemon = world.start();
    world
        .until("SELECT count(*) = 1 FROM feather.connections")
        .await;
    daemon.stop().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_that_ask_for_many_without_a_pause_are_spared_their_wake_ups() {
    let world = world_that_hardly_polls().await;
    world
        .execute("UPDATE feather.sync_accounts SET operator_paused_at = now(), operator_paused_by = 'me'")
        .await;
    let replica = world.start();
    world.until(LISTENING).await;
    let mut heard = listen(&world).await;
    let ids = ids(60);
    let asking = async {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            world.enqueue(&ids).await;
        }
    };
    let spared = async { while next(&mut heard).await != "requests" {} };
    tokio::select! {
        () = spared => {}
        () = asking => panic!("each was heard"),
    }
    world
        .execute(
            "UPDATE feather.sync_accounts SET operator_paused_at = NULL, operator_paused_by = NULL",
        )
        .await;
    replica.stop().await;
    world.drain().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_while_results_are_being_written() {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__WORKER__CONCURRENCY", "4");
    let mut lock = world.pool.begin().await.unwrap();
    sqlx::query("LOCK feather.integration_connections IN SHARE MODE")
        .execute(&mut *lock)
        .await
        .unwrap();
    let ids = ids(20);
    world.enqueue(&ids).await;
    let replica = world.start();
    // Twice as many as there are slots, and none of them is written.
    world.called(8).await;
    assert_eq!(
        world
            .value::<i64>("SELECT count(*) FROM feather.connections")
            .await,
        0
    );
    lock.rollback().await.unwrap();
    world
        .until("SELECT count(*) = 20 FROM feather.connections")
        .await;
    replica.stop().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_snapshot_stays_open_every_job_is_claimed_in_its_order() {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__WORKER__CONCURRENCY", "2");
    let ids = ids(300);
    // Whoever looks at what was, keeps it in the index.
    let mut report = world.pool.begin().await.unwrap();
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        .execute(&mut *report)
        .await
        .unwrap();
    sqlx::query("SELECT FROM feather.sync_jobs")
        .execute(&mut *report)
        .await
        .unwrap();
    world.enqueue(&ids).await;
    let replica = world.start();
    world
        .until("SELECT count(*) = 300 FROM feather.connections")
        .await;
    replica.stop().await;
    report.rollback().await.unwrap();
    let late: i64 = world
        .value(
            "SELECT count(*) FROM (SELECT started_at, max(started_at) OVER (ORDER BY connection_id) AS before
                                   FROM feather.sync_attempts) AS a
             WHERE started_at < before - interval '1 second'",
        )
        .await;
    assert_eq!(late, 0);
    world.check().await;
}
