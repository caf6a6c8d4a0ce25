//! Two lists, or a list beside a first sync: whoever comes second sees what the first one has written.

use super::guards::apply;
use super::guards::apply_for;
use super::guards::keep_list;
use super::*;
use feather_sync::store::Change;
use sqlx::PgTransaction;

const FROZEN: &str = "connections = 2\ntools = 3\ntools_synced_at = \"frozen\"";

/// Until it is dropped, whoever wants to write this connection waits.
async fn hold_row(world: &World, id: Uuid) -> PgTransaction<'static> {
    let mut tx = world.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM feather.integration_connections WHERE id = $1 FOR UPDATE")
        .bind(id)
        .execute(&mut *tx)
        .await
        .unwrap();
    tx
}

pub(super) async fn waiting(world: &World, sessions: u32) {
    let all = format!(
        "(SELECT count(*) FROM pg_stat_activity
          WHERE datname = current_database() AND wait_event_type = 'Lock') = {sessions}"
    );
    world.until(&all).await;
}

/// The simulated connections in the order in which they are locked.
fn in_order(world: &World) -> (Uuid, Uuid) {
    let mut ids = world.sim.ids();
    ids.sort();
    (ids[0], ids[1])
}

/// A nickname and a tool less, at the same `updated_at`.
fn edit_unseen(world: &World, id: Uuid) {
    let before = world.sim.truth(id)["updated_at"].clone();
    world.sim.edit(id, |one| {
        one["nickname"] = "Newer".into();
        one["tools"].as_array_mut().unwrap().remove(0);
    });
    world.sim.edit(id, |one| one["updated_at"] = before);
}

/// Empties the tables, and begins to insert what was in them.
pub(super) async fn insert_again(world: &World) -> PgTransaction<'static> {
    world
        .execute("CREATE TABLE public.c AS SELECT * FROM feather.integration_connections")
        .await;
    world
        .execute("CREATE TABLE public.t AS SELECT * FROM feather.integration_connection_tools")
        .await;
    world
        .execute("DELETE FROM feather.integration_connection_tools")
        .await;
    world
        .execute("DELETE FROM feather.integration_connections")
        .await;
    let mut tx = world.pool.begin().await.unwrap();
    for insert in [
        "INSERT INTO feather.integration_connections SELECT * FROM public.c",
        "INSERT INTO feather.integration_connection_tools SELECT * FROM public.t",
    ] {
        sqlx::query(insert).execute(&mut *tx).await.unwrap();
    }
    tx
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_list_that_waits_does_not_write_over_a_newer_one() {
    let world = World::with(scenario(FROZEN)).await;
    let (first, second) = in_order(&world);
    world.sync(&[first]).await;
    let old = keep_list(&world).await;
    edit_unseen(&world, second);
    let mut new = keep_list(&world).await;
    new.connections.retain(|one| one.id == second);
    let held = hold_row(&world, first).await;
    let overtake = async {
        waiting(&world, 1).await;
        assert_eq!(apply(&world, &new).await, [Change::New]);
        held.rollback().await.unwrap();
    };
    let (changes, ()) = tokio::join!(apply(&world, &old), overtake);
    assert_eq!(
        changes.iter().filter(|one| **one == Change::Newer).count(),
        1
    );
    assert_equals_list(&world, &[first, second]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_waits_does_not_take_over_what_another_has_listed() {
    let world = World::with(scenario(FROZEN)).await;
    let (first, second) = in_order(&world);
    world.sync(&[first]).await;
    let mut theirs = keep_list(&world).await;
    theirs.connections.retain(|one| one.id == second);
    acme_is_served(&world).await;
    let ours = keep_list(&world).await;
    let held = hold_row(&world, first).await;
    let overtake = async {
        waiting(&world, 1).await;
        assert_eq!(apply_for(&world, "acme", &theirs).await, [Change::New]);
        held.rollback().await.unwrap();
    };
    let (changes, ()) = tokio::join!(apply(&world, &ours), overtake);
    assert!(changes.contains(&Change::OtherAccount), "{changes:?}");
    let theirs = "SELECT count(*) FROM feather.connections WHERE _account = 'acme'";
    assert_eq!(world.value::<i64>(theirs).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_leaves_alone_what_a_first_sync_inserts_meanwhile() {
    let world = World::with(scenario("connections = 1\ntools = 3")).await;
    let ids = world.sim.ids();
    let kept = keep_list(&world).await;
    world.sync(&ids).await;
    let sync = insert_again(&world).await;
    let let_go = async {
        waiting(&world, 1).await;
        sync.commit().await.unwrap();
    };
    let (changes, ()) = tokio::join!(apply(&world, &kept), let_go);
    assert_eq!(changes, [Change::Newer]);
    assert_equals_list(&world, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_sync_is_written_over_what_a_list_inserts_meanwhile() {
    let world = World::with(scenario("connections = 1\ntools = 3")).await;
    let ids = world.sim.ids();
    backfill(&world).await;
    let list = insert_again(&world).await;
    world.sim.edit(ids[0], |one| {
        one["tools"].as_array_mut().unwrap().remove(0);
    });
    world.enqueue(&ids).await;
    let let_go = async {
        waiting(&world, 1).await;
        list.commit().await.unwrap();
    };
    tokio::join!(world.drain(), let_go);
    assert_eq!(world.story(ids[0]).await, ["synced"]);
    assert_equals_list(&world, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_removes_the_tools_that_a_list_adds_meanwhile() {
    let world = World::with(scenario("connections = 1\ntools = 3")).await;
    let ids = world.sim.ids();
    backfill(&world).await;
    world
        .execute("CREATE TABLE public.t AS SELECT * FROM feather.integration_connection_tools")
        .await;
    world
        .execute("DELETE FROM feather.integration_connection_tools")
        .await;
    let mut list = hold_row(&world, ids[0]).await;
    for write in [
        "UPDATE feather.integration_connections SET _synced_at = now()",
        "INSERT INTO feather.integration_connection_tools SELECT * FROM public.t",
    ] {
        sqlx::query(write).execute(&mut *list).await.unwrap();
    }
    world
        .sim
        .edit(ids[0], |one| one["tools"].as_array_mut().unwrap().clear());
    world.enqueue(&ids).await;
    let let_go = async {
        waiting(&world, 1).await;
        list.commit().await.unwrap();
    };
    tokio::join!(world.drain(), let_go);
    assert_equals_list(&world, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_with_a_call_under_way_is_left_to_its_answer() {
    let world = World::with(scenario("connections = 1\ntools = 3")).await;
    let ids = world.sim.ids();
    let kept = keep_list(&world).await;
    let gate = world.sim.hold();
    world.enqueue(&ids).await;
    let replica = world.start();
    world.called(2).await;
    assert_eq!(apply(&world, &kept).await, [Change::Newer]);
    assert_eq!(held(&world).await, (0, 0));
    drop(gate);
    let idle = "NOT EXISTS (SELECT FROM feather.sync_requests) AND NOT EXISTS (SELECT FROM feather.sync_jobs)";
    world.until(idle).await;
    replica.stop().await;
    assert_equals_list(&world, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_lists_at_once_ask_for_a_finalize_once() {
    let world = World::with(scenario("connections = 2\nauthorized = 1.0")).await;
    let (first, second) = in_order(&world);
    backfill(&world).await;
    world.execute("DELETE FROM feather.sync_requests").await;
    let one = keep_list(&world).await;
    let other = keep_list(&world).await;
    let held = hold_row(&world, first).await;
    let behind = async {
        waiting(&world, 1).await;
        apply(&world, &other).await
    };
    let let_go = async {
        waiting(&world, 2).await;
        held.rollback().await.unwrap();
    };
    let (_, changes, ()) = tokio::join!(apply(&world, &one), behind, let_go);
    assert_eq!(changes, [Change::Unchanged; 2]);
    let asked: Vec<_> = queued(&world).await.into_iter().map(|one| one.0).collect();
    assert_eq!(asked, [first, second]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_while_the_list_is_read_stays_forgotten() {
    let world = World::with(scenario("connections = 1\ntools = 3")).await;
    let ids = world.sim.ids();
    world.sync(&ids).await;
    let kept = keep_list(&world).await;
    world.db().forget(&ids, "me").await.unwrap();
    assert_eq!(apply(&world, &kept).await, [Change::Newer]);
    assert_eq!(held(&world).await, (0, 0));
    // The next list is another matter.
    assert_eq!(backfill(&world).await.new, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_while_it_is_written_leaves_no_tools() {
    let world = World::with(scenario("connections = 1\ntools = 3")).await;
    let ids = world.sim.ids();
    backfill(&world).await;
    world
        .execute("CREATE TABLE public.t AS SELECT * FROM feather.integration_connection_tools")
        .await;
    world
        .execute("DELETE FROM feather.integration_connection_tools")
        .await;
    let mut list = hold_row(&world, ids[0]).await;
    sqlx::query("INSERT INTO feather.integration_connection_tools SELECT * FROM public.t")
        .execute(&mut *list)
        .await
        .unwrap();
    let let_go = async {
        waiting(&world, 1).await;
        list.commit().await.unwrap();
    };
    let db = world.db();
    let (forgotten, ()) = tokio::join!(db.forget(&ids, "me"), let_go);
    assert_eq!(forgotten.unwrap(), ids);
    let left = "SELECT count(*) FROM feather.integration_connection_tools";
    assert_eq!(world.value::<i64>(left).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_while_the_list_is_read_is_not_asked_for_again() {
    let world = World::with(scenario("connections = 1\nauthorized = 1.0")).await;
    let ids = world.sim.ids();
    world.enqueue(&ids).await;
    let kept = keep_list(&world).await;
    world.db().cancel(&ids, "me").await.unwrap();
    assert_eq!(apply(&world, &kept).await, [Change::New]);
    assert!(queued(&world).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_time_that_is_still_to_come_does_not_shut_the_row() {
    let world = World::with(scenario("connections = 1")).await;
    backfill(&world).await;
    let ahead = "UPDATE feather.integration_connections SET _synced_at = now() + interval '1 year'";
    world.execute(ahead).await;
    assert_eq!(backfill(&world).await.unchanged, 1);
    let known = "SELECT _synced_at <= now() FROM feather.connections";
    assert!(world.value::<bool>(known).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_while_a_list_inserts_it_is_gone_afterwards() {
    let world = World::with(scenario("connections = 2\ntools = 3")).await;
    let kept = keep_list(&world).await;
    // The list waits with the new rows written.
    world
        .execute(
            "CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END';
             CREATE TRIGGER hold AFTER INSERT ON feather.integration_connections
             FOR EACH ROW EXECUTE FUNCTION public.hold()",
        )
        .await;
    let mut held = world.pool.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock(42)")
        .execute(&mut *held)
        .await
        .unwrap();
    let ids = world.sim.ids();
    let db = world.db();
    let forget = async {
        waiting(&world, 1).await;
        let forgetting = db.forget(&ids, "somebody@here");
        let let_go = async {
            waiting(&world, 2).await;
            held.rollback().await.unwrap();
        };
        let (known, ()) = tokio::join!(forgetting, let_go);
        assert_eq!(known.unwrap().len(), 2);
    };
    let (changes, ()) = tokio::join!(apply(&world, &kept), forget);
    assert_eq!(changes, [Change::New, Change::New]);
    let rows: i64 = world
        .value("SELECT (SELECT count(*) FROM feather.integration_connections) + (SELECT count(*) FROM feather.integration_connection_tools)")
        .await;
    assert_eq!(rows, 0);
    // Nor does the rest of that list bring it back.
    assert_eq!(apply(&world, &kept).await, [Change::Newer, Change::Newer]);
}
