//! The configuration file, and the built-in one.

use std::borrow::Cow;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;

use crate::config::DEFAULT_TOML;
use crate::config::Env;
use crate::config::Origin;
use crate::config::Problem;
use crate::config::account;
use crate::config::keys::ACCOUNT_KEYS;
use crate::config::keys::KEYS;
use crate::config::keys::nearest;
use crate::config::layers::Layer;
use crate::config::layers::Layers;
use crate::config::layers::Raw;
use crate::config::layers::Setting;

type Entry<'t, 'i> = (&'t Spanned<Cow<'i, str>>, &'t Spanned<DeValue<'i>>);

/// The file to read. One that was named is returned even where it does not exist: that is an error then.
pub(super) fn find(explicit: Option<&Path>, env: &Env, fallback: &Path) -> Option<PathBuf> {
    if let Some(path) = explicit {
        return Some(path.to_owned());
    }
    if let Some(path) = env.get("FEATHER_SYNC_CONFIG") {
        return Some(PathBuf::from(path));
    }
    // A file that exists but may not be looked at must not be passed over in silence.
    fallback
        .try_exists()
        .unwrap_or(true)
        .then(|| fallback.to_owned())
}

pub(super) fn add(path: &Path, layers: &mut Layers, problems: &mut Vec<Problem>) {
    match fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => FileLayer { text: &text, path: Some(path) }.add(layers, problems),
        Ok(Err(_)) => problems.push(Problem {
            origin: None,
            message: format!("{} is not UTF-8 text: save it as UTF-8", path.display()),
        }),
        Err(reason) => problems.push(Problem {
            origin: None,
            message: format!(
                "cannot read the configuration file {}: {reason}; correct --config or FEATHER_SYNC_CONFIG, or make the \
                 file readable to this user",
                path.display()
            ),
        }),
    }
}

pub(super) fn add_defaults(layers: &mut Layers, problems: &mut Vec<Problem>) {
    FileLayer {
        text: DEFAULT_TOML,
        path: None,
    }
    .add(layers, problems);
}

struct FileLayer<'a> {
    text: &'a str,
    /// `None`: the built-in default.
    path: Option<&'a Path>,
}

impl FileLayer<'_> {
    fn add(&self, layers: &mut Layers, problems: &mut Vec<Problem>) {
        let table = match DeTable::parse(self.text) {
            Ok(table) => table,
            Err(error) => {
                // The error's own Display quotes the line, which may hold a password.
                let at = error.span().map_or(0, |span| span.start);
                problems.push(self.problem(
                    at,
                    format!("not valid TOML: {}", error.message().escape_debug()),
                ));
                return;
            }
        };
        for (section, value) in table.get_ref() {
            match value.get_ref() {
                DeValue::Table(accounts) if section.get_ref() == "accounts" => {
                    accounts
                        .iter()
                        .for_each(|entry| self.add_account(entry, layers, problems));
                }
                DeValue::Table(keys) => {
                    keys.iter()
                        .for_each(|entry| self.add_key(section.get_ref(), entry, layers, problems));
                }
                _ => problems.push(self.outside_a_section(section)),
            }
        }
    }

    fn add_key(
        &self,
        section: &str,
        (key, value): Entry<'_, '_>,
        layers: &mut Layers,
        problems: &mut Vec<Problem>,
    ) {
        let written = format!("{section}.{}", key.get_ref());
        match KEYS.iter().find(|known| **known == written) {
            Some(known) => layers.set(known, self.setting(key, value)),
            None => problems.push(self.problem(key.span().start, unknown(&written))),
        }
    }

    fn add_account(
        &self,
        (name, keys): Entry<'_, '_>,
        layers: &mut Layers,
        problems: &mut Vec<Problem>,
    ) {
        let at = name.span().start;
        let name = name.get_ref().as_ref();
        let DeValue::Table(keys) = keys.get_ref() else {
            let message = format!(
                "`accounts.{}` is not a table: keys of an account stand under [accounts.NAME], for example \
                 [accounts.default]",
                name.escape_debug()
            );
            problems.push(self.problem(at, message));
            return;
        };
        if let Err(why) = account::check_name(name) {
            problems.push(self.problem(at, why));
            return;
        }
        layers.accounts.entry(name.to_owned()).or_default();
        for (key, value) in keys {
            match ACCOUNT_KEYS.iter().find(|known| **known == key.get_ref()) {
                Some(known) => layers.set_account(name, known, self.setting(key, value), problems),
                None => problems
                    .push(self.problem(key.span().start, unknown_of_account(name, key.get_ref()))),
            }
        }
    }

    fn outside_a_section(&self, key: &Spanned<Cow<'_, str>>) -> Problem {
        let written = key.get_ref().escape_debug();
        let message = match nearest(key.get_ref(), KEYS.iter().copied())
            .and_then(|known| known.split_once('.'))
        {
            Some((section, known)) => {
                format!(
                    "`{written}` stands outside of any section; did you mean `{known}` under [{section}]?"
                )
            }
            None => format!("`{written}` stands outside of any section"),
        };
        self.problem(key.span().start, message)
    }

    fn setting(&self, key: &Spanned<Cow<'_, str>>, value: &Spanned<DeValue<'_>>) -> Setting {
        let layer = if self.path.is_some() {
            Layer::File
        } else {
            Layer::Defaults
        };
        Setting {
            raw: raw(value.get_ref()),
            origin: self.origin(key.span().start),
            layer,
        }
    }

    fn problem(&self, at: usize, message: String) -> Problem {
        Problem {
            origin: Some(self.origin(at)),
            message,
        }
    }

    fn origin(&self, at: usize) -> Origin {
        match self.path {
            None => Origin::Default,
            Some(path) => {
                let line = 1 + self
                    .text
                    .bytes()
                    .take(at)
                    .filter(|byte| *byte == b'\n')
                    .count();
                Origin::File {
                    path: path.to_owned(),
                    line,
                }
            }
        }
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.clone().into_owned()),
        DeValue::Integer(number) => Raw::Bare(number.to_string()),
        DeValue::Float(number) => Raw::Bare(number.to_string()),
        DeValue::Boolean(flag) => Raw::Bare(flag.to_string()),
        DeValue::Array(values) => list(values.iter().map(Spanned::get_ref)),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}

fn list<'t, 'i: 't>(values: impl Iterator<Item = &'t DeValue<'i>>) -> Raw {
    let strings = values.map(|value| match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        _ => None,
    });
    strings.collect::<Option<Vec<_>>>().map_or(
        Raw::Other("a list with something other than strings"),
        Raw::List,
    )
}

/// A list as an environment variable gives it: the right-hand side of a TOML key.
pub(super) fn list_from_text(text: &str) -> Option<Vec<String>> {
    match raw(DeValue::parse(text).ok()?.get_ref()) {
        Raw::List(words) => Some(words),
        _ => None,
    }
}

fn unknown(written: &str) -> String {
    let meant = nearest(written, KEYS.iter().copied()).unwrap_or_default();
    format!(
        "`{}` is not a key; did you mean `{meant}`?",
        written.escape_debug()
    )
}

fn unknown_of_account(name: &str, key: &str) -> String {
    let (name, written) = (name.escape_debug(), key.escape_debug());
    if key == "api_key" {
        return format!(
            "`accounts.{name}.api_key` is not a key: API keys are not written into the configuration; name a file with \
             `api_key_file`, or an environment variable with `api_key_env`"
        );
    }
    let meant = nearest(key, ACCOUNT_KEYS.iter().copied()).unwrap_or_default();
    format!("`accounts.{name}.{written}` is not a key; did you mean `accounts.{name}.{meant}`?")
}
