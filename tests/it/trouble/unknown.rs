//! A connection that is cut between a statement and its answer: has it happened?

use super::Scene;
use crate::proxy::COMMIT;
use crate::proxy::Moment;
use crate::world::Replica;
use crate::world::ids;
use feather_sync::sim::Fault;
use sqlx::Acquire;

const BOTH: [Moment; 2] = [Moment::BeforeServer, Moment::BeforeAnswer];

async fn until_trapped(scene: &Scene, number: u64) {
    let began = std::time::Instant::now();
    while scene.proxy.stats().trapped < number {
        assert!(began.elapsed() < super::PATIENCE, "the trap did not spring");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Counted once each, by metrics and tables.
async fn is_counted_once(scene: &Scene, number: f64) {
    are_counted_once(scene, number, number).await;
}

/// As many syncs, so many of them first ones.
async fn are_counted_once(scene: &Scene, number: f64, first: f64) {
    for (series, expected) in [
        (
            "feather_sync_attempts_total{account=\"default\",kind=\"finalize\",outcome=\"synced\"",
            number,
        ),
        (
            "feather_sync_tools_changed_total{account=\"default\",change=\"added\"",
            first * 2.0,
        ),
        (
            "feather_sync_time_to_sync_seconds_count{account=\"default\"",
            number,
        ),
        ("feather_sync_leases_lost_total", 0.0),
        ("feather_sync_attempts_crashed_total", 0.0),
    ] {
        assert_eq!(scene.metric(series).await, expected, "{series}");
    }
}

async fn begin() -> (Scene, Replica) {
    let scene = Scene::new(&[]).await;
    let replica = scene.start().await;
    (scene, replica)
}

/// A parameter of the statement that ends a write-back, and is all of it for a first sync.
const CLOSING: &[u8] = b"\0\0\0\x11connection_synced";

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_cut_before_or_after_the_server_got_it_happens_once_and_is_counted_once() {
    for moment in BOTH {
        let (scene, replica) = begin().await;
        let ids = ids(24);
        for (pattern, syncs) in [(CLOSING, 24.0), (COMMIT, 48.0)] {
            for part in ids.chunks(4) {
                // Set while the calls are under way, since the upkeep commits as well.
                let gate = scene.world.sim.hold();
                let calls = scene.world.sim.calls().len() as u64;
                scene.world.enqueue(part).await;
                scene.world.called(calls + 4).await;
                let before = scene.proxy.stats().trapped;
                scene.proxy.set_trap(pattern, moment, 2);
                gate.release();
                until_trapped(&scene, before + 2).await;
                scene
                    .world
                    .until("SELECT count(*) = 0 FROM feather.sync_jobs HAVING (SELECT count(*) = 0 FROM feather.sync_requests)")
                    .await;
            }
            for id in &ids {
                let story = scene.world.story(*id).await;
                assert_eq!(story, vec!["synced"; story.len()]);
                scene.world.equals_truth(*id).await.unwrap();
            }
            scene.world.check().await;
            are_counted_once(&scene, syncs, 24.0).await;
        }
        scene.is_ready().await;
        replica.stop().await;
    }
}

/// A parameter of the claim: the account, and after it a number of eight bytes.
const CLAIM: &[u8] = b"\0\0\0\x07default\0\0\0\x08";
/// The parameter of the take-in.
const TAKE_IN: &[u8] = b"\0\0\0\x08\0\0\0\0\0\0\x03\xe8";

#[tokio::test(flavor = "multi_thread")]
async fn claims_and_take_ins_that_are_cut_anywhere_lose_and_double_and_burn_nothing() {
    for pattern in [CLAIM, TAKE_IN] {
        for moment in BOTH {
            let (scene, replica) = begin().await;
            let ids = ids(120);
            for (round, part) in ids.chunks(20).enumerate() {
                scene.world.enqueue(part).await;
                scene.proxy.set_trap(pattern, moment, 1);
                until_trapped(&scene, round as u64 + 1).await;
            }
            scene.synced_at_once(&ids).await;
            is_counted_once(&scene, 120.0).await;
            scene.is_ready().await;
            replica.stop().await;
        }
    }
}

/// Holds a lock until a statement of the daemon waits for it, cuts the daemon off, and lets the statement come through
/// with nobody there to hear of it.
async fn come_through_unheard(scene: &Scene, lock: &'static str, ids: &[uuid::Uuid]) {
    let mut other = scene.world.pool.acquire().await.unwrap();
    let mut other = other.begin().await.unwrap();
    sqlx::raw_sql(lock).execute(&mut *other).await.unwrap();
    scene.world.enqueue(ids).await;
    scene
        .world
        .until("SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'feather-sync' AND wait_event_type = 'Lock'")
        .await;
    scene.proxy.cut();
    other.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_comes_through_unheard_is_given_back_and_burns_no_attempt() {
    let (scene, replica) = begin().await;
    let ids = ids(30);
    for part in ids.chunks(10) {
        come_through_unheard(&scene, "SELECT FROM feather.sync_accounts FOR UPDATE", part).await;
    }
    scene.synced_at_once(&ids).await;
    is_counted_once(&scene, 30.0).await;
    let burnt: i64 = scene
        .world
        .value("SELECT count(*) FROM feather.sync_attempts WHERE attempt <> 1")
        .await;
    assert_eq!(burnt, 0);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_take_in_that_comes_through_unheard_loses_and_doubles_nothing() {
    let (scene, replica) = begin().await;
    let ids = ids(30);
    for part in ids.chunks(10) {
        come_through_unheard(&scene, "LOCK TABLE feather.sync_jobs IN SHARE MODE", part).await;
    }
    scene.synced_at_once(&ids).await;
    is_counted_once(&scene, 30.0).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_whose_answer_is_lost_burns_nothing() {
    for moment in BOTH {
        let (scene, replica) = begin().await;
        let ids = ids(8);
        let mut other = scene.world.pool.acquire().await.unwrap();
        let mut other = other.begin().await.unwrap();
        sqlx::raw_sql("SELECT FROM feather.sync_accounts FOR UPDATE")
            .execute(&mut *other)
            .await
            .unwrap();
        scene.world.enqueue(&ids).await;
        // A claim that took more than 5 s comes too late for its calls.
        scene
            .world
            .until(
                "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'feather-sync'
                 AND wait_event_type = 'Lock' AND query_start < clock_timestamp() - interval '5.5 seconds'",
            )
            .await;
        scene.proxy.set_trap(COMMIT, moment, 2);
        other.rollback().await.unwrap();
        until_trapped(&scene, 2).await;
        scene.synced_at_once(&ids).await;
        is_counted_once(&scene, 8.0).await;
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_whose_expiry_is_cut_is_recorded_once() {
    for moment in BOTH {
        let (scene, replica) = begin().await;
        let ids = ids(5);
        let values: Vec<_> = ids
            .iter()
            .map(|id| {
                format!(
                    "('{id}', 'default', 0, 'running', 'lost', gen_random_uuid(), now(), now(), now(), now(), now(), 1)"
                )
            })
            .collect();
        // What the server has got is not tried again.
        let tries = if moment == Moment::BeforeServer { 3 } else { 1 };
        scene.proxy.set_trap(COMMIT, moment, tries);
        scene
            .world
            .execute(&format!(
                "INSERT INTO feather.sync_jobs (connection_id, account, priority, state, worker, lease_token, lease_until, started_at,
                                                finalize_started_at, run_at, wanted_at, attempt) VALUES {}",
                values.join(", ")
            ))
            .await;
        until_trapped(&scene, tries.into()).await;
        scene
            .world
            .until("SELECT count(*) = 5 FROM feather.sync_status WHERE last_outcome = 'synced' AND state = 'idle'")
            .await;
        for id in ids {
            assert_eq!(
                scene.world.story(id).await,
                ["crashed/lease_lost", "synced"]
            );
            assert_eq!(scene.world.finalizes(id), 1);
            scene.world.equals_truth(id).await.unwrap();
        }
        assert_eq!(scene.metric("feather_sync_leases_lost_total").await, 0.0);
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_cannot_be_written_down_is_never_taken_for_one_that_was_not_made() {
    let mut scene = Scene::new(&[]).await;
    for (key, value) in [
        ("WORKER__LEASE", "5s"),
        ("API__REQUEST_TIMEOUT", "2s"),
        ("API__CONNECT_TIMEOUT", "1s"),
    ] {
        scene.world.set(&format!("FEATHER_SYNC__{key}"), value);
    }
    let ids = ids(2);
    scene.world.sim.script(ids[0], [Fault::status(500)]);
    scene
        .world
        .execute(
            "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = 'XX000'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON feather.sync_attempts
             FOR EACH ROW WHEN (NEW.outcome = 'retry') EXECUTE FUNCTION public.refuse();",
        )
        .await;
    let replica = scene.start().await;
    scene.world.enqueue(&ids[..1]).await;
    let began = std::time::Instant::now();
    while scene
        .metric("feather_sync_db_errors_total{kind=\"other\"")
        .await
        < 3.0
    {
        assert!(began.elapsed() < super::PATIENCE, "it was not refused");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // Now a claim is not heard of, and what it may have leased is given back.
    scene
        .world
        .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'feather-sync'")
        .await;
    scene.world.enqueue(&ids[1..]).await;
    scene
        .world
        .until("SELECT count(*) = 0 FROM feather.sync_jobs HAVING (SELECT count(*) = 0 FROM feather.sync_requests)")
        .await;
    assert_eq!(
        scene.world.story(ids[0]).await,
        ["crashed/lease_lost", "synced"]
    );
    scene.world.check().await;
    replica.stop().await;
}
