//! The server goes, and comes back.

use super::PATIENCE;
use super::Scene;
use crate::fleet::Process;
use crate::world::ids;
use feather_sync::local_postgres::Shutdown;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn restarts_under_load_lose_nothing_and_burn_no_attempt() {
    let scene = Scene::new(&[]).await;
    let replica = scene.start().await;
    let ids = ids(400);
    for (how, asked) in [Shutdown::Fast, Shutdown::Immediate]
        .into_iter()
        .zip(ids.chunks(200))
    {
        let gate = scene.under_load(asked).await;
        // Answers and commits come while it goes.
        gate.release();
        scene.postgres.restart(how).unwrap();
    }
    scene.synced_at_once(&ids).await;
    scene.is_ready().await;
    assert_eq!(scene.metric("feather_sync_leases_lost_total").await, 0.0);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_for_a_while_is_asked_rarely_and_found_again() {
    let scene = Scene::new(&[]).await;
    let replica = scene.start().await;
    let ids = ids(100);
    let gate = scene.under_load(&ids).await;
    scene.postgres.shut_down(Shutdown::Immediate);
    scene.is_not_ready("the database cannot be used").await;
    gate.release();
    scene.stays_calm().await;
    scene.postgres.start_again().unwrap();
    scene.is_ready().await;
    scene.synced_at_once(&ids).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_under_load_is_two_lines_in_the_log_its_going_and_its_coming_back() {
    let mut scene = Scene::new(&[]).await;
    scene.world.set("FEATHER_SYNC__LOG__FORMAT", "journald");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let process = Process::logging(&scene.world, &log);
    scene.is_ready().await;
    let ids = ids(300);
    let gate = scene.under_load(&ids).await;
    scene.postgres.shut_down(Shutdown::Immediate);
    scene.is_not_ready("the database cannot be used").await;
    gate.release();
    // Long enough for every loop to fail many times, the listener's too.
    let began = Instant::now();
    while scene
        .metric("feather_sync_db_errors_total{kind=\"unavailable\"}")
        .await
        < 12.0
    {
        assert!(began.elapsed() < PATIENCE, "some loop does not try again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    scene.postgres.start_again().unwrap();
    scene.is_ready().await;
    scene.synced_at_once(&ids).await;
    drop(process);
    let log = std::fs::read_to_string(&log).unwrap();
    let about_attempts = |line: &&str| line.contains("connection.id=");
    let told: Vec<_> = log.lines().filter(|line| !about_attempts(line)).collect();
    assert!(
        matches!(told[..], [works, goes, comes] if works.contains("is working")
            && goes.starts_with("<4>") && goes.contains("the database cannot be used")
            && comes.starts_with("<6>") && comes.contains("the database is back")),
        "{told:#?}"
    );
    assert_eq!(log.lines().filter(about_attempts).count(), ids.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_at_the_start_is_waited_for() {
    let scene = Scene::new(&[]).await;
    let ids = ids(20);
    scene.world.enqueue(&ids).await;
    scene.postgres.shut_down(Shutdown::Fast);
    let replica = scene.world.start();
    crate::admin::until_status(scene.port, "/healthz", 200).await;
    scene.is_not_ready("the database cannot be used").await;
    scene.stays_calm().await;
    scene.postgres.start_again().unwrap();
    scene.is_ready().await;
    scene.synced_at_once(&ids).await;
    replica.stop().await;
}

/// The server and its children, stopped or going on.
fn signal(scene: &Scene, name: &str) {
    let server = scene.postgres.pid().unwrap();
    let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children"));
    let status = Command::new("kill")
        .args(["-s", name, &server.to_string()])
        .args(children.unwrap().split_whitespace())
        .status();
    assert!(status.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_waited_for_and_goes_on_where_it_stopped() {
    let scene = Scene::new(&[]).await;
    let replica = scene.start().await;
    let ids = ids(100);
    let gate = scene.under_load(&ids).await;
    signal(&scene, "STOP");
    scene.is_not_ready("no answer within 2s").await;
    gate.release();
    scene.stays_calm().await;
    signal(&scene, "CONT");
    scene.is_ready().await;
    scene.synced_at_once(&ids).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_an_administrator_ends_again_and_again_cost_nothing_but_time() {
    let scene = Scene::new(&[]).await;
    let replica = scene.start().await;
    let ids = ids(300);
    let began = Instant::now();
    for asked in ids.chunks(25) {
        // Answers and commits come while sessions end.
        scene.under_load(asked).await.release();
        scene
            .world
            .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'feather-sync'")
            .await;
    }
    assert!(began.elapsed() < PATIENCE);
    scene.synced_at_once(&ids).await;
    scene.is_ready().await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_or_silent_are_made_anew() {
    use crate::proxy::Traffic;
    let scene = Scene::new(&[]).await;
    let replica = scene.start().await;
    let ids = ids(240);
    let (asked, last) = ids.split_at(200);
    for asked in asked.chunks(40) {
        let gate = scene.under_load(asked).await;
        scene.proxy.set(Traffic::Refuse);
        scene.proxy.cut();
        scene.is_not_ready("the database cannot be used").await;
        scene.proxy.set(Traffic::Pass);
        gate.release();
    }
    let gate = scene.under_load(last).await;
    scene.proxy.set(Traffic::Silent);
    scene.is_not_ready("no answer within 2s").await;
    gate.release();
    scene.stays_calm().await;
    // What is silent is cut in the end, by a firewall say.
    scene.proxy.cut();
    scene.proxy.set(Traffic::Delay(Duration::from_millis(20)));
    scene.is_ready().await;
    scene.synced_at_once(&ids).await;
    replica.stop().await;
}
