//! What the queue promises: folding, priorities, revival, and that nothing is lost.

use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Fault;
use feather_sync::sim::FaultRule;
use feather_sync::sim::Scenario;
use std::time::Duration;

async fn job<T>(world: &World, columns: &str) -> T
where
    T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
{
    world
        .row(&format!("SELECT {columns} FROM feather.sync_jobs"))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_taken_in_together_become_one_sync_with_the_smallest_priority_and_the_earliest_time()
 {
    let mut world = World::new().await;
    world.set(
        "FEATHER_SYNC__ACCOUNTS__LAST__BASE_URL",
        "http://127.0.0.1:9",
    );
    world.set(
        "FEATHER_SYNC__ACCOUNTS__LAST__API_KEY_ENV",
        "FEATHER_API_KEY",
    );
    let id = ids(1)[0];
    world
        .execute(&format!(
            "INSERT INTO feather.sync_requests (connection_id, account, priority, run_at) VALUES
             ('{id}', 'first', 5, now() + interval '1 hour'), ('{id}', 'second', -3, now() + interval '2 hours'),
             ('{id}', 'nobody', 9, now() + interval '3 hours')"
        ))
        .await;
    let replica = world.start();
    world
        .until("SELECT NOT EXISTS (SELECT FROM feather.sync_requests)")
        .await;
    replica.stop().await;
    let (account, priority, soonest): (String, i16, bool) = job(
        &world,
        "account, priority, run_at BETWEEN now() + interval '59 minutes' AND now() + interval '61 minutes'",
    )
    .await;
    assert_eq!((account.as_str(), priority, soonest), ("nobody", -3, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_while_a_retry_waits_brings_it_forward_and_keeps_the_attempt_count() {
    let mut world = World::new().await;
    world
        .set("FEATHER_SYNC__RETRY__INITIAL", "1h")
        .set("FEATHER_SYNC__RETRY__MAX", "1h");
    let id = ids(1)[0];
    world.sim.script(id, [Fault::status(503)]);
    world.enqueue(&[id]).await;
    let replica = world.start();
    world
        .until("SELECT last_outcome = 'retry' FROM feather.sync_status")
        .await;
    world.enqueue(&[id]).await;
    world
        .until("SELECT last_outcome = 'synced' FROM feather.sync_status")
        .await;
    replica.stop().await;
    let attempts: Vec<(i32,)> = world
        .rows("SELECT attempt FROM feather.sync_attempts ORDER BY id")
        .await;
    assert_eq!(attempts, [(1,), (2,)]);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_brings_a_retry_forward_past_a_delay_that_the_server_asked_for() {
    let world = World::new().await;
    let id = ids(1)[0];
    world.sim.script(
        id,
        [Fault::Status(feather_sync::sim::StatusFault {
            code: 503,
            retry_after: Some(600),
            ..Default::default()
        })],
    );
    world.enqueue(&[id]).await;
    let replica = world.start();
    world
        .until("SELECT last_outcome = 'retry' FROM feather.sync_status")
        .await;
    world.enqueue(&[id]).await;
    world
        .until("SELECT NOT EXISTS (SELECT FROM feather.sync_requests)")
        .await;
    replica.stop().await;
    let (held, attempt): (bool, i32) = job(
        &world,
        "run_at = not_before AND run_at > now() + interval '9 minutes', attempt",
    )
    .await;
    assert!(held);
    assert_eq!(attempt, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_during_a_sync_cause_exactly_one_more_afterwards() {
    let world = World::new().await;
    let id = ids(1)[0];
    let gate = world.sim.hold();
    world.enqueue(&[id]).await;
    let replica = world.start();
    world.called(1).await;
    world.enqueue(&[id, id, id]).await;
    gate.release();
    world.until("SELECT NOT EXISTS (SELECT FROM feather.sync_requests) AND NOT EXISTS (SELECT FROM feather.sync_jobs)").await;
    replica.stop().await;
    let posts = world.finalizes(id);
    assert_eq!(posts, 2);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_while_settling_makes_the_next_call_a_finalize_again_once() {
    let world = World::with(Scenario::from_toml("settle = \"1h\"").unwrap()).await;
    let id = ids(1)[0];
    world.enqueue(&[id]).await;
    let replica = world.start();
    world
        .until("SELECT last_outcome = 'settling' FROM feather.sync_status")
        .await;
    world.enqueue(&[id]).await;
    world
        .until("SELECT count(*) = 2 FROM feather.sync_attempts WHERE kind = 'finalize'")
        .await;
    world.sim.advance(Duration::from_secs(7_200));
    world
        .until("SELECT last_outcome = 'synced' FROM feather.sync_status")
        .await;
    replica.stop().await;
    let posts = world.finalizes(id);
    assert_eq!(posts, 2);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_a_dead_job_revives_it_with_a_fresh_attempt_budget() {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__RETRY__MAX_ATTEMPTS", "2");
    let id = ids(1)[0];
    world.sim.script(
        id,
        [Fault::status(503), Fault::status(503), Fault::status(503)],
    );
    world.sync(&[id]).await;
    let dead: (String, String) = world
        .row("SELECT state, last_error_class FROM feather.sync_status")
        .await;
    assert_eq!(dead, ("dead".into(), "upstream".into()));
    world.sync(&[id]).await;
    assert_eq!(
        world.story(id).await,
        [
            "retry/upstream",
            "dead/upstream",
            "retry/upstream",
            "synced"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_stays_open_stalls_nobody_and_is_seen_once_it_commits() {
    let world = World::new().await;
    let ids = ids(2);
    let mut open = world.pool.begin().await.unwrap();
    sqlx::query("INSERT INTO feather.sync_requests (connection_id) VALUES ($1), ($2)")
        .bind(ids[0])
        .bind(ids[1])
        .execute(&mut *open)
        .await
        .unwrap();
    world.sync(&ids[..1]).await;
    open.commit().await.unwrap();
    world.drain().await;
    assert_eq!(world.sim.calls_for(ids[0]).len(), 2);
    assert_eq!(world.sim.calls_for(ids[1]).len(), 1);
    let mut undone = world.pool.begin().await.unwrap();
    sqlx::query("SELECT feather.enqueue($1)")
        .bind(ids[0])
        .execute(&mut *undone)
        .await
        .unwrap();
    undone.rollback().await.unwrap();
    world.drain().await;
    assert_eq!(world.sim.calls_for(ids[0]).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_no_clock_will_show_is_refused_and_stalls_nobody() {
    let world = World::new().await;
    let id = ids(1)[0];
    for (column, time) in [
        ("run_at", "290000-01-01"),
        ("requested_at", "290000-01-01"),
        ("run_at", "4000-01-01 BC"),
        ("run_at", "infinity"),
        ("run_at", "-infinity"),
    ] {
        let sql = format!(
            "INSERT INTO feather.sync_requests (connection_id, {column}) VALUES ('{id}', '{time}')"
        );
        let refusal = sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&world.pool)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            refusal.contains(&format!("{column}_is_finite")),
            "{refusal}"
        );
    }
    world.sync(&[id]).await;
    assert_eq!(world.story(id).await, ["synced"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn smaller_priorities_run_sooner() {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__WORKER__CONCURRENCY", "1");
    let ids = ids(30);
    for (index, id) in ids.iter().enumerate() {
        let priority = [7, -7, 0][index % 3];
        world
            .execute(&format!(
                "SELECT feather.enqueue('{id}', priority => {priority})"
            ))
            .await;
    }
    world.drain().await;
    let order: Vec<_> = world
        .sim
        .calls()
        .iter()
        .filter_map(|call| call.connection_id)
        .collect();
    let rank = |id| {
        ids.iter()
            .position(|known| *known == id)
            .map(|index| [2, 0, 1][index % 3])
    };
    let ranks: Vec<_> = order.into_iter().map(rank).collect();
    assert!(ranks.is_sorted(), "{ranks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scheduled_work_waits_for_its_time_and_starts_on_it() {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__WORKER__POLL_INTERVAL", "60s");
    let id = ids(1)[0];
    world
        .execute(&format!(
            "SELECT feather.enqueue('{id}', run_at => now() + interval '700 milliseconds')"
        ))
        .await;
    let wanted: String = world
        .value("SELECT run_at::text FROM feather.sync_requests")
        .await;
    world.drain().await;
    let late: f64 = world
        .value(&format!(
            "SELECT extract(epoch FROM started_at - '{wanted}')::float8 FROM feather.sync_attempts"
        ))
        .await;
    // Polling alone would be a minute late.
    assert!((0.0..30.0).contains(&late), "{late}");
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_without_notifications() {
    let world = World::new().await;
    world
        .execute("ALTER TABLE feather.sync_requests DISABLE TRIGGER wake_worker")
        .await;
    let replica = world.start();
    world
        .until("SELECT count(*) = 1 FROM feather.sync_replicas")
        .await;
    world.enqueue(&ids(20)).await;
    world
        .until("SELECT count(*) = 20 FROM feather.connections")
        .await;
    replica.stop().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switched_off_wake_up_leaves_the_producer_free_to_prepare_its_transaction() {
    let world = World::new().await;
    let mut producer = world.pool.acquire().await.unwrap();
    let enqueue = "BEGIN; SELECT feather.enqueue('00000000-0000-4000-8000-000000000001'); PREPARE TRANSACTION 'x'";
    let refusal = sqlx::raw_sql(enqueue)
        .execute(&mut *producer)
        .await
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("NOTIFY"), "{refusal}");
    sqlx::raw_sql("ROLLBACK; SET feather.wake_up = off")
        .execute(&mut *producer)
        .await
        .unwrap();
    sqlx::raw_sql(enqueue)
        .execute(&mut *producer)
        .await
        .unwrap();
    sqlx::raw_sql("COMMIT PREPARED 'x'")
        .execute(&mut *producer)
        .await
        .unwrap();
    world.drain().await;
    assert_eq!(world.sim.calls().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_an_account_nobody_knows_wait_visibly() {
    let world = World::new().await;
    let ids = ids(2);
    world
        .execute(&format!(
            "SELECT feather.enqueue('{}', 'ghost'), feather.enqueue('{}')",
            ids[0], ids[1]
        ))
        .await;
    world.drain().await;
    let (state, class): (String, String) = world
        .row(&format!(
            "SELECT state, last_error_class FROM feather.sync_status WHERE connection_id = '{}'",
            ids[0]
        ))
        .await;
    assert_eq!(
        (state.as_str(), class.as_str()),
        ("pending", "unknown_account")
    );
    let replica = world.start();
    world.until("SELECT paused_reason = 'unknown_account' AND pending = 1 FROM feather.sync_health WHERE account = 'ghost'").await;
    world
        .until("SELECT paused_reason IS NULL FROM feather.sync_health WHERE account = 'default'")
        .await;
    replica.stop().await;
    assert_eq!(world.sim.calls_for(ids[0]).len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn until_empty_names_what_is_left_at_the_timeout_and_when_all_is_paused() {
    let world = World::new().await;
    let id = ids(1)[0];
    world
        .execute(&format!(
            "SELECT feather.enqueue('{id}', run_at => now() + interval '1 hour')"
        ))
        .await;
    // However long it takes to take it in.
    let replica = world.start();
    world
        .until("SELECT count(*) = 1 FROM feather.sync_jobs WHERE state = 'pending'")
        .await;
    replica.stop().await;
    let error = world
        .try_drain(Duration::from_secs(1))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("1 job(s) waiting"), "{error}");
    world.execute("UPDATE feather.sync_accounts SET operator_paused_at = now(), operator_paused_by = 'me'").await;
    let error = world
        .try_drain(Duration::from_secs(30))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("paused"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_thousands_drains_and_history_is_kept_only_as_long_as_configured() {
    let mut world = World::with(Scenario::from_toml("tools = 1").unwrap()).await;
    world.set("FEATHER_SYNC__WORKER__CONCURRENCY", "64");
    world.sim.set_faults(vec![FaultRule {
        rate: 0.05,
        times: Some(1),
        ..FaultRule::new(Fault::status(503))
    }]);
    world.sync(&ids(3_000)).await;
    let synced: i64 = world
        .value("SELECT count(*) FROM feather.sync_status WHERE last_outcome = 'synced'")
        .await;
    assert_eq!(synced, 3_000);
    // All but one are older than the hour for which attempts and actions are kept in any case, and lie where rows are
    // that were there before there were partitions.
    world
        .execute(&format!(
            "UPDATE feather.sync_attempts
             SET started_at = started_at - interval '1 day', finished_at = finished_at - interval '1 day'
             WHERE connection_id <> '{}';
             INSERT INTO feather.sync_actions (action, filter, requested_by, finished_at, outcome)
             SELECT 'retry', '{{}}', 'x', now() - n * interval '50 minutes', 'done' FROM generate_series(1, 2) AS n",
            ids(1)[0]
        ))
        .await;
    world.set("FEATHER_SYNC__RETENTION__ATTEMPTS", "0s");
    let replica = world.start();
    world
        .until("(SELECT count(*) FROM feather.sync_attempts WHERE finished_at < now() - interval '1 hour') = 0")
        .await;
    replica.stop().await;
    let kept: (i64, i64) = world
        .row("SELECT (SELECT count(DISTINCT connection_id) FROM feather.sync_attempts), (SELECT count(*) FROM feather.sync_actions)")
        .await;
    assert_eq!(kept, (1, 1));
    let known: i64 = world
        .value("SELECT count(*) FROM feather.sync_status WHERE last_success_at IS NOT NULL")
        .await;
    assert_eq!(known, 3_000);
}
