//! Tools that have become old are refreshed: behind what was asked for, and with a part of the budget.

use crate::world::World;
use crate::world::ids;
use feather_sync::domain::AccountName;
use feather_sync::sim::Call;
use feather_sync::sim::Fault;
use feather_sync::sim::FaultRule;
use feather_sync::sim::Kind;
use feather_sync::sim::On;
use feather_sync::store::Look;
use feather_sync::store::RefreshStep;
use std::time::Duration;
use uuid::Uuid;

mod budget;

pub(crate) const NOTHING_LEFT: &str = "NOT EXISTS (SELECT FROM feather.sync_jobs)";

/// Connections that were synced, a day ago as the tables have it, and whose tools may be an hour old.
pub(crate) async fn synced_a_day_ago(count: u128) -> (World, Vec<Uuid>) {
    let mut world = World::new().await;
    let ids = ids(count);
    world.sync(&ids).await;
    make_old(&world).await;
    world.set("FEATHER_SYNC__RECONCILE__REFRESH_AFTER", "1h");
    (world, ids)
}

/// Moves all that was recorded so far back by a day.
async fn make_old(world: &World) {
    world
        .execute(
            "UPDATE feather.integration_connections
             SET tools_synced_at = tools_synced_at - interval '1 day', _synced_at = _synced_at - interval '1 day',
                 _changed_at = _changed_at - interval '1 day', _first_seen_at = _first_seen_at - interval '1 day',
                 _finalized_at = _finalized_at - interval '1 day';
             UPDATE feather.sync_attempts
             SET started_at = started_at - interval '1 day', finished_at = finished_at - interval '1 day';
             UPDATE feather.sync_results
             SET last_attempt_at = last_attempt_at - interval '1 day', last_success_at = last_success_at - interval '1 day',
                 last_success_started_at = last_success_started_at - interval '1 day'",
        )
        .await;
}

fn kinds(world: &World, id: Uuid) -> Vec<Kind> {
    world
        .sim
        .calls_for(id)
        .iter()
        .map(|call| call.kind)
        .collect()
}

fn refreshes(world: &World) -> Vec<Call> {
    let mut calls = world.sim.calls();
    calls.retain(|call| call.kind == Kind::Refresh);
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn old_tools_are_refreshed_once_and_nothing_is_finalized() {
    let (world, ids) = synced_a_day_ago(10).await;
    // One of them is not old.
    world
        .execute(&format!(
            "UPDATE feather.integration_connections SET tools_synced_at = now() - interval '30 min' WHERE id = '{}'",
            ids[0]
        ))
        .await;
    let finalized: String = world
        .value("SELECT string_agg(_finalized_at::text, ',' ORDER BY id) FROM feather.integration_connections")
        .await;
    let replicas = [world.start(), world.start()];
    world
        .until("(SELECT count(*) FROM feather.sync_attempts WHERE kind = 'reconcile') = 9")
        .await;
    world.until(NOTHING_LEFT).await;
    // The next step finds nothing.
    world
        .until("(SELECT due_at > now() AND due_at < now() + interval '4 seconds' FROM feather.sync_refreshes)")
        .await;
    world
        .until("(SELECT due_at > now() + interval '4 seconds' FROM feather.sync_refreshes)")
        .await;
    for replica in replicas {
        replica.stop().await;
    }
    assert_eq!(kinds(&world, ids[0]), [Kind::Finalize]);
    for id in &ids[1..] {
        let kinds = kinds(&world, *id);
        assert_eq!(kinds[..2], [Kind::Finalize, Kind::Refresh], "{id}");
        assert_eq!(
            kinds.iter().filter(|kind| **kind != Kind::Poll).count(),
            2,
            "{id}"
        );
        world.equals_truth(*id).await.unwrap();
    }
    let still: String = world
        .value("SELECT string_agg(_finalized_at::text, ',' ORDER BY id) FROM feather.integration_connections")
        .await;
    assert_eq!(still, finalized);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_upstream_will_not_refresh_because_it_is_not_active_is_recorded_and_left() {
    let (world, ids) = synced_a_day_ago(2).await;
    world.sim.set_faults(vec![FaultRule {
        ids: vec![ids[0]],
        on: On::Refresh,
        ..FaultRule::new(Fault::NotActive)
    }]);
    let replica = world.start();
    world
        .until("(SELECT count(*) FROM feather.sync_attempts WHERE kind = 'reconcile') = 2")
        .await;
    world.until(NOTHING_LEFT).await;
    replica.stop().await;
    assert_eq!(world.story(ids[0]).await, ["synced", "deferred/not_active"]);
    let (status, retry): (i32, bool) = world
        .row(&format!(
            "SELECT http_status, retry_at IS NOT NULL FROM feather.sync_attempts
             WHERE connection_id = '{}' AND kind = 'reconcile'",
            ids[0]
        ))
        .await;
    assert_eq!((status, retry), (422, false));
    assert_eq!(refreshes(&world).len(), 2);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_fails_is_retried_and_one_of_a_deleted_connection_removes_it() {
    let (world, ids) = synced_a_day_ago(2).await;
    world.sim.script(ids[0], [Fault::status(503)]);
    world.sim.delete(ids[1]);
    let replica = world.start();
    world
        .until("(SELECT count(*) FROM feather.sync_attempts WHERE kind = 'reconcile') = 3")
        .await;
    world
        .until("NOT EXISTS (SELECT FROM feather.sync_jobs WHERE state <> 'dead')")
        .await;
    replica.stop().await;
    let story = world.story(ids[0]).await;
    assert_eq!(story[..2], ["synced", "retry/upstream"]);
    assert_eq!(story.last().unwrap(), "synced");
    assert_eq!(world.story(ids[1]).await, ["synced", "dead/not_found"]);
    let removed: Vec<(Uuid,)> = world
        .rows("SELECT id FROM feather.integration_connections WHERE _removed_at IS NOT NULL")
        .await;
    assert_eq!(removed, [(ids[1],)]);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_whose_sync_failed_are_refreshed_and_their_dead_job_goes_unless_a_request_led_to_it()
{
    let mut world = World::new().await;
    let ids = ids(3);
    world.sim.set_faults(vec![FaultRule {
        ids: vec![ids[0], ids[2]],
        ..FaultRule::new(Fault::ToolsFailed)
    }]);
    world.sync(&ids).await;
    assert_eq!(
        world.story(ids[0]).await.last().unwrap(),
        "dead/tools_failed"
    );
    make_old(&world).await;
    world.sim.set_faults(Vec::new());
    world
        .execute("UPDATE feather.integration_connections SET tools_synced_at = now()")
        .await;
    // A list led to the one, a request to the other.
    world
        .execute(&format!(
            "UPDATE feather.sync_jobs SET wanted_at = finalize_started_at WHERE connection_id = '{}'",
            ids[0]
        ))
        .await;
    world.set("FEATHER_SYNC__RECONCILE__REFRESH_AFTER", "1h");
    let replica = world.start();
    world
        .until(&format!(
            "NOT EXISTS (SELECT FROM feather.sync_jobs WHERE connection_id <> '{}')",
            ids[2]
        ))
        .await;
    // One more step.
    world
        .until("(SELECT due_at > now() AND due_at < now() + interval '4 seconds' FROM feather.sync_refreshes)")
        .await;
    world
        .until("(SELECT due_at > now() + interval '4 seconds' FROM feather.sync_refreshes)")
        .await;
    replica.stop().await;
    let dead: Vec<(Uuid, String)> = world
        .rows("SELECT connection_id, state FROM feather.sync_jobs")
        .await;
    assert_eq!(dead, [(ids[2], "dead".to_owned())]);
    let asked = refreshes(&world);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].connection_id, Some(ids[0]));
    assert_eq!(world.story(ids[0]).await.last().unwrap(), "synced");
    world.equals_truth(ids[0]).await.unwrap();
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_before_a_refresh_makes_it_a_finalize() {
    let (world, ids) = synced_a_day_ago(1).await;
    world.db().pause("default", "somebody@here").await.unwrap();
    let replica = world.start();
    world
        .until("(SELECT phase = 'refresh' FROM feather.sync_jobs)")
        .await;
    let seen: (String, String, i64) = world
        .row(
            "SELECT state, phase, (SELECT pending FROM feather.sync_counts_now n, feather.sync_health h
                                   WHERE h.account = 'default' AND n.account = 'default')
             FROM feather.sync_status",
        )
        .await;
    assert_eq!((seen.0.as_str(), seen.1.as_str()), ("pending", "settle"));
    world.enqueue(&ids).await;
    world
        .until("(SELECT phase = 'finalize' AND priority = 0 FROM feather.sync_jobs)")
        .await;
    world.db().resume("default", "somebody@here").await.unwrap();
    world.until(NOTHING_LEFT).await;
    replica.stop().await;
    assert_eq!(world.finalizes(ids[0]), 2);
    assert_eq!(refreshes(&world).len(), 0);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_takes_the_place_of_what_nobody_asked_for_with_its_own_time_and_all_its_attempts()
{
    let (mut world, ids) = synced_a_day_ago(3).await;
    world.leave_broken();
    // A refresh that failed once, a poll that a list led to, and a poll that a request led to.
    world
        .execute(&format!(
            "INSERT INTO feather.sync_jobs
                 (connection_id, account, phase, priority, asked_priority, attempt, malformed, run_at, not_before, wanted_at,
                  finalize_started_at, settle_deadline)
             VALUES ('{}', 'default', 'refresh', 2000, 1000, 2, 1, now(), now() + interval '1 hour', now(), now(), NULL),
                    ('{}', 'default', 'settle', 1000, NULL, 19, 3, now(), NULL, now(), now(), now() + interval '1 hour'),
                    ('{}', 'default', 'settle', 5, NULL, 4, 2, now(), NULL, now() - interval '1 minute', now(), now() + interval '1 hour')",
            ids[0], ids[1], ids[2]
        ))
        .await;
    world
        .execute(&format!(
            "SELECT feather.enqueue_many('{{{},{},{}}}', priority => 1500, run_at => now() + interval '1 day')",
            ids[0], ids[1], ids[2]
        ))
        .await;
    let db = world.db();
    let look = Look {
        limit: 10,
        from: None,
        running: &[],
    };
    db.take_in(&look).await.unwrap();
    let jobs: Vec<(Uuid, i16, bool, bool, i32, i32)> = world
        .rows(
            "SELECT connection_id, priority, run_at > now() + interval '23 hours', wanted_at > now() + interval '23 hours',
                    attempt, malformed
             FROM feather.sync_jobs WHERE phase = 'finalize' AND asked_priority IS NULL ORDER BY connection_id",
        )
        .await;
    assert_eq!(
        jobs,
        [
            (ids[0], 1500, true, true, 0, 0),
            (ids[1], 1500, true, true, 0, 0),
            (ids[2], 5, false, false, 4, 2)
        ]
    );
    // Sooner than the server allows.
    world
        .execute("UPDATE feather.sync_jobs SET phase = 'refresh', finalize_started_at = wanted_at, not_before = now() + interval '2 days' WHERE priority = 1500")
        .await;
    world
        .execute(&format!(
            "SELECT feather.enqueue('{}', run_at => now() + interval '1 day')",
            ids[0]
        ))
        .await;
    db.take_in(&look).await.unwrap();
    let job: (i16, bool) = world
        .row(&format!(
            "SELECT priority, run_at = not_before FROM feather.sync_jobs WHERE connection_id = '{}'",
            ids[0]
        ))
        .await;
    assert_eq!(job, (0, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_during_a_refresh_is_not_served_by_it() {
    let (world, ids) = synced_a_day_ago(1).await;
    let gate = world.sim.hold();
    let replica = world.start();
    world.called(2).await;
    world.enqueue(&ids).await;
    let asked: String = world.value("SELECT clock_timestamp()::text").await;
    drop(gate);
    world
        .until("(SELECT count(*) FROM feather.sync_attempts WHERE kind = 'finalize') = 2")
        .await;
    world.until(NOTHING_LEFT).await;
    replica.stop().await;
    let refreshed: Vec<(bool,)> = world
        .rows(&format!(
            "SELECT last_success_started_at > '{asked}' FROM feather.sync_status"
        ))
        .await;
    assert_eq!(refreshed, [(true,)]);
    assert_eq!(world.finalizes(ids[0]), 2);
    assert_eq!(refreshes(&world).len(), 1);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_refuses_every_refresh_leaves_no_dead_jobs() {
    let (world, ids) = synced_a_day_ago(3).await;
    world.sim.set_faults(vec![FaultRule {
        on: On::Refresh,
        ..FaultRule::new(Fault::status(403))
    }]);
    let replica = world.start();
    world
        .until("(SELECT count(*) FROM feather.sync_attempts WHERE outcome = 'deferred') = 3")
        .await;
    world.until(NOTHING_LEFT).await;
    replica.stop().await;
    for id in ids {
        assert_eq!(
            world.story(id).await,
            [
                "synced",
                "retry/forbidden",
                "retry/forbidden",
                "deferred/forbidden"
            ]
        );
    }
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_whose_worker_is_lost_is_made_again() {
    let (world, ids) = synced_a_day_ago(1).await;
    world
        .execute(&format!(
            "INSERT INTO feather.sync_jobs
                 (connection_id, account, state, phase, priority, run_at, wanted_at, finalize_started_at, attempt, worker,
                  lease_token, lease_until, started_at)
             VALUES ('{}', 'default', 'running', 'refresh', 1000, now(), now(), now(), 1, 'lost', gen_random_uuid(),
                     now() + interval '1 second', now())",
            ids[0]
        ))
        .await;
    let replica = world.start();
    world.until(NOTHING_LEFT).await;
    replica.stop().await;
    let story = world.story(ids[0]).await;
    assert_eq!(story[..2], ["synced", "crashed/lease_lost"]);
    let kind: String = world
        .value("SELECT kind FROM feather.sync_attempts WHERE outcome = 'crashed'")
        .await;
    assert_eq!(kind, "reconcile");
    assert_eq!(refreshes(&world).len(), 1);
    assert_eq!(world.finalizes(ids[0]), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_refreshed_unless_it_is_configured() {
    let (mut world, ids) = synced_a_day_ago(1).await;
    world.unset("FEATHER_SYNC__RECONCILE__REFRESH_AFTER");
    let replica = world.start();
    // Refreshing begins when the daemon does, and looks for its first step then: this takes longer.
    let other = Uuid::from_u128(0xf000_4000_8000_0000_0000_0001);
    world.enqueue(&[other]).await;
    world
        .until(&format!(
            "EXISTS (SELECT FROM feather.connections WHERE id = '{other}')"
        ))
        .await;
    replica.stop().await;
    assert_eq!(kinds(&world, ids[0]), [Kind::Finalize]);
    let steps: i64 = world
        .value("SELECT count(*) FROM feather.sync_refreshes")
        .await;
    assert_eq!(steps, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_runs_until_nothing_is_left_finds_itself_no_work() {
    let (mut world, ids) = synced_a_day_ago(3).await;
    world.reconcile_every(Duration::from_millis(100));
    world.enqueue(&ids[..1]).await;
    world.drain().await;
    let begun: i64 = world
        .value("SELECT (SELECT count(*) FROM feather.sync_refreshes) + (SELECT count(*) FROM feather.sync_reconciles)")
        .await;
    assert_eq!(begun, 0);
    assert_eq!(refreshes(&world).len(), 0);
}

/// A step that is due whenever it is made.
fn step(account: &AccountName) -> RefreshStep<'_> {
    RefreshStep {
        account,
        after: Duration::from_secs(3600),
        failed: &[],
        most: 10.0,
        every: Duration::from_millis(1),
    }
}

/// Steps until one has found something, and how many that took; the first one only says when the next one is due.
async fn steps(world: &World) -> u32 {
    let (db, account) = (world.db(), AccountName::from("default"));
    for steps in 0..1_000 {
        if db.ask_for_refreshes(step(&account)).await.unwrap() > 0 {
            db.close().await;
            return steps;
        }
        world
            .until("(SELECT bool_and(due_at < now()) FROM feather.sync_refreshes)")
            .await;
    }
    panic!("nothing is old");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_of_few_connections_does_not_wait_for_one_of_many() {
    let mut world = World::new().await;
    world.leave_broken();
    world.sync(&ids(1)).await;
    make_old(&world).await;
    let columns: String = world
        .value(
            "SELECT string_agg(quote_ident(column_name), ',') FROM information_schema.columns
             WHERE table_schema = 'feather' AND table_name = 'integration_connections' AND column_name NOT IN ('id', '_account')",
        )
        .await;
    world
        .execute(&format!(
            "INSERT INTO feather.integration_connections (id, _account, {columns})
             SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'large', {columns}
             FROM feather.integration_connections, generate_series(1, 5000) AS n"
        ))
        .await;
    assert_eq!(steps(&world).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_whose_id_is_nil_is_refreshed_like_any_other() {
    let world = World::new().await;
    world.sync(&[Uuid::nil()]).await;
    make_old(&world).await;
    assert_eq!(steps(&world).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_try_in_the_future_keeps_no_tools_from_being_refreshed() {
    let mut world = World::new().await;
    // What a database's clock that was ahead leaves behind.
    world.leave_broken();
    world.sync(&ids(1)).await;
    make_old(&world).await;
    world
        .execute("UPDATE feather.sync_results SET last_attempt_at = now() + interval '1 year'")
        .await;
    assert_eq!(steps(&world).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_meanwhile_is_not_asked_for() {
    let (world, ids) = synced_a_day_ago(2).await;
    let (db, account) = (world.db(), AccountName::from("default"));
    let step = step(&account);
    // A first step only says when the next one is due.
    assert_eq!(db.ask_for_refreshes(step).await.unwrap(), 0);
    // What a forget holds until it ends.
    let mut forget = world.pool.begin().await.unwrap();
    let gone = format!(
        "SELECT pg_advisory_xact_lock(7305801, 4);
         DELETE FROM feather.integration_connections WHERE id = '{0}';
         DELETE FROM feather.integration_connection_tools WHERE connection_id = '{0}';
         DELETE FROM feather.sync_attempts WHERE connection_id = '{0}';
         DELETE FROM feather.sync_events WHERE connection_id = '{0}';
         DELETE FROM feather.connection_versions WHERE id = '{0}';
         DELETE FROM feather.tool_versions WHERE connection_id = '{0}';
         DELETE FROM feather.sync_results WHERE connection_id = '{0}'",
        ids[0]
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(gone))
        .execute(&mut *forget)
        .await
        .unwrap();
    let let_go = async {
        world
            .until(
                "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database =
                      (SELECT oid FROM pg_database WHERE datname = current_database())) = 2",
            )
            .await;
        forget.commit().await.unwrap();
    };
    let (refreshes, absent, ()) = tokio::join!(
        db.ask_for_refreshes(step),
        db.ask_after_absent(&account, chrono::Utc::now(), Duration::from_secs(60)),
        let_go
    );
    refreshes.unwrap();
    absent.unwrap();
    db.close().await;
    let asked: Vec<(Uuid,)> = world
        .rows("SELECT connection_id FROM feather.sync_jobs")
        .await;
    assert_eq!(asked, [(ids[1],)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_that_were_synced_in_the_future_are_refreshed_once_their_last_try_is_old() {
    let (world, _) = synced_a_day_ago(1).await;
    world
        .execute(
            "UPDATE feather.integration_connections SET tools_synced_at = now() + interval '1 year'",
        )
        .await;
    let replica = world.start();
    world.called(2).await;
    world.until(NOTHING_LEFT).await;
    replica.stop().await;
    assert_eq!(refreshes(&world).len(), 1);
}
