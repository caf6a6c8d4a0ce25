//! Rules between keys, each broken one reported with both values and where they come from.

use std::fmt::Display;
use std::str::FromStr;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::Config;
use crate::config::Origin;
use crate::config::Problem;
use crate::config::value::format_duration;
use crate::config::value::shown;

pub(super) fn check(config: &Config, problems: &mut Vec<Problem>) {
    check_order(config, problems);
    check_settle_words(config, problems);
    check_admin(config, problems);
    if let Err(message) = log_filter(&config.log.filter) {
        problems.push(Problem {
            origin: config.origins.get("log.filter").cloned(),
            message,
        });
    }
}

fn check_order(config: &Config, problems: &mut Vec<Problem>) {
    let Config {
        api,
        worker,
        retry,
        settle,
        ..
    } = config;
    let named = |key, value| Named {
        key,
        value: format_duration(value),
        origin: config.origins.get(key),
    };
    let mut at_most = |small: (&'static str, _), large: (&'static str, _)| {
        if small.1 > large.1 {
            let (small, large) = (named(small.0, small.1), named(large.0, large.1));
            let message = format!("{small} must not be longer than {large}: change one of them");
            problems.push(Problem {
                origin: None,
                message,
            });
        }
    };
    at_most(
        ("api.connect_timeout", api.connect_timeout),
        ("api.request_timeout", api.request_timeout),
    );
    at_most(("retry.initial", retry.initial), ("retry.max", retry.max));
    at_most(
        ("settle.initial", settle.initial),
        ("settle.max", settle.max),
    );

    if api.request_timeout >= worker.lease {
        let request = named("api.request_timeout", api.request_timeout);
        let lease = named("worker.lease", worker.lease);
        let message = format!(
            "{request} must be shorter than {lease}, or jobs are lost while their call runs: change one of them"
        );
        problems.push(Problem {
            origin: None,
            message,
        });
    }
}

fn check_settle_words(config: &Config, problems: &mut Vec<Problem>) {
    let settle = &config.settle;
    let lists = [
        ("settle.done", &settle.done),
        ("settle.in_progress", &settle.in_progress),
        ("settle.failed", &settle.failed),
    ];
    for (index, (key, words)) in lists.iter().enumerate() {
        for (other_key, others) in lists.iter().skip(index + 1) {
            for word in words
                .iter()
                .filter(|word| others.iter().any(|other| other.eq_ignore_ascii_case(word)))
            {
                let named = |key| Named {
                    key,
                    value: shown(word),
                    origin: config.origins.get(key),
                };
                let message = format!(
                    "{} stands in {} too: a word means one thing, keep one",
                    named(key),
                    named(other_key)
                );
                problems.push(Problem {
                    origin: None,
                    message,
                });
            }
        }
    }
}

fn check_admin(config: &Config, problems: &mut Vec<Problem>) {
    if let Some(listen) = config.admin.listen
        && !listen.ip().to_canonical().is_loopback()
        && config.admin.token_file.is_none()
    {
        problems.push(Problem {
            origin: config.origins.get("admin.listen").cloned(),
            message: format!(
                "`admin.listen` is {listen}, which others can reach, but there is no token: set `token_file` under [admin], \
                 or listen on 127.0.0.1"
            ),
        });
    }
}

/// The filter, if every directive of it can be understood.
pub(super) fn log_filter(text: &str) -> Result<EnvFilter, String> {
    const FORM: &str = "\"info\" or \"info,feather_sync::worker=debug\"";
    // To the parser a bare word that is no level names a module, so that "inof" would silence everything else.
    let is_bare = |word: &&str| {
        !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_alphanumeric() || c == '_' || c == '-')
    };
    let mut bare_words = text.split(',').map(str::trim).filter(is_bare);
    if let Some(word) = bare_words.find(|word| LevelFilter::from_str(word).is_err()) {
        let word = shown(word);
        return Err(format!(
            "`log.filter`: {word} is not off, error, warn, info, debug or trace: write it like {FORM}"
        ));
    }
    EnvFilter::builder()
        .parse(text)
        .map_err(|_| format!("`log.filter` is {}, but must read like {FORM}", shown(text)))
}

struct Named<'a> {
    key: &'static str,
    value: String,
    origin: Option<&'a Origin>,
}

impl Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` ({}", self.key, self.value)?;
        if let Some(origin) = self.origin {
            write!(f, ", {origin}")?;
        }
        f.write_str(")")
    }
}
