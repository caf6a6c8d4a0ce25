//! The configuration, and the files behind it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::cli::doctor::finding::Check;
use crate::cli::doctor::finding::Finding;
use crate::config::Config;
use crate::config::ConfigError;
use crate::config::KeyError;
use crate::config::KeySource;
use crate::config::Origin;
use crate::config::Problem;
use crate::config::redacted_url;

const CORRECT: &str = "correct it; `feather-sync config check` tells whether that was all";

/// What others may do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    read: bool,
    write: bool,
}

/// One line for each problem of a configuration that cannot be used.
pub(super) fn problems(error: &ConfigError) -> Vec<Finding> {
    let finding = |problem: &Problem| {
        let finding = Finding::failed(Check::Configuration, problem.message.as_str(), CORRECT);
        match &problem.origin {
            Some(origin) => finding.at(origin.to_string()),
            None => finding,
        }
    };
    error.problems.iter().map(finding).collect()
}

/// What `run` would refuse, and what it would not mind.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let read = match &config.file {
        Some(file) => format!("read from {} and the environment", file.display()),
        None => "no file was read: built-in defaults and the environment".to_owned(),
    };
    let mut findings = vec![Finding::ok(Check::Configuration, read)];
    for error in [config.database_url().err(), config.accounts().err()] {
        findings.extend(error.iter().flat_map(problems));
    }
    for (name, account) in &config.declared_accounts {
        // Keys of other kinds are a part of the configuration, and were looked at with it.
        if let Some(source @ KeySource::File(path)) = &account.key {
            let place = format!("account {name}");
            findings.extend(secret_file(path, source.read().err()).map(|f| f.at(place)));
        }
    }
    if let Some(path) = &config.admin.token_file {
        findings.extend(
            secret_file(path, config.admin.read_token().err()).map(|f| f.at("admin.token_file")),
        );
    }
    findings.extend(password_in_file(config));
    if config.admin.listen.is_none() {
        findings.push(
            Finding::warning(
                Check::Configuration,
                "there is no /healthz, /readyz and /metrics, and `feather-sync healthy` cannot ask",
                "set it, to 127.0.0.1:9464 for example, unless you watch the daemon in another way",
            )
            .at("admin.listen is off"),
        );
    }
    findings
}

/// A file that holds a key or token: it cannot be read, or by too many.
fn secret_file(path: &Path, error: Option<KeyError>) -> Option<Finding> {
    if let Some(error) = error {
        let error = error.to_string();
        // The error names the file and says what to do about it.
        let (what, next) = error.split_once("; ").unwrap_or((error.as_str(), CORRECT));
        return Some(Finding::failed(Check::Configuration, what, next));
    }
    judge_open(path, open_to_others(path), "a secret")
}

/// The configuration file, where it holds the database's password.
fn password_in_file(config: &Config) -> Option<Finding> {
    let urls = [
        ("database.url", &config.database.url),
        ("database.listen_url", &config.database.listen_url),
    ];
    urls.into_iter().find_map(|(key, url)| {
        let Some(Origin::File { path, .. }) = config.origins.get(key) else {
            return None;
        };
        let holds_password = redacted_url(url.as_ref()?).contains("***");
        let finding = judge_open(path, open_to_others(path), "the database's password")?;
        holds_password.then(|| finding.at(key))
    })
}

fn judge_open(path: &Path, open: Open, what: &str) -> Option<Finding> {
    let may = match open {
        Open { write: true, .. } => "change",
        Open { read: true, .. } => "read",
        _ => return None,
    };
    let path = path.display();
    Some(Finding::warning(
        Check::Configuration,
        format!("every user of this machine may {may} {path}, which holds {what}"),
        format!(
            "`chmod o= {path}`, and let the daemon's user read it by owner or group, or as a systemd credential"
        ),
    ))
}

/// By the file's own mode, and by those of the folders on the way to it.
fn open_to_others(path: &Path) -> Open {
    let mode = |path: &Path| fs::metadata(path).map(|file| file.permissions().mode());
    let folders = path.ancestors().skip(1);
    // One that cannot be looked at closes nothing: the end of a relative path is such.
    let way_is_open = folders
        .map(|folder| mode(folder).unwrap_or(0o777))
        .all(|mode| mode & 0o001 != 0);
    let file = mode(path).unwrap_or(0);
    Open {
        read: way_is_open && file & 0o004 != 0,
        write: way_is_open && file & 0o002 != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_open_if_its_mode_and_all_folders_above_it_are() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        fs::write(&file, "k").unwrap();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let table = [
            (0o755, 0o644, true, false),
            (0o755, 0o600, false, false),
            (0o755, 0o640, false, false),
            (0o755, 0o602, false, true),
            (0o700, 0o666, false, false),
        ];
        for (above, own, read, write) in table {
            set(folder.path(), above);
            set(&file, own);
            let open = open_to_others(&file);
            assert_eq!(open, Open { read, write }, "{above:o} {own:o}");
            let finding = judge_open(&file, open, "a secret");
            assert_eq!(finding.is_some(), read || write, "{finding:?}");
        }
        let gone = open_to_others(&folder.path().join("gone"));
        assert!(!gone.read && !gone.write);
    }

    #[test]
    fn a_configuration_without_database_and_account_has_a_line_for_each_thing_that_is_missing() {
        let findings = findings(&Config::default());
        let said: Vec<_> = findings.iter().map(Finding::lines).collect();
        let said = said.join("\n");
        for part in ["DATABASE_URL", "FEATHER_BASE_URL", "FEATHER_API_KEY_FILE"] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(said.matches("failed ").count(), 3, "{said}");
    }
}
