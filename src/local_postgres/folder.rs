//! The folders that private servers live in.
//!
//! ```text
//! TMPDIR or /dev/shm/feather-sync-postgres-UID/
//!     lock                      held while this level changes
//!     template-FINGERPRINT/     a cluster fresh from initdb, copied for every start
//!     PID-N/                    one server: socket, data/, log, and `owner`, which its owner holds locked
//! ```

use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use super::LocalPostgresError;
use super::Options;
use super::PORT;
use super::SUPERUSER;
use super::binaries::Binaries;
use super::process;
use super::process::Account;

/// Bytes that the folder of all servers may take, so that a socket in it stays under the 104 that macOS allows
/// (Linux: 108), with room for `/4194304-999/.s.PGSQL.5432`.
pub(super) const LONGEST: usize = 77;

/// Free bytes in `/dev/shm` from which on it is used; containers have 64 MB there by default.
const ENOUGH_MEMORY: u64 = 4 << 30;

const LOCK: &str = "lock";
/// How often a start may find the folder removed by another server that leaves no trace.
const TRIES: u32 = 20;
const TEMPLATE: &str = "template-";
const KEPT: &str = "kept-";

/// The folder of one server.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Locked for as long as this process lives: the kernel lets go of it however the process ends,
    /// and unlike a process id it is never taken by another.
    _owner: File,
}

impl Folder {
    /// Makes a folder with fresh data in it, and removes those of owners that died.
    pub(super) fn create(
        binaries: &Binaries,
        account: Option<Account>,
        options: &Options,
    ) -> Result<Self, LocalPostgresError> {
        let (root, template, folder) = {
            let (root, _lock) = locked_root(account, options.durable)?;
            remove_orphans(&root);
            let template = template(&root, binaries, account)?;
            let folder = Self::claim(&root, account, options.keep)?;
            (root, template, folder)
        };
        // `cp` as the server's account, so that everything belongs to it.
        let mut copy = process::command(Path::new("cp"), account, &root);
        copy.arg("-pR").arg(&template).arg(folder.data());
        let copied = process::run(copy);
        if copied.is_err() {
            folder.remove();
        }
        copied.map(|()| folder)
    }

    /// Makes a folder without data.
    pub(super) fn empty(
        account: Option<Account>,
        options: &Options,
    ) -> Result<Self, LocalPostgresError> {
        let (root, _lock) = locked_root(account, options.durable)?;
        Self::claim(&root, account, options.keep)
    }

    fn claim(
        root: &Path,
        account: Option<Account>,
        keep: bool,
    ) -> Result<Self, LocalPostgresError> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", std::process::id());
        let path = root.join(if keep { format!("{KEPT}{name}") } else { name });
        fs::create_dir(&path).map_err(failed("create", &path))?;
        let owner = path.join("owner");
        let file = File::create(&owner).map_err(failed("create", &owner))?;
        file.lock().map_err(failed("lock", &owner))?;
        hand_over(&path, account)?;
        Ok(Self { path, _owner: file })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Removes the folder. What cannot be removed now is left to the next start.
    pub(super) fn remove(&self) {
        let _ = fs::remove_dir_all(&self.path);
    }

    /// Removes what all servers share, unless there is another one.
    pub(super) fn remove_template(&self) {
        let Some(root) = self.path.parent() else {
            return;
        };
        let Ok(Some(_lock)) = lock(root) else { return };
        let Ok(entries) = fs::read_dir(root) else {
            return;
        };
        let shared = entries.flatten().all(|entry| {
            let name = entry.file_name();
            name == LOCK || name.to_string_lossy().starts_with(TEMPLATE)
        });
        // A start that waits for the lock finds it gone, and begins anew.
        if shared {
            let _ = fs::remove_dir_all(root);
        }
    }
}

/// The folder of all servers of this user, made sure to be ours: the temporary folder is open to everybody.
fn root(account: Option<Account>, durable: bool) -> Result<PathBuf, LocalPostgresError> {
    let me = process::effective_uid();
    let name = format!("feather-sync-postgres-{me}");
    let tried: Vec<PathBuf> = places(durable)
        .iter()
        .map(|place| place.join(&name))
        .collect();
    let fits = |path: &&PathBuf| {
        let open = account.is_none() || path.ancestors().skip(1).all(open_to_everybody);
        path.is_absolute() && path.as_os_str().len() <= LONGEST && open
    };
    let Some(root) = tried.iter().find(fits).cloned() else {
        return Err(LocalPostgresError::NoTemporaryFolder { tried });
    };
    match fs::create_dir(&root) {
        // Others may enter (the server, when we are root), but not look around.
        Ok(()) => fs::set_permissions(&root, fs::Permissions::from_mode(0o711))
            .map_err(failed("open", &root))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed("create", &root)(error)),
    }
    let found = fs::symlink_metadata(&root).map_err(failed("look at", &root))?;
    if !found.is_dir() || found.uid() != me || found.mode() & 0o022 != 0 {
        return Err(LocalPostgresError::ForeignFolder { path: root });
    }
    Ok(root)
}

/// Where to put servers, best first. A database is about 300 files: in memory creating one takes a quarter of the
/// time, so that is where throw-away data goes, unless TMPDIR says otherwise.
fn places(durable: bool) -> Vec<PathBuf> {
    let memory = Path::new("/dev/shm");
    let asked = std::env::var_os("TMPDIR").is_some();
    let in_memory = !durable && !asked && process::free_bytes(memory) >= ENOUGH_MEMORY;
    let mut places = vec![std::env::temp_dir(), PathBuf::from("/tmp")];
    if in_memory {
        places.insert(0, memory.to_owned());
    }
    places
}

fn open_to_everybody(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|found| found.mode() & 0o001 != 0)
}

/// The folder of all servers, locked: no other start changes it meanwhile.
fn locked_root(
    account: Option<Account>,
    durable: bool,
) -> Result<(PathBuf, File), LocalPostgresError> {
    for _ in 0..TRIES {
        match root(account, durable) {
            Err(LocalPostgresError::File { source, .. })
                if source.kind() == io::ErrorKind::NotFound => {}
            found => {
                let root = found?;
                if let Some(lock) = lock(&root)? {
                    return Ok((root, lock));
                }
            }
        }
    }
    let root = root(account, durable)?;
    let gone = io::Error::from(io::ErrorKind::NotFound);
    Err(failed("lock", &root)(gone))
}

/// Waits for the lock; `None` when the folder was removed meanwhile, and the lock with it.
fn lock(root: &Path) -> Result<Option<File>, LocalPostgresError> {
    let path = root.join(LOCK);
    let file = match File::create(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        created => created.map_err(failed("create", &path))?,
    };
    file.lock().map_err(failed("lock", &path))?;
    let ours = file.metadata().map_err(failed("look at", &path))?;
    let found = fs::metadata(&path);
    let same = found.is_ok_and(|found| found.ino() == ours.ino());
    Ok(same.then_some(file))
}

/// Removes what dead owners left. Under the lock nobody is between making a folder and locking its `owner`,
/// so a folder without one, or with a free one, has no owner.
fn remove_orphans(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !path.is_dir() || name.starts_with(TEMPLATE) || name.starts_with(KEPT) {
            continue;
        }
        if let Ok(owner) = File::open(path.join("owner"))
            && owner.try_lock().is_err()
        {
            continue;
        }
        stop_orphan(&path);
        let _ = fs::remove_dir_all(&path);
    }
}

/// Stops a server that outlived its owner, which happens only where the system has no parent-death signal.
fn stop_orphan(folder: &Path) {
    // Only a live server answers on the socket, so the process id beside it is not somebody else's by now.
    if UnixStream::connect(folder.join(format!(".s.PGSQL.{PORT}"))).is_ok()
        && let Ok(text) = fs::read_to_string(folder.join("data/postmaster.pid"))
        && let Some(pid) = text.lines().next().and_then(|line| line.parse().ok())
    {
        process::send(libc::SIGQUIT, pid);
    }
}

/// The template for these binaries, made when it is missing. Needs the lock.
fn template(
    root: &Path,
    binaries: &Binaries,
    account: Option<Account>,
) -> Result<PathBuf, LocalPostgresError> {
    let uid = account.map_or(process::effective_uid(), |account| account.uid);
    let path = root.join(format!("{TEMPLATE}{}-{uid}", binaries.fingerprint()));
    // Cleaners of temporary folders remove files and leave folders.
    if path.join("PG_VERSION").exists() && path.join("global/pg_control").exists() {
        return Ok(path);
    }
    let draft = root.join("draft");
    for leftover in [&path, &draft] {
        match fs::remove_dir_all(leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", leftover)(error));
            }
            _ => {}
        }
    }
    fs::create_dir(&draft).map_err(failed("create", &draft))?;
    hand_over(&draft, account)?;
    let mut initdb = process::command(&binaries.initdb(), account, root);
    initdb.arg("-D").arg(&draft);
    initdb.args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C"]);
    // Small log files make the copy small.
    initdb.args(["--no-sync", "--wal-segsize=1"]);
    process::run(initdb)?;
    fs::rename(&draft, &path).map_err(failed("rename", &draft))?;
    Ok(path)
}

/// Gives a new folder to the server's account, and to nobody else.
fn hand_over(path: &Path, account: Option<Account>) -> Result<(), LocalPostgresError> {
    let private = fs::Permissions::from_mode(0o700);
    fs::set_permissions(path, private).map_err(failed("close", path))?;
    if let Some(Account { uid, gid }) = account {
        std::os::unix::fs::chown(path, Some(uid), Some(gid))
            .map_err(failed("change the owner of", path))?;
    }
    Ok(())
}

/// Puts what was tried, and on which file, around an error of the system.
pub(super) fn failed(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> LocalPostgresError {
    let path = path.to_owned();
    move |source| LocalPostgresError::File {
        action,
        path,
        source,
    }
}
