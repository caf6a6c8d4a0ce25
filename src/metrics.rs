//! Every metric, with its name, help and labels. Reading them touches no table: gauges of the queue are set from the
//! cached counts by the upkeep loop.

mod labels;

pub use labels::OfAccount;
pub use labels::OfAttempt;
pub use labels::OfBuild;
pub use labels::OfCall;
pub use labels::OfChange;
pub use labels::OfKind;
pub use labels::OfPause;
pub use labels::OfQueue;
pub use labels::OfReconcile;
pub use labels::OfRequest;
pub use labels::OfState;

use crate::domain::AccountName;
use crate::domain::CallKind;
use crate::domain::ErrorClass;
use crate::domain::Outcome;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

type FloatGauge = Gauge<f64, AtomicU64>;
type FloatCounter = Counter<f64, AtomicU64>;
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Reasons of `account_paused`.
pub const PAUSE_REASONS: [&str; 4] = ["operator", "unknown_account", "auth", "rate_limited"];

/// Outcomes of `reconciles`.
pub const RECONCILE_OUTCOMES: [&str; 3] = ["done", "short", "failed"];

/// The metrics of one process. Fields are named as the metrics are, without prefix and `_total`.
#[expect(missing_docs, reason = "the help texts below say it")]
pub struct Metrics {
    registry: Registry,
    pub queue_jobs: Family<OfQueue, Gauge>,
    pub requests_waiting: Gauge,
    pub queue_oldest_due_seconds: Family<OfAccount, FloatGauge>,
    pub attempts: Family<OfAttempt, Counter>,
    pub api_requests: Family<OfRequest, Counter>,
    pub api_request_duration_seconds: Histograms<OfCall>,
    pub time_to_sync_seconds: Histograms<OfAccount>,
    pub in_flight: Family<OfAccount, Gauge>,
    pub account_paused: Family<OfPause, Gauge>,
    pub account_pace: Family<OfAccount, FloatGauge>,
    pub rate_budget_used_ratio: Family<OfAccount, FloatGauge>,
    pub rate_wait_seconds: Family<OfAccount, FloatCounter>,
    pub tools_changed: Family<OfChange, Counter>,
    pub reconciles: Family<OfReconcile, Counter>,
    pub leases_lost: Counter,
    pub attempts_crashed: Counter,
    pub store_batch_jobs: Histogram,
    pub db_pool_connections: Family<OfState, Gauge>,
    pub db_oldest_snapshot_seconds: FloatGauge,
    pub db_errors: Family<OfKind, Counter>,
    pub listener_reconnects: Counter,
    pub process_start_time_seconds: FloatGauge,
}

fn call_seconds() -> Histogram {
    Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0])
}

fn sync_seconds() -> Histogram {
    Histogram::new([
        0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0,
    ])
}

impl Metrics {
    /// Makes the metrics of a process that started at `started_at`, with a series for everything that is known beforehand.
    pub fn new(
        accounts: &[AccountName],
        db_error_kinds: &[&'static str],
        started_at: SystemTime,
    ) -> Self {
        let mut registry = Registry::with_prefix("feather_sync");
        macro_rules! register {
            ($name:literal, $help:literal, $metric:expr) => {{
                let metric = $metric;
                registry.register($name, $help, metric.clone());
                metric
            }};
        }
        let build_info = register!(
            "build_info",
            "Version and revision of this program",
            Family::<OfBuild, Gauge>::default()
        );
        build_info
            .get_or_create(&OfBuild {
                version: env!("CARGO_PKG_VERSION"),
                revision: env!("FEATHER_SYNC_REVISION"),
            })
            .set(1);
        let calls: Histograms<OfCall> = Family::new_with_constructor(call_seconds);
        let syncs: Histograms<OfAccount> = Family::new_with_constructor(sync_seconds);
        let metrics = Self {
            queue_jobs: register!("queue_jobs", "Jobs in the queue", Family::default()),
            requests_waiting: register!(
                "requests_waiting",
                "Requests not yet taken in",
                Gauge::default()
            ),
            queue_oldest_due_seconds: register!(
                "queue_oldest_due_seconds",
                "How long the oldest due job has been due; 0 when none is",
                Family::default()
            ),
            attempts: register!("attempts", "Attempts that ended", Family::default()),
            api_requests: register!(
                "api_requests",
                "Requests to the API by status code, or error",
                Family::default()
            ),
            api_request_duration_seconds: register!(
                "api_request_duration_seconds",
                "From sending a request to its full answer",
                calls
            ),
            time_to_sync_seconds: register!(
                "time_to_sync_seconds",
                "From the later of requested_at and run_at to the synced row being visible",
                syncs
            ),
            in_flight: register!("in_flight", "Calls under way", Family::default()),
            account_paused: register!(
                "account_paused",
                "1 while the account is paused for this reason",
                Family::default()
            ),
            account_pace: register!(
                "account_pace",
                "Part of requests_per_minute that is drawn; below 1 after refusals, until it has climbed back",
                Family::default()
            ),
            rate_budget_used_ratio: register!(
                "rate_budget_used_ratio",
                "Calls of this process in the last 60 s as a part of requests_per_minute",
                Family::default()
            ),
            rate_wait_seconds: register!(
                "rate_wait_seconds",
                "Time in which due work waited for the rate budget",
                Family::default()
            ),
            tools_changed: register!(
                "tools_changed",
                "Tools added, changed and removed",
                Family::default()
            ),
            reconciles: register!(
                "reconciles",
                "Comparisons of the API's list with the tables; short: more than half of what is held was not listed",
                Family::default()
            ),
            leases_lost: register!(
                "leases_lost",
                "Results thrown away because the lease was lost",
                Counter::default()
            ),
            attempts_crashed: register!(
                "attempts_crashed",
                "Attempts whose lease ran out, found by this process",
                Counter::default()
            ),
            store_batch_jobs: register!(
                "store_batch_jobs",
                "Attempts committed together",
                Histogram::new([1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0])
            ),
            db_pool_connections: register!(
                "db_pool_connections",
                "Database connections",
                Family::default()
            ),
            db_oldest_snapshot_seconds: register!(
                "db_oldest_snapshot_seconds",
                "Age of the oldest transaction that keeps the database from cleaning up; 0 when none is seen",
                Gauge::default()
            ),
            db_errors: register!("db_errors", "Failed database operations", Family::default()),
            listener_reconnects: register!(
                "listener_reconnects",
                "Times the listening connection was made anew",
                Counter::default()
            ),
            process_start_time_seconds: register!(
                "process_start_time_seconds",
                "When this process started, in seconds since 1970",
                Gauge::default()
            ),
            registry,
        };
        let since_epoch = started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        metrics
            .process_start_time_seconds
            .set(since_epoch.as_secs_f64());
        for account in accounts {
            metrics.begin_series(account.as_str());
        }
        for kind in db_error_kinds {
            begin(&metrics.db_errors, OfKind { kind });
        }
        for state in ["idle", "busy"] {
            begin(&metrics.db_pool_connections, OfState { state });
        }
        metrics
    }

    /// Series that alerts compare with later values have to exist before the first event.
    fn begin_series(&self, account: &str) {
        let account = || account.to_owned();
        let of_account = || OfAccount { account: account() };
        begin(&self.queue_oldest_due_seconds, of_account());
        begin(&self.time_to_sync_seconds, of_account());
        begin(&self.in_flight, of_account());
        self.account_pace.get_or_create(&of_account()).set(1.0);
        begin(&self.rate_budget_used_ratio, of_account());
        begin(&self.rate_wait_seconds, of_account());
        for phase in ["finalize", "settle"] {
            for state in ["pending", "running", "dead"] {
                begin(
                    &self.queue_jobs,
                    OfQueue {
                        account: account(),
                        state,
                        phase,
                    },
                );
            }
        }
        for reason in PAUSE_REASONS {
            begin(
                &self.account_paused,
                OfPause {
                    account: account(),
                    reason,
                },
            );
        }
        for change in ["added", "changed", "removed"] {
            begin(
                &self.tools_changed,
                OfChange {
                    account: account(),
                    change,
                },
            );
        }
        for outcome in RECONCILE_OUTCOMES {
            begin(
                &self.reconciles,
                OfReconcile {
                    account: account(),
                    outcome,
                },
            );
        }
        for kind in CallKind::ALL {
            begin(
                &self.api_request_duration_seconds,
                OfCall {
                    account: account(),
                    kind: kind.as_str(),
                },
            );
            for status in ["200", "error"] {
                let status = status.to_owned();
                begin(
                    &self.api_requests,
                    OfRequest {
                        account: account(),
                        kind: kind.as_str(),
                        status,
                    },
                );
            }
            for outcome in [Outcome::Synced, Outcome::Settling] {
                self.attempt(&account(), kind, outcome, None);
            }
            for class in ErrorClass::ALL {
                for outcome in [Outcome::Retry, Outcome::Dead] {
                    self.attempt(&account(), kind, outcome, Some(class));
                }
            }
        }
    }

    /// The counter of attempts that ended so.
    pub fn attempt(
        &self,
        account: &str,
        kind: CallKind,
        outcome: Outcome,
        class: Option<ErrorClass>,
    ) -> Counter {
        self.attempts
            .get_or_create(&OfAttempt {
                account: account.into(),
                kind: kind.as_str(),
                outcome: outcome.as_str(),
                error_class: class.map_or("", ErrorClass::as_str),
            })
            .clone()
    }

    /// Everything in the text format that Prometheus reads.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Makes a series exist.
fn begin<L, M, C>(family: &Family<L, M, C>, labels: L)
where
    L: Clone + std::hash::Hash + Eq,
    C: prometheus_client::metrics::family::MetricConstructor<M>,
{
    drop(family.get_or_create(&labels));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_contract_has_a_series_from_the_start() {
        let started_at = UNIX_EPOCH + std::time::Duration::from_millis(1_500);
        let text = Metrics::new(&["default".into()], &["timeout"], started_at).encode();
        for name in [
            "queue_jobs{account=\"default\",state=\"pending\",phase=\"finalize\"}",
            "requests_waiting ",
            "queue_oldest_due_seconds{",
            "attempts_total{account=\"default\",kind=\"finalize\",outcome=\"synced\",error_class=\"\"}",
            "api_requests_total{",
            "api_request_duration_seconds_bucket{",
            "time_to_sync_seconds_bucket{",
            "in_flight{",
            "account_paused{account=\"default\",reason=\"auth\"}",
            "account_pace{account=\"default\"} 1.0",
            "rate_budget_used_ratio{",
            "rate_wait_seconds_total{",
            "tools_changed_total{account=\"default\",change=\"removed\"}",
            "reconciles_total{account=\"default\",outcome=\"short\"} 0",
            "leases_lost_total ",
            "attempts_crashed_total ",
            "store_batch_jobs_bucket{",
            "db_pool_connections{state=\"idle\"}",
            "db_errors_total{kind=\"timeout\"}",
            "listener_reconnects_total ",
            "process_start_time_seconds 1.5",
            "build_info{version=",
        ] {
            assert!(
                text.contains(&format!("feather_sync_{name}")),
                "{name} in\n{text}"
            );
        }
    }
}
