//! Accounts come and go, change their names, and must not take each other's connections.

use crate::world::Replica;
use crate::world::World;
use crate::world::ids;
use uuid::Uuid;

/// A second account, for the same API.
fn add_acme(world: &mut World) {
    let url = world.sim.url();
    world
        .set("FEATHER_SYNC__ACCOUNTS__ACME__BASE_URL", &url)
        .set("FEATHER_SYNC__ACCOUNTS__ACME__API_KEY_ENV", "ACME_KEY")
        .set("FEATHER_SYNC__ACCOUNTS__ACME__REQUESTS_PER_MINUTE", "60000")
        .set("ACME_KEY", "fth_live_test");
}

fn remove_default(world: &mut World) {
    world
        .unset("FEATHER_BASE_URL")
        .unset("FEATHER_API_KEY")
        .unset("FEATHER_SYNC__ACCOUNTS__DEFAULT__REQUESTS_PER_MINUTE");
}

async fn enqueue(world: &World, id: Uuid, account: &str) {
    world
        .execute(&format!("SELECT feather.enqueue('{id}', '{account}')"))
        .await;
}

async fn holder(world: &World, id: Uuid) -> String {
    world
        .value(&format!(
            "SELECT _account FROM feather.connections WHERE id = '{id}'"
        ))
        .await
}

async fn until_idle(world: &World) {
    world
        .until("NOT EXISTS (SELECT FROM feather.sync_jobs) AND NOT EXISTS (SELECT FROM feather.sync_requests)")
        .await;
}

async fn signed_on(world: &World, replica: Replica) -> Replica {
    world
        .until("EXISTS (SELECT FROM feather.sync_replicas)")
        .await;
    replica
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_account_does_not_take_a_connection_that_another_one_holds() {
    let mut world = World::new().await;
    let id = ids(1)[0];
    world.sync(&[id]).await;
    add_acme(&mut world);
    world.set("FEATHER_SYNC__RETRY__MAX_ATTEMPTS", "2");
    world.sim.edit(id, |one| one["nickname"] = "Renamed".into());
    let before: String = world
        .value("SELECT to_jsonb(c)::text FROM feather.integration_connections c")
        .await;
    let replica = signed_on(&world, world.start()).await;
    enqueue(&world, id, "acme").await;
    world
        .until("EXISTS (SELECT FROM feather.sync_jobs WHERE state = 'dead')")
        .await;
    assert_eq!(
        world.story(id).await,
        ["synced", "retry/other_account", "dead/other_account"]
    );
    let (class, error): (String, String) = world
        .row("SELECT last_error_class, last_error FROM feather.sync_status")
        .await;
    assert_eq!(class, "other_account");
    assert!(error.contains("held from account default"), "{error}");
    let after: String = world
        .value("SELECT to_jsonb(c)::text FROM feather.integration_connections c")
        .await;
    assert_eq!(after, before);

    // The one that holds it goes on.
    enqueue(&world, id, "default").await;
    until_idle(&world).await;
    assert_eq!(holder(&world, id).await, "default");
    world.equals_truth(id).await.unwrap();
    // One that was deleted upstream is anybody's.
    world.sim.delete(id);
    enqueue(&world, id, "default").await;
    world
        .until("EXISTS (SELECT FROM feather.integration_connections WHERE _removed_at IS NOT NULL)")
        .await;
    world.sim.restore(id);
    enqueue(&world, id, "acme").await;
    until_idle(&world).await;
    assert_eq!(holder(&world, id).await, "acme");
    replica.stop().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_a_new_name_takes_over_what_the_old_one_held_once_nobody_serves_that() {
    let mut world = World::new().await;
    let all = ids(2);
    world.sync(&all).await;
    let old = signed_on(&world, world.start()).await;
    add_acme(&mut world);
    remove_default(&mut world);
    // Replicas are restarted one after the other.
    let new = world.start();
    world
        .until("(SELECT count(*) FROM feather.sync_replicas) = 2")
        .await;
    enqueue(&world, all[0], "acme").await;
    world
        .until("EXISTS (SELECT FROM feather.sync_attempts WHERE error_class = 'other_account' AND outcome = 'retry')")
        .await;
    assert_eq!(holder(&world, all[0]).await, "default");
    old.stop().await;
    until_idle(&world).await;
    assert_eq!(holder(&world, all[0]).await, "acme");
    assert_eq!(holder(&world, all[1]).await, "default");
    new.stop().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_an_account_that_was_taken_out_wait_and_run_when_it_is_back() {
    let mut world = World::new().await;
    let id = ids(1)[0];
    let before = world.env().clone();
    add_acme(&mut world);
    remove_default(&mut world);
    let other = signed_on(&world, world.start()).await;
    world.enqueue(&[id]).await;
    world
        .until("(SELECT state = 'pending' AND last_error_class = 'unknown_account' FROM feather.sync_status)")
        .await;
    let reason: String = world
        .value("SELECT paused_reason FROM feather.sync_health WHERE account = 'default'")
        .await;
    assert_eq!(reason, "unknown_account");
    assert_eq!(world.sim.stats().calls, 0);
    for (key, value) in &before {
        world.set(key, value);
    }
    let back = world.start();
    until_idle(&world).await;
    for replica in [other, back] {
        replica.stop().await;
    }
    assert_eq!(holder(&world, id).await, "default");
    world.check().await;
}
