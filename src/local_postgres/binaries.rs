//! Finds the server binaries that are installed.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::UNIX_EPOCH;

use super::LocalPostgresError;

/// The environment variable that names the folder of the binaries; where it is set, nothing else is searched.
pub(super) const SETTING: &str = "FEATHER_SYNC_POSTGRES_BIN";
/// What the product supports.
pub(super) const OLDEST_MAJOR: u32 = 14;

/// Where packages put servers; Debian's and Red Hat's are not on PATH. `*` stands for the rest of one name.
const USUAL_PLACES: [&str; 7] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
];

/// One installed server.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    folder: PathBuf,
    version: String,
}

impl Binaries {
    /// The newest server that is installed and supported.
    pub(super) fn find() -> Result<Self, LocalPostgresError> {
        let searched = candidates();
        searched
            .iter()
            .filter_map(|folder| Self::in_folder(folder))
            .filter(|found| found.major() >= OLDEST_MAJOR)
            // The first of equals, so that PATH decides between two of one major.
            .reduce(|best, next| {
                if next.major() > best.major() {
                    next
                } else {
                    best
                }
            })
            .ok_or(LocalPostgresError::NotInstalled { searched })
    }

    /// Resolves links first: `/usr/local/bin/initdb` may point into a folder that holds the rest.
    fn in_folder(folder: &Path) -> Option<Self> {
        let initdb = fs::canonicalize(folder.join("initdb")).ok()?;
        let folder = initdb.parent()?.to_owned();
        let output = Command::new(folder.join("postgres"))
            .arg("--version")
            .output()
            .ok()?;
        // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
        let line = String::from_utf8(output.stdout).ok()?;
        let version = line.split_once("(PostgreSQL) ")?.1;
        let version = version.split_whitespace().next()?.to_owned();
        Some(Self { folder, version })
    }

    fn major(&self) -> u32 {
        let digits = self.version.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|d| d.parse().ok()).unwrap_or(0)
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.folder.join("initdb")
    }

    pub(super) fn pg_basebackup(&self) -> PathBuf {
        self.folder.join("pg_basebackup")
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }

    /// Plain `psql` where that would be found, else the whole path.
    pub(super) fn psql(&self) -> String {
        let on_path = path_folders().iter().any(|f| f.join("psql").exists());
        let ours = self.folder.join("psql");
        if on_path || !ours.exists() {
            "psql".to_owned()
        } else {
            ours.to_string_lossy().into_owned()
        }
    }

    /// Changes whenever the binaries do: data made by one build is never started by another.
    pub(super) fn fingerprint(&self) -> String {
        let changed = fs::metadata(self.postgres()).and_then(|m| m.modified());
        let seconds = changed.map_or(0, |time| {
            time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
        });
        format!("{}-{seconds}", self.version)
    }
}

fn candidates() -> Vec<PathBuf> {
    if let Some(folder) = std::env::var_os(SETTING) {
        return vec![folder.into()];
    }
    let mut folders = path_folders();
    folders.extend(USUAL_PLACES.iter().flat_map(|place| expand(place)));
    if !folders.iter().any(|folder| folder.join("initdb").exists()) {
        folders.extend(pg_config_bindir());
    }
    folders
}

fn path_folders() -> Vec<PathBuf> {
    std::env::var_os("PATH").map_or(Vec::new(), |path| std::env::split_paths(&path).collect())
}

fn pg_config_bindir() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(folder.trim()))
}

/// The folders that `place` stands for; itself when there are none, so that an error can name it.
fn expand(place: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Some((before, after)) = place.split_once('*')
        && let Some((parent, prefix)) = before.rsplit_once('/')
    {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(prefix) {
                found.push(format!("{parent}/{name}{after}").into());
            }
        }
    }
    if found.is_empty() {
        found.push(place.into());
    }
    found
}
