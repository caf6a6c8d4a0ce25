//! The environment as a source of configuration.

use std::collections::BTreeMap;
use std::env;
use std::fmt;

use crate::config::Origin;
use crate::config::Problem;
use crate::config::account;
use crate::config::keys::ACCOUNT_KEYS;
use crate::config::keys::KEYS;
use crate::config::keys::nearest;
use crate::config::layers::DEFAULT_ACCOUNT;
use crate::config::layers::Layer;
use crate::config::layers::Layers;
use crate::config::layers::Raw;
use crate::config::layers::Setting;

const PREFIX: &str = "FEATHER_SYNC__";

/// Environment variables, handed in so that nothing below `main` reads the process's own. `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Env {
    variables: BTreeMap<String, String>,
}

impl Env {
    /// The variables of this process. Bytes that are not UTF-8 become U+FFFD, which no key or number accepts.
    #[must_use]
    pub fn from_process() -> Self {
        let lossy = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        };
        Self {
            variables: env::vars_os().map(lossy).collect(),
        }
    }

    /// The variable's value; an empty one counts as not set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self {
            variables: variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        }
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

pub(super) fn add(env: &Env, layers: &mut Layers, problems: &mut Vec<Problem>) {
    add_short_forms(env, layers, problems);
    for (name, value) in &env.variables {
        if let Some(path) = name.strip_prefix(PREFIX)
            && !value.is_empty()
        {
            add_variable(name, path, value, layers, problems);
        }
    }
}

fn add_short_forms(env: &Env, layers: &mut Layers, problems: &mut Vec<Problem>) {
    let short = |name: &str, text: &str| setting(name, text, Layer::ShortEnv);
    if let Some(url) = env.get("DATABASE_URL") {
        layers.set("database.url", short("DATABASE_URL", url));
    }
    for (name, key) in [
        ("FEATHER_BASE_URL", "base_url"),
        ("FEATHER_API_KEY_FILE", "api_key_file"),
    ] {
        if let Some(text) = env.get(name) {
            layers.set_account(DEFAULT_ACCOUNT, key, short(name, text), problems);
        }
    }
    if env.get("FEATHER_API_KEY").is_some() {
        let by_name = short("FEATHER_API_KEY", "FEATHER_API_KEY");
        layers.set_account(DEFAULT_ACCOUNT, "api_key_env", by_name, problems);
    }
}

fn add_variable(
    variable: &str,
    path: &str,
    value: &str,
    layers: &mut Layers,
    problems: &mut Vec<Problem>,
) {
    let path = path.to_lowercase();
    let setting = setting(variable, value, Layer::Env);
    let mut refuse = |message: String| {
        problems.push(Problem {
            origin: Some(setting.origin.clone()),
            message,
        });
    };

    let Some(of_account) = path.strip_prefix("accounts__") else {
        let written = path.replace("__", ".");
        match KEYS.iter().find(|known| **known == written) {
            Some(known) => layers.set(known, setting),
            None => {
                let meant = nearest(&written, KEYS.iter().copied()).unwrap_or_default();
                refuse(format!(
                    "not a known key; did you mean {}?",
                    variable_of(meant)
                ));
            }
        }
        return;
    };
    let Some((name, key)) = of_account.rsplit_once("__") else {
        refuse(format!(
            "names no account or no key: write {PREFIX}ACCOUNTS__NAME__BASE_URL, for example"
        ));
        return;
    };
    let Some(known) = ACCOUNT_KEYS.iter().find(|known| **known == key) else {
        let meant = if key == "api_key" {
            "api_key_file"
        } else {
            nearest(key, ACCOUNT_KEYS.iter().copied()).unwrap_or_default()
        };
        let meant = variable_of(&format!("accounts.{name}.{meant}"));
        refuse(format!(
            "not a known key; did you mean {}?",
            meant.escape_debug()
        ));
        return;
    };
    match account_named(name, layers) {
        Ok(name) => layers.set_account(&name, known, setting, problems),
        Err(why) => refuse(why),
    }
}

/// The account that a variable's NAME part means. Variables have no lower case and no hyphen, so an account of the file is
/// matched without regard to them; else NAME in lower case is an account of its own.
fn account_named(name: &str, layers: &Layers) -> Result<String, String> {
    let folded = |name: &str| name.to_lowercase().replace('-', "_");
    let mut matching = layers
        .accounts
        .keys()
        .filter(|known| folded(known) == folded(name));
    match (matching.next(), matching.next()) {
        (Some(one), None) => Ok(one.clone()),
        (Some(one), Some(other)) => Err(format!(
            "could mean account `{}` or `{}`: rename one of them, or set this key in the file",
            one.escape_debug(),
            other.escape_debug()
        )),
        _ => account::check_name(name).map(|()| name.to_owned()),
    }
}

/// `worker.lease` as `FEATHER_SYNC__WORKER__LEASE`.
pub(super) fn variable_of(key: &str) -> String {
    format!(
        "{PREFIX}{}",
        key.replace('.', "__").replace('-', "_").to_uppercase()
    )
}

fn setting(variable: &str, text: &str, layer: Layer) -> Setting {
    Setting {
        raw: Raw::Text(text.to_owned()),
        origin: Origin::Environment(variable.to_owned()),
        layer,
    }
}
