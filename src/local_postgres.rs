//! A private, throw-away Postgres for the demo, the tests and the benches.
//!
//! It runs the installed server binaries on a socket in a folder of its own, needs no privileges, opens no port and
//! touches no cluster that is already there. It goes down with its owner, also when the owner is killed.
//!
//! ```no_run
//! use feather_sync::local_postgres::LocalPostgres;
//! use feather_sync::local_postgres::Options;
//!
//! let postgres = LocalPostgres::start(Options::default())?;
//! println!("{}", postgres.url("postgres"));
//! # Ok::<(), feather_sync::local_postgres::LocalPostgresError>(())
//! ```

mod binaries;
mod folder;
mod process;
mod query;
#[cfg(test)]
mod tests;

pub use query::TextTable;

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;

use binaries::Binaries;
use folder::Folder;
use process::Account;
use process::Server;

/// The superuser of every private cluster.
const SUPERUSER: &str = "postgres";
/// Names the socket file; nothing listens on a TCP port.
const PORT: &str = "5432";

/// How a private Postgres is set up.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Keep the data on disk, flushed as by a production server. Off by default, which is several times faster:
    /// the data may be in memory, where there is room, and a crash of the server alone loses no commit,
    /// but a crash of the machine does.
    pub durable: bool,
    /// Server settings (`name`, `value`), which win over the built-in ones.
    pub settings: Vec<(String, String)>,
    /// Leave data and server log behind when it stops, for a look afterwards.
    pub keep: bool,
    /// Leave nothing behind, not even the template that makes the next start quick.
    pub traceless: bool,
}

/// How a server is told to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Sessions are told that the server is going (SQLSTATE 57P01), data is flushed.
    Fast,
    /// At once, as in a crash; the next start recovers from the log.
    Immediate,
}

/// A running private Postgres. Dropping it stops the server at once and removes every file.
///
/// All methods block (a start takes about half a second, the first one ever some more) and work from any thread,
/// a Tokio test's included; an async caller that cannot spare its thread uses `spawn_blocking`.
#[derive(Debug)]
pub struct LocalPostgres {
    binaries: Binaries,
    account: Option<Account>,
    folder: Folder,
    options: Options,
    server: Mutex<Option<Server>>,
}

/// Why there is no private Postgres.
#[derive(Debug, thiserror::Error)]
pub enum LocalPostgresError {
    /// No usable server binaries.
    #[error(
        "no Postgres server of version {} or newer is installed (searched: {}). \
         Install one with `apt-get install postgresql` or run `scripts/setup`; \
         if it is installed elsewhere, set {} to the folder that holds `postgres` and `initdb`",
        binaries::OLDEST_MAJOR, listed(.searched), binaries::SETTING
    )]
    NotInstalled {
        /// The folders that were searched.
        searched: Vec<PathBuf>,
    },
    /// Postgres refuses to run as root, and there is no account to run it as.
    #[error(
        "running as root, and neither `postgres` nor `nobody` is in /etc/passwd to run the server as. \
         Run as a normal user, or create one of them"
    )]
    NoAccount,
    /// No temporary folder that the server can work in.
    #[error(
        "no temporary folder fits the server's socket: {} (longer than {} bytes, or closed to the \
         server's account). Set TMPDIR to a short folder that everybody may enter, for example TMPDIR=/tmp",
        listed(.tried), folder::LONGEST
    )]
    NoTemporaryFolder {
        /// What was tried.
        tried: Vec<PathBuf>,
    },
    /// The folder for private servers is not ours.
    #[error("{path} belongs to somebody else or is open to others. Remove it, or set TMPDIR to another folder", path = .path.display())]
    ForeignFolder {
        /// The folder in question.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("could not {action} {path}: {source}", path = .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// One of the Postgres tools failed.
    #[error("{program} failed: {output}", program = .program.display())]
    Tool {
        /// The tool.
        program: PathBuf,
        /// What it said.
        output: String,
    },
    /// The server did not come up.
    #[error("the private Postgres did not start ({reason}). Its log ends with:\n{log}")]
    NotReady {
        /// Exit status, or that it took too long.
        reason: String,
        /// The last lines of its log.
        log: String,
    },
}

fn listed(folders: &[PathBuf]) -> String {
    let names: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
    names.join(", ")
}

static SHARED: OnceLock<Result<LocalPostgres, LocalPostgresError>> = OnceLock::new();

impl LocalPostgres {
    /// Starts a server on fresh data and returns once it takes connections.
    ///
    /// # Errors
    /// [`LocalPostgresError`], which says what to install or to change.
    pub fn start(options: Options) -> Result<Self, LocalPostgresError> {
        let binaries = Binaries::find()?;
        let account = Account::for_server()?;
        let folder = Folder::create(&binaries, account, &options)?;
        let postgres = Self {
            binaries,
            account,
            folder,
            options,
            server: Mutex::new(None),
        };
        postgres.start_again()?;
        Ok(postgres)
    }

    /// Starts a standby of this server, which has to run: a copy of its data that follows it by streaming, through the
    /// replication slot `slot`, and can be read. `SELECT pg_promote()` makes a primary of it.
    ///
    /// # Errors
    /// As [`LocalPostgres::start`], and when the server cannot be copied.
    pub fn standby(&self, slot: &str) -> Result<Self, LocalPostgresError> {
        let folder = Folder::empty(self.account, &self.options)?;
        let mut copy =
            process::command(&self.binaries.pg_basebackup(), self.account, folder.path());
        copy.arg("-h").arg(self.socket_dir());
        copy.args(["-p", PORT, "-U", SUPERUSER, "-c", "fast"]);
        copy.args(["-R", "-X", "stream", "-C", "-S", slot, "-D"]);
        copy.arg(folder.data());
        if let Err(error) = process::run(copy) {
            folder.remove();
            return Err(error);
        }
        let standby = Self {
            binaries: self.binaries.clone(),
            account: self.account,
            folder,
            options: self.options.clone(),
            server: Mutex::new(None),
        };
        standby.start_again()?;
        Ok(standby)
    }

    /// The one server of this process with default options, started at first use and removed when the process exits:
    /// what a test binary shares among its tests, each in a database of its own.
    ///
    /// # Errors
    /// As [`LocalPostgres::start`]; a failure is remembered and not tried again.
    pub fn shared() -> Result<&'static Self, &'static LocalPostgresError> {
        extern "C" fn remove() {
            if let Some(Ok(postgres)) = SHARED.get() {
                postgres.stop();
            }
        }
        SHARED
            .get_or_init(|| {
                // A static is never dropped, so the exit of the process has to stand in.
                process::at_exit(remove);
                Self::start(Options::default())
            })
            .as_ref()
    }

    /// A connection URL for `database`, over the socket and as superuser; read by sqlx, psql and every libpq client.
    pub fn url(&self, database: &str) -> String {
        // Port and sslmode are named so that PGPORT and PGSSLMODE in the environment do not get in the way.
        format!(
            "postgresql:///{}?host={}&port={PORT}&user={SUPERUSER}&sslmode=disable",
            percent_encoded(database),
            percent_encoded(&self.socket_dir().to_string_lossy()),
        )
    }

    /// The folder of the socket.
    pub fn socket_dir(&self) -> &Path {
        self.folder.path()
    }

    /// The server's data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.data()
    }

    /// The server's log file.
    pub fn log_file(&self) -> PathBuf {
        self.folder.log()
    }

    /// A line to paste into a shell to look around in `database`.
    pub fn psql_command(&self, database: &str) -> String {
        format!(
            "{} -h {} -p {PORT} -U {SUPERUSER} {}",
            shell_quoted(&self.binaries.psql()),
            shell_quoted(&self.socket_dir().to_string_lossy()),
            shell_quoted(database),
        )
    }

    /// The process id of the server, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server().as_ref().map(Server::pid)
    }

    /// Takes the server down and leaves its data, for [`LocalPostgres::start_again`]. Does nothing when it is down.
    pub fn shut_down(&self, how: Shutdown) {
        if let Some(server) = self.server().take() {
            server.stop(how);
        }
    }

    /// Starts the server on the data that is there. Does nothing when it runs.
    ///
    /// # Errors
    /// [`LocalPostgresError::NotReady`] with the end of the server's log.
    pub fn start_again(&self) -> Result<(), LocalPostgresError> {
        let mut server = self.server();
        if server.is_none() {
            *server = Some(Server::start(
                &self.binaries,
                self.account,
                &self.folder,
                &self.options,
            )?);
        }
        Ok(())
    }

    /// Takes the server down and starts it again on the same data, at the same address.
    ///
    /// # Errors
    /// As [`LocalPostgres::start_again`].
    pub fn restart(&self, how: Shutdown) -> Result<(), LocalPostgresError> {
        self.shut_down(how);
        self.start_again()
    }

    /// Stops the server at once and removes its files, unless they are to be kept.
    pub fn stop(&self) {
        if self.options.keep {
            self.shut_down(Shutdown::Fast);
        } else {
            self.shut_down(Shutdown::Immediate);
            self.folder.remove();
            if self.options.traceless {
                self.folder.remove_template();
            }
        }
    }

    fn server(&self) -> std::sync::MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LocalPostgres {
    fn drop(&mut self) {
        self.stop();
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

fn shell_quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
