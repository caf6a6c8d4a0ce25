//! No room: for connections, for rows, for the server's log.

use super::Scene;
use super::synced_at_once;
use crate::world::ids;
use sqlx::Connection;
use sqlx::PgConnection;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn too_many_connections_are_said_and_the_one_that_becomes_free_is_used() {
    let settings = [
        ("max_connections", "12"),
        ("superuser_reserved_connections", "5"),
        ("max_wal_senders", "0"),
    ];
    let mut scene = Scene::new(&settings).await;
    scene
        .world
        .execute("CREATE ROLE ordinary LOGIN IN ROLE feather_worker; CREATE ROLE greedy LOGIN")
        .await;
    let url = format!(
        "postgres://ordinary@{}/app?sslmode=disable",
        scene.proxy.address()
    );
    scene.world.set("DATABASE_URL", &url);
    let greedy = scene
        .postgres
        .url("app")
        .replace("user=postgres", "user=greedy");
    // So that looking, as a superuser, does not take the one that becomes free.
    let looking = (0..4).map(|_| scene.world.pool.acquire());
    drop(futures_util::future::join_all(looking).await);
    let mut hoard = Vec::new();
    while let Ok(conn) = PgConnection::connect(&greedy).await {
        hoard.push(conn);
    }
    let ids = ids(50);
    scene.world.enqueue(&ids).await;
    let replica = scene.world.start();
    crate::admin::until_status(scene.port, "/healthz", 200).await;
    scene.is_not_ready("connection slots").await;
    scene.stays_calm().await;
    // One is little, and enough.
    drop(hoard.pop());
    synced_at_once(&scene.world, &ids).await;
    hoard.clear();
    scene.is_ready().await;
    replica.stop().await;
}

/// A small file system of its own, which only root may make.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    #[expect(clippy::print_stdout, reason = "a test that did nothing must say so")]
    fn mount(megabytes: u32, data: &Path) -> Option<Self> {
        let folder = tempfile::TempDir::new().unwrap();
        let owner = fs::metadata(data).unwrap();
        let options = format!(
            "size={megabytes}m,mode=700,uid={},gid={}",
            owner.uid(),
            owner.gid()
        );
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]);
        let mounted = mount.arg(folder.path()).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            println!("skipped: a small file system cannot be mounted here, which takes root");
            return None;
        }
        Some(Self { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn fill(&self) {
        use std::io::Write;
        let mut ballast = fs::File::create(self.path().join("ballast")).unwrap();
        let block = [1; 4096];
        while ballast.write_all(&block).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_the_work_and_room_lets_it_go_on() {
    let scene = Scene::with(&[], "tools = 20\nlatency = \"10ms\"").await;
    let Some(disk) = SmallDisk::mount(24, &scene.postgres.data_dir()) else {
        return;
    };
    scene
        .world
        .execute(&format!(
            "CREATE TABLESPACE small LOCATION '{}'",
            disk.path().display()
        ))
        .await;
    for table in [
        "integration_connections",
        "integration_connection_tools",
        "sync_attempts",
    ] {
        scene
            .world
            .execute(&format!("ALTER TABLE feather.{table} SET TABLESPACE small"))
            .await;
    }
    disk.fill();
    let ids = ids(150);
    scene.world.enqueue(&ids).await;
    let replica = scene.world.start();
    crate::admin::until_status(scene.port, "/healthz", 200).await;
    scene.is_not_ready("No space left on device").await;
    let calls = scene.world.sim.calls().len();
    scene.stays_calm().await;
    assert!(scene.world.sim.calls().len() <= calls + 16);
    disk.make_room();
    scene.is_ready().await;
    scene.synced_at_once(&ids).await;
    replica.stop().await;
    drop(scene);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_panics_because_its_log_has_no_room_is_waited_for() {
    use feather_sync::local_postgres::Shutdown;
    let scene = Scene::new(&[
        ("max_wal_size", "8MB"),
        ("min_wal_size", "2MB"),
        ("restart_after_crash", "off"),
    ])
    .await;
    let Some(disk) = SmallDisk::mount(48, &scene.postgres.data_dir()) else {
        return;
    };
    scene.postgres.shut_down(Shutdown::Fast);
    let wal = scene.postgres.data_dir().join("pg_wal");
    let moved = Command::new("cp")
        .arg("-pR")
        .arg(format!("{}/.", wal.display()))
        .arg(disk.path())
        .status();
    assert!(moved.unwrap().success());
    fs::remove_dir_all(&wal).unwrap();
    std::os::unix::fs::symlink(disk.path(), &wal).unwrap();
    scene.postgres.start_again().unwrap();

    let replica = scene.start().await;
    let ids = ids(200);
    let gate = scene.under_load(&ids).await;
    disk.fill();
    // The server has some log files to spare; somebody writes more than they hold.
    let much =
        "CREATE TABLE bulk AS SELECT repeat(md5(n::text), 30) FROM generate_series(1, 50000) n";
    scene.postgres.query("app", much).await.unwrap_err();
    scene.is_not_ready("the database cannot be used").await;
    gate.release();
    scene.stays_calm().await;
    let log = fs::read_to_string(scene.postgres.log_file()).unwrap();
    assert!(
        log.contains("PANIC:") && log.contains("No space left on device"),
        "{log}"
    );
    disk.make_room();
    scene.postgres.restart(Shutdown::Immediate).unwrap();
    scene.is_ready().await;
    scene.synced_at_once(&ids).await;
    replica.stop().await;
    drop(scene);
}
