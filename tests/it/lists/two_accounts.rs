//! A list of one account beside a first sync of another: who stores a connection first holds it, and nobody takes it over.

use super::guards::apply;
use super::guards::apply_for;
use super::guards::keep_list;
use super::races::insert_again;
use super::races::waiting;
use super::*;
use crate::admin::get;
use crate::claiming::claim_of_one;
use crate::ports::free_port;
use feather_sync::domain::Finished;
use feather_sync::domain::verdict;
use feather_sync::store::Change;
use feather_sync::store::Claim;
use feather_sync::store::Committed;
use sqlx::PgTransaction;
use std::time::Duration;
use std::time::Instant;

/// Until it is dropped, whoever has inserted connections waits with them.
async fn hold_inserts(world: &World) -> PgTransaction<'static> {
    world
        .execute(
            "CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NULL; END';
             CREATE TRIGGER hold AFTER INSERT ON feather.integration_connections
             FOR EACH ROW EXECUTE FUNCTION public.hold()",
        )
        .await;
    let mut held = world.pool.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock(42)")
        .execute(&mut *held)
        .await
        .unwrap();
    held
}

/// Everything that is stored of connections, of tools, of their history and in the feed.
async fn everything_stored(world: &World) -> Vec<(String,)> {
    world
        .rows(
            "SELECT to_jsonb(c)::text FROM feather.integration_connections c
             UNION ALL SELECT to_jsonb(t)::text FROM feather.integration_connection_tools t
             UNION ALL SELECT to_jsonb(v)::text FROM feather.connection_versions v
             UNION ALL SELECT to_jsonb(v)::text FROM feather.tool_versions v
             UNION ALL SELECT kind FROM feather.sync_events ORDER BY 1",
        )
        .await
}

async fn give_up_after_two_tries(world: &mut World) {
    world.set("FEATHER_SYNC__RETRY__MAX_ATTEMPTS", "2");
    acme_is_served(world).await;
}

async fn until_dead(world: &World) {
    world
        .until("EXISTS (SELECT FROM feather.sync_jobs WHERE state = 'dead')")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_does_not_take_over_what_another_account_has_listed_meanwhile() {
    let mut world = World::with(scenario("connections = 1\ntools = 3")).await;
    let port = free_port();
    world.set("FEATHER_SYNC__ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    give_up_after_two_tries(&mut world).await;
    let id = world.sim.ids()[0];
    let theirs = keep_list(&world).await;
    world.sim.edit(id, |one| {
        one["nickname"] = "Renamed".into();
        one["tools"].as_array_mut().unwrap().remove(0);
    });
    let held = hold_inserts(&world).await;
    let gate = world.sim.hold();
    let claim = async {
        waiting(&world, 1).await;
        world.enqueue(&[id]).await;
        let replica = world.start();
        world.called(2).await;
        held.rollback().await.unwrap();
        replica
    };
    let (changes, replica) = tokio::join!(apply_for(&world, "acme", &theirs), claim);
    assert_eq!(changes, [Change::New]);
    let before = everything_stored(&world).await;
    gate.release();
    world
        .until("EXISTS (SELECT FROM feather.sync_attempts)")
        .await;
    assert_eq!(everything_stored(&world).await, before);
    let (status, tools_status, error): (i32, Option<String>, String) = world
        .row("SELECT http_status, tools_status, error FROM feather.sync_attempts ORDER BY id LIMIT 1")
        .await;
    assert_eq!((status, tools_status), (200, None));
    assert!(error.contains("another account"), "{error}");

    // From then on it is the holder's like any other.
    until_dead(&world).await;
    assert_eq!(
        world.story(id).await,
        ["retry/other_account", "dead/other_account"]
    );
    let error: String = world
        .value("SELECT last_error FROM feather.sync_status")
        .await;
    assert!(error.contains("held from account acme"), "{error}");
    let metrics = get(port, "/metrics", "Host: localhost\r\n").await.1;
    for outcome in ["retry", "dead"] {
        let series = format!(
            "feather_sync_attempts_total{{account=\"default\",kind=\"finalize\",outcome=\"{outcome}\",error_class=\"other_account\"}} 1"
        );
        assert!(metrics.contains(&series), "{series}\n{metrics}");
    }
    replica.stop().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_sync_is_not_written_over_what_a_list_of_another_account_inserts_meanwhile() {
    let mut world = World::with(scenario("connections = 1\ntools = 3")).await;
    give_up_after_two_tries(&mut world).await;
    let ids = world.sim.ids();
    backfill(&world).await;
    world
        .execute("UPDATE feather.integration_connections SET _account = 'acme'")
        .await;
    let before = everything_stored(&world).await;
    let list = insert_again(&world).await;
    world.sim.edit(ids[0], |one| {
        one["tools"].as_array_mut().unwrap().remove(0);
    });
    world.enqueue(&ids).await;
    let replica = world.start();
    waiting(&world, 1).await;
    list.commit().await.unwrap();
    until_dead(&world).await;
    assert_eq!(
        world.story(ids[0]).await,
        ["retry/other_account", "dead/other_account"]
    );
    replica.stop().await;
    let mut after = everything_stored(&world).await;
    after.retain(|(row,)| row != "connection_dead");
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_to_its_account_during_a_call_of_another_one_stays_there() {
    let mut world = World::with(scenario("connections = 1\ntools = 3")).await;
    give_up_after_two_tries(&mut world).await;
    let ids = world.sim.ids();
    backfill(&world).await;
    world
        .execute(
            "UPDATE feather.integration_connections SET _account = 'acme', _removed_at = now()",
        )
        .await;
    let gate = world.sim.hold();
    world.enqueue(&ids).await;
    let replica = world.start();
    world.called(2).await;
    world
        .execute(
            "UPDATE feather.integration_connections SET _removed_at = NULL, _synced_at = now()",
        )
        .await;
    let before = everything_stored(&world).await;
    gate.release();
    until_dead(&world).await;
    assert_eq!(
        world.story(ids[0]).await,
        ["retry/other_account", "dead/other_account"]
    );
    replica.stop().await;
    let mut after = everything_stored(&world).await;
    after.retain(|(row,)| row != "connection_dead");
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_leaves_alone_what_a_first_sync_of_another_account_inserts_meanwhile() {
    let world = World::with(scenario("connections = 1\ntools = 3")).await;
    let ids = world.sim.ids();
    let theirs = keep_list(&world).await;
    world.sync(&ids).await;
    let sync = insert_again(&world).await;
    let let_go = async {
        waiting(&world, 1).await;
        sync.commit().await.unwrap();
    };
    let (changes, ()) = tokio::join!(apply_for(&world, "acme", &theirs), let_go);
    assert_eq!(changes, [Change::OtherAccount]);
    assert_eq!(apply(&world, &theirs).await, [Change::Newer]);
    let holder = "SELECT string_agg(_account, ' ') FROM feather.connections";
    assert_eq!(world.value::<String>(holder).await, "default");
    assert_equals_list(&world, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_whose_commit_was_not_heard_of_is_told_by_the_next_try() {
    let world = World::with(scenario("connections = 1\ntools = 3")).await;
    let ids = world.sim.ids();
    let mut listed = keep_list(&world).await;
    backfill(&world).await;
    world
        .execute(&format!(
            "UPDATE feather.integration_connections SET _account = 'acme', _removed_at = now();
             INSERT INTO feather.sync_jobs (connection_id, account, phase, priority, run_at, wanted_at)
             VALUES ('{}', 'default', 'finalize', 0, now(), now())",
            ids[0]
        ))
        .await;
    let db = world.db();
    let account = AccountName::from("default");
    let request = claim_of_one(&account);
    let Claim::Jobs { mut jobs, .. } = db.claim(&request).await.unwrap() else {
        panic!("nothing is due")
    };
    let job = jobs.remove(0);
    let config = world.config();
    let answer = verdict::Answer {
        snapshot: Box::new(listed.connections.remove(0)),
        http_status: 200,
        upstream_request_id: None,
    };
    let verdict = verdict::judge(
        &job,
        Ok(answer),
        &daemon::retry_policy(&config),
        &daemon::settle_rule(&config),
        &feather_sync::domain::Dice::Random,
    );
    let took = Duration::from_millis(10);
    let batch = [Finished {
        job,
        verdict,
        took,
        ended: Instant::now(),
    }];
    world
        .execute(
            "UPDATE feather.integration_connections SET _removed_at = NULL, _synced_at = now()",
        )
        .await;
    for _ in 0..2 {
        let committed = db
            .commit(&batch, "a test", Duration::from_secs(60), Instant::now())
            .await;
        assert!(
            matches!(
                committed.as_deref(),
                Ok([Committed::Applied {
                    held: true,
                    due_in: Some(_),
                    time_to_sync: None,
                    ..
                }])
            ),
            "{committed:?}"
        );
    }
    db.close().await;
    assert_eq!(world.story(ids[0]).await, ["retry/other_account"]);
}
