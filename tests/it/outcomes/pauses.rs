//! A refused key and an exceeded limit pause the account, not the jobs.

use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Fault;
use feather_sync::sim::FaultRule;
use feather_sync::sim::RetryAfter;
use feather_sync::sim::Scenario;
use feather_sync::sim::StatusFault;
use std::time::Duration;

/// Calls that were refused, and how many attempts of the queue they burned.
async fn deferred(world: &World, class: &str) -> (i64, i64) {
    world
        .row(&format!(
            "SELECT (SELECT count(*) FROM feather.sync_attempts WHERE outcome = 'deferred' AND error_class = '{class}'),
                    (SELECT count(*) FROM feather.sync_attempts WHERE attempt > 1)"
        ))
        .await
}

/// Attempts that were begun before the pause was over that the attempt after so many others has met.
async fn begun_before_the_end_of_the_pause(world: &World, after: usize) -> usize {
    let begun: i64 = world
        .value(&format!(
            "SELECT count(*) FROM feather.sync_attempts WHERE started_at <
             (SELECT retry_at FROM feather.sync_attempts ORDER BY id OFFSET {after} LIMIT 1)"
        ))
        .await;
    usize::try_from(begun).unwrap()
}

const PAUSED: &str = "SELECT pause_reason IS NOT NULL FROM feather.sync_accounts";

/// What `resume` does: the next call finds out.
async fn probe_now(world: &World) {
    world
        .execute("UPDATE feather.sync_accounts SET paused_until = now(); NOTIFY feather_sync")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_pauses_the_account_until_it_works_again_and_burns_no_attempt() {
    let mut world = World::with(Scenario::from_toml("latency = \"300ms\"").unwrap()).await;
    world.set("FEATHER_SYNC__WORKER__CONCURRENCY", "16");
    let ids = ids(40);
    world.sim.set_keys(Some(vec!["another".into()]));
    world.enqueue(&ids).await;
    let replica = world.start();
    world.until(PAUSED).await;
    world
        .until("SELECT count(*) = 0 FROM feather.sync_jobs WHERE state = 'running'")
        .await;
    let refused = begun_before_the_end_of_the_pause(&world, 0).await;
    assert!(
        (1..=16).contains(&refused),
        "{refused} calls with a refused key"
    );
    let reason: String = world
        .value("SELECT paused_reason FROM feather.sync_health WHERE account = 'default'")
        .await;
    assert_eq!(reason, "auth");
    // The account's pause holds them back, and no time of their own; nor is an attempt burned. One of them may be probing.
    let told: Vec<(String, String, bool, bool, i32)> = world
        .rows(
            "SELECT DISTINCT s.state, s.last_error_class, s.next_attempt_at = GREATEST(j.run_at, a.paused_until), j.run_at <= now(), j.attempt
             FROM feather.sync_status s JOIN feather.sync_jobs j USING (connection_id)
             JOIN feather.sync_accounts a ON a.account = j.account
             WHERE s.last_outcome = 'deferred' AND s.state <> 'running'",
        )
        .await;
    assert_eq!(told, [("pending".into(), "auth".into(), true, true, 0)]);

    // The first probe finds the key still refused, alone; a later one finds it working.
    world
        .until(&format!(
            "SELECT count(*) > {refused} FROM feather.sync_attempts"
        ))
        .await;
    assert_eq!(
        begun_before_the_end_of_the_pause(&world, refused).await,
        refused + 1
    );
    let calls = world.sim.calls();
    let silence = calls[refused].at_ms - calls[0].at_ms;
    assert!(silence >= 4_000, "first probe after {silence} ms");
    world.sim.set_keys(None);
    probe_now(&world).await;
    world
        .until("SELECT count(*) = 40 FROM feather.connections")
        .await;
    world
        .until("SELECT count(*) = 0 FROM feather.sync_jobs")
        .await;
    replica.stop().await;
    world.check().await;
    let calls = world.sim.calls();
    let (refusals, served): (Vec<_>, Vec<_>) =
        calls.iter().partition(|call| call.status == Some(401));
    assert_eq!(deferred(&world, "auth").await, (refusals.len() as i64, 0));
    let paused: Option<String> = world
        .value("SELECT paused_reason FROM feather.sync_health WHERE account = 'default'")
        .await;
    assert_eq!(paused, None);
    // A probe is alone: the call after it comes when it has been answered and written.
    assert!(
        calls[refusals.len()..]
            .iter()
            .all(|call| call.status == Some(200))
    );
    let next = served[1].at_ms - served[0].at_ms;
    assert!(next >= 300, "{next} ms after the probe");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_rotated_on_disk_is_read_before_the_next_probe() {
    let mut world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "fth_live_old\n").unwrap();
    world
        .unset("FEATHER_API_KEY")
        .set("FEATHER_API_KEY_FILE", file.to_str().unwrap());
    let ids = ids(10);
    world.sim.set_keys(Some(vec!["fth_live_old".into()]));
    world.enqueue(&ids[..5]).await;
    let replica = world.start();
    world
        .until("SELECT count(*) = 5 FROM feather.connections")
        .await;
    // Revoked while calls are under way.
    let gate = world.sim.hold();
    world.enqueue(&ids[5..]).await;
    world.called(10).await;
    world.sim.set_keys(Some(vec!["fth_live_new".into()]));
    gate.release();
    world.until(PAUSED).await;
    // Half way through a rotation: a file that cannot be used does no harm.
    std::fs::write(&file, "").unwrap();
    probe_now(&world).await;
    world.called(11).await;
    world
        .until("SELECT count(*) >= 6 FROM feather.sync_attempts WHERE outcome = 'deferred'")
        .await;
    std::fs::write(&file, "fth_live_new\n").unwrap();
    probe_now(&world).await;
    world
        .until("SELECT count(*) = 10 FROM feather.connections")
        .await;
    world
        .until("SELECT count(*) = 0 FROM feather.sync_jobs")
        .await;
    replica.stop().await;
    world.check().await;
    // Six, or more where the machine was so busy that probes were due by themselves.
    let (refused, burned) = deferred(&world, "auth").await;
    assert!(refused >= 6, "{refused} calls with a refused key");
    assert_eq!(burned, 0);
    let leaks: i64 = world
        .value("SELECT count(*) FROM feather.sync_attempts a WHERE to_jsonb(a)::text LIKE '%fth_live%'")
        .await;
    assert_eq!(leaks, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_pauses_the_account_as_long_as_the_server_asks_and_burns_no_attempt() {
    let header = |text: &str| Some(RetryAfter::Text(text.into()));
    let limited = || StatusFault {
        code: 429,
        ..StatusFault::default()
    };
    // Each with the least silence after it, in milliseconds: longer than without a word of the server.
    let table = [
        // The server's "no" does not end a job that was only one too many.
        (
            StatusFault {
                retry_after: Some(7),
                retryable: Some(false),
                ..limited()
            },
            7_000,
        ),
        (
            StatusFault {
                retry_after_header: header("7"),
                body: Some("<html>".into()),
                ..limited()
            },
            7_000,
        ),
        (
            StatusFault {
                retry_after: Some(100_000),
                ..limited()
            },
            8_000,
        ),
        (limited(), 5_000),
    ];
    let worlds = table.map(async |(fault, least)| {
        let mut world = World::new().await;
        world
            .set("FEATHER_SYNC__RETRY__MAX_SERVER_DELAY", "8s")
            .set("FEATHER_SYNC__RETRY__MAX_ATTEMPTS", "1")
            .set("FEATHER_SYNC__WORKER__CONCURRENCY", "1");
        let ids = ids(10);
        world.sim.set_faults(vec![FaultRule {
            ids: vec![ids[4]],
            times: Some(1),
            ..FaultRule::new(Fault::Status(fault.clone()))
        }]);
        world.enqueue(&ids).await;
        let replica = world.start();
        world
            .until("SELECT paused_reason = 'rate_limited' FROM feather.sync_health WHERE account = 'default'")
            .await;
        world
            .until("SELECT count(*) = 10 FROM feather.connections")
            .await;
        world
            .until("SELECT count(*) = 0 FROM feather.sync_jobs")
            .await;
        replica.stop().await;
        world.check().await;
        assert_eq!(deferred(&world, "rate_limited").await, (1, 0), "{fault:?}");
        let calls = world.sim.calls();
        assert_eq!(calls.len(), 11);
        let at = calls
            .iter()
            .position(|call| call.status == Some(429))
            .unwrap();
        let silence = calls[at + 1].at_ms - calls[at].at_ms;
        assert!(silence >= least, "{silence} ms after {fault:?}");
    });
    futures_util::future::join_all(worlds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_accounts_pause_stops_no_other() {
    let mut world = World::new().await;
    let other = World::new().await;
    world
        .set("FEATHER_SYNC__ACCOUNTS__OTHER__BASE_URL", &other.sim.url())
        .set("FEATHER_SYNC__ACCOUNTS__OTHER__API_KEY_ENV", "OTHER_KEY")
        .set("OTHER_KEY", "fth_live_other");
    world.sim.set_keys(Some(vec![]));
    let ids = ids(20);
    world.enqueue(&ids[..10]).await;
    let replica = world.start();
    world
        .until(
            PAUSED
                .replace("accounts", "accounts WHERE account = 'default'")
                .as_str(),
        )
        .await;
    let began = std::time::Instant::now();
    world
        .execute(&format!(
            "SELECT feather.enqueue_many(ARRAY['{}', '{}']::uuid[], 'other')",
            ids[10], ids[11]
        ))
        .await;
    world
        .until("SELECT count(*) = 2 FROM feather.connections WHERE _account = 'other'")
        .await;
    assert!(began.elapsed() < Duration::from_secs(60));
    replica.stop().await;
}
