//! What people look for and do on many rows at a time, as the dashboard asks the database.

mod actions;
mod jobs;
mod tools;

use crate::world::World;
use uuid::Uuid;

/// Jobs of any state by hand: `(number, account, state and phase, class, minutes)`; dead, running or due for so long, or
/// due in so long where that is less than zero.
async fn job(world: &World, number: u32, account: &str, state: &str, class: &str, minutes: i32) {
    let id = id(number);
    let since = format!("now() - interval '{minutes} minutes'");
    let (state, phase) = state.split_once('/').unwrap_or((state, "finalize"));
    let settle = match phase {
        "settle" => "now() + interval '1 hour', now() - interval '2 days'",
        _ => "NULL, NULL",
    };
    let class = match class {
        "" => "NULL".to_owned(),
        class => format!("'{class}'"),
    };
    let lease = match state {
        "running" => format!("'somebody', gen_random_uuid(), now() + interval '1 hour', {since}"),
        _ => "NULL, NULL, NULL, NULL".to_owned(),
    };
    world
        .execute(&format!(
            "INSERT INTO feather.sync_jobs (connection_id, account, state, phase, priority, run_at, wanted_at, attempt,
                 error_class, settle_deadline, finalize_started_at, worker, lease_token, lease_until, started_at)
             VALUES ('{id}', '{account}', '{state}', '{phase}', 0, {since}, now() - interval '3 days', 1, {class}, {settle}, {lease})"
        ))
        .await;
}

/// Dead jobs of the default account, each a second older than the one before.
async fn dead(world: &World, numbers: std::ops::RangeInclusive<u32>, class: &str) {
    world
        .execute(&format!(
            "INSERT INTO feather.sync_jobs (connection_id, account, state, priority, run_at, wanted_at, attempt, error_class)
             SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'default', 'dead', 0,
                    now() - n * interval '1 second', now() - interval '3 days', 20, '{class}'
             FROM generate_series({}, {}) AS n",
            numbers.start(),
            numbers.end()
        ))
        .await;
}

/// Waiting jobs of the default account, due for a while; a third of them at the same moment.
async fn waiting(world: &World, numbers: std::ops::RangeInclusive<u32>) {
    world
        .execute(&format!(
            "INSERT INTO feather.sync_jobs (connection_id, account, priority, run_at, wanted_at)
             SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'default', n % 3,
                    now() - CASE WHEN n % 3 = 0 THEN interval '1 hour' ELSE n * interval '1 second' END,
                    now() - interval '3 days'
             FROM generate_series({}, {}) AS n",
            numbers.start(),
            numbers.end()
        ))
        .await;
}

fn id(number: u32) -> Uuid {
    Uuid::from_u128(0x4000_8000_0000_0000_0000 + u128::from(number))
}
