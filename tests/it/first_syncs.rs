//! Connections that are not stored yet are written by one statement, all of a batch or none.

use crate::claiming::claim_of_one;
use crate::world::World;
use crate::world::ids;
use feather_sync::daemon;
use feather_sync::domain::AccountName;
use feather_sync::domain::Dice;
use feather_sync::domain::Finished;
use feather_sync::domain::verdict;
use feather_sync::sim::Scenario;
use feather_sync::store::Claim;
use feather_sync::store::Committed;
use feather_sync::store::Look;
use std::time::Duration;
use std::time::Instant;
use uuid::Uuid;

/// As many calls as there are ids are out, and what they come to is written together.
async fn called(ids: &[Uuid]) -> (World, crate::world::Replica, feather_sync::sim::Gate) {
    let scenario = Scenario::from_toml("tools = 3").unwrap();
    let mut world = World::with(scenario).await;
    world.set("FEATHER_SYNC__WORKER__CONCURRENCY", "4");
    let replica = world.start();
    let gate = world.sim.hold();
    world.enqueue(ids).await;
    world.called(ids.len() as u64).await;
    (world, replica, gate)
}

const IDLE: &str = "SELECT count(*) = 0 FROM feather.sync_jobs";

#[tokio::test(flavor = "multi_thread")]
async fn one_that_somebody_has_stored_since_the_claim_is_compared_and_the_others_are_written() {
    let ids = ids(4);
    let (world, replica, gate) = called(&ids[..1]).await;
    gate.release();
    world.until(IDLE).await;
    let gate = world.sim.hold();
    world.enqueue(&ids[1..]).await;
    world.called(4).await;
    world
        .execute(&format!(
            "INSERT INTO feather.integration_connections
             SELECT (jsonb_populate_record(c, jsonb_build_object('id', '{}', '_hash', '\\x'))).*
             FROM feather.integration_connections c",
            ids[2]
        ))
        .await;
    gate.release();
    world.until(IDLE).await;
    replica.stop().await;
    for id in &ids {
        assert_eq!(world.story(*id).await, ["synced"]);
        world.equals_truth(*id).await.unwrap();
    }
    let tools: i64 = world.value("SELECT count(*) FROM feather.tools").await;
    assert_eq!(tools, 12);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_cancelled_meanwhile_is_not_written_and_the_others_are() {
    let ids = ids(3);
    let (world, replica, gate) = called(&ids).await;
    let db = world.db();
    assert_eq!(db.cancel(&ids[1..2], "alice").await.unwrap(), ids[1..2]);
    gate.release();
    world.until(IDLE).await;
    world
        .until("SELECT count(*) = 2 FROM feather.connections")
        .await;
    replica.stop().await;
    assert_eq!(world.story(ids[1]).await, ["cancelled"]);
    for id in [ids[0], ids[2]] {
        assert_eq!(world.story(id).await, ["synced"]);
        world.equals_truth(id).await.unwrap();
    }
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_reckoned_without_asking_for_the_time_is_what_the_database_would_say() {
    let scenario = Scenario::from_toml("tools = 3\nsettle = \"1h\"\nlatency = \"4s\"").unwrap();
    let world = World::with(scenario).await;
    let replica = world.start();
    let ids = ids(1);
    world.enqueue(&ids).await;
    world
        .until("SELECT count(*) = 1 FROM feather.sync_jobs WHERE phase = 'settle' AND state = 'pending'")
        .await;
    times_are_the_databases(&world).await;
    replica.stop().await;
}

/// Those of a poll that is to follow, against that of the row's own transaction.
async fn times_are_the_databases(world: &World) {
    let (seen, deadline): (f64, f64) = world
        .row(
            "SELECT EXTRACT(epoch FROM j.seen_at - c._synced_at)::float8,
                    EXTRACT(epoch FROM j.settle_deadline - c._synced_at)::float8
             FROM feather.sync_jobs j JOIN feather.integration_connections c ON c.id = j.connection_id",
        )
        .await;
    let expected = world.config().settle.deadline.as_secs_f64();
    assert!(seen.abs() < 2.0, "{seen} s");
    assert!((deadline - expected).abs() < 2.0, "{deadline} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_clock_was_set_between_claim_and_commit_the_database_is_asked() {
    let scenario = Scenario::from_toml("tools = 3\nsettle = \"1h\"").unwrap();
    let mut world = World::with(scenario).await;
    world.leave_broken();
    let (db, config) = (world.db(), world.config());
    world.enqueue(&ids(1)).await;
    let look = Look {
        limit: 10,
        from: None,
        running: &[],
    };
    db.take_in(&look).await.unwrap();
    let name = AccountName::from("default");
    let request = claim_of_one(&name);
    let Claim::Jobs { mut jobs, .. } = db.claim(&request).await.unwrap() else {
        panic!("nothing is due")
    };
    let job = jobs.remove(0);
    let account = config.account("default").unwrap().unwrap();
    let client = daemon::client(&config, "default", &account).unwrap();
    let result = client.call(job.phase.call(), job.connection_id).await;
    let verdict = verdict::judge(
        &job,
        result,
        &daemon::retry_policy(&config),
        &daemon::settle_rule(&config),
        &Dice::Random,
    );
    let finished = Finished {
        job,
        verdict,
        // By the clock as it was.
        took: Duration::from_secs(3_600),
        ended: Instant::now(),
    };
    let committed = db
        .commit(
            &[finished],
            "a test",
            config.settle.deadline,
            Instant::now(),
        )
        .await
        .unwrap();
    assert!(matches!(committed[..], [Committed::Applied { .. }]));
    times_are_the_databases(&world).await;
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_statements_are_not_to_be_kept_the_server_keeps_none_of_ours() {
    let mut world = World::with(Scenario::from_toml("tools = 2").unwrap()).await;
    world.set("FEATHER_SYNC__DATABASE__PREPARED_STATEMENTS", "false");
    world
        .execute(
            "CREATE TABLE public.kept (statements bigint);
             GRANT ALL ON TABLE public.kept TO PUBLIC;
             CREATE FUNCTION public.count_kept() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 INSERT INTO public.kept SELECT count(*) FROM pg_prepared_statements;
                 RETURN NULL;
             END $$;
             CREATE TRIGGER count_kept AFTER INSERT ON feather.sync_attempts EXECUTE FUNCTION public.count_kept()",
        )
        .await;
    let replica = world.start();
    for part in ids(12).chunks(3) {
        world.enqueue(part).await;
        world.until(IDLE).await;
        world
            .until("SELECT count(*) = 0 FROM feather.sync_requests")
            .await;
    }
    replica.stop().await;
    let most: i64 = world.value("SELECT max(statements) FROM public.kept").await;
    assert!(most <= 2, "{most}");
    world.check().await;
}
