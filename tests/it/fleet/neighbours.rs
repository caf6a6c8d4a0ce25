//! One account's trouble, or one job's, stops no other.

use super::budget::limit;
use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Fault;
use feather_sync::sim::FaultRule;
use feather_sync::sim::Scenario;
use feather_sync::sim::Sim;
use feather_sync::sim::StatusFault;
use feather_sync::sim::Window;
use uuid::Uuid;

async fn enqueue(world: &World, ids: &[Uuid], account: &str, priority: i32) {
    let list: Vec<_> = ids.iter().map(|id| format!("'{id}'")).collect();
    world
        .execute(&format!(
            "SELECT feather.enqueue_many(ARRAY[{}]::uuid[], '{account}', {priority})",
            list.join(",")
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_are_refused_or_limited_take_next_to_nothing_from_one_that_works() {
    const SLOTS: usize = 6;
    let mut world =
        World::with(Scenario::from_toml("tools = 0\nlatency = \"10ms\"").unwrap()).await;
    let [revoked, limited] = [(); 2].map(|()| {
        Sim::start(Scenario::from_toml("tools = 0\nlatency = \"10ms\"").unwrap()).unwrap()
    });
    revoked.set_keys(Some(vec![]));
    limited.set_limit(Some(limit(1, Window::Sliding)));
    for (name, sim) in [("REVOKED", &revoked), ("LIMITED", &limited)] {
        let key = |rest: &str| format!("FEATHER_SYNC__ACCOUNTS__{name}__{rest}");
        world
            .set(&key("BASE_URL"), &sim.url())
            .set(&key("API_KEY_ENV"), "FEATHER_API_KEY")
            .set(&key("REQUESTS_PER_MINUTE"), "60000");
    }
    world.set("FEATHER_SYNC__WORKER__CONCURRENCY", &SLOTS.to_string());
    let ids = ids(800);
    // The troubled ones come first, and before the other by priority.
    enqueue(&world, &ids[..200], "revoked", -5).await;
    enqueue(&world, &ids[200..400], "limited", -5).await;
    enqueue(&world, &ids[400..], "default", 0).await;
    let replicas = [world.start(), world.start()];
    world
        .until("SELECT count(*) = 400 FROM feather.connections WHERE _account = 'default'")
        .await;
    let ends = world.sim.calls();
    let (first, last) = (ends[0].at, ends[ends.len() - 1].at);
    for replica in replicas {
        replica.stop().await;
    }
    assert_eq!(ends.len(), 400);
    // While the other made its 400 calls, the troubled ones filled their slots once or twice and then probed.
    let seconds = usize::try_from((last - first).num_seconds()).unwrap();
    for (name, sim) in [("revoked", &revoked), ("limited", &limited)] {
        let calls = sim.calls().iter().filter(|call| call.at < last).count();
        let most = 4 * SLOTS + seconds;
        assert!(calls <= most, "{name}: {calls} calls in {seconds} s");
    }
    let burned: i64 = world
        .value("SELECT count(*) FROM feather.sync_attempts WHERE attempt > 1")
        .await;
    assert_eq!(burned, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_job_that_is_always_refused_is_not_the_only_probe_even_if_it_comes_first() {
    for code in [401, 429] {
        let world = World::new().await;
        let ids = ids(30);
        world.sim.set_faults(vec![FaultRule {
            ids: vec![ids[0]],
            ..FaultRule::new(Fault::Status(StatusFault {
                code,
                retry_after: Some(0),
                ..StatusFault::default()
            }))
        }]);
        enqueue(&world, &ids[..1], "default", -100).await;
        enqueue(&world, &ids[1..], "default", 0).await;
        let replica = world.start();
        world
            .until("SELECT count(*) = 29 FROM feather.connections")
            .await;
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_get_unsent_calls_back_are_locked_in_the_order_of_their_names() {
    let mut world = World::new().await;
    // Its leases are nobody's.
    world.leave_broken();
    // The order is not left to what the planner prefers.
    world
        .execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET enable_sort = off', current_database()); END $$",
        )
        .await;
    let names = ["d", "f", "b", "g", "a", "e", "c"];
    for (id, name) in ids(7).iter().zip(names) {
        world
            .execute(&format!(
                "INSERT INTO feather.sync_accounts (account, requests_per_minute) VALUES ('{name}', 60);
                 INSERT INTO feather.sync_jobs (connection_id, account, state, worker, lease_token, lease_until, priority,
                                                started_at, finalize_started_at, run_at, wanted_at, attempt)
                 VALUES ('{id}', '{name}', 'running', 'lost', gen_random_uuid(), now() + interval '1 hour', 0,
                         now(), now(), now(), now(), 1)"
            ))
            .await;
    }
    let mut other = world.pool.begin().await.unwrap();
    sqlx::raw_sql("SELECT FROM feather.sync_accounts WHERE account = 'a' FOR UPDATE")
        .execute(&mut *other)
        .await
        .unwrap();
    let db = world.db();
    let look = async {
        world
            .until(
                "(SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND wait_event_type = 'Lock') = 1",
            )
            .await;
        let free = sqlx::query(
            "SELECT FROM feather.sync_accounts WHERE length(account) = 1 FOR UPDATE SKIP LOCKED",
        )
        .fetch_all(&mut *other)
        .await
        .unwrap();
        other.commit().await.unwrap();
        free.len()
    };
    let (given_back, free) = tokio::join!(db.release_others("lost", &[]), look);
    assert_eq!(given_back.unwrap(), names.len());
    db.close().await;
    // While it waits for the first, it holds none of the others.
    assert_eq!(free, names.len());
}
