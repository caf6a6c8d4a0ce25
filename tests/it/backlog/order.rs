//! What goes first: fresh requests, then polls, then retries, then what nobody asked for.

use crate::claiming::claim_of_one;
use crate::world::World;
use crate::world::ids;
use feather_sync::domain::AccountName;
use feather_sync::domain::Budget;
use feather_sync::sim::Fault;
use feather_sync::sim::FaultRule;
use feather_sync::store::Claim;
use feather_sync::store::ClaimRequest;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn fresh_requests_go_before_polls_before_retries_before_what_nobody_asked_for() {
    let world = World::new().await;
    let all = ids(5);
    world.sync(&all).await;
    // The later it is to go, the longer it has been due.
    world
        .execute(&format!(
            "INSERT INTO feather.sync_jobs (connection_id, account, phase, priority, run_at, wanted_at, attempt, started_at,
                                            finalize_started_at, settle_deadline)
             VALUES ('{}', 'default', 'refresh', 1000, now() - interval '5 min', now(), 0, NULL, now(), NULL),
                    ('{}', 'default', 'settle', 1000, now() - interval '4 min', now(), 0, NULL, now(), now() + interval '1 hour'),
                    ('{}', 'default', 'finalize', 1, now() - interval '3 min', now(), 0, NULL, NULL, NULL),
                    ('{}', 'default', 'settle', 0, now() - interval '2 min', now() - interval '1 hour', 0, NULL, now(),
                     now() + interval '1 hour'),
                    ('{}', 'default', 'finalize', 0, now() - interval '1 min', now(), 0, NULL, NULL, NULL)",
            all[0], all[1], all[2], all[3], all[4]
        ))
        .await;
    let (db, account) = (world.db(), AccountName::from("default"));
    let mut order = Vec::new();
    for _ in &all {
        let request = claim_of_one(&account);
        let Claim::Jobs { jobs, .. } = db.claim(&request).await.unwrap() else {
            panic!("nothing is due")
        };
        order.push(jobs[0].connection_id);
    }
    db.close().await;
    assert_eq!(order, [all[4], all[3], all[2], all[1], all[0]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pile_of_retries_keeps_no_fresh_request_waiting() {
    const PILE: usize = 120;
    let mut world = World::new().await;
    world
        .set(
            "FEATHER_SYNC__ACCOUNTS__DEFAULT__REQUESTS_PER_MINUTE",
            "1800",
        )
        .set("FEATHER_SYNC__RETRY__MAX_ATTEMPTS", "1000");
    let ids = ids(PILE as u128 + 1);
    let (fresh, failing) = ids.split_first().unwrap();
    world.sim.set_faults(vec![FaultRule {
        ids: failing.to_vec(),
        ..FaultRule::new(Fault::status(503))
    }]);
    world.enqueue(failing).await;
    let replica = world.start();
    // All of them are due again all the time, and the budget is far too small for them.
    world.called(PILE as u64 + 30).await;
    let before = world.sim.stats().calls;
    world.enqueue(&[*fresh]).await;
    world
        .until(&format!(
            "EXISTS (SELECT FROM feather.connections WHERE id = '{fresh}')"
        ))
        .await;
    let number = world.sim.calls_for(*fresh)[0].number;
    replica.stop().await;
    assert!(
        number - before < PILE as u64 / 2,
        "{} calls went before",
        number - before
    );
    let behind: i64 = world
        .value("SELECT count(*) FROM feather.sync_jobs WHERE priority = 1")
        .await;
    assert_eq!(behind, PILE as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn refreshes_of_all_priorities_keep_to_their_limit_together() {
    let world = World::new().await;
    let all = ids(6);
    world.sync(&all).await;
    for (n, id) in all.iter().enumerate() {
        world
            .execute(&format!(
                "INSERT INTO feather.sync_jobs (connection_id, account, phase, priority, run_at, wanted_at, finalize_started_at)
                 VALUES ('{id}', 'default', 'refresh', {}, now() - interval '1 min', now(), now())",
                1000 + n % 2
            ))
            .await;
    }
    world
        .execute("UPDATE feather.sync_accounts SET spare_tokens = 100, tokens = 1000")
        .await;
    let (db, account) = (world.db(), AccountName::from("default"));
    let request = ClaimRequest {
        slots: 6,
        refreshes: 2.0,
        ..claim_of_one(&account)
    };
    let Claim::Jobs { jobs, .. } = db.claim(&request).await.unwrap() else {
        panic!("nothing is due")
    };
    db.close().await;
    assert_eq!(jobs.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_after_a_retry_stand_where_their_request_stood() {
    let world = World::new().await;
    let id = ids(1)[0];
    world.sim.script(id, [Fault::status(503)]);
    world.sim.set_faults(vec![FaultRule {
        ids: vec![id],
        ..FaultRule::new(Fault::NeverSettles)
    }]);
    world.enqueue(&[id]).await;
    let replica = world.start();
    world
        .until("EXISTS (SELECT FROM feather.sync_attempts WHERE outcome = 'retry')")
        .await;
    world
        .until("(SELECT phase = 'settle' FROM feather.sync_jobs)")
        .await;
    let (priority, asked): (i16, Option<i16>) = world
        .row("SELECT priority, asked_priority FROM feather.sync_jobs")
        .await;
    replica.stop().await;
    assert_eq!((priority, asked), (0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_call_takes_nothing_from_what_is_saved_up_for_refreshes() {
    let world = World::new().await;
    let id = ids(1)[0];
    world.sync(&[id]).await;
    world
        .execute(&format!(
            "INSERT INTO feather.sync_jobs (connection_id, account, phase, priority, run_at, wanted_at, finalize_started_at)
             VALUES ('{id}', 'default', 'refresh', 1000, now(), now(), now());
             UPDATE feather.sync_accounts
             SET tokens = 5, spare_tokens = 0, tokens_at = now() - interval '10 min', spare_at = now() - interval '10 min'"
        ))
        .await;
    let (db, account) = (world.db(), AccountName::from("default"));
    let budget = Budget::per_minute(6_000);
    db.draw(&account, budget, Duration::ZERO).await.unwrap();
    let request = ClaimRequest {
        budget,
        ..claim_of_one(&account)
    };
    let claim = db.claim(&request).await.unwrap();
    db.close().await;
    assert!(matches!(claim, Claim::Jobs { .. }), "{claim:?}");
}
