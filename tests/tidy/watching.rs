//! What watches the daemon: alerts, their tests and the dashboard ask for metrics that the program has.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use feather_sync::metrics::Metrics;
use feather_sync::store::StoreError;

const FOLDERS: [&str; 2] = ["alerts", "dashboards"];
const PREFIX: &str = "feather_sync_";
/// What a histogram has beside its own name.
const PARTS: [&str; 3] = ["_bucket", "_count", "_sum"];

pub(crate) fn violations(root: &Path, files: &[PathBuf]) -> Vec<String> {
    let accounts = ["default".to_owned().into()];
    let metrics = Metrics::new(&accounts, &StoreError::KINDS, UNIX_EPOCH);
    let known = names(&metrics.encode());
    let is_known = |name: &String| {
        let histogram = PARTS.iter().find_map(|part| name.strip_suffix(part));
        known.contains(name) || histogram.is_some_and(|name| known.contains(name))
    };
    let watching = |file: &&PathBuf| FOLDERS.iter().any(|folder| file.starts_with(folder));
    let unknown = files.iter().filter(watching).flat_map(|file| {
        let mut asked = names(&super::read(root, file));
        asked.retain(|name| !is_known(name));
        asked
            .into_iter()
            .map(move |name| format!("{}: {name} is no metric of ours", file.display()))
    });
    unknown.collect()
}

fn names(text: &str) -> BTreeSet<String> {
    let is_name = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_';
    text.match_indices(PREFIX)
        .map(|(at, _)| text[at..].chars().take_while(is_name).collect())
        .collect()
}

#[test]
fn an_alert_on_a_metric_that_is_not_there_is_found() {
    let rules = "expr: rate(feather_sync_attempts_total[5m]) > feather_sync_atempts_total";
    let found = super::planted(&[("alerts/prometheus.yml", rules)]);
    assert!(
        found.concat().contains("feather_sync_atempts_total is no") && found.len() == 1,
        "{found:?}"
    );
    let query = "{\"expr\": \"feather_sync_time_to_sync_seconds_bucket\"}";
    assert!(super::planted(&[("dashboards/grafana.json", query)]).is_empty());
}
