//! What a list lacks: whether that is believed, and what asking after it does.

use super::*;
use uuid::Uuid;

const HELD_ALL: &str = "(SELECT count(*) FROM feather.connections)";

/// Compares until so many are held.
async fn hold(world: &World, number: i64) {
    let replica = world.start();
    world.until(&format!("{HELD_ALL} = {number}")).await;
    one_more(world).await;
    replica.stop().await;
}

async fn removed(world: &World, id: Uuid) {
    world
        .until(&format!(
            "(SELECT _removed_at IS NOT NULL FROM feather.integration_connections WHERE id = '{id}')"
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_organisations_list_however_long_removes_nothing_however_often_it_comes() {
    for theirs in [12, 45] {
        let world = reconciling(20).await;
        hold(&world, 20).await;
        for id in world.sim.ids() {
            world.sim.delete(id);
        }
        for id in crate::world::ids(theirs) {
            world.sim.restore(id);
            world.sim.edit(id, |one| {
                one["organization_id"] = Uuid::from_u128(7).to_string().into();
            });
        }
        let replica = world.start();
        for held_before in [20, 20 + i64::try_from(theirs).unwrap()] {
            one_more(&world).await;
            let row: (String, i64, i64) = world
                .row("SELECT outcome, held, absent FROM feather.sync_reconciles")
                .await;
            assert_eq!(row.0, "short", "{theirs}");
            assert_eq!(row.2, 20);
            assert!(row.1 <= held_before, "{row:?}");
        }
        replica.stop().await;
        assert_eq!(polls(&world), 0);
        assert_eq!(held(&world).await, 20 + i64::try_from(theirs).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_although_its_job_is_dead_is_removed() {
    let world = reconciling(4).await;
    hold(&world, 4).await;
    let id = world.sim.ids()[0];
    world.sim.set_faults(vec![FaultRule {
        ids: vec![id],
        ..FaultRule::new(Fault::ToolsFailed)
    }]);
    let replica = world.start();
    world.enqueue(&[id]).await;
    world
        .until("EXISTS (SELECT FROM feather.sync_jobs WHERE state = 'dead' AND error_class = 'tools_failed')")
        .await;
    world.sim.set_faults(Vec::new());
    world.sim.delete(id);
    removed(&world, id).await;
    replica.stop().await;
    let (state, class): (String, String) = world
        .row("SELECT state, error_class FROM feather.sync_jobs")
        .await;
    assert_eq!((state.as_str(), class.as_str()), ("dead", "not_found"));
    assert_eq!(world.finalizes(id), 1);
}

/// A request's job has died like this; then a list lacks its connection, which is still there and has settled.
async fn died_and_was_asked_after(fault: Fault) -> (World, Uuid, chrono::DateTime<chrono::Utc>) {
    let world = reconciling(4).await;
    hold(&world, 4).await;
    let id = world.sim.ids()[0];
    world.sim.set_faults(vec![FaultRule {
        ids: vec![id],
        ..FaultRule::new(fault)
    }]);
    world.enqueue(&[id]).await;
    let asked_at = world.value("SELECT clock_timestamp()").await;
    world.drain().await;
    world.sim.set_faults(Vec::new());
    let listed_at = world.value("SELECT clock_timestamp()").await;
    let asked = world
        .db()
        .ask_after_absent(&"default".into(), listed_at, Duration::from_secs(60))
        .await;
    assert_eq!(asked.unwrap(), 4);
    world.drain().await;
    assert_eq!(world.finalizes(id), 1);
    (world, id, asked_at)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_finalize_was_refused_stays_dead_and_no_poll_says_that_it_was_served() {
    let (world, id, asked_at) = died_and_was_asked_after(Fault::status(422)).await;
    let (state, class, served): (String, String, bool) = world
        .row(&format!(
            "SELECT state, last_error_class, COALESCE(last_success_started_at > '{asked_at}', false)
             FROM feather.sync_status WHERE connection_id = '{id}'"
        ))
        .await;
    assert_eq!(
        (state.as_str(), class.as_str(), served),
        ("dead", "invalid_request", false)
    );
    assert_eq!(world.story(id).await, ["dead/invalid_request"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_died_after_its_finalize_is_served_by_that_once_a_poll_finds_it_settled() {
    let (world, id, asked_at) = died_and_was_asked_after(Fault::ToolsFailed).await;
    let (state, served): (String, bool) = world
        .row(&format!(
            "SELECT s.state, s.last_success_started_at > '{asked_at}' AND s.last_success_started_at = a.started_at
             FROM feather.sync_status s JOIN feather.sync_attempts a USING (connection_id)
             WHERE connection_id = '{id}' AND a.kind = 'finalize'"
        ))
        .await;
    assert_eq!((state.as_str(), served), ("idle", true));
    let story = world.story(id).await;
    assert_eq!(story.last().unwrap(), "synced");
    assert!(story.contains(&"dead/tools_failed".to_owned()), "{story:?}");
    world.equals_truth(id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_back_and_is_gone_again_is_removed_again_and_asked_after_once() {
    let world = reconciling(4).await;
    hold(&world, 4).await;
    let id = world.sim.ids()[0];
    let replica = world.start();
    for _ in 0..2 {
        world.sim.delete(id);
        removed(&world, id).await;
        one_more(&world).await;
        world.sim.restore(id);
        world.until(&format!("{HELD_ALL} = 4")).await;
        world
            .until("NOT EXISTS (SELECT FROM feather.sync_jobs)")
            .await;
    }
    // Nobody had asked for it: what is back is asked for itself, and leaves no dead job behind.
    world
        .until("NOT EXISTS (SELECT FROM feather.sync_jobs)")
        .await;
    replica.stop().await;
    assert_eq!(
        world.story(id).await,
        ["dead/not_found", "synced", "dead/not_found", "synced"]
    );
    assert_eq!(world.sim.calls_for(id).len(), 4);
    world.equals_truth(id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_died_because_its_connection_was_gone_stays_dead_when_that_is_back() {
    let world = reconciling(4).await;
    hold(&world, 4).await;
    let id = world.sim.ids()[0];
    world.sim.delete(id);
    world.enqueue(&[id]).await;
    let replica = world.start();
    removed(&world, id).await;
    world.sim.restore(id);
    world.until(&format!("{HELD_ALL} = 4")).await;
    one_more(&world).await;
    replica.stop().await;
    let (state, class, phase): (String, String, String) = world
        .row("SELECT state, error_class, phase FROM feather.sync_jobs")
        .await;
    assert_eq!(
        [state.as_str(), &class, &phase],
        ["dead", "not_found", "finalize"]
    );
    world.equals_truth(id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_after_and_went_back_to_oauth_is_stored_and_not_finalized() {
    let world = reconciling(4).await;
    hold(&world, 4).await;
    let id = world.sim.ids()[0];
    world
        .sim
        .edit(id, |one| one["status"] = "pending_oauth".into());
    let now = world.value("SELECT clock_timestamp()").await;
    let asked = world
        .db()
        .ask_after_absent(&"default".into(), now, Duration::from_secs(60))
        .await;
    assert_eq!(asked.unwrap(), 4);
    world.drain().await;
    assert_eq!(world.finalizes(id), 0);
    assert_eq!(world.story(id).await, ["synced"]);
    world.equals_truth(id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_answers_404_while_a_list_is_compared_is_not_asked_after_once_more() {
    let mut world = reconciling(4).await;
    // Done by hand, it is not on record.
    world.leave_broken();
    hold(&world, 4).await;
    let id = world.sim.ids()[0];
    world
        .execute(&format!(
            "INSERT INTO feather.sync_jobs (connection_id, account, priority, run_at, wanted_at)
             VALUES ('{id}', 'default', 0, now(), now())"
        ))
        .await;
    let listed_at = world.value("SELECT clock_timestamp()").await;
    // As the commit of a 404 does it.
    let mut commit = world.pool.begin().await.unwrap();
    let gone = "UPDATE feather.sync_jobs SET state = 'dead', error_class = 'not_found', run_at = clock_timestamp();
                UPDATE feather.integration_connections SET _removed_at = now() WHERE id IN (SELECT connection_id FROM feather.sync_jobs)";
    sqlx::raw_sql(gone).execute(&mut *commit).await.unwrap();
    let db = world.db();
    let account = "default".into();
    let let_go = async {
        world
            .until(
                "(SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND wait_event_type = 'Lock') = 1",
            )
            .await;
        commit.commit().await.unwrap();
    };
    let (asked, ()) = tokio::join!(
        db.ask_after_absent(&account, listed_at, Duration::from_secs(60)),
        let_go
    );
    asked.unwrap();
    db.close().await;
    let state: String = world
        .value(&format!(
            "SELECT state FROM feather.sync_jobs WHERE connection_id = '{id}'"
        ))
        .await;
    assert_eq!(state, "dead");
}
