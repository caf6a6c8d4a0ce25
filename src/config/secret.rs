//! Secrets that stand in files, and the directory systemd hands them over in.

use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use secrecy::ExposeSecret;
use secrecy::SecretString;

use crate::config::Env;
use crate::config::Origin;
use crate::config::Problem;
use crate::config::layers::DEFAULT_ACCOUNT;
use crate::config::layers::Layer;
use crate::config::layers::Layers;
use crate::config::layers::Raw;
use crate::config::layers::Setting;

/// Far more than any key or URL; whoever names a log file or a device by mistake finds out at once.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a secret is not to be had. No message shows any of it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file could not be read.
    #[error(
        "cannot read {}: {reason}; put the secret there, readable by this process's user, or correct the path",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
    /// The environment variable was not set when the process started.
    #[error("environment variable {name} is not set: set it and start again")]
    NotSet {
        /// The variable.
        name: String,
    },
    /// Nothing but whitespace.
    #[error("{place} is empty: write the key there, on one line and without quotes")]
    Empty {
        /// The source.
        place: String,
    },
    /// Something that cannot be sent in an HTTP header, or that no key holds.
    #[error(
        "{place}: character {position} cannot be part of a key: write the key alone there, on one line, without spaces, \
         quotes or comments"
    )]
    Unsafe {
        /// The source.
        place: String,
        /// Counted from 1, after leading whitespace.
        position: usize,
    },
    /// Longer than 64 KiB.
    #[error("{} holds more than 64 KiB, which is no key: correct the path", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// The key or token that `path` holds now.
pub(super) fn read_file(path: &Path) -> Result<SecretString, KeyError> {
    let place = || format!("file {}", path.display());
    check(read_text(path)?.trim(), place)
}

/// `key` without surrounding whitespace, if it can be sent; `place` is named in the error.
pub(super) fn trimmed(key: &SecretString, place: String) -> Result<SecretString, KeyError> {
    check(key.expose_secret().trim(), || place)
}

fn check(key: &str, place: impl FnOnce() -> String) -> Result<SecretString, KeyError> {
    if key.is_empty() {
        return Err(KeyError::Empty { place: place() });
    }
    let unfit = |c: char| !c.is_ascii_graphic() || c == '"' || c == '\'';
    match key.chars().position(unfit) {
        Some(index) => Err(KeyError::Unsafe {
            place: place(),
            position: index + 1,
        }),
        None => Ok(SecretString::from(key)),
    }
}

fn read_text(path: &Path) -> Result<String, KeyError> {
    let unreadable = |reason| KeyError::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(KeyError::TooLarge {
            path: path.to_owned(),
        });
    }
    // What is not UTF-8 becomes U+FFFD, which no key or URL contains: refused later, with its position.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `$CREDENTIALS_DIRECTORY`: `database-url`, and for each known account `feather-api-key[.NAME]`.
pub(super) fn add_credentials(env: &Env, layers: &mut Layers, problems: &mut Vec<Problem>) {
    let Some(directory) = env.get("CREDENTIALS_DIRECTORY").map(Path::new) else {
        return;
    };
    let setting = |path: &Path, text: String| Setting {
        raw: Raw::Text(text),
        origin: Origin::Credential(path.to_owned()),
        layer: Layer::Credential,
    };

    let path = directory.join("database-url");
    if may_exist(&path) {
        match read_text(&path) {
            Ok(url) => layers.set("database.url", setting(&path, url.trim().to_owned())),
            Err(error) => problems.push(Problem {
                origin: None,
                message: error.to_string(),
            }),
        }
    }
    let names: Vec<String> = layers.accounts.keys().cloned().collect();
    for name in names {
        let path = if name == DEFAULT_ACCOUNT {
            directory.join("feather-api-key")
        } else {
            directory.join(format!("feather-api-key.{name}"))
        };
        if may_exist(&path) {
            let by_path = setting(&path, path.to_string_lossy().into_owned());
            layers.set_account(&name, "api_key_file", by_path, problems);
        }
    }
}

/// A credential that may not even be looked at is not passed over: reading it says why.
fn may_exist(path: &Path) -> bool {
    path.try_exists().unwrap_or(true)
}
