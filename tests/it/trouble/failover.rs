//! Another server takes over.

use super::Scene;
use super::proxy_to;
use crate::proxy::Proxy;
use crate::world::ids;
use feather_sync::local_postgres::LocalPostgres;
use feather_sync::local_postgres::Shutdown;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

/// A standby that has every commit, and a URL that names both servers.
async fn with_standby(scene: &mut Scene) -> (LocalPostgres, Proxy) {
    let standby = scene.postgres.standby("s1").unwrap();
    scene
        .world
        .execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        .await;
    scene.world.execute("SELECT pg_reload_conf()").await;
    scene
        .world
        .until("SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
        .await;
    let proxy = proxy_to(&standby).await;
    let url = format!(
        "postgres://postgres@{},{}/app?sslmode=disable",
        proxy.address(),
        scene.proxy.address()
    );
    scene.world.set("DATABASE_URL", &url);
    (standby, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn work_follows_the_primary_and_nothing_that_was_replicated_is_lost() {
    let mut scene = Scene::new(&[]).await;
    // The standby is named first: it is passed over until it is promoted.
    let (standby, standby_proxy) = with_standby(&mut scene).await;
    let replica = scene.start().await;
    let ids = ids(300);
    let gate = scene.under_load(&ids).await;
    scene.postgres.shut_down(Shutdown::Immediate);
    scene.is_not_ready("read-only").await;
    gate.release();
    let both = || scene.proxy.stats().accepted + standby_proxy.stats().accepted;
    let (before, began) = (both(), Instant::now());
    scene.stays_calm().await;
    let rate = (both() - before) as f64 / began.elapsed().as_secs_f64();
    assert!(rate <= super::MOST_CONNECTS, "{rate} connects a second");

    let promoted = standby
        .query("postgres", "SELECT pg_promote()")
        .await
        .unwrap();
    assert_eq!(promoted.rows, [["t"]]);
    scene.is_ready().await;

    // The old primary comes back as a standby, and is left alone.
    let signal = scene.postgres.data_dir().join("standby.signal");
    std::fs::write(&signal, "").unwrap();
    let owner = std::fs::metadata(scene.postgres.data_dir()).unwrap();
    std::os::unix::fs::chown(&signal, Some(owner.uid()), Some(owner.gid())).unwrap();
    scene.postgres.start_again().unwrap();

    scene.world.moved_to(&standby.url("app")).await;
    scene.synced_at_once(&ids).await;
    scene.is_ready().await;
    replica.stop().await;
    // A world looks at its database once more: it goes before the server does.
    drop(scene);
    drop((standby_proxy, standby));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_find_the_primary_among_several_hosts_too() {
    let mut scene = Scene::new(&[]).await;
    let (standby, _proxy) = with_standby(&mut scene).await;
    let run = |arguments: &'static [&'static str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_feather-sync"))
            .args(arguments)
            .env_clear()
            .envs(scene.world.env())
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, said, error) = run(&["migrate"]);
    assert_eq!(
        (code, said.trim()),
        (Some(0), "the schema is current"),
        "{error}"
    );
    let (code, _, error) = run(&["enqueue", "3c90c3cc-0d44-4b50-8888-8dd25736052a"]);
    assert_eq!(code, Some(0), "{error}");
    let (code, _, error) = run(&["run", "--until-empty", "--timeout", "60s"]);
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(scene.world.sim.calls().len(), 1);

    scene.world.check().await;
    scene.postgres.shut_down(Shutdown::Fast);
    let (code, _, error) = run(&["enqueue", "3c90c3cc-0d44-4b50-8888-8dd25736052a"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("it is read-only"), "{error}");
    // Nobody is left to ask at the end.
    scene.world.leave_broken();
    drop(standby);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_server_that_takes_no_writes_is_called_read_only() {
    let mut scene = Scene::new(&[]).await;
    let (standby, proxy) = with_standby(&mut scene).await;
    let url = format!(
        "postgres://postgres@{}/app?sslmode=disable",
        proxy.address()
    );
    scene.world.set("DATABASE_URL", &url);
    let replica = scene.world.start();
    crate::admin::until_status(scene.port, "/healthz", 200).await;
    scene.is_not_ready("the database is read-only").await;
    scene.stays_calm().await;
    replica.stop().await;
    drop(standby);
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_switched_on_stops_the_claims_and_switched_off_lets_them_go_on() {
    let scene = Scene::with(&[], "tools = 2\nlatency = \"50ms\"").await;
    let replica = scene.start().await;
    let ids = ids(150);
    let gate = scene.under_load(&ids).await;
    let switch = async |value: &str| {
        let sql = format!("ALTER SYSTEM SET default_transaction_read_only = {value}");
        let mut session = scene.world.pool.acquire().await.unwrap();
        for sql in [
            "SET default_transaction_read_only = off".to_owned(),
            sql,
            "SELECT pg_reload_conf()".to_owned(),
        ] {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
                .execute(&mut *session)
                .await
                .unwrap();
        }
    };
    switch("on").await;
    scene.is_not_ready("the database is read-only").await;
    let calls = scene.world.sim.calls().len();
    gate.release();
    scene.stays_calm().await;
    assert!(scene.world.sim.calls().len() <= calls + 16);
    switch("off").await;
    scene.is_ready().await;
    scene.synced_at_once(&ids).await;
    replica.stop().await;
}
