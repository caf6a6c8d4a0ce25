//! Verify beside daemons at work: what they do breaks no invariant, not for a moment.

use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Fault;
use feather_sync::sim::Scenario;
use feather_sync::store::DeadFilter;
use feather_sync::store::Look;
use feather_sync::store::VerifySettings;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Every outcome that there is comes up again and again.
const TROUBLE: &str = r#"
seed = 5
tools = "0..6"
latency = "1ms..15ms"
settle = "0ms..150ms"
churn = 0.5

[[fault]]
kind = "status"
code = 503
rate = 0.2

[[fault]]
kind = "status"
code = 400
rate = 0.1

[[fault]]
kind = "status"
code = 429
retry_after = 0
rate = 0.02

[[fault]]
kind = "tools_failed"
rate = 0.05

[[fault]]
kind = "not_json"
rate = 0.05

[[fault]]
kind = "close"
rate = 0.05

[[fault]]
kind = "not_found"
rate = 0.03
"#;

/// In all of them a job ends, or goes on.
const OUTCOMES: &str = "SELECT count(DISTINCT outcome) = 7 FROM feather.sync_attempts";

#[tokio::test(flavor = "multi_thread")]
async fn daemons_producers_and_operators_at_work_break_no_invariant_for_a_moment() {
    let mut world = World::with(Scenario::from_toml(TROUBLE).unwrap()).await;
    world
        .set("FEATHER_SYNC__RETRY__MAX_ATTEMPTS", "4")
        // A probe whose job is taken away holds its account back for as long as its lease would have lasted.
        .set("FEATHER_SYNC__WORKER__LEASE", "2s")
        .set("FEATHER_SYNC__API__REQUEST_TIMEOUT", "1500ms")
        .set("FEATHER_SYNC__API__CONNECT_TIMEOUT", "1s");
    let ids = ids(60);
    let replicas = [world.start(), world.start()];
    let (done, passes) = (AtomicBool::new(false), AtomicBool::new(false));
    let working = async {
        let db = world.db();
        for round in 0_usize.. {
            let some = &ids[round * 7 % 50..][..10];
            world.enqueue(&ids[round * 11 % 40..][..20]).await;
            match round % 6 {
                0 => drop(db.retry(some, "me").await.unwrap()),
                1 => drop(db.retry_dead(&DeadFilter::default(), "me").await.unwrap()),
                2 => drop(db.cancel(&some[..3], "me").await.unwrap()),
                3 => drop(db.forget(&some[..3], "me").await.unwrap()),
                // Some leases run out while their calls are under way.
                _ => {
                    world
                        .execute(
                            "WITH picked AS (SELECT connection_id FROM feather.sync_jobs
                                           WHERE state = 'running' AND random() < 0.3
                                           ORDER BY connection_id FOR UPDATE SKIP LOCKED)
                             UPDATE feather.sync_jobs j SET lease_until = started_at + interval '1 us'
                             FROM picked WHERE j.connection_id = picked.connection_id",
                        )
                        .await;
                    drop(db.expire(4, 100).await.unwrap());
                }
            }
            if passes.load(Ordering::Relaxed) && world.value::<bool>(OUTCOMES).await {
                break;
            }
        }
        done.store(true, Ordering::Relaxed);
    };
    let verifying = async {
        let mut count = 0;
        while !done.load(Ordering::Relaxed) {
            let pages = if count % 2 == 0 { 1 } else { 512 };
            let scrutiny = VerifySettings {
                pages,
                ..world.scrutiny()
            };
            world.assert_hold(&scrutiny).await;
            count += 1;
            passes.store(count >= 25, Ordering::Relaxed);
        }
    };
    let both = async { tokio::join!(working, verifying) };
    tokio::time::timeout(Duration::from_secs(120), both)
        .await
        .unwrap();
    for replica in replicas {
        replica.stop().await;
    }
    world.sim.set_faults(Vec::new());
    let db = world.db();
    while db.retry_dead(&DeadFilter::default(), "me").await.unwrap() > 0 {
        world.drain().await;
    }
    world.drain().await;
    world.assert_invariants().await;
}

/// A request for what is being erased or taken out waits until that is over: its sync is a new life.
async fn a_request_meanwhile_starts_afresh(forget: bool) {
    let world = World::new().await;
    let id = ids(1)[0];
    world.sim.script(id, [Fault::status(503)]);
    if forget {
        world.sync(&[id]).await;
        world
            .sim
            .script(id, [Fault::status(503), Fault::status(503)]);
    } else {
        world.enqueue(&[id]).await;
    }
    // The last rows that either of them wants.
    let mut blocker = world.pool.begin().await.unwrap();
    let table = if forget {
        "integration_connections"
    } else {
        "sync_throughput"
    };
    let lock = format!("LOCK TABLE feather.{table} IN ACCESS EXCLUSIVE MODE");
    sqlx::raw_sql(sqlx::AssertSqlSafe(lock))
        .execute(&mut *blocker)
        .await
        .unwrap();
    let db = world.db();
    let operating = tokio::spawn(async move {
        if forget {
            db.forget(&[id], "me").await
        } else {
            db.cancel(&[id], "me").await
        }
    });
    world
        .until("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))")
        .await;
    world.enqueue(&[id]).await;
    let taken_in = world
        .db()
        .take_in(&Look {
            limit: 100,
            from: None,
            running: &[],
        })
        .await
        .unwrap();
    assert_eq!(taken_in.requests, 0, "taken in too early");
    blocker.rollback().await.unwrap();
    operating.await.unwrap().unwrap();
    world.drain().await;
    world.assert_invariants().await;
    assert_eq!(
        world.story(id).await.last().map(String::as_str),
        Some("synced")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_a_connection_that_is_being_forgotten_starts_a_new_life() {
    a_request_meanwhile_starts_afresh(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_a_connection_that_is_being_cancelled_comes_after_its_end() {
    a_request_meanwhile_starts_afresh(false).await;
}
