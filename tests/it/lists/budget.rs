//! The list's call is one like any other: it draws a token, heeds pauses and makes them.

use super::*;
use feather_sync::domain::ErrorClass;

const PAUSE: &str = "SELECT pause_reason FROM feather.sync_accounts WHERE account = 'default'";

async fn tokens(world: &World) -> f64 {
    world
        .value("SELECT tokens FROM feather.sync_accounts WHERE account = 'default'")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_draws_one_token() {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__ACCOUNTS__DEFAULT__REQUESTS_PER_MINUTE", "1");
    backfill(&world).await;
    assert_eq!(tokens(&world).await, 0.0);
    assert_eq!(world.sim.stats().calls, 1);
    // The next one would be a minute away.
    let waits = tokio::time::timeout(
        std::time::Duration::from_millis(500),
        take(&world, Options::default()),
    );
    assert!(waits.await.is_err());
    assert_eq!(world.sim.stats().calls, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_whose_clock_went_back_keeps_no_list_waiting() {
    let world = World::new().await;
    backfill(&world).await;
    world
        .execute(
            "UPDATE feather.sync_accounts SET tokens = 0.2, tokens_at = now() + interval '1 hour'",
        )
        .await;
    let again = tokio::time::timeout(std::time::Duration::from_secs(20), backfill(&world));
    assert!(again.await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_an_operator_has_paused_is_not_asked() {
    let world = World::new().await;
    world.db().pause("default", "somebody@here").await.unwrap();
    let (_, end) = take(&world, Options::default()).await;
    let why = end.unwrap_err().to_string();
    assert!(why.contains("somebody@here"), "{why}");
    assert_eq!(world.sim.stats().calls, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_pauses_the_account_for_everybody_and_a_list_that_is_answered_ends_that() {
    let world = World::new().await;
    world.sim.set_keys(Some(Vec::new()));
    let (_, end) = take(&world, Options::default()).await;
    assert!(matches!(end, Err(InventoryError::Api(failure)) if failure.class == ErrorClass::Auth));
    assert_eq!(
        world.value::<Option<String>>(PAUSE).await.as_deref(),
        Some("auth")
    );
    let (_, end) = take(&world, Options::default()).await;
    assert!(matches!(end, Err(InventoryError::Paused { .. })), "{end:?}");
    assert_eq!(world.sim.stats().calls, 1);

    // Once it may, it is the probe.
    world.sim.set_keys(None);
    world
        .execute("UPDATE feather.sync_accounts SET paused_until = now()")
        .await;
    backfill(&world).await;
    assert_eq!(world.value::<Option<String>>(PAUSE).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_pauses_the_account_and_the_next_list_waits_until_it_is_over() {
    let world = World::new().await;
    lists_fail(
        &world,
        Fault::Status(feather_sync::sim::StatusFault {
            code: 429,
            retry_after: Some(1),
            ..Default::default()
        }),
    );
    let (_, end) = take(&world, Options::default()).await;
    assert!(end.unwrap_err().to_string().starts_with("rate_limited: "));
    assert_eq!(
        world.value::<Option<String>>(PAUSE).await.as_deref(),
        Some("rate_limited")
    );
    world.sim.set_faults(Vec::new());
    backfill(&world).await;
    assert_eq!(world.value::<Option<String>>(PAUSE).await, None);
    let calls = world.sim.calls();
    assert!(calls[1].at_ms - calls[0].at_ms >= 900, "{calls:?}");
}
