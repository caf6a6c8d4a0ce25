//! A key that is rotated on disk reaches every replica, without a restart.

use crate::fleet::Process;
use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Fault;
use feather_sync::sim::FaultRule;
use feather_sync::sim::Scenario;
use feather_sync::sim::Sim;
use feather_sync::sim::StatusFault;
use std::path::Path;
use std::path::PathBuf;
use tempfile::TempDir;

const OLD: &str = "fth_live_old";
const NEW: &str = "fth_live_new";

/// A world whose account has its key in a file.
async fn world_with_key_file() -> (World, TempDir, PathBuf) {
    let mut world =
        World::with(Scenario::from_toml("tools = 0\nlatency = \"30ms\"").unwrap()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, OLD).unwrap();
    world
        .unset("FEATHER_API_KEY")
        .set("FEATHER_API_KEY_FILE", file.to_str().unwrap())
        .set("FEATHER_SYNC__WORKER__CONCURRENCY", "4");
    world.sim.set_keys(Some(vec![OLD.into()]));
    (world, folder, file)
}

/// As an operator should: the file is the old one or the new one, never a part.
fn replace(file: &Path, key: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, key).unwrap();
    std::fs::rename(new, file).unwrap();
}

fn refused(sim: &Sim) -> usize {
    let calls = sim.calls();
    calls.iter().filter(|call| call.status == Some(401)).count()
}

async fn all_synced(world: &World, count: usize) {
    world
        .until(&format!(
            "SELECT count(*) = {count} FROM feather.sync_status WHERE last_outcome = 'synced' AND state = 'idle'"
        ))
        .await;
}

/// Nothing was lost, no attempt was burned.
async fn check(world: &World) {
    world.check().await;
    let burned: i64 = world
        .value("SELECT count(*) FROM feather.sync_attempts WHERE attempt > 1 OR outcome IN ('retry', 'dead', 'crashed')")
        .await;
    assert_eq!(burned, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_replaced_while_the_old_one_works_is_used_by_every_replica_and_no_call_is_refused() {
    let (world, _folder, file) = world_with_key_file().await;
    let replicas = [world.start(), world.start(), world.start()];
    world
        .until("SELECT count(*) = 3 FROM feather.sync_replicas")
        .await;
    let ids = ids(6_000);
    let mut batches = ids.chunks(60);
    world.sim.set_keys(Some(vec![OLD.into(), NEW.into()]));
    replace(&file, NEW);
    // Until all three have called with the new key, and nobody with another.
    let mut synced = 0;
    loop {
        let batch = batches.next().expect("the new key reached every replica");
        let before = world.sim.calls().len();
        // Each has its slots full before the first of them is free again.
        let gate = world.sim.hold();
        world.enqueue(batch).await;
        world.called(before as u64 + 12).await;
        gate.release();
        synced += batch.len();
        all_synced(&world, synced).await;
        let workers: i64 = world
            .value(&format!(
                "SELECT count(DISTINCT worker) FROM feather.sync_attempts WHERE connection_id >= '{}'",
                batch[0]
            ))
            .await;
        let calls = world.sim.calls();
        let keys: std::collections::BTreeSet<_> = calls[before..]
            .iter()
            .map(|call| call.api_key.clone())
            .collect();
        let first = calls[0].api_key.clone();
        if workers == 3 && !keys.contains(&first) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    world.sim.set_keys(Some(vec![NEW.into()]));
    let last = batches.next().expect("some ids are left");
    world.enqueue(last).await;
    all_synced(&world, synced + last.len()).await;
    for replica in replicas {
        replica.stop().await;
    }
    assert_eq!(refused(&world.sim), 0);
    check(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_replaced_after_it_was_revoked_is_found_by_the_next_probe_and_by_every_replica() {
    let (world, _folder, file) = world_with_key_file().await;
    let replicas = [world.start(), world.start(), world.start()];
    world
        .until("SELECT count(*) = 3 FROM feather.sync_replicas")
        .await;
    let ids = ids(120);
    let gate = world.sim.hold();
    world.enqueue(&ids).await;
    world.called(12).await;
    world.sim.set_keys(Some(vec![NEW.into()]));
    gate.release();
    world
        .until("SELECT pause_reason = 'auth' FROM feather.sync_accounts")
        .await;
    replace(&file, NEW);
    all_synced(&world, ids.len()).await;
    for replica in replicas {
        replica.stop().await;
    }
    // Those under way when it was revoked, and at most a probe before the file was replaced.
    let refused = refused(&world.sim);
    assert!((1..=13).contains(&refused), "{refused} refused calls");
    check(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_that_cannot_be_used_is_reported_and_the_key_in_use_goes_on() {
    let (world, folder, file) = world_with_key_file().await;
    let log = folder.path().join("log");
    let process = Process::logging(&world, &log);
    world
        .until("SELECT count(*) = 1 FROM feather.sync_replicas")
        .await;
    let ids = ids(6);
    let troubles: [(&str, &dyn Fn()); 4] = [
        ("No such file", &|| std::fs::remove_file(&file).unwrap()),
        ("is empty", &|| replace(&file, "\n")),
        ("cannot be part of a key", &|| {
            replace(&file, "fth\u{1}\u{2}\n");
        }),
        ("can be read again", &|| replace(&file, OLD)),
    ];
    for (n, (words, trouble)) in troubles.iter().enumerate() {
        trouble();
        said(&log, words).await;
        world.enqueue(&ids[n..=n]).await;
        all_synced(&world, n + 1).await;
    }
    drop(process);
    assert_eq!(refused(&world.sim), 0);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.contains("fth"), "{text}");
    check(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_in_the_file_pauses_its_account_alone_until_it_is_mended() {
    let (mut world, _folder, file) = world_with_key_file().await;
    let other = Sim::start(Scenario::default()).unwrap();
    world
        .set("FEATHER_SYNC__ACCOUNTS__OTHER__BASE_URL", &other.url())
        .set("FEATHER_SYNC__ACCOUNTS__OTHER__API_KEY_ENV", "OTHER_KEY")
        .set("OTHER_KEY", "fth_live_other");
    replace(&file, "fth_live_wrong");
    let ids = ids(40);
    world.enqueue(&ids[..20]).await;
    let replica = world.start();
    world
        .until("SELECT pause_error LIKE 'HTTP 401%' FROM feather.sync_accounts WHERE account = 'default'")
        .await;
    let list: Vec<_> = ids[20..].iter().map(|id| format!("'{id}'")).collect();
    world
        .execute(&format!(
            "SELECT feather.enqueue_many(ARRAY[{}]::uuid[], 'other')",
            list.join(",")
        ))
        .await;
    all_synced(&world, 20).await;
    replace(&file, OLD);
    all_synced(&world, 40).await;
    replica.stop().await;
    let burned: i64 = world
        .value("SELECT count(*) FROM feather.sync_attempts WHERE attempt > 1")
        .await;
    assert_eq!(burned, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxys_refusal_does_not_end_the_pause_of_a_refused_key() {
    let (world, _folder, _file) = world_with_key_file().await;
    let page = |code| {
        FaultRule::new(Fault::Status(StatusFault {
            code,
            body: Some("<html>who are you?".into()),
            ..StatusFault::default()
        }))
    };
    let ids = ids(30);
    world.sim.set_faults(vec![FaultRule {
        times: None,
        ..page(401)
    }]);
    world.enqueue(&ids).await;
    let replica = world.start();
    world
        .until("SELECT pause_reason = 'auth' FROM feather.sync_accounts")
        .await;
    world
        .until("SELECT count(*) = 0 FROM feather.sync_jobs WHERE state = 'running'")
        .await;
    world.sim.set_faults(vec![page(403)]);
    let calls = world.sim.calls().len();
    world
        .execute("UPDATE feather.sync_accounts SET paused_until = now(); NOTIFY feather_sync")
        .await;
    world
        .until("SELECT count(*) = 1 FROM feather.sync_attempts WHERE error_class = 'forbidden'")
        .await;
    let still: bool = world
        .value("SELECT pause_reason = 'auth' AND paused_until > now() FROM feather.sync_accounts")
        .await;
    assert!(still);
    assert_eq!(world.sim.calls().len(), calls + 1, "the probe was alone");
    world.sim.set_faults(vec![]);
    all_synced(&world, ids.len()).await;
    replica.stop().await;
    world.check().await;
}

/// Waits until the log has these words.
async fn said(log: &Path, words: &str) {
    let waiting = async {
        while !std::fs::read_to_string(log).is_ok_and(|text| text.contains(words)) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let patience = std::time::Duration::from_secs(60);
    if tokio::time::timeout(patience, waiting).await.is_err() {
        panic!(
            "not said: {words}\n{}",
            std::fs::read_to_string(log).unwrap()
        );
    }
}
