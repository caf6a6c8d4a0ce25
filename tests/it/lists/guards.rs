//! A list is old by the time it is written, and daemons do not wait for it.

use super::*;
use feather_sync::domain::ConnectionSnapshot;
use feather_sync::feather::Listed;
use feather_sync::store::Change;
use feather_sync::store::Draw;
use feather_sync::store::List;
use std::time::Duration;

const NAME: &str = "default";

/// A list as it was at that moment, all of it in memory.
pub(super) struct Kept {
    asked_at: chrono::DateTime<chrono::Utc>,
    pub(super) connections: Vec<ConnectionSnapshot>,
}

pub(super) async fn keep_list(world: &World) -> Kept {
    let config = world.config();
    let account = config.account(NAME).unwrap().unwrap();
    let client = daemon::client(&config, NAME, &account).unwrap();
    let budget = Budget::per_minute(account.requests_per_minute);
    let draw = world.db().draw(&NAME.into(), budget, Duration::ZERO).await;
    let Draw::Granted(token) = draw.unwrap() else {
        panic!("a token");
    };
    let mut listing = client.list().await.unwrap();
    let mut connections = Vec::new();
    while let Some(item) = listing.next().await.unwrap() {
        match item {
            Listed::Connection(snapshot) => connections.push(*snapshot),
            Listed::Unfit(why) => panic!("{why}"),
        }
    }
    Kept {
        asked_at: token.drawn_at,
        connections,
    }
}

pub(super) async fn apply(world: &World, kept: &Kept) -> Vec<Change> {
    apply_for(world, NAME, kept).await
}

pub(super) async fn apply_for(world: &World, account: &str, kept: &Kept) -> Vec<Change> {
    let list = List {
        account: &account.into(),
        asked_at: kept.asked_at,
        settle: &daemon::settle_rule(&world.config()),
        only_missing: false,
        rehearse: false,
    };
    let changes = world.db().apply_listed(list, &kept.connections).await;
    changes.unwrap().iter().map(|one| one.change).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_synced_since_the_list_was_asked_for_is_left_alone() {
    let world = World::with(scenario(
        "connections = 2\ntools = 3\ntools_synced_at = \"frozen\"",
    ))
    .await;
    let ids = world.sim.ids();
    let kept = keep_list(&world).await;
    // Upstream's own time does not move with it.
    let before = world.sim.truth(ids[0])["updated_at"].clone();
    world.sim.edit(ids[0], |one| {
        one["nickname"] = "Newer".into();
        one["tools"].as_array_mut().unwrap().remove(0);
        one["tools"][0]["display_name"] = "Newer".into();
    });
    world.sim.edit(ids[0], |one| one["updated_at"] = before);
    world.sync(&[ids[0]]).await;
    let changes = apply(&world, &kept).await;
    assert_eq!(
        changes.iter().filter(|one| **one == Change::Newer).count(),
        1
    );
    assert_equals_list(&world, &ids).await;
    let known: bool = world
        .value("SELECT bool_and(_synced_at <= now() AND _first_seen_at <= _synced_at) FROM feather.connections")
        .await;
    assert!(known);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_gone_since_stays_removed_and_what_is_listed_again_is_back() {
    let world = World::with(scenario("connections = 1")).await;
    let id = world.sim.ids()[0];
    backfill(&world).await;
    let kept = keep_list(&world).await;
    world.sim.delete(id);
    world.enqueue(&[id]).await;
    world.drain().await;
    assert_eq!(held(&world).await.0, 0);
    assert_eq!(apply(&world, &kept).await, [Change::Newer]);
    assert_eq!(held(&world).await.0, 0);
    world.sim.restore(id);
    assert_eq!(backfill(&world).await.revived, 1);
    assert_equals_list(&world, &[id]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_with_an_older_time_is_not_applied() {
    let world = World::with(scenario("connections = 4")).await;
    backfill(&world).await;
    lists_fail(
        &world,
        Fault::Stale {
            age: Duration::from_secs(60),
        },
    );
    let tally = backfill(&world).await;
    assert_eq!((tally.newer, tally.changed), (4, 0));
    assert_equals_list(&world, &world.sim.ids()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_times_say_when_the_list_was_asked_for() {
    let world = World::with(scenario("connections = 3")).await;
    let kept = keep_list(&world).await;
    let later = "UPDATE feather.sync_accounts SET account = account";
    world.execute(later).await;
    assert_eq!(apply(&world, &kept).await, [Change::New; 3]);
    let times: (bool, bool) = world
        .row(&format!(
            "SELECT bool_and(_synced_at = '{at}' AND _first_seen_at = '{at}'), bool_and(_changed_at > '{at}')
             FROM feather.connections",
            at = kept.asked_at.to_rfc3339()
        ))
        .await;
    assert_eq!(times, (true, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_account_holds_is_left_alone() {
    let world = World::with(scenario("connections = 5")).await;
    backfill(&world).await;
    world
        .execute("UPDATE feather.integration_connections SET _account = 'acme'")
        .await;
    acme_is_served(&world).await;
    let ids = world.sim.ids();
    world
        .sim
        .edit(ids[0], |one| one["nickname"] = "Renamed".into());
    let tally = backfill(&world).await;
    assert_eq!((tally.other_account, tally.missed()), (5, 5));
    let theirs = "SELECT count(*) FROM feather.connections WHERE _account = 'acme' AND nickname <> 'Renamed'";
    assert_eq!(world.value::<i64>(theirs).await, 5);

    // Its replicas may be away for a moment only: a list would take all of it at once.
    world.execute("DELETE FROM feather.sync_replicas").await;
    let tally = backfill(&world).await;
    assert_eq!((tally.other_account, tally.missed()), (5, 5));
    assert_eq!(world.value::<i64>(theirs).await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_daemons_work_on_the_same_connections_at_the_same_time() {
    let scenario =
        scenario("connections = 300\ntools = \"1..4\"\nchurn = 0.5\nsettle = \"0ms..100ms\"");
    let world = World::with(scenario).await;
    let ids = world.sim.ids();
    let replicas = [world.start(), world.start()];
    for _ in 0..4 {
        world.enqueue(&ids).await;
        let (one, other) = tokio::join!(backfill(&world), backfill(&world));
        assert_eq!((one.listed, other.listed), (300, 300));
    }
    world
        .until("NOT EXISTS (SELECT FROM feather.sync_requests) AND NOT EXISTS (SELECT FROM feather.sync_jobs)")
        .await;
    for replica in replicas {
        replica.stop().await;
    }
    world.check().await;
    assert_equals_list(&world, &ids).await;
}
