//! What differs between two readings of the configuration.

use crate::config::Config;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use std::collections::BTreeMap;
use toml::Table;
use toml::Value;

impl Config {
    /// The keys, dotted, whose values are not those of `before`, or that only one of the two has.
    #[must_use]
    pub fn changed_keys(&self, before: &Self) -> Vec<String> {
        let (now, then) = (self.by_key(), before.by_key());
        let mut changed: Vec<String> = now
            .keys()
            .chain(then.keys())
            .filter(|key| now.get(*key) != then.get(*key))
            .cloned()
            .collect();
        // Shown without their passwords, they may look alike.
        let urls = [
            ("database.url", &self.database.url, &before.database.url),
            (
                "database.listen_url",
                &self.database.listen_url,
                &before.database.listen_url,
            ),
        ];
        let differing = urls
            .into_iter()
            .filter(|(_, a, b)| exposed(a) != exposed(b));
        changed.extend(differing.map(|(key, ..)| key.to_owned()));
        changed.sort();
        changed.dedup();
        changed
    }

    fn by_key(&self) -> BTreeMap<String, Value> {
        let mut values = BTreeMap::new();
        // What is shown can be read back; a test sees to it.
        let shown: Table = toml::from_str(&self.to_toml_redacted()).unwrap_or_default();
        add(&mut values, "", shown);
        values
    }
}

fn add(values: &mut BTreeMap<String, Value>, prefix: &str, table: Table) {
    for (key, value) in table {
        let dotted = format!("{prefix}{key}");
        match value {
            Value::Table(table) => add(values, &format!("{dotted}."), table),
            value => _ = values.insert(dotted, value),
        }
    }
}

fn exposed(url: &Option<SecretString>) -> Option<&str> {
    url.as_ref().map(ExposeSecret::expose_secret)
}
