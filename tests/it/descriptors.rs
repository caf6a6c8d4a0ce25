//! Fewer file descriptors than the daemon would like to have.

use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Scenario;
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn with_few_file_descriptors_work_goes_on() {
    let mut world =
        World::with(Scenario::from_toml("tools = 2\nlatency = \"20ms\"").unwrap()).await;
    // More calls at once than there are descriptors; one that gets no socket is an attempt that failed.
    world
        .set("FEATHER_SYNC__WORKER__CONCURRENCY", "60")
        .set("FEATHER_SYNC__RETRY__MAX_ATTEMPTS", "1000");
    let ids = ids(60);
    world.enqueue(&ids).await;
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "ulimit -n 40; exec \"$0\" run --until-empty --timeout 120s",
        ])
        .arg(env!("CARGO_BIN_EXE_feather-sync"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(world.env());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for id in ids {
        world.equals_truth(id).await.unwrap();
        let attempts: i64 = world
            .value(&format!(
                "SELECT count(*) FROM feather.sync_attempts WHERE connection_id = '{id}'"
            ))
            .await;
        let calls = world.sim.calls_for(id).len() as i64;
        assert!(
            calls <= attempts,
            "{id}: {calls} calls, {attempts} attempts"
        );
    }
    let synced: i64 = world
        .value("SELECT count(*) FROM feather.sync_status WHERE last_outcome = 'synced' AND state = 'idle'")
        .await;
    assert_eq!(synced, 60);
    let short: i64 = world
        .value("SELECT count(*) FROM feather.sync_attempts WHERE error_class = 'network'")
        .await;
    assert!(short > 0, "there were descriptors for all");
    world.assert_invariants().await;
}
