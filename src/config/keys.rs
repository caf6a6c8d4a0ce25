//! The keys there are, and which of them somebody meant.

/// Every key outside `[accounts]`, as `section.key`.
pub(super) const KEYS: &[&str] = &[
    "database.url",
    "database.max_connections",
    "database.listen_url",
    "database.prepared_statements",
    "database.require_tls",
    "api.request_timeout",
    "api.connect_timeout",
    "api.max_body_bytes",
    "worker.concurrency",
    "worker.lease",
    "worker.poll_interval",
    "worker.batch_size",
    "worker.shutdown_grace",
    "retry.initial",
    "retry.multiplier",
    "retry.max",
    "retry.max_attempts",
    "retry.max_server_delay",
    "settle.done",
    "settle.in_progress",
    "settle.failed",
    "settle.not_active",
    "settle.initial",
    "settle.max",
    "settle.deadline",
    "reconcile.interval",
    "reconcile.refresh_after",
    "reconcile.budget_share",
    "retention.attempts",
    "admin.listen",
    "admin.token_file",
    "log.format",
    "log.filter",
];

/// Every key of `[accounts.NAME]`.
pub(super) const ACCOUNT_KEYS: &[&str] = &[
    "base_url",
    "api_key_file",
    "api_key_env",
    "requests_per_minute",
    "max_in_flight",
];

/// The one of `candidates` that is spelled most like `written`.
pub(super) fn nearest<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // The comparison is quadratic in length, and nobody misspells a key into hundreds of letters.
    let written: String = written.chars().take(100).collect::<String>().to_lowercase();
    let likeness = |candidate: &str| {
        let own = |dotted: &str| dotted.rsplit('.').next().unwrap_or_default().to_owned();
        // A right key under a wrong section is a likelier slip than a wrong key under the right one.
        let key_alone = strsim::normalized_damerau_levenshtein(&own(&written), &own(candidate));
        key_alone * 0.8 + strsim::normalized_damerau_levenshtein(&written, candidate)
    };
    candidates
        .into_iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_key_finds_its_neighbour() {
        for (written, meant) in [
            ("worker.leese", "worker.lease"),
            ("worker.max_attempts", "retry.max_attempts"),
            ("lease", "worker.lease"),
            ("database.pool_max_connections", "database.max_connections"),
            ("settle.in-progress", "settle.in_progress"),
            ("retry.max_attempt", "retry.max_attempts"),
            ("wrker.lease", "worker.lease"),
        ] {
            assert_eq!(
                nearest(written, KEYS.iter().copied()),
                Some(meant),
                "{written}"
            );
        }
    }
}
