//! `run` under a service manager, which here is the socket that one listens on.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use tempfile::TempDir;

use crate::database::Database;
use crate::program::finish;
use crate::program::program;
use crate::program::signal;
use crate::program::start;

/// Nothing here takes so long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(180);
/// A manager that heard nothing for so long would end the process: ten times as long as signs take here.
const SILENCE: Duration = Duration::from_secs(2);

struct Manager {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, folder }
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("feather-sync.toml")
    }

    /// The daemon as a service of this manager, on this database, with this in its configuration.
    fn start(&self, url: &str, config: &str) -> Child {
        fs::write(self.config(), config).unwrap();
        start(&mut self.service(url))
    }

    fn service(&self, url: &str) -> Command {
        let mut command = program(&["run", "--config", self.config().to_str().unwrap()]);
        command
            .env("NOTIFY_SOCKET", self.folder.path().join("notify"))
            .env("WATCHDOG_USEC", "600000")
            .env("DATABASE_URL", url)
            .env("FEATHER_BASE_URL", "http://127.0.0.1:1")
            .env("FEATHER_API_KEY", "key")
            .env("FEATHER_SYNC__ADMIN__LISTEN", "off");
        command
    }

    /// What it is told next, a line each; `None` after a silence.
    fn hear(&self) -> Option<Vec<String>> {
        let mut datagram = [0; 4_096];
        let length = self.socket.recv(&mut datagram).ok()?;
        let text = std::str::from_utf8(&datagram[..length]).unwrap();
        Some(text.lines().map(str::to_owned).collect())
    }

    fn told(&self) -> Vec<String> {
        self.hear().expect("it says something in time")
    }

    /// Waits until it is told a line that begins so, and returns all lines told with it.
    fn until(&self, begin: &str) -> Vec<String> {
        let began = Instant::now();
        loop {
            let told = self.told();
            if told.iter().any(|line| line.starts_with(begin)) {
                return told;
            }
            assert!(began.elapsed() < PATIENCE, "never told {begin}");
        }
    }
}

fn says(told: &[String], line: &str) -> bool {
    told.iter().any(|told| told == line)
}

fn stop(child: Child) {
    signal(&child, "TERM");
    finish(child).done();
}

#[test]
fn readiness_and_life_are_told_and_that_it_stops() {
    let db = Database::migrated();
    let manager = Manager::new();
    let child = manager.start(&db.url(), "");
    let told = manager.until("READY=1");
    assert!(
        told.iter().any(|line| line.starts_with("STATUS=Working: ")),
        "{told:?}"
    );
    for _ in 0..3 {
        let told = manager.told();
        assert!(says(&told, "WATCHDOG=1"), "{told:?}");
        assert!(!says(&told, "READY=1"), "{told:?}");
    }
    signal(&child, "TERM");
    manager.until("STOPPING=1");
    finish(child).done();
}

#[test]
fn without_a_database_it_lives_is_not_ready_and_says_why() {
    let manager = Manager::new();
    let child = manager.start("postgres://u:sekret@127.0.0.1:1/d", "");
    let mut known = false;
    for _ in 0..20 {
        let told = manager.told();
        assert!(says(&told, "WATCHDOG=1"), "{told:?}");
        assert!(!says(&told, "READY=1"), "{told:?}");
        assert!(!told.concat().contains("sekret"), "{told:?}");
        known |= told
            .iter()
            .any(|line| line.starts_with("STATUS=Not ready: ") && line.contains("refused"));
    }
    assert!(known);
    stop(child);
}

#[test]
fn a_reload_takes_over_what_it_can_and_names_what_waits_for_a_restart() {
    let db = Database::migrated();
    let manager = Manager::new();
    let child = manager.start(&db.url(), "[log]\nfilter = \"error\"");
    manager.until("READY=1");
    fs::write(
        manager.config(),
        "[log]\nfilter = \"info\"\n[worker]\nconcurrency = 3\n[accounts.default]\nrequests_per_minute = 77",
    )
    .unwrap();
    signal(&child, "HUP");
    let told = manager.until("RELOADING=1");
    assert!(
        told.iter().any(|line| line.starts_with("MONOTONIC_USEC=")),
        "{told:?}"
    );
    manager.until("READY=1");
    assert_eq!(
        db.value("SELECT requests_per_minute FROM feather.sync_accounts"),
        "77"
    );
    signal(&child, "TERM");
    let outcome = finish(child);
    // Said by the new filter.
    assert!(
        outcome.err.contains("worker.concurrency") && outcome.err.contains("restart"),
        "{outcome:?}"
    );
    assert!(!outcome.err.contains("log.filter"), "{outcome:?}");
    outcome.done();
}

#[test]
fn a_reload_that_cannot_be_used_leaves_everything_as_it_was() {
    let db = Database::migrated();
    let manager = Manager::new();
    let child = manager.start(&db.url(), "");
    manager.until("READY=1");
    for broken in ["[worker", "[worker]\nconcurency = 3"] {
        fs::write(manager.config(), broken).unwrap();
        signal(&child, "HUP");
        manager.until("RELOADING=1");
        manager.until("READY=1");
    }
    let told = manager.until("STATUS=");
    assert!(told.concat().contains("Working"), "{told:?}");
    signal(&child, "TERM");
    let outcome = finish(child);
    assert!(outcome.err.contains("cannot be used"), "{outcome:?}");
    outcome.done();
}

#[test]
fn a_loop_that_hangs_gives_no_sign_of_life_any_more() {
    let db = Database::migrated();
    let manager = Manager::new();
    fs::write(manager.config(), "").unwrap();
    let mut command = manager.service(&db.url());
    command.env("FEATHER_SYNC_FAILPOINT", "taken-in:1:hang");
    let mut child = start(&mut command);
    manager.until("READY=1");
    db.run("INSERT INTO feather.sync_requests (connection_id) VALUES (gen_random_uuid())");
    let (began, mut sign_at) = (Instant::now(), Instant::now());
    manager.socket.set_read_timeout(Some(SILENCE)).unwrap();
    while sign_at.elapsed() < SILENCE {
        assert!(began.elapsed() < PATIENCE, "it goes on giving signs");
        // Whether anything is said at all depends on what else the thread that hangs had to do.
        if manager.hear().is_some_and(|told| says(&told, "WATCHDOG=1")) {
            sign_at = Instant::now();
        }
    }
    assert!(
        child.try_wait().unwrap().is_none(),
        "it has ended by itself"
    );
    child.kill().unwrap();
    finish(child);
}
