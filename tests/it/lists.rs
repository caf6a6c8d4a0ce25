//! What the API's list of an account does to the tables, and what it must not do.

use crate::world::World;
use feather_sync::daemon;
use feather_sync::domain::AccountName;
use feather_sync::domain::Budget;
use feather_sync::sim::Fault;
use feather_sync::sim::FaultRule;
use feather_sync::sim::On;
use feather_sync::sim::Scenario;
use feather_sync::worker::Asking;
use feather_sync::worker::Inventory;
use feather_sync::worker::InventoryError;
use feather_sync::worker::Tally;
use uuid::Uuid;

mod budget;
mod follow_ups;
mod guards;
mod races;
mod removals;
mod storing;
mod two_accounts;

/// How a test takes stock.
#[derive(Clone, Copy, Default)]
pub(crate) struct Options {
    pub(crate) only_missing: bool,
    pub(crate) rehearse: bool,
}

/// Takes stock of the account `default`, as `backfill` does.
pub(crate) async fn take(world: &World, options: Options) -> (Tally, Result<(), InventoryError>) {
    let config = world.config();
    let account = config.account("default").unwrap().unwrap();
    let name = AccountName::from("default");
    let db = world.db();
    let mut tally = Tally::default();
    let inventory = Inventory {
        db: &db,
        client: &daemon::client(&config, "default", &account).unwrap(),
        account: &name,
        budget: Budget::per_minute(account.requests_per_minute),
        settle: &daemon::settle_rule(&config),
        retry: &daemon::retry_policy(&config),
        only_missing: options.only_missing,
        rehearse: options.rehearse,
        asking: &Asking::default(),
        heard: &|_| {},
    };
    let end = inventory.take(|found| tally.count(&found)).await;
    db.close().await;
    (tally, end.map(|_| ()))
}

/// Takes stock to the end of the list.
pub(crate) async fn backfill(world: &World) -> Tally {
    let (tally, end) = take(world, Options::default()).await;
    end.unwrap();
    tally
}

fn scenario(toml: &str) -> Scenario {
    Scenario::from_toml(toml).unwrap()
}

/// From now on lists go wrong like this.
fn lists_fail(world: &World, fault: Fault) {
    world.sim.set_faults(vec![FaultRule {
        on: On::List,
        ..FaultRule::new(fault)
    }]);
}

/// A replica that serves the account `acme` is alive.
async fn acme_is_served(world: &World) {
    world
        .execute("INSERT INTO feather.sync_replicas (worker, version, accounts) VALUES ('theirs', '1', '{acme}')")
        .await;
}

async fn assert_equals_list(world: &World, ids: &[Uuid]) {
    for id in ids {
        world.equals_truth(*id).await.unwrap();
    }
}

/// Connections and tools that are held, and not as removed.
async fn held(world: &World) -> (i64, i64) {
    world
        .row("SELECT (SELECT count(*) FROM feather.connections), (SELECT count(*) FROM feather.tools)")
        .await
}

/// Jobs and requests, each as `id state phase priority` in order.
async fn queued(world: &World) -> Vec<(Uuid, String, String, i16)> {
    world
        .rows(
            "SELECT connection_id, state, phase, priority FROM feather.sync_jobs
             UNION ALL SELECT connection_id, 'requested', 'finalize', priority FROM feather.sync_requests ORDER BY 1",
        )
        .await
}
