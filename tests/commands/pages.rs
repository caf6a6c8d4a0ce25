//! The commands of README, SECURITY and `docs`: each page is a script, run from its first line to its last.

mod script;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::Instant;

use tempfile::TempDir;

use crate::database::Database;
use crate::ports::free_port;
use crate::program::ID;
use crate::program::program;
use crate::sim::sim;
use script::CLAIMED;
use script::Script;

/// All that a page can call. What changes a machine is not among it.
const PROGRAMS: &str =
    "base64 bash cat curl env feather-sync grep head install pg_dump pg_dumpall pg_restore psql sh";

/// What stands in for what a page calls, or for what reads its blocks.
const STAND_INS: &[(&str, &str)] = &[
    ("sudo", r#"exec "$@""#),
    (
        "sql",
        r#"{ echo "BEGIN; SET LOCAL ROLE ${1:-NONE};"; cat; echo "; ROLLBACK;"; } | psql -qXv ON_ERROR_STOP=1 -o /dev/null"#,
    ),
    ("toml", "exec feather-sync --config /dev/stdin config check"),
    (
        "dotenv",
        "exec env $(grep -v '^#') feather-sync config check",
    ),
];

/// Says which line failed. Pages share the shell's state from block to block.
const SHELL: &str = r#"set -Eeuo pipefail
background=()
trap 'echo "line $LINENO: ${BASH_COMMAND%%$'"'\n'"'*}" >&2; trap - ERR' ERR
trap 'kill ${background[@]+"${background[@]}"} 2>/dev/null || true' EXIT
source "$0"
for job in ${background[@]+"${background[@]}"}; do
  kill "$job" 2>/dev/null || true
  # It may be told to stop before it can listen to that.
  wait "$job" || [ $? = 143 ] || { echo "what was started in the background has failed" >&2; exit 1; }
done"#;

/// Nothing on a page takes so long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(180);

/// Pages that make the schema themselves, and pages that start API and daemon themselves.
const EMPTY: &[&str] = &["docs/quickstart.md"];
const IDLE: &[&str] = &["docs/quickstart.md", "docs/simulator.md"];

#[test]
fn every_command_on_every_page_runs() {
    let mut faults = Vec::new();
    let mut claimed = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::thread::scope(|scope| {
        let pages: Vec<_> = pages(root)
            .into_iter()
            .map(|page| (page.clone(), scope.spawn(move || run(root, &page))))
            .collect();
        for (page, thread) in pages {
            let (script, outcome) = thread.join().expect("a page's world stands");
            let on_page = |fault: &String| format!("{page}:{fault}");
            faults.extend(script.faults.iter().chain(&outcome).map(on_page));
            claimed.extend(script.claimed);
        }
    });
    for (begin, why) in CLAIMED {
        if !claimed.contains(begin) {
            faults.push(format!(
                "no page has `{begin}` any more, which was claimed ({why})"
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_command_that_fails_or_is_not_there_is_named_with_its_line() {
    for (page, line) in [
        (
            "\n```sh\nfeather-sync show 00000000-0000-0000-0000-000000000000\n```\n",
            "line 3",
        ),
        ("Say `feather-sync statsu`.\n", "line 1"),
        ("\n```sh\ntrue\nreboot --force\n```\n", "line 4"),
        (
            "\n```sql feather_reporter\nSELECT FROM feather.sync_jobs;\n```\n",
            "line 2",
        ),
        (
            "```dotenv\nDATABASE_URL=postgres://db.example.com/app?sslmode=disable\n```\n",
            "line 1",
        ),
        (
            "```sh\nfeather-sync sim --tools none &\nwhile kill -0 $! 2>/dev/null; do :; done\n```\n",
            "in the background has failed",
        ),
        ("\n\n```toml\n[worker]\nconcurency = 3\n```\n", "line 3"),
    ] {
        let world = World::new("planted");
        let outcome = world.run(&Script::of(page, |line| world.map(line)));
        let fault = outcome.unwrap_or_default();
        assert!(fault.contains(line), "{page}: {fault}");
    }
}

fn pages(root: &Path) -> Vec<String> {
    let mut pages = vec!["README.md".to_owned(), "SECURITY.md".to_owned()];
    for entry in fs::read_dir(root.join("docs")).expect("the pages") {
        let name = entry.expect("a page").file_name();
        let page = format!("docs/{}", name.to_string_lossy());
        if page.ends_with(".md") {
            pages.push(page);
        }
    }
    pages
}

/// The page's script, and what went wrong when it was run.
fn run(root: &Path, page: &str) -> (Script, Option<String>) {
    let text = fs::read_to_string(root.join(page)).expect("a page");
    let dry = Script::of(&text, str::to_owned);
    if dry.text.trim().is_empty() {
        return (dry, None);
    }
    let world = World::new(page);
    let script = Script::of(&text, |line| world.map(line));
    let outcome = world.run(&script);
    (script, outcome)
}

/// What a page speaks of: a database, an API, mostly a daemon at work, and a folder in the place of `/etc`.
struct World {
    db: Database,
    folder: TempDir,
    sim: Option<(Child, String)>,
    daemon: Option<Child>,
    /// Where the page's daemon answers.
    admin: String,
    /// Where a simulator of the page's own listens.
    own_sim: String,
}

impl World {
    fn new(page: &str) -> Self {
        let db = if EMPTY.contains(&page) {
            Database::empty()
        } else {
            Database::migrated()
        };
        let mut world = Self {
            db,
            folder: TempDir::new().expect("a folder"),
            sim: (!IDLE.contains(&page)).then(|| sim(&["--tools", "3"])),
            daemon: None,
            admin: free_address(),
            own_sim: free_address(),
        };
        users(&world.db);
        world.furnish();
        if world.sim.is_some() {
            world.work();
        }
        world
    }

    fn furnish(&self) {
        for folder in [
            "bin",
            "tmp",
            "etc/feather-sync",
            "etc/default",
            "etc/credstore",
        ] {
            fs::create_dir_all(self.folder.path().join(folder)).expect("a folder");
        }
        let bin = self.folder.path().join("bin");
        for name in PROGRAMS.split(' ') {
            symlink(find(name), bin.join(name)).expect("a link");
        }
        for (name, text) in STAND_INS {
            let file = bin.join(name);
            fs::write(&file, format!("#!/bin/sh\n{text}\n")).expect("a stand-in");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("a stand-in");
        }
        for (file, text) in [
            ("etc/feather-sync/api-key", "fth_test"),
            ("etc/credstore/admin-token", "a_token"),
            ("etc/default/feather-sync", ""),
            // A simulator that a page has just started may not listen yet.
            (".curlrc", "silent\nretry = 9\nretry-connrefused\n"),
        ] {
            fs::write(self.folder.path().join(file), text).expect("a file");
        }
    }

    /// A daemon, a synced connection, and what else the pages take for granted.
    fn work(&mut self) {
        self.db.run(
            "CREATE SCHEMA my_app; GRANT USAGE ON SCHEMA my_app TO PUBLIC;
             CREATE TABLE my_app.signups AS SELECT gen_random_uuid() AS connection_id FROM generate_series(1, 3);
             GRANT SELECT ON my_app.signups TO PUBLIC",
        );
        self.db.run(&format!("SELECT feather.enqueue('{ID}')"));
        let mut daemon = program(&["run"]);
        let log = self.folder.path().join("daemon.log");
        self.command(&mut daemon)
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("a log"));
        let deadline = Instant::now() + PATIENCE;
        let daemon = self.daemon.insert(daemon.spawn().expect("a daemon"));
        while self
            .db
            .value("SELECT EXISTS (SELECT FROM feather.connections)")
            != "t"
        {
            let works = daemon.try_wait().expect("a daemon").is_none() && Instant::now() < deadline;
            let said = || fs::read_to_string(&log).unwrap_or_default();
            assert!(works, "the daemon ended, or syncs nothing: {}", said());
            std::thread::sleep(Duration::from_millis(20));
        }
        // One that waits, for what is done with such.
        self.db.run(&format!(
            "SELECT feather.enqueue('{ID}', run_at => now() + interval '1 day')"
        ));
        self.db
            .until("SELECT EXISTS (SELECT FROM feather.sync_status WHERE state = 'pending')");
    }

    fn command<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let path = self.folder.path();
        command
            .env("PATH", path.join("bin"))
            .env("HOME", path)
            .env("DATABASE_URL", self.db.url())
            .env("OWNER_URL", self.db.url())
            .env("PGHOST", self.db.socket_dir())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", self.db.name())
            .env("FEATHER_SYNC__ADMIN__LISTEN", &self.admin);
        if let Some((_, api)) = &self.sim {
            command
                .env("FEATHER_BASE_URL", format!("http://{api}"))
                .env(
                    "FEATHER_API_KEY_FILE",
                    path.join("etc/feather-sync/api-key"),
                );
        }
        command
    }

    /// A page's names for what is here.
    fn map(&self, line: &str) -> String {
        let folder = self.folder.path().display();
        [
            ("postgres://owner@db.example.com/app", "$OWNER_URL"),
            // Another database of the same server, which the environment names.
            ("postgres://owner@db.example.com/", "postgres:///"),
            ("/run/credentials/feather-sync.service/", "/etc/credstore/"),
            ("127.0.0.1:9464", &self.admin),
            ("127.0.0.1:8700", &self.own_sim),
            ("DATABASE app ", &format!("DATABASE {} ", self.db.name())),
            ("/etc/", &format!("{folder}/etc/")),
        ]
        .iter()
        .fold(line.to_owned(), |line, (name, thing)| {
            line.replace(name, thing)
        })
    }

    /// What went wrong.
    fn run(&self, script: &Script) -> Option<String> {
        let file = self.folder.path().join("page");
        fs::write(&file, &script.text).expect("a script");
        let log = fs::File::create(self.folder.path().join("log")).expect("a log");
        // What is typed where a page asks for something.
        let typed = self.folder.path().join("typed");
        fs::write(&typed, self.db.url()).expect("what is typed");
        let typed = fs::File::open(typed).expect("what is typed");
        let mut shell = Command::new(find("bash"));
        shell.env_clear().args(["--norc", "-c", SHELL]).arg(&file);
        self.command(&mut shell)
            .current_dir(self.folder.path().join("tmp"))
            .process_group(0)
            .stdin(typed)
            .stdout(Stdio::null())
            .stderr(log);
        let mut shell = shell.spawn().expect("a shell");
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = shell.try_wait().expect("a shell") {
                break Some(status);
            }
            if Instant::now() > deadline {
                // With all that it has started.
                let group = format!("-{}", shell.id());
                let mut kill = Command::new("kill");
                let _ = kill.args(["-s", "KILL", "--", &group]).status();
                let _ = shell.wait();
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let log = fs::read_to_string(self.folder.path().join("log")).expect("text");
        match status {
            Some(status) if status.success() => None,
            Some(status) => Some(format!(" {status}\n{log}")),
            None => Some(format!(" it hangs\n{log}")),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let sim = self.sim.as_mut().map(|(sim, _)| sim);
        for child in self.daemon.iter_mut().chain(sim) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}

/// Users that the pages speak of as the reader's own. They are the whole server's.
fn users(db: &Database) {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        db.run("CREATE ROLE feather_sync LOGIN; CREATE ROLE analyst; CREATE ROLE billing; CREATE ROLE report; CREATE ROLE my_app");
    });
}

/// Where a program is, Postgres' own first, since wrappers of the same name may stand before it.
fn find(name: &str) -> PathBuf {
    if name == "feather-sync" {
        return PathBuf::from(env!("CARGO_BIN_EXE_feather-sync"));
    }
    let path = std::env::var_os("PATH").expect("PATH");
    let mut folders = vec![postgres_folder()];
    folders.extend(std::env::split_paths(&path));
    let mut files = folders.into_iter().map(|folder| folder.join(name));
    files
        .find(|file| file.exists())
        .unwrap_or_else(|| panic!("{name} is missing; run scripts/setup"))
}

fn postgres_folder() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/postgres-bin");
        let output = Command::new(script).output().expect("a script");
        PathBuf::from(String::from_utf8(output.stdout).expect("text").trim())
    });
    folder.clone()
}
