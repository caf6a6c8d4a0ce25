//! Everything that a list says is stored, once, for one call.

use super::*;
use std::fs;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_equal_a_list_of_two_thousand_after_one_call() {
    let world = World::with(scenario("connections = 2000\ntools = \"0..3\"")).await;
    let tally = backfill(&world).await;
    assert_eq!((tally.listed, tally.new), (2000, 2000));
    assert_eq!(tally.finalize + tally.follow + tally.missed(), 0);
    assert_equals_list(&world, &world.sim.ids()).await;
    assert_eq!(world.sim.stats().calls, 1);
    let traces: i64 = world
        .value(
            "SELECT (SELECT count(*) FROM feather.sync_attempts) + (SELECT count(*) FROM feather.sync_results)
                    + (SELECT count(*) FROM feather.sync_jobs) + (SELECT count(*) FROM feather.sync_requests)",
        )
        .await;
    assert_eq!(traces, 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes long: make soak"]
async fn backlog_a_list_of_twenty_thousand_equals_the_tables() {
    let world = World::with(scenario("connections = 20000\ntools = 5")).await;
    let begun = Instant::now();
    let tally = backfill(&world).await;
    println!("20,000 connections, 100,000 tools: {:?}", begun.elapsed());
    assert_eq!((tally.new, tally.tools_added), (20_000, 100_000));
    let begun = Instant::now();
    assert_eq!(backfill(&world).await.unchanged, 20_000);
    println!("once more, unchanged: {:?}", begun.elapsed());
    assert_equals_list(&world, &world.sim.ids()).await;
    assert_eq!(world.sim.stats().calls, 2);
}

/// Runs the command as a process of its own; the most memory that it has held, KiB, where the system tells.
fn backfill_alone(world: &World) -> Option<u64> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_feather-sync"));
    let command = command.arg("backfill").env_clear().envs(world.env());
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = None;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("VmHWM:"));
        let now = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        peak = now.or(peak);
        if let Some(ended) = child.try_wait().unwrap() {
            assert!(ended.success());
            return peak;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The most memory that was held, KiB.
async fn a_list_in_bounded_memory(connections: u64) -> Option<u64> {
    let world = World::with(scenario(&format!(
        "connections = {connections}\ntools = \"3..7\""
    )))
    .await;
    let peak = tokio::task::block_in_place(|| backfill_alone(&world));
    assert!(peak.is_none_or(|peak| peak < 200 * 1024), "{peak:?} KiB");
    assert_equals_list(&world, &world.sim.ids()).await;
    assert_eq!(world.sim.stats().calls, 1);
    peak
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_a_thousand_is_stored_in_bounded_memory() {
    a_list_in_bounded_memory(1_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes long: make soak"]
async fn backlog_a_list_of_twenty_thousand_is_stored_in_bounded_memory() {
    let peak = a_list_in_bounded_memory(20_000).await;
    println!("20,000 connections: {peak:?} KiB at most");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_backfill_writes_nothing_but_sync_times() {
    let world = World::with(scenario("connections = 250\ntools = 2")).await;
    backfill(&world).await;
    let rows = "SELECT md5(string_agg((to_jsonb(c) - '_synced_at')::text, ',' ORDER BY id)) FROM feather.integration_connections c";
    let places = "SELECT md5(string_agg(ctid::text || xmin::text, ',' ORDER BY id)) FROM feather.integration_connection_tools";
    let before: (String, String) = (world.value(rows).await, world.value(places).await);
    let synced_at = "SELECT min(_synced_at)::text FROM feather.integration_connections";
    let synced: String = world.value(synced_at).await;
    let tally = backfill(&world).await;
    assert_eq!((tally.listed, tally.unchanged), (250, 250));
    assert_eq!(before, (world.value(rows).await, world.value(places).await));
    assert_ne!(synced, world.value::<String>(synced_at).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_upstream_is_changed_here_and_counted() {
    let world = World::with(scenario("connections = 5\ntools = 3")).await;
    backfill(&world).await;
    let ids = world.sim.ids();
    world
        .sim
        .edit(ids[0], |one| one["nickname"] = "Renamed".into());
    world.sim.edit(ids[1], |one| {
        one["tools"][1]["display_name"] = "Another".into();
    });
    world.sim.edit(ids[2], |one| {
        one["tools"].as_array_mut().unwrap().remove(0);
    });
    let tally = backfill(&world).await;
    assert_eq!((tally.changed, tally.unchanged), (3, 2));
    assert_eq!(tally.tools_removed, 1);
    assert_equals_list(&world, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_a_run_would_do_and_does_nothing() {
    let scenario = scenario("connections = 130\ntools = 2\nauthorized = 0.1\npending = 0.1");
    let world = World::with(scenario).await;
    let rehearse = Options {
        rehearse: true,
        ..Options::default()
    };
    let (rehearsed, end) = take(&world, rehearse).await;
    end.unwrap();
    assert_eq!(held(&world).await, (0, 0));
    assert!(queued(&world).await.is_empty());
    assert!(rehearsed.finalize > 0);
    assert_eq!(rehearsed, backfill(&world).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_missing_is_touched_when_asked_so() {
    let world = World::with(scenario("connections = 6")).await;
    lists_fail(&world, Fault::ShortList { keep: 0.5 });
    assert_eq!(backfill(&world).await.new, 3);
    world.sim.set_faults(Vec::new());
    world
        .execute(
            "UPDATE feather.integration_connections SET _removed_at = _synced_at, _changed_at = _synced_at
             WHERE id = (SELECT min(id::text)::uuid FROM feather.integration_connections)",
        )
        .await;
    let ids = world.sim.ids();
    for id in &ids {
        world
            .sim
            .edit(*id, |one| one["nickname"] = "Renamed".into());
    }
    let only_missing = Options {
        only_missing: true,
        ..Options::default()
    };
    let (tally, end) = take(&world, only_missing).await;
    end.unwrap();
    assert_eq!((tally.new, tally.revived, tally.not_missing), (3, 1, 2));
    let renamed = "SELECT count(*) FROM feather.connections WHERE nickname = 'Renamed'";
    assert_eq!(world.value::<i64>(renamed).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_stored_stops_no_other() {
    let world = World::with(scenario("connections = 40")).await;
    let ids = world.sim.ids();
    let (poisoned, unfit) = (ids[7], ids[19]);
    world
        .sim
        .edit(poisoned, |one| one["voice_account_cps"] = 1.5.into());
    world.sim.edit(unfit, |one| one["nickname"] = 7.into());
    world
        .execute(&format!(
            "ALTER TABLE feather.integration_connections ADD CONSTRAINT refused CHECK (id <> '{poisoned}')"
        ))
        .await;
    let (tally, end) = take(&world, Options::default()).await;
    end.unwrap();
    assert_eq!((tally.listed, tally.new), (40, 38));
    assert_eq!((tally.unstorable, tally.unfit), (1, 1));
    let good: Vec<_> = ids
        .into_iter()
        .filter(|id| ![poisoned, unfit].contains(id))
        .collect();
    assert_equals_list(&world, &good).await;
}
