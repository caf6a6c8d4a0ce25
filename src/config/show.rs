//! The effective configuration as text that can be read by people and, secrets aside, read back.

use std::fmt::Display;
use std::fmt::Write;

use toml::Value;

use crate::config::Config;
use crate::config::KeySource;
use crate::config::Origin;
use crate::config::account;
use crate::config::redacted_url;
use crate::config::value::format_duration;

pub(super) fn to_toml(config: &Config) -> String {
    let mut page = Page {
        text: String::new(),
        config,
    };
    page.sections();
    page.accounts();
    page.text
}

struct Page<'a> {
    text: String,
    config: &'a Config,
}

impl Page<'_> {
    fn sections(&mut self) {
        let Config {
            database,
            api,
            worker,
            retry,
            settle,
            reconcile,
            retention,
            admin,
            log,
            ..
        } = self.config;
        let off = || "off".to_owned();

        self.line("[database]");
        self.optional(
            "database.url",
            database.url.as_ref().map(|url| quoted(redacted_url(url))),
        );
        self.key("database.max_connections", database.max_connections);
        self.optional(
            "database.listen_url",
            database
                .listen_url
                .as_ref()
                .map(|url| quoted(redacted_url(url))),
        );
        self.key("database.prepared_statements", database.prepared_statements);
        self.key("database.require_tls", database.require_tls);
        self.line("\n[api]");
        self.key(
            "api.request_timeout",
            quoted(format_duration(api.request_timeout)),
        );
        self.key(
            "api.connect_timeout",
            quoted(format_duration(api.connect_timeout)),
        );
        self.key("api.max_body_bytes", api.max_body_bytes);
        self.line("\n[worker]");
        self.key("worker.concurrency", worker.concurrency);
        self.key("worker.lease", quoted(format_duration(worker.lease)));
        self.key(
            "worker.poll_interval",
            quoted(format_duration(worker.poll_interval)),
        );
        self.key("worker.batch_size", worker.batch_size);
        self.key(
            "worker.shutdown_grace",
            quoted(format_duration(worker.shutdown_grace)),
        );
        self.line("\n[retry]");
        self.key("retry.initial", quoted(format_duration(retry.initial)));
        self.key("retry.multiplier", Value::Float(retry.multiplier));
        self.key("retry.max", quoted(format_duration(retry.max)));
        self.key("retry.max_attempts", retry.max_attempts);
        self.key(
            "retry.max_server_delay",
            quoted(format_duration(retry.max_server_delay)),
        );
        self.line("\n[settle]");
        self.key("settle.done", list(&settle.done));
        self.key("settle.in_progress", list(&settle.in_progress));
        self.key("settle.failed", list(&settle.failed));
        self.key("settle.not_active", list(&settle.not_active));
        self.key("settle.initial", quoted(format_duration(settle.initial)));
        self.key("settle.max", quoted(format_duration(settle.max)));
        self.key("settle.deadline", quoted(format_duration(settle.deadline)));
        self.line("\n[reconcile]");
        self.key(
            "reconcile.interval",
            quoted(reconcile.interval.map_or_else(off, format_duration)),
        );
        self.key(
            "reconcile.refresh_after",
            quoted(reconcile.refresh_after.map_or_else(off, format_duration)),
        );
        self.key("reconcile.budget_share", reconcile.budget_share.to_string());
        self.line("\n[retention]");
        self.key(
            "retention.attempts",
            quoted(format_duration(retention.attempts)),
        );
        self.line("\n[admin]");
        self.key(
            "admin.listen",
            quoted(admin.listen.map_or_else(off, |address| address.to_string())),
        );
        self.optional(
            "admin.token_file",
            admin
                .token_file
                .as_ref()
                .map(|path| quoted(path.display().to_string())),
        );
        self.line("\n[log]");
        self.key("log.format", quoted(log.format.as_str().to_owned()));
        self.key("log.filter", quoted(log.filter.clone()));
    }

    fn accounts(&mut self) {
        let config = self.config;
        for (name, declared) in &config.declared_accounts {
            let origin = |key: &str| config.origins.get(&account::dotted(name, key));
            self.line(&format!("\n[accounts.{}]", key_name(name)));
            match &declared.base_url {
                Some(url) => self.set("base_url", quoted(url.clone()), origin("base_url")),
                None => self.line("# base_url is not set"),
            }
            let key_origin = account::key_origin(&config.origins, name);
            match &declared.key {
                Some(KeySource::File(path)) => self.set(
                    "api_key_file",
                    quoted(path.display().to_string()),
                    key_origin,
                ),
                Some(KeySource::Env { name, .. }) => {
                    self.set("api_key_env", quoted(name.clone()), key_origin);
                }
                Some(KeySource::Value(_)) => self.line("# the API key is given directly"),
                None => self.line("# neither api_key_file nor api_key_env is set"),
            }
            self.set(
                "requests_per_minute",
                declared.requests_per_minute,
                origin("requests_per_minute"),
            );
            if let Some(calls) = declared.max_in_flight {
                self.set("max_in_flight", calls, origin("max_in_flight"));
            }
        }
    }

    fn key(&mut self, dotted: &'static str, value: impl Display) {
        let (_, key) = dotted.split_once('.').unwrap_or_default();
        self.set(key, value, self.config.origins.get(dotted));
    }

    fn optional(&mut self, dotted: &'static str, value: Option<Value>) {
        let (_, key) = dotted.split_once('.').unwrap_or_default();
        match value {
            Some(value) => self.key(dotted, value),
            None => self.line(&format!("# {key} is not set")),
        }
    }

    fn set(&mut self, key: &str, value: impl Display, origin: Option<&Origin>) {
        match origin {
            None | Some(Origin::Default) => self.line(&format!("{key} = {value}")),
            Some(origin) => self.line(&format!(
                "{key} = {value}  # {}",
                on_one_line(&origin.to_string())
            )),
        }
    }

    fn line(&mut self, line: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

/// A path may hold anything, a newline too, which would end the comment it stands in.
fn on_one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

fn quoted(text: String) -> Value {
    Value::String(text)
}

fn list(words: &[String]) -> Value {
    Value::Array(words.iter().cloned().map(Value::String).collect())
}

fn key_name(name: &str) -> String {
    let is_bare = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if is_bare {
        name.to_owned()
    } else {
        quoted(name.to_owned()).to_string()
    }
}
