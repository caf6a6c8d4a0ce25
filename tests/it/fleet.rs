//! Several replicas and several accounts: nobody works twice, budgets hold, nobody stops another.

mod budget;
mod keys;
mod neighbours;
mod pace;

use crate::bystander::Bystander;
use crate::world::World;
use crate::world::ids;
use chrono::DateTime;
use chrono::TimeDelta;
use chrono::Utc;
use feather_sync::sim::Fault;
use feather_sync::sim::Scenario;
use feather_sync::sim::Sim;
use feather_sync::store::Db;
use feather_sync::store::DbSettings;
use feather_sync::store::Look;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

/// A replica as a process of its own, killed at the end.
pub(crate) struct Process(Child);

impl Process {
    fn start(world: &World) -> Self {
        Self::spawn(world, Stdio::null())
    }

    /// With its log in a file.
    pub(crate) fn logging(world: &World, log: &Path) -> Self {
        Self::spawn(world, std::fs::File::create(log).unwrap().into())
    }

    fn spawn(world: &World, stderr: Stdio) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_feather-sync"));
        command
            .arg("run")
            .env_clear()
            .envs(world.env())
            .stderr(stderr);
        Self(command.spawn().unwrap())
    }

    fn kill(self) {
        drop(self);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL: it says goodbye to nobody.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_two_thousand_connections_and_none_is_worked_on_twice() {
    let world =
        World::with(Scenario::from_toml("tools = 1\nlatency = \"1ms..5ms\"").unwrap()).await;
    let ids = ids(2_000);
    let replicas = [world.start(), world.start()];
    world
        .until("SELECT count(*) = 2 FROM feather.sync_replicas")
        .await;
    world.enqueue(&ids).await;
    world
        .until("SELECT count(*) = 2000 FROM feather.connections")
        .await;
    for replica in replicas {
        replica.stop().await;
    }
    for id in &ids {
        let calls = world.sim.calls_for(*id);
        assert_eq!(calls.len(), 1, "{id}");
        assert!(!calls[0].in_flight_overlap);
    }
    let workers: i64 = world
        .value("SELECT count(DISTINCT worker) FROM feather.sync_attempts")
        .await;
    assert_eq!(workers, 2);
    let alive: i64 = world
        .value("SELECT count(*) FROM feather.sync_replicas")
        .await;
    assert_eq!(alive, 0, "replicas sign off");
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_budget_of_an_account_holds_over_all_replicas() {
    let mut world = World::with(Scenario::from_toml("tools = 0").unwrap()).await;
    world.set("FEATHER_SYNC__ACCOUNTS__DEFAULT__REQUESTS_PER_MINUTE", "60");
    let bystander = Bystander::watch(world.pool.clone());
    world.enqueue(&ids(60)).await;
    let replicas = [world.start(), world.start(), world.start()];
    world.called(8).await;
    for replica in replicas {
        replica.stop().await;
    }
    // One token to begin with, then one a second; the first call may have come as late as the machine stalled.
    let calls = world.sim.calls();
    let (from, to) = (calls[0].at, calls[calls.len() - 1].at);
    let seconds = (to - from).as_seconds_f64();
    let stalled = bystander.stalled(from - TimeDelta::seconds(2), to);
    assert!(
        calls.len() as f64 <= 2.0 + seconds + stalled,
        "{} calls in {seconds} s, of which the machine stalled {stalled:.1} s",
        calls.len()
    );
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_whose_key_is_refused_or_whose_api_hangs_stops_no_other() {
    let mut world = World::new().await;
    let [refused, hanging] = [(); 2].map(|()| Sim::start(Scenario::default()).unwrap());
    refused.set_keys(Some(vec!["another".into()]));
    let gate = hanging.hold();
    for (name, sim) in [("REFUSED", &refused), ("HANGING", &hanging)] {
        world.set(
            &format!("FEATHER_SYNC__ACCOUNTS__{name}__BASE_URL"),
            &sim.url(),
        );
        world.set(
            &format!("FEATHER_SYNC__ACCOUNTS__{name}__API_KEY_ENV"),
            "FEATHER_API_KEY",
        );
    }
    let ids = ids(300);
    for (account, ids) in ["refused", "hanging", "default"]
        .iter()
        .zip(ids.chunks(100))
    {
        let list = ids
            .iter()
            .map(|id| format!("'{id}'"))
            .collect::<Vec<_>>()
            .join(",");
        world
            .execute(&format!(
                "SELECT feather.enqueue_many(ARRAY[{list}]::uuid[], '{account}')"
            ))
            .await;
    }
    let replica = world.start();
    world
        .until("SELECT count(*) = 100 FROM feather.connections WHERE _account = 'default'")
        .await;
    world
        .until("SELECT paused_reason = 'auth' FROM feather.sync_health WHERE account = 'refused'")
        .await;
    gate.release();
    world
        .until("SELECT count(*) = 100 FROM feather.connections WHERE _account = 'hanging'")
        .await;
    replica.stop().await;
    let burned: i64 = world
        .value("SELECT count(*) FROM feather.sync_jobs WHERE account = 'refused' AND attempt > 0")
        .await;
    assert_eq!(burned, 0);
    let deferred: i64 = world.value("SELECT count(*) FROM feather.sync_attempts WHERE account = 'refused' AND outcome = 'deferred'").await;
    assert_eq!(deferred, refused.calls().len() as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn settling_connections_are_polled_while_a_backlog_of_new_ones_waits() {
    let mut world =
        World::with(Scenario::from_toml("tools = 1\nlatency = \"10ms\"").unwrap()).await;
    world.set("FEATHER_SYNC__WORKER__CONCURRENCY", "2");
    let ids = ids(400);
    world.sim.script(ids[0], [Fault::NeverSettles]);
    world.enqueue(&ids).await;
    world.drain().await;
    let place: i64 = world
        .value(&format!(
            "SELECT count(*) FROM feather.sync_attempts WHERE finished_at <
             (SELECT finished_at FROM feather.sync_attempts WHERE connection_id = '{}' AND kind = 'poll')",
            ids[0]
        ))
        .await;
    assert!(place < 300, "the poll came after {place} of 400 finalizes");
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_pause_holds_over_restarts_until_it_is_resumed() {
    let world = World::new().await;
    let id = ids(1)[0];
    world.execute("UPDATE feather.sync_accounts SET operator_paused_at = now(), operator_paused_by = 'me'").await;
    world.enqueue(&[id]).await;
    let replica = world.start();
    world
        .until("SELECT pending = 1 AND paused_reason = 'operator' FROM feather.sync_health")
        .await;
    replica.stop().await;
    assert_eq!(world.sim.calls().len(), 0);
    let replica = world.start();
    world
        .until("SELECT count(*) = 1 FROM feather.sync_replicas")
        .await;
    world
        .execute(
            "UPDATE feather.sync_accounts SET operator_paused_at = NULL, operator_paused_by = NULL",
        )
        .await;
    world
        .until("SELECT count(*) = 1 FROM feather.connections")
        .await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_worker_that_lost_its_lease_writes_nothing() {
    let world = World::new().await;
    let id = ids(1)[0];
    let gate = world.sim.hold();
    world.enqueue(&[id]).await;
    let replica = world.start();
    world.called(1).await;
    // As if another replica had expired the lease and claimed it anew.
    world.execute("UPDATE feather.sync_jobs SET lease_token = gen_random_uuid(), worker = 'another', lease_until = now() + interval '1 hour'").await;
    gate.release();
    replica.stop().await;
    let written: (i64, i64) = world
        .row("SELECT (SELECT count(*) FROM feather.connections), (SELECT count(*) FROM feather.sync_attempts)")
        .await;
    assert_eq!(written, (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_goes_on_after_every_connection_to_the_database_was_cut() {
    let mut world =
        World::with(Scenario::from_toml("tools = 1\nlatency = \"5ms..20ms\"").unwrap()).await;
    // What is claimed when its connection is cut waits for the end of its lease.
    world
        .set("FEATHER_SYNC__WORKER__LEASE", "20s")
        .set("FEATHER_SYNC__API__REQUEST_TIMEOUT", "15s");
    let ids = ids(600);
    world.enqueue(&ids).await;
    let replica = world.start();
    for round in 1..=3 {
        world
            .until(&format!(
                "SELECT count(*) > {} FROM feather.connections",
                round * 100
            ))
            .await;
        world
            .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'feather-sync'")
            .await;
    }
    let synced = "SELECT count(*) = 600 FROM feather.sync_status WHERE last_outcome = 'synced'";
    world.until(synced).await;
    replica.stop().await;
    world.check_after_cuts().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_begins_later_than_every_request_that_it_serves_also_when_its_claim_had_to_wait() {
    let world = World::new().await;
    let id = ids(1)[0];
    let other = Db::new(&DbSettings {
        url: world.env()["DATABASE_URL"].clone().into(),
        listen_url: None,
        max_connections: 1,
        prepared_statements: true,
    })
    .unwrap();
    let replica = world.start();
    world
        .until("SELECT count(*) = 1 FROM feather.sync_replicas")
        .await;
    let mut lock = world.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM feather.sync_accounts WHERE account = 'default' FOR UPDATE")
        .execute(&mut *lock)
        .await
        .unwrap();
    world.enqueue(&[id]).await;
    world
        .until("SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%WITH RECURSIVE all_lanes%'")
        .await;
    // The waiting claim's statement has begun, and will see what another replica takes in now.
    world.enqueue(&[id]).await;
    let asked: DateTime<Utc> = world.value("SELECT clock_timestamp()").await;
    assert_eq!(
        other
            .take_in(&Look {
                limit: 10,
                from: None,
                running: &[]
            })
            .await
            .unwrap()
            .requests,
        1
    );
    lock.rollback().await.unwrap();
    world
        .until("SELECT state = 'idle' AND last_outcome = 'synced' FROM feather.sync_status")
        .await;
    let began: DateTime<Utc> = world
        .value("SELECT last_success_started_at FROM feather.sync_status")
        .await;
    assert!(began > asked, "asked at {asked}, begun at {began}");
    replica.stop().await;
    world.check().await;
}
