//! Statistics by the minute: what a batch adds to them.

use crate::domain::time_to_sync;
use crate::domain::time_to_sync::Histogram;
use crate::store::attempt::AttemptRecord;
use std::collections::BTreeMap;

/// What attempts of one account and one worker add to its minute.
#[derive(Default)]
pub(super) struct Counts<'a> {
    pub(super) synced: i64,
    pub(super) failed: i64,
    pub(super) deferred: i64,
    pub(super) calls: i64,
    failed_by_class: BTreeMap<&'a str, i64>,
    time_to_sync: Option<Histogram>,
}

impl Counts<'_> {
    /// As an object.
    pub(super) fn failed_by_class(&self) -> String {
        serde_json::json!(self.failed_by_class).to_string()
    }

    /// As a `bigint[]`; arrays of arrays do not unnest into rows of arrays.
    pub(super) fn time_to_sync(&self) -> Option<String> {
        let counts = self.time_to_sync?.map(|count| count.to_string());
        Some(format!("{{{}}}", counts.join(",")))
    }
}

/// By account and worker, in this order.
pub(super) fn counts<'a>(
    records: &[AttemptRecord<'a>],
) -> BTreeMap<(&'a str, &'a str), Counts<'a>> {
    let mut all: BTreeMap<(&str, &str), Counts<'_>> = BTreeMap::new();
    for record in records {
        if record.outcome == "cancelled" {
            // An operator's doing, no call.
            continue;
        }
        let counts = all.entry((record.account, record.worker)).or_default();
        counts.calls += 1;
        match record.outcome {
            "synced" => counts.synced += 1,
            "deferred" => counts.deferred += 1,
            "retry" | "dead" | "crashed" => {
                counts.failed += 1;
                let class = record.error_class.unwrap_or("unknown");
                *counts.failed_by_class.entry(class).or_default() += 1;
            }
            _ => {}
        }
        if let Some(took) = record.time_to_sync {
            time_to_sync::count(counts.time_to_sync.get_or_insert_default(), took);
        }
    }
    all
}
