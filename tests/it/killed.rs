//! Real processes, really killed, stopped and terminated: at any moment, and at every failpoint.

mod anytime;
mod at_points;
mod books;
mod frozen;
mod panicked;
mod refreshing;
mod terminated;

use crate::world::World;
use feather_sync::failpoint::Point;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::time::Duration;
use std::time::Instant;
use tempfile::NamedTempFile;

/// Nothing here takes so long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long leases are in these tests.
const LEASE: Duration = Duration::from_secs(2);

/// A daemon as a process of its own.
struct Process {
    child: Child,
    log: NamedTempFile,
}

impl Process {
    fn start(world: &World) -> Self {
        Self::armed(world, "")
    }

    /// With an order for its failpoints.
    fn armed(world: &World, order: &str) -> Self {
        let log = NamedTempFile::new().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_feather-sync"))
            .arg("run")
            .env_clear()
            .envs(world.env())
            .env("FEATHER_SYNC_FAILPOINT", order)
            .stderr(File::create(log.path()).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// In SQL: whether a job is leased to this process.
    fn holds(&self) -> String {
        format!("worker LIKE '%:{}:%'", self.child.id())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// Waits until the log says this.
    async fn until_log(&self, words: &str) {
        let began = Instant::now();
        while !self.log().contains(words) {
            assert!(
                began.elapsed() < PATIENCE,
                "never said: {words}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until it ends by itself.
    async fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "still runs\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until it has died at this very point.
    async fn killed_at(&mut self, point: Point) {
        let status = self.ended().await;
        let log = self.log();
        assert_eq!(status.signal(), Some(9), "{status}\n{log}");
        let words = format!("failpoint {}: kill", point.as_str());
        assert!(log.contains(&words), "{log}");
    }

    /// Waits until it has stopped itself at this point.
    async fn stopped_at(&self, point: Point) {
        self.until_log(&format!("failpoint {}: stop", point.as_str()))
            .await;
    }

    /// Ends it as a service manager does.
    async fn terminate(mut self) {
        self.signal("TERM");
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "{status}\n{}", self.log());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn short_leases(world: &mut World) {
    world.set("FEATHER_SYNC__WORKER__LEASE", "2s");
    world.set("FEATHER_SYNC__API__REQUEST_TIMEOUT", "1500ms");
    world.set("FEATHER_SYNC__API__CONNECT_TIMEOUT", "1s");
}
