//! From the layers to the sections: each key's value as the type it demands.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;

use crate::config::Admin;
use crate::config::Api;
use crate::config::Config;
use crate::config::Database;
use crate::config::DeclaredAccount;
use crate::config::Env;
use crate::config::KeySource;
use crate::config::Log;
use crate::config::Origin;
use crate::config::Problem;
use crate::config::Reconcile;
use crate::config::Retention;
use crate::config::Retry;
use crate::config::Settle;
use crate::config::Worker;
use crate::config::account;
use crate::config::database;
use crate::config::layers::Layers;
use crate::config::layers::Raw;
use crate::config::layers::Setting;
use crate::config::url;
use crate::config::value;

/// This daemon's share of the organisation's 6,000 requests a minute, where an account does not say.
const REQUESTS_PER_MINUTE: u32 = 3000;

const A_MILLISECOND: Duration = Duration::from_millis(1);

/// Takes values out of the layers. A value that cannot be read is reported and stands as its type's default from there
/// on: with a problem reported, no configuration comes of it.
pub(super) struct Reader<'a> {
    layers: &'a Layers,
    env: &'a Env,
    problems: &'a mut Vec<Problem>,
    origins: BTreeMap<String, Origin>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: &'a Layers, env: &'a Env, problems: &'a mut Vec<Problem>) -> Self {
        Self {
            layers,
            env,
            problems,
            origins: BTreeMap::new(),
        }
    }

    pub(super) fn config(mut self) -> Config {
        Config {
            database: self.database(),
            api: self.api(),
            worker: self.worker(),
            retry: self.retry(),
            settle: self.settle(),
            reconcile: Reconcile {
                interval: self.get("reconcile.interval", value::interval),
                refresh_after: self.get("reconcile.refresh_after", value::interval),
                budget_share: self.get("reconcile.budget_share", |raw| {
                    value::factor(raw, 0.01..=1.0)
                }),
            },
            retention: Retention {
                attempts: self.duration("retention.attempts", Duration::ZERO),
            },
            admin: Admin {
                listen: self.get("admin.listen", value::listen),
                token_file: self.optional("admin.token_file", value::secret_path),
            },
            log: Log {
                format: self.get("log.format", value::log_format),
                filter: self.get("log.filter", |raw| value::text(raw).map(str::to_owned)),
            },
            declared_accounts: self.accounts(),
            file: None,
            origins: self.origins,
        }
    }

    fn database(&mut self) -> Database {
        let require_tls = self.get("database.require_tls", value::flag);
        let env = self.env;
        let url = |raw: &Raw| {
            let written = value::text(raw)?;
            url::database_url(written)?;
            database::prepared(written, require_tls, env).map(SecretString::from)
        };
        Database {
            url: self.optional("database.url", url),
            max_connections: self.count("database.max_connections", 2, 10_000),
            listen_url: self.optional("database.listen_url", url),
            prepared_statements: self.get("database.prepared_statements", value::flag),
            require_tls,
        }
    }

    fn api(&mut self) -> Api {
        Api {
            request_timeout: self.duration("api.request_timeout", A_MILLISECOND),
            connect_timeout: self.duration("api.connect_timeout", A_MILLISECOND),
            max_body_bytes: self.get("api.max_body_bytes", |raw| {
                value::size(raw, 1024..=256 << 20)
            }),
        }
    }

    fn worker(&mut self) -> Worker {
        let poll_range = Duration::from_millis(10)..=Duration::from_secs(60);
        Worker {
            concurrency: self.count("worker.concurrency", 1, 1024),
            lease: self.duration("worker.lease", A_MILLISECOND),
            poll_interval: self.get("worker.poll_interval", |raw| {
                value::duration_within(raw, poll_range)
            }),
            batch_size: self.count("worker.batch_size", 1, 1000),
            shutdown_grace: self.duration("worker.shutdown_grace", Duration::ZERO),
        }
    }

    fn retry(&mut self) -> Retry {
        Retry {
            initial: self.duration("retry.initial", A_MILLISECOND),
            multiplier: self.get("retry.multiplier", |raw| value::factor(raw, 1.0..=1000.0)),
            max: self.duration("retry.max", A_MILLISECOND),
            max_attempts: self.count("retry.max_attempts", 1, 1_000_000),
            max_server_delay: self.duration("retry.max_server_delay", Duration::ZERO),
        }
    }

    fn settle(&mut self) -> Settle {
        Settle {
            done: self.get("settle.done", value::words),
            in_progress: self.get("settle.in_progress", value::words),
            failed: self.get("settle.failed", value::words),
            not_active: self.get("settle.not_active", value::words),
            initial: self.duration("settle.initial", A_MILLISECOND),
            max: self.duration("settle.max", A_MILLISECOND),
            deadline: self.duration("settle.deadline", Duration::ZERO),
        }
    }

    fn accounts(&mut self) -> BTreeMap<String, DeclaredAccount> {
        self.layers
            .accounts
            .iter()
            .map(|(name, settings)| (name.clone(), self.account(name, settings)))
            .collect()
    }

    fn account(
        &mut self,
        name: &str,
        settings: &BTreeMap<&'static str, Setting>,
    ) -> DeclaredAccount {
        let at_least_one = |raw: &Raw| value::count(raw, 1..=1_000_000).map(Some);
        let get = |key: &'static str| (account::dotted(name, key), settings.get(key));

        let (key, setting) = get("base_url");
        let base_url = self.read(&key, setting, |raw| {
            value::text(raw).and_then(url::base_url).map(Some)
        });
        let (key, setting) = get("api_key_file");
        let file = self.read(&key, setting, |raw| value::secret_path(raw).map(Some));
        let (key, setting) = get("api_key_env");
        let variable = self.read(&key, setting, |raw| value::secret_variable(raw).map(Some));
        let (key, setting) = get("requests_per_minute");
        let requests_per_minute = self
            .read(&key, setting, at_least_one)
            .unwrap_or(REQUESTS_PER_MINUTE);
        let (key, setting) = get("max_in_flight");
        let max_in_flight = self.read(&key, setting, at_least_one);

        let from_env = |name: String| {
            let value = self.env.get(&name).map(SecretString::from);
            KeySource::Env { name, value }
        };
        let key = file.map(KeySource::File).or_else(|| variable.map(from_env));
        DeclaredAccount {
            base_url,
            key,
            requests_per_minute,
            max_in_flight,
        }
    }

    fn duration(&mut self, key: &'static str, least: Duration) -> Duration {
        self.get(key, |raw| value::duration(raw, least))
    }

    fn count(&mut self, key: &'static str, least: u32, most: u32) -> u32 {
        self.get(key, |raw| value::count(raw, least..=most))
    }

    fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Raw) -> Result<T, String>,
    ) -> Option<T> {
        self.get(key, |raw| parse(raw).map(Some))
    }

    fn get<T: Default>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Raw) -> Result<T, String>,
    ) -> T {
        self.read(key, self.layers.settings.get(key), parse)
    }

    fn read<T: Default>(
        &mut self,
        key: &str,
        setting: Option<&Setting>,
        parse: impl FnOnce(&Raw) -> Result<T, String>,
    ) -> T {
        let Some(setting) = setting else {
            return T::default();
        };
        self.origins.insert(key.to_owned(), setting.origin.clone());
        parse(&setting.raw).unwrap_or_else(|why| {
            let message = format!("`{}` {why}", key.escape_debug());
            self.problems.push(Problem {
                origin: Some(setting.origin.clone()),
                message,
            });
            T::default()
        })
    }
}
