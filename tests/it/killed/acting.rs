//! SIGKILL of a replica that is in the middle of an action on everything that a filter matches.

use crate::killed::Process;
use crate::world::World;
use feather_sync::store::Action;
use feather_sync::store::JobFilter;
use feather_sync::store::JobState;

const JOBS: u32 = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_was_killed_half_way_is_ended_by_another_replica_once_for_each_job() {
    let mut world = World::new().await;
    world.leave_broken();
    world
        .execute(&format!(
            "INSERT INTO feather.sync_jobs (connection_id, account, priority, run_at, wanted_at)
             SELECT gen_random_uuid(), 'default', 0, now(), now() - interval '1 day' FROM generate_series(1, {JOBS})"
        ))
        .await;
    let db = world.db();
    // So that the jobs stay, and nobody takes their requests away from the inbox.
    db.pause("default", "test").await.unwrap();
    let mut inbox = world.pool.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock(7305801, 2)")
        .execute(&mut *inbox)
        .await
        .unwrap();
    let filter = JobFilter {
        state: Some(JobState::Pending),
        ..JobFilter::default()
    };
    let action = db
        .request_action(Action::Sync, &filter, Some(JOBS.into()), "alice")
        .await
        .unwrap();
    let mut first = Process::start(&world);
    world
        .until(&format!(
            "SELECT done > 0 FROM feather.sync_actions WHERE id = {action}"
        ))
        .await;
    first.signal("KILL");
    first.ended().await;
    let done: i64 = world.value("SELECT done FROM feather.sync_actions").await;
    assert!(done > 0 && done < JOBS.into(), "killed too late: {done}");
    let asked: i64 = world
        .value("SELECT count(*) FROM feather.sync_requests")
        .await;
    assert_eq!(asked, done);
    let second = Process::start(&world);
    world
        .until(&format!(
            "SELECT outcome = 'done' FROM feather.sync_actions WHERE id = {action}"
        ))
        .await;
    let whole: (i64, i64, i64) = world
        .row("SELECT done, (SELECT count(*) FROM feather.sync_requests), (SELECT count(DISTINCT connection_id) FROM feather.sync_requests)
              FROM feather.sync_actions")
        .await;
    let all = i64::from(JOBS);
    assert_eq!(whole, (all, all, all));
    inbox.rollback().await.unwrap();
    second.terminate().await;
}
