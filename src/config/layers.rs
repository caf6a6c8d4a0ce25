//! Sources laid over each other: for each key the strongest source's value, and where it was written.

use std::collections::BTreeMap;

use crate::config::Origin;
use crate::config::Problem;

/// The account there is when none is configured, and that the short environment forms set.
pub(super) const DEFAULT_ACCOUNT: &str = "default";

/// How strong a source is, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    Defaults,
    File,
    Credential,
    /// `DATABASE_URL` and the other short forms.
    ShortEnv,
    /// `FEATHER_SYNC__SECTION__KEY`.
    Env,
}

/// A value before anybody has asked what type it should be. No `Debug`: it may be a secret.
#[derive(Clone)]
pub(super) enum Raw {
    /// A quoted string, or the text of an environment variable, which can stand for any type.
    Text(String),
    /// A number or boolean of the file, as written.
    Bare(String),
    /// A list of strings.
    List(Vec<String>),
    /// Something no key takes, by its TOML name.
    Other(&'static str),
}

#[derive(Clone)]
pub(super) struct Setting {
    pub(super) raw: Raw,
    pub(super) origin: Origin,
    pub(super) layer: Layer,
}

#[derive(Default)]
pub(super) struct Layers {
    /// By dotted key.
    pub(super) settings: BTreeMap<&'static str, Setting>,
    /// By account, then key.
    pub(super) accounts: BTreeMap<String, BTreeMap<&'static str, Setting>>,
}

impl Layers {
    pub(super) fn set(&mut self, key: &'static str, setting: Setting) {
        lay(&mut self.settings, key, setting);
    }

    pub(super) fn set_account(
        &mut self,
        name: &str,
        key: &'static str,
        setting: Setting,
        problems: &mut Vec<Problem>,
    ) {
        let account = self.accounts.entry(name.to_owned()).or_default();
        if let Some(other) = other_key_form(key) {
            match account.get(other) {
                Some(given) if given.layer == setting.layer => problems.push(Problem {
                    origin: Some(setting.origin.clone()),
                    message: format!(
                        "account `{}` gets its API key twice, here and from {}: keep one",
                        name.escape_debug(),
                        given.origin
                    ),
                }),
                Some(given) if given.layer > setting.layer => return,
                Some(_) => {
                    account.remove(other);
                }
                None => {}
            }
        }
        lay(account, key, setting);
    }

    pub(super) fn ensure_an_account(&mut self) {
        if self.accounts.is_empty() {
            self.accounts
                .insert(DEFAULT_ACCOUNT.to_owned(), BTreeMap::new());
        }
    }
}

/// An account has one key, however it is given, so a stronger source's form displaces a weaker one's other form.
fn other_key_form(key: &str) -> Option<&'static str> {
    match key {
        "api_key_file" => Some("api_key_env"),
        "api_key_env" => Some("api_key_file"),
        _ => None,
    }
}

fn lay(settings: &mut BTreeMap<&'static str, Setting>, key: &'static str, setting: Setting) {
    if settings
        .get(key)
        .is_none_or(|lower| lower.layer <= setting.layer)
    {
        settings.insert(key, setting);
    }
}
