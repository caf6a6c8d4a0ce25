//! The server's process: as whom it runs, how it starts, and how it ends.

use std::ffi::CString;
use std::fs;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use super::LocalPostgresError;
use super::Options;
use super::PORT;
use super::Shutdown;
use super::binaries::Binaries;
use super::folder::Folder;
use super::folder::failed;

/// Recovery after an immediate shutdown counts into it.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Postgres itself kills sessions that ignore an immediate shutdown after 5 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// Same for everybody: no port, UTC, and room for many parallel tests.
const SETTINGS: [&str; 7] = [
    "max_connections=200",
    "max_prepared_transactions=10",
    "timezone=UTC",
    "log_timezone=UTC",
    // In the data folder, not in /dev/shm, where containers have little and a crash leaves files.
    "dynamic_shared_memory_type=mmap",
    // initdb takes the small log files of the template as a reason for a small log.
    "max_wal_size=1GB",
    "min_wal_size=32MB",
];
/// Commits still reach the system before they are confirmed (no `synchronous_commit=off`): none is lost when
/// only the server dies, and failure tests count on that.
const NOT_DURABLE: [&str; 2] = ["fsync=off", "full_page_writes=off"];

/// Whom the server runs as when we are root, which Postgres refuses to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// `None` when the server can run as we do.
    pub(super) fn for_server() -> Result<Option<Self>, LocalPostgresError> {
        if effective_uid() != 0 {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| Self::named(name, &passwd))
            .map(Some)
            .ok_or(LocalPostgresError::NoAccount)
    }

    fn named(name: &str, passwd: &str) -> Option<Self> {
        let mut accounts = passwd.lines().map(|line| line.split(':'));
        let mut fields =
            accounts.find_map(|mut fields| (fields.next()? == name).then_some(fields))?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { uid, gid })
    }
}

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    /// Dropped with this value, which ends the thread that the server hangs on.
    _lifeline: mpsc::Sender<()>,
}

impl Server {
    /// Starts the server and waits until it takes connections.
    pub(super) fn start(
        binaries: &Binaries,
        account: Option<Account>,
        folder: &Folder,
        options: &Options,
    ) -> Result<Self, LocalPostgresError> {
        let mut postgres = command(&binaries.postgres(), account, folder.path());
        postgres.arg("-D").arg(folder.data());
        // The setting is a list: quotes keep a folder with a comma or a space in one piece.
        let socket_dir = folder.path().to_string_lossy().replace('"', "\"\"");
        postgres.arg("-k").arg(format!("\"{socket_dir}\""));
        postgres.args(["-h", "", "-p", PORT]);
        let fast = if options.durable {
            &[][..]
        } else {
            &NOT_DURABLE[..]
        };
        let ours = SETTINGS.iter().chain(fast).map(|s| (*s).to_owned());
        let theirs = options.settings.iter().map(|(k, v)| format!("{k}={v}"));
        for setting in ours.chain(theirs) {
            postgres.arg("-c").arg(setting);
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.log())
            .map_err(failed("create", &folder.log()))?;
        postgres.stdout(Stdio::null()).stderr(log);
        // A group of its own: Ctrl-C is for us, and the server is still needed while we stop.
        postgres.process_group(0);
        die_with_parent(&mut postgres);

        let mut server = Self::spawn(postgres, binaries)?;
        server.wait_until_ready(folder).map_err(|reason| {
            let log = fs::read(folder.log()).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).into_owned();
            let lines: Vec<&str> = log.lines().collect();
            LocalPostgresError::NotReady {
                reason,
                log: lines[lines.len().saturating_sub(12)..].join("\n"),
            }
        })?;
        Ok(server)
    }

    /// The parent whose death is signalled is a thread, so one is kept for as long as the server is wanted:
    /// the caller's may well end sooner.
    fn spawn(mut postgres: Command, binaries: &Binaries) -> Result<Self, LocalPostgresError> {
        let (lifeline, until_dropped) = mpsc::channel();
        let (spawned, child) = mpsc::channel();
        thread::spawn(move || {
            if spawned.send(postgres.spawn()).is_ok() {
                let _ = until_dropped.recv();
            }
        });
        let child = child
            .recv()
            .unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()));
        Ok(Self {
            child: child.map_err(failed("run", &binaries.postgres()))?,
            _lifeline: lifeline,
        })
    }

    fn wait_until_ready(&mut self, folder: &Folder) -> Result<(), String> {
        let status_file = folder.data().join("postmaster.pid");
        let pid = self.pid().to_string();
        let started = Instant::now();
        while started.elapsed() < START_TIMEOUT {
            let text = fs::read_to_string(&status_file).unwrap_or_default();
            let mut lines = text.lines();
            // A file that a crash left has another process id.
            if lines.next() == Some(&pid) && lines.nth(6).is_some_and(|l| l.starts_with("ready")) {
                return Ok(());
            }
            match self.child.try_wait() {
                Ok(None) => thread::sleep(POLL),
                Ok(Some(status)) => return Err(status.to_string()),
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(format!("not ready after {} s", START_TIMEOUT.as_secs()))
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns when the server is gone.
    pub(super) fn stop(self, how: Shutdown) {
        let signal = match how {
            Shutdown::Fast => libc::SIGINT,
            Shutdown::Immediate => libc::SIGQUIT,
        };
        send(signal, self.pid());
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let started = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if started.elapsed() > STOP_TIMEOUT {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(POLL);
        }
    }
}

/// A command that runs as the server's account, in a folder that it may enter, with nothing of our environment:
/// an inherited HOME or PGDATA would break the server.
pub(super) fn command(program: &Path, account: Option<Account>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C");
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command.current_dir(folder).stdin(Stdio::null());
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
    command
}

/// Runs a tool to its end; what it says is the error.
pub(super) fn run(mut command: Command) -> Result<(), LocalPostgresError> {
    let program = Path::new(command.get_program()).to_owned();
    let output = command.output().map_err(failed("run", &program))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(LocalPostgresError::Tool {
        program,
        output: format!("{}: {said}", output.status),
    })
}

/// Lets the server shut down at once when the thread that spawns it ends, as it does when our process is killed.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no safe interface sets the parent-death signal")]
fn die_with_parent(command: &mut Command) {
    let owner = std::process::id();
    // SAFETY: between fork and exec only prctl and getppid are called, both async-signal-safe;
    // nothing is allocated and no lock is taken. It runs after the change of uid, which would clear the signal.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGQUIT) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The owner may have died before the signal was set.
            if u32::try_from(libc::getppid()) != Ok(owner) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

/// Elsewhere the next start stops what was left running.
#[cfg(not(target_os = "linux"))]
fn die_with_parent(_: &mut Command) {}

/// Sends a signal; a process that is gone by now is no error.
#[expect(
    unsafe_code,
    reason = "the standard library sends no signal but SIGKILL"
)]
pub(super) fn send(signal: libc::c_int, pid: u32) {
    if let Ok(pid) = libc::pid_t::try_from(pid)
        && pid > 1
    {
        // SAFETY: kill takes two numbers and touches no memory of ours.
        unsafe { libc::kill(pid, signal) };
    }
}

#[expect(unsafe_code, reason = "the standard library does not tell who we are")]
pub(super) fn effective_uid() -> u32 {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

/// What is left in the file system of `folder`; 0 where that cannot be told.
#[expect(unsafe_code, reason = "the standard library does not tell free space")]
#[expect(
    clippy::useless_conversion,
    reason = "the types differ between systems"
)]
pub(super) fn free_bytes(folder: &Path) -> u64 {
    let Ok(name) = CString::new(folder.as_os_str().as_bytes()) else {
        return 0;
    };
    let mut found = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `name` ends with a zero byte, `found` is as large as the call needs, and it is read only after the call
    // said that it filled it in.
    let found = unsafe {
        if libc::statvfs(name.as_ptr(), found.as_mut_ptr()) != 0 {
            return 0;
        }
        found.assume_init()
    };
    u64::from(found.f_bavail).saturating_mul(u64::from(found.f_frsize))
}

/// Calls `function` when the process exits in an orderly way.
#[expect(unsafe_code, reason = "the standard library has no hook for the exit")]
pub(super) fn at_exit(function: extern "C" fn()) {
    // SAFETY: a function of this program is valid for as long as the program runs.
    unsafe { libc::atexit(function) };
}
