//! What the server may say, at every operation: a trigger says it a few times, then lets go.

use super::synced_at_once;
use crate::admin::get;
use crate::admin::until_status;
use crate::ports::free_port;
use crate::world::World;
use crate::world::ids;
use std::time::Duration;
use std::time::Instant;

/// Trouble that passes: SQLSTATE, and what `/readyz` calls it.
const PASSING: [(&str, &str); 12] = [
    ("40001", "turned away"),
    ("40P01", "turned away"),
    ("55P03", "turned away"),
    ("57014", "cut off"),
    ("25006", "read-only"),
    ("53100", "cannot be used"),
    ("53200", "cannot be used"),
    ("53300", "cannot be used"),
    ("57P01", "cannot be used"),
    ("57P03", "cannot be used"),
    ("58030", "cannot be used"),
    ("08006", "cannot be used"),
];
/// More than are tried again at once, by some way: `/readyz` has to see trouble before it is over.
const TIMES: u32 = 7;
/// Each code has passed, and was called by its name, within this time.
const DEADLINE: Duration = Duration::from_secs(60);

async fn trip(world: &World, table: &str, event: &str, code: &str) {
    world
        .execute(&format!(
            "LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;
             DROP SEQUENCE IF EXISTS public.trips CASCADE; CREATE SEQUENCE public.trips;
             CREATE OR REPLACE FUNCTION public.trip() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF nextval('public.trips') <= {TIMES} THEN RAISE EXCEPTION 'tripped' USING ERRCODE = '{code}'; END IF;
                 RETURN NULL;
             END $$;
             DROP TRIGGER IF EXISTS trip ON {table};
             CREATE TRIGGER trip AFTER {event} ON {table} EXECUTE FUNCTION public.trip();"
        ))
        .await;
}

async fn every_code_passes_at(table: &str, event: &str) {
    let mut world = World::new().await;
    let port = free_port();
    world.set("FEATHER_SYNC__ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    let replica = world.start();
    until_status(port, "/readyz", 200).await;
    let all = ids(PASSING.len() as u128 * 3);
    for (ids, (code, called)) in all.chunks(3).zip(PASSING) {
        trip(&world, table, event, code).await;
        world.enqueue(ids).await;
        let (mut seen, began) = (String::new(), Instant::now());
        loop {
            let (status, body) = get(port, "/readyz", "Host: localhost\r\n").await;
            if status == 503 && !seen.contains(called) {
                seen = body;
            }
            let trips: i64 = world.value("SELECT last_value FROM public.trips").await;
            // The answer of a moment ago may still tell of it.
            if trips > i64::from(TIMES) && seen.contains(called) {
                break;
            }
            assert!(
                began.elapsed() < DEADLINE,
                "{code} at {event} on {table}: {trips} times, and {seen:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        until_status(port, "/readyz", 200).await;
    }
    synced_at_once(&world, &all).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_of_every_kind_passes_at_the_take_in() {
    every_code_passes_at("feather.sync_jobs", "INSERT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_of_every_kind_passes_at_the_claim() {
    every_code_passes_at("feather.sync_jobs", "UPDATE OF lease_until").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_of_every_kind_passes_at_the_commit() {
    every_code_passes_at("feather.sync_attempts", "INSERT").await;
}
