//! Actions on everything that a filter matches.

use super::dead;
use super::id;
use super::job;
use super::waiting;
use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Fault;
use feather_sync::store::Action;
use feather_sync::store::Begun;
use feather_sync::store::Db;
use feather_sync::store::Ended;
use feather_sync::store::JobFilter;
use feather_sync::store::JobState;
use feather_sync::store::Look;
use feather_sync::store::Portion;
use feather_sync::store::Turn;
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(60);

fn of(state: JobState) -> JobFilter {
    JobFilter {
        state: Some(state),
        ..JobFilter::default()
    }
}

/// The turn at an action, if there is one to be had.
async fn take_turn(db: &Db, worker: &str, lease: Duration) -> Option<Turn> {
    match db.begin_action(worker, lease).await.unwrap() {
        Begun::Turn(turn) => Some(*turn),
        Begun::Others | Begun::Nothing => None,
    }
}

/// Asks for an action, and takes the turn at it.
async fn begun(db: &Db, action: Action, filter: &JobFilter) -> Turn {
    let id = db
        .request_action(action, filter, None, "alice")
        .await
        .unwrap();
    let turn = take_turn(db, "one", LEASE).await.unwrap();
    assert_eq!(turn.id, id);
    turn
}

/// Acts to the end; how many were acted on.
async fn to_the_end(db: &Db, turn: &mut Turn) -> u64 {
    for _ in 0..1_000 {
        if let Portion::Over(ended, done) = db.act(turn, LEASE).await.unwrap() {
            assert_eq!(ended, Ended::Done);
            return done;
        }
    }
    panic!("it does not end");
}

async fn states(world: &World) -> Vec<(String, i64)> {
    world
        .rows("SELECT state, count(*) FROM feather.sync_jobs GROUP BY state ORDER BY state")
        .await
}

fn counted(states: &[(&str, i64)]) -> Vec<(String, i64)> {
    let owned = states
        .iter()
        .map(|(state, count)| ((*state).to_owned(), *count));
    owned.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_dead_jobs_of_a_class_start_afresh_and_all_others_stay() {
    let mut world = World::new().await;
    world.leave_broken();
    dead(&world, 1..=4_500, "upstream").await;
    dead(&world, 5_001..=5_010, "not_found").await;
    waiting(&world, 6_001..=6_005).await;
    let db = world.db();
    let filter = JobFilter {
        class: Some("upstream".into()),
        ..JobFilter::default()
    };
    let mut turn = begun(&db, Action::Retry, &filter).await;
    assert_eq!(
        db.act(&mut turn, LEASE).await.unwrap(),
        Portion::More(2_000)
    );
    let action = db.action(turn.id).await.unwrap().unwrap();
    assert_eq!((action.done, action.outcome), (2_000, None));
    assert_eq!(to_the_end(&db, &mut turn).await, 4_500);
    assert_eq!(
        states(&world).await,
        counted(&[("dead", 10), ("pending", 4_505)])
    );
    let fresh: i64 = world
        .value("SELECT count(*) FROM feather.sync_jobs WHERE attempt = 0 AND wanted_at > now() - interval '1 day' AND run_at <= now()")
        .await;
    assert_eq!(fresh, 4_500);
    let record: Vec<(String, String, String)> = world
        .rows("SELECT actor, action, detail FROM feather.sync_audit ORDER BY id")
        .await;
    let of = |words: &str| ("alice".to_owned(), "retry".to_owned(), words.to_owned());
    assert_eq!(
        record,
        [
            of(&format!("action {} begins: dead, class upstream", turn.id)),
            of(&format!(
                "action {} ends after 4500 jobs: dead, class upstream",
                turn.id
            ))
        ]
    );
    assert_eq!(db.act(&mut turn, LEASE).await.unwrap(), Portion::Lost);
    assert!(take_turn(&db, "one", LEASE).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_or_come_since_it_was_asked_for_is_left_alone() {
    let mut world = World::new().await;
    world.leave_broken();
    dead(&world, 1..=10, "upstream").await;
    let db = world.db();
    let asked = db
        .request_action(Action::Cancel, &of(JobState::Dead), Some(10), "alice")
        .await
        .unwrap();
    // Revived; died once more; of another class, which is asked for as well; new.
    db.retry(&[id(1)], "bob").await.unwrap();
    world
        .execute(&format!(
            "UPDATE feather.sync_jobs SET run_at = now() WHERE connection_id = '{}'",
            id(2)
        ))
        .await;
    job(&world, 11, "default", "dead", "auth", 0).await;
    waiting(&world, 12..=12).await;
    let mut turn = take_turn(&db, "one", LEASE).await.unwrap();
    assert_eq!(turn.id, asked);
    assert_eq!(to_the_end(&db, &mut turn).await, 8);
    let left: Vec<(uuid::Uuid,)> = world
        .rows("SELECT connection_id FROM feather.sync_jobs ORDER BY connection_id")
        .await;
    let left: Vec<_> = left.into_iter().map(|(id,)| id).collect();
    assert_eq!(left, [id(1), id(2), id(11), id(12)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_job_that_somebody_asked_for_later_is_not_cancelled() {
    let mut world = World::new().await;
    world.leave_broken();
    waiting(&world, 1..=3).await;
    let db = world.db();
    let mut turn = begun(&db, Action::Cancel, &of(JobState::Pending)).await;
    // One is planned for later: when it was asked for does not show.
    world.enqueue(&[id(5), id(6)]).await;
    world
        .execute(&format!(
            "SELECT feather.enqueue('{}', run_at => now() + interval '1 hour')",
            id(4)
        ))
        .await;
    db.take_in(&Look {
        limit: 10,
        from: None,
        running: &[],
    })
    .await
    .unwrap();
    // One has failed meanwhile, and waits for its retry.
    world
        .execute(&format!(
            "UPDATE feather.sync_jobs SET attempt = 1, run_at = now() + interval '10 minutes' WHERE connection_id = '{}'",
            id(6)
        ))
        .await;
    assert_eq!(to_the_end(&db, &mut turn).await, 4);
    let left: Vec<(uuid::Uuid,)> = world
        .rows("SELECT connection_id FROM feather.sync_jobs ORDER BY connection_id")
        .await;
    assert_eq!(left, [(id(5),), (id(6),)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_leaves_what_was_requested_after_it() {
    let mut world = World::new().await;
    world.leave_broken();
    waiting(&world, 1..=2).await;
    world.enqueue(&[id(1), id(2)]).await;
    let db = world.db();
    let mut turn = begun(&db, Action::Cancel, &of(JobState::Pending)).await;
    world.enqueue(&[id(2)]).await;
    assert_eq!(to_the_end(&db, &mut turn).await, 2);
    assert!(states(&world).await.is_empty());
    let requested: Vec<(uuid::Uuid,)> = world
        .rows("SELECT connection_id FROM feather.sync_requests")
        .await;
    assert_eq!(requested, [(id(2),)]);
    // What is cancelled by its id has no such while in between.
    assert_eq!(db.cancel(&[id(2)], "bob").await.unwrap(), [id(2)]);
    let requested: i64 = world
        .value("SELECT count(*) FROM feather.sync_requests")
        .await;
    assert_eq!(requested, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn settling_are_those_that_are_refreshed_too() {
    let mut world = World::new().await;
    world.leave_broken();
    for (number, state) in [
        (1, "pending"),
        (2, "pending/settle"),
        (3, "pending/refresh"),
        (4, "running/refresh"),
    ] {
        job(&world, number, "default", state, "", 5).await;
    }
    let db = world.db();
    let mut turn = begun(&db, Action::Cancel, &of(JobState::Settling)).await;
    assert_eq!(to_the_end(&db, &mut turn).await, 3);
    assert_eq!(states(&world).await, counted(&[("pending", 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_is_on_record_as_by_the_command() {
    let world = World::new().await;
    let ids = ids(30);
    for id in &ids[..20] {
        world.sim.script(*id, [Fault::NotFound]);
    }
    world.sync(&ids).await;
    assert_eq!(states(&world).await, counted(&[("dead", 20)]));
    world.enqueue(&ids[..1]).await;
    let db = world.db();
    let mut turn = begun(&db, Action::Cancel, &of(JobState::Dead)).await;
    assert_eq!(to_the_end(&db, &mut turn).await, 20);
    assert_eq!(states(&world).await, []);
    assert_eq!(
        world
            .value::<i64>("SELECT count(*) FROM feather.sync_requests")
            .await,
        0
    );
    let recorded: (i64, i64, i64) = world
        .row(
            "SELECT (SELECT count(*) FROM feather.sync_attempts WHERE outcome = 'cancelled' AND error = 'cancelled by alice'),
                    (SELECT count(*) FROM feather.sync_results WHERE last_outcome = 'cancelled'),
                    (SELECT count(DISTINCT connection_id) FROM feather.sync_audit WHERE action = 'cancel' AND actor = 'alice')",
        )
        .await;
    assert_eq!(recorded, (20, 20, 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn running_jobs_lose_their_lease_when_they_are_cancelled() {
    let mut world = World::new().await;
    world.leave_broken();
    for number in 1..=5 {
        job(&world, number, "default", "running", "", 1).await;
    }
    dead(&world, 10..=12, "upstream").await;
    let db = world.db();
    let mut retry = begun(&db, Action::Retry, &of(JobState::Running)).await;
    assert_eq!(to_the_end(&db, &mut retry).await, 0);
    let mut cancel = begun(&db, Action::Cancel, &of(JobState::Running)).await;
    assert_eq!(to_the_end(&db, &mut cancel).await, 5);
    assert_eq!(states(&world).await, counted(&[("dead", 3)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_asked_for_once_more_and_dead_ones_start_afresh() {
    let mut world = World::new().await;
    world.leave_broken();
    waiting(&world, 1..=2_500).await;
    dead(&world, 3_001..=3_100, "upstream").await;
    job(&world, 4_000, "default", "running", "", 1).await;
    let db = world.db();
    let mut turn = begun(&db, Action::Sync, &JobFilter::default()).await;
    assert_eq!(to_the_end(&db, &mut turn).await, 2_601);
    let asked: (i64, i64, i64) = world
        .row(
            "SELECT count(*), count(DISTINCT r.connection_id), count(*) FILTER (WHERE r.priority = j.priority AND requested_by = 'alice')
             FROM feather.sync_requests r JOIN feather.sync_jobs j USING (connection_id, account)",
        )
        .await;
    assert_eq!(asked, (2_501, 2_501, 2_501));
    assert_eq!(
        states(&world).await,
        counted(&[("pending", 2_600), ("running", 1)])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_takes_over_acts_on_none_twice_and_the_one_before_acts_no_more() {
    let mut world = World::new().await;
    world.leave_broken();
    waiting(&world, 1..=5_000).await;
    let db = world.db();
    db.request_action(Action::Sync, &of(JobState::Pending), Some(5_000), "alice")
        .await
        .unwrap();
    let brief = Duration::from_millis(50);
    let mut first = take_turn(&db, "one", brief).await.unwrap();
    assert_eq!(
        db.act(&mut first, LEASE).await.unwrap(),
        Portion::More(2_000)
    );
    assert!(take_turn(&db, "two", LEASE).await.is_none());
    // A portion prolongs the turn; then nothing more is heard.
    assert_eq!(
        db.act(&mut first, brief).await.unwrap(),
        Portion::More(2_000)
    );
    world
        .until("SELECT lease_until < clock_timestamp() FROM feather.sync_actions")
        .await;
    let mut second = take_turn(&db, "two", LEASE).await.unwrap();
    assert_eq!(second.id, first.id);
    assert_eq!(db.act(&mut first, LEASE).await.unwrap(), Portion::Lost);
    assert_eq!(to_the_end(&db, &mut second).await, 5_000);
    let asked: (i64, i64) = world
        .row("SELECT count(*), count(DISTINCT connection_id) FROM feather.sync_requests")
        .await;
    assert_eq!(asked, (5_000, 5_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_is_given_back_goes_on_elsewhere_at_once() {
    let mut world = World::new().await;
    world.leave_broken();
    waiting(&world, 1..=10).await;
    let db = world.db();
    let turn = begun(&db, Action::Sync, &of(JobState::Pending)).await;
    db.give_back_action(&turn).await.unwrap();
    let mut again = take_turn(&db, "two", LEASE).await.unwrap();
    assert_eq!(to_the_end(&db, &mut again).await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_it_after_the_portion_under_way() {
    let mut world = World::new().await;
    world.leave_broken();
    dead(&world, 1..=4_500, "upstream").await;
    let db = world.db();
    let mut turn = begun(&db, Action::Retry, &of(JobState::Dead)).await;
    assert_eq!(
        db.act(&mut turn, LEASE).await.unwrap(),
        Portion::More(2_000)
    );
    assert!(db.stop_action(turn.id, "bob").await.unwrap());
    assert!(!db.stop_action(turn.id, "carol").await.unwrap());
    let over = Portion::Over(Ended::Stopped, 2_000);
    assert_eq!(db.act(&mut turn, LEASE).await.unwrap(), over);
    assert_eq!(
        states(&world).await,
        counted(&[("dead", 2_500), ("pending", 2_000)])
    );
    let action = db.action(turn.id).await.unwrap().unwrap();
    assert_eq!(action.outcome.as_deref(), Some("stopped"));
    let (actor, detail): (String, String) = world
        .row("SELECT actor, detail FROM feather.sync_audit ORDER BY id DESC LIMIT 1")
        .await;
    assert_eq!(actor, "bob");
    assert!(detail.contains("stopped after 2000 jobs"), "{detail}");
    assert!(!db.stop_action(turn.id, "bob").await.unwrap());
}

/// A job that somebody holds is come back to, and nothing behind it is acted on twice.
async fn held_up(filter: JobFilter, action: Action) {
    let mut world = World::new().await;
    world.leave_broken();
    match filter.state {
        Some(JobState::Dead) => dead(&world, 1..=100, "upstream").await,
        _ => waiting(&world, 1..=100).await,
    }
    let db = world.db();
    let mut turn = begun(&db, action, &filter).await;
    let mut holder = world.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM feather.sync_jobs WHERE connection_id = $1 FOR UPDATE")
        .bind(id(40))
        .execute(&mut *holder)
        .await
        .unwrap();
    let before = match filter.state {
        Some(JobState::Dead) => 99,
        _ => 39,
    };
    assert_eq!(
        db.act(&mut turn, LEASE).await.unwrap(),
        Portion::More(before)
    );
    assert_eq!(db.act(&mut turn, LEASE).await.unwrap(), Portion::Locked);
    holder.rollback().await.unwrap();
    assert_eq!(to_the_end(&db, &mut turn).await, 100);
    if action == Action::Sync {
        let asked: (i64, i64) = world
            .row("SELECT count(*), count(DISTINCT connection_id) FROM feather.sync_requests")
            .await;
        assert_eq!(asked, (100, 100));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_dead_job_holds_no_other_up() {
    held_up(of(JobState::Dead), Action::Retry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_waiting_job_is_waited_for() {
    held_up(of(JobState::Pending), Action::Sync).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_a_newer_version_asked_for_is_left_to_that() {
    let mut world = World::new().await;
    world.leave_broken();
    waiting(&world, 1..=10).await;
    world
        .execute(
            r#"INSERT INTO feather.sync_actions (action, filter, requested_by) VALUES ('cancel', '{"state": "due", "colour": "red"}', 'x')"#,
        )
        .await;
    let db = world.db();
    assert!(take_turn(&db, "one", LEASE).await.is_none());
    let mut turn = begun(&db, Action::Retry, &of(JobState::Due)).await;
    assert_eq!(to_the_end(&db, &mut turn).await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_whose_portions_are_cut_off_is_kept_by_whoever_tries_them() {
    let world = World::new().await;
    let db = world.db();
    let begun = async |worker, lease| take_turn(&db, worker, lease).await;
    db.request_action(Action::Cancel, &of(JobState::Dead), Some(0), "alice")
        .await
        .unwrap();
    let one = begun("one", Duration::from_millis(1)).await.unwrap();
    db.keep_action(&one, LEASE).await.unwrap();
    world
        .until("(SELECT requested_at < clock_timestamp() - interval '10 milliseconds' FROM feather.sync_actions)")
        .await;
    assert!(begun("two", LEASE).await.is_none());
    // Once it is lost, it stays lost.
    world
        .execute("UPDATE feather.sync_actions SET lease_until = now()")
        .await;
    let mut two = begun("two", LEASE).await.unwrap();
    db.keep_action(&one, Duration::ZERO).await.unwrap();
    assert!(begun("three", LEASE).await.is_none());
    assert_eq!(to_the_end(&db, &mut two).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_of_a_newer_version_keep_no_others_waiting_however_many_they_are() {
    let world = World::new().await;
    world
        .execute(
            r#"INSERT INTO feather.sync_actions (action, filter, requested_by)
               SELECT 'cancel', '{"colour": "red"}', 'x' FROM generate_series(1, 250)"#,
        )
        .await;
    let db = world.db();
    let mut turn = begun(&db, Action::Cancel, &of(JobState::Dead)).await;
    assert_eq!(to_the_end(&db, &mut turn).await, 0);
    assert!(take_turn(&db, "one", LEASE).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_whose_id_is_nil_is_acted_on_like_any_other() {
    let mut world = World::new().await;
    world.leave_broken();
    let db = world.db();
    for state in [JobState::Pending, JobState::Running] {
        job(&world, 1, "default", state.as_str(), "", 5).await;
        world
            .execute("UPDATE feather.sync_jobs SET connection_id = '00000000-0000-0000-0000-000000000000'")
            .await;
        let mut turn = begun(&db, Action::Cancel, &of(state)).await;
        assert_eq!(to_the_end(&db, &mut turn).await, 1, "{state:?}");
        assert!(states(&world).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_action_says_why_and_is_not_tried_again() {
    let world = World::new().await;
    let db = world.db();
    let turn = begun(&db, Action::Retry, &of(JobState::Due)).await;
    db.fail_action(&turn, "no good").await.unwrap();
    let action = db.action(turn.id).await.unwrap().unwrap();
    assert_eq!(action.outcome.as_deref(), Some("failed"));
    assert_eq!(action.error.as_deref(), Some("no good"));
    assert!(take_turn(&db, "one", LEASE).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_always_runs_into_its_time_fails_and_those_behind_it_are_performed() {
    let mut world = World::new().await;
    world.leave_broken();
    waiting(&world, 1..=10).await;
    dead(&world, 11..=20, "upstream").await;
    let db = world.db();
    db.pause("default", "test").await.unwrap();
    world
        .execute(
            "CREATE FUNCTION feather.cut_off() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'canceling statement due to statement timeout' USING ERRCODE = '57014'; END $$;
             CREATE TRIGGER cut_off BEFORE DELETE ON feather.sync_jobs FOR EACH ROW EXECUTE FUNCTION feather.cut_off()",
        )
        .await;
    let ask = async |action, state| {
        let filter = of(state);
        let asked = db.request_action(action, &filter, None, "alice").await;
        asked.unwrap()
    };
    let cancel = ask(Action::Cancel, JobState::Pending).await;
    let retry = ask(Action::Retry, JobState::Dead).await;
    let replica = world.start();
    world
        .until(&format!(
            "SELECT outcome = 'done' AND done = 10 FROM feather.sync_actions WHERE id = {retry}"
        ))
        .await;
    let cancel = db.action(cancel).await.unwrap().unwrap();
    assert_eq!(cancel.outcome.as_deref(), Some("failed"));
    let why = cancel.error.unwrap();
    assert!(why.contains("`feather-sync migrate` builds"), "{why}");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_does_what_is_asked_for_beside_its_work() {
    let world = World::new().await;
    let ids = ids(40);
    for id in &ids {
        world.sim.script(*id, [Fault::NotFound]);
    }
    world.sync(&ids).await;
    assert_eq!(states(&world).await, counted(&[("dead", 40)]));
    let db = world.db();
    let action = db
        .request_action(Action::Retry, &of(JobState::Dead), Some(40), "alice")
        .await
        .unwrap();
    let replica = world.start();
    world
        .until(&format!(
            "SELECT outcome = 'done' AND done = 40 FROM feather.sync_actions WHERE id = {action}"
        ))
        .await;
    world
        .until("SELECT count(*) = 40 FROM feather.connections")
        .await;
    replica.stop().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_hears_wake_ups_is_told_of_an_action_and_need_not_look() {
    let world = World::new().await;
    let replica = world.start();
    let db = world.db();
    // It looks when it begins to listen, and after each; then not for more than ten seconds.
    for _ in 0..3 {
        let action = db
            .request_action(Action::Retry, &of(JobState::Dead), None, "alice")
            .await
            .unwrap();
        world
            .until(&format!(
                "SELECT outcome = 'done' FROM feather.sync_actions WHERE id = {action}"
            ))
            .await;
    }
    let longest: f64 = world
        .value("SELECT EXTRACT(epoch FROM max(finished_at - requested_at))::float8 FROM feather.sync_actions")
        .await;
    assert!(longest < 10.0, "{longest} s");
    replica.stop().await;
}
