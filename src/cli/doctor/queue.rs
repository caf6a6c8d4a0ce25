//! Judgement on the daemons that run, and on what they leave undone.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cli::doctor::finding::Check;
use crate::cli::doctor::finding::Finding;
use crate::cli::output::count;
use crate::cli::output::short;
use crate::cli::output::time;
use crate::store::AccountRow;
use crate::store::HealthRow;
use crate::store::ReplicaRow;

/// Due for longer, a job waits for more than its turn.
const OVERDUE: f64 = 300.0;

/// On the running daemons: that there are any, of this version, and that they serve the configured accounts.
pub(super) fn judge_replicas(
    replicas: &[ReplicaRow],
    configured: &[&str],
    own_version: &str,
) -> Vec<Finding> {
    if replicas.is_empty() {
        return vec![Finding::warning(
            Check::Daemons,
            "none is running on this database, so nothing is synced",
            "start one: `systemctl start feather-sync`, or `feather-sync run`",
        )];
    }
    let mut versions: BTreeMap<&str, u64> = BTreeMap::new();
    for replica in replicas {
        *versions.entry(&replica.version).or_default() += 1;
    }
    let running: Vec<_> = versions
        .iter()
        .map(|(version, replicas)| format!("{replicas} of version {version}"))
        .collect();
    let running = format!("running: {}", running.join(", "));
    let mut findings = vec![if versions.keys().eq([&own_version]) {
        Finding::ok(Check::Daemons, running)
    } else {
        Finding::warning(
            Check::Daemons,
            format!("{running}; this program is version {own_version}"),
            "restart the daemons that still run another program, once this one is installed for them",
        )
    }];
    let is_served = |account: &str| {
        replicas
            .iter()
            .any(|replica| replica.accounts.iter().any(|served| served == account))
    };
    for account in configured.iter().filter(|account| !is_served(account)) {
        findings.push(
            Finding::warning(
                Check::Daemons,
                "this configuration has it, and no running daemon serves it",
                "restart the daemons with this configuration",
            )
            .at(format!("account {account}")),
        );
    }
    findings
}

/// On what is paused, dead, overdue, or nobody's.
pub(super) fn judge(
    health: &[HealthRow],
    accounts: &[AccountRow],
    configured: &[&str],
) -> Vec<Finding> {
    let mut findings: Vec<_> = accounts.iter().flat_map(judge_account).collect();
    for row in health {
        findings.extend(judge_health(
            row,
            configured.contains(&row.account.as_str()),
        ));
    }
    if health.is_empty() {
        findings.push(Finding::warning(
            Check::Queue,
            "it is too long to be counted from here, and no daemon has counted it yet",
            "look again once a daemon runs",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            Check::Queue,
            "nothing is paused, dead, overdue or without a daemon that knows its account",
        ));
    }
    findings
}

fn judge_account(row: &AccountRow) -> Vec<Finding> {
    let name = &row.account;
    let warning = |what: String, next: String| {
        Finding::warning(Check::Queue, what, next).at(format!("account {name}"))
    };
    let mut findings = Vec::new();
    if let Some(since) = row.operator_paused_at {
        let by = row.operator_paused_by.as_deref().unwrap_or("an operator");
        findings.push(warning(
            format!("paused by {by} since {}", time(since)),
            format!("`feather-sync resume {name}` lets its work go on"),
        ));
    }
    if let Some(reason) = row.pause_reason.as_deref() {
        let said = row
            .pause_error
            .as_deref()
            .map_or_else(String::new, |error| format!(": {}", short(error)));
        let next = match reason {
            "auth" => {
                "put a key that is accepted where the configuration looks for it; it resumes by itself"
            }
            "rate_limited" => {
                "nothing, unless it keeps happening: then lower requests_per_minute, since others use the organisation's \
                 limit too"
            }
            _ => "`feather-sync status` says more",
        };
        findings.push(warning(
            format!("paused by the API ({reason}){said}"),
            next.to_owned(),
        ));
    }
    findings
}

fn judge_health(row: &HealthRow, is_configured: bool) -> Vec<Finding> {
    let name = &row.account;
    let warning = |what: String, next: String| {
        Finding::warning(Check::Queue, what, next).at(format!("account {name}"))
    };
    let number = |number: i64, what| count(number.unsigned_abs(), what);
    let mut findings = Vec::new();
    let waiting = row.pending + row.requests_waiting;
    if row.paused_reason.as_deref() == Some("unknown_account") && waiting > 0 {
        let next = if is_configured {
            "restart the daemons with this configuration, which has it".to_owned()
        } else {
            format!(
                "add [accounts.{name}] to the configuration and restart the daemons; or `feather-sync cancel`, and enqueue \
                 for another account"
            )
        };
        findings.push(warning(
            format!(
                "{} and {} wait for an account that no running daemon knows (unknown_account)",
                number(row.requests_waiting, "request"),
                number(row.pending, "job")
            ),
            next,
        ));
    }
    if row.paused_reason.is_none() && row.oldest_due_seconds > OVERDUE {
        let age = Duration::try_from_secs_f64(row.oldest_due_seconds).unwrap_or_default();
        let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
        findings.push(warning(
            format!("{} due, the oldest for {age}", number(row.due, "job")),
            "see `feather-sync status` and \"Other symptoms\" in docs/operating.md: no daemon, a used-up rate budget, or slow \
             calls"
                .to_owned(),
        ));
    }
    if row.dead > 0 {
        findings.push(warning(
            format!("{} dead", number(row.dead, "job")),
            format!(
                "their last_error_class in feather.sync_status says what to mend; then `feather-sync retry --dead \
                 --account {name}`"
            ),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::cli::doctor::finding::Level;

    fn replica(version: &str, accounts: &[&str]) -> ReplicaRow {
        ReplicaRow {
            worker: "w".into(),
            version: version.into(),
            accounts: accounts.iter().map(ToString::to_string).collect(),
            started_at: DateTime::UNIX_EPOCH,
            seen_at: DateTime::UNIX_EPOCH,
            unseen_seconds: 0.0,
        }
    }

    fn health() -> HealthRow {
        HealthRow {
            account: "acme".into(),
            pending: 3,
            due: 1,
            running: 0,
            settling: 0,
            dead: 0,
            requests_waiting: 1,
            oldest_due_seconds: 300.0,
            paused_reason: None,
            synced_last_hour: 0,
            failed_last_hour: 0,
            as_of: DateTime::UNIX_EPOCH,
        }
    }

    fn account() -> AccountRow {
        AccountRow {
            account: "acme".into(),
            requests_per_minute: Some(60),
            pace: 1.0,
            pause_reason: None,
            paused_until: None,
            pause_error: None,
            operator_paused_at: None,
            operator_paused_by: None,
        }
    }

    fn said(findings: &[Finding]) -> String {
        let lines: Vec<_> = findings.iter().map(Finding::lines).collect();
        lines.join("\n")
    }

    #[test]
    fn daemons_that_run_are_of_one_version_and_serve_what_is_configured() {
        type Case<'a> = (&'a [ReplicaRow], &'a [&'a str], &'a [Level], &'a str);
        let one = [replica("2", &["a", "b"])];
        let two = [replica("2", &["a"]), replica("1", &["a"])];
        let table: [Case<'_>; 5] = [
            (&[], &["a"], &[Level::Warning], "none is running"),
            (&one, &["a", "b"], &[Level::Ok], "1 of version 2"),
            (
                &one,
                &["a", "c"],
                &[Level::Ok, Level::Warning],
                "(account c)",
            ),
            (
                &two,
                &["a"],
                &[Level::Warning],
                "1 of version 1, 1 of version 2",
            ),
            (
                &two[1..],
                &["a"],
                &[Level::Warning],
                "this program is version 2",
            ),
        ];
        for (replicas, configured, expected, what) in table {
            let findings = judge_replicas(replicas, configured, "2");
            let levels: Vec<_> = findings.iter().map(|finding| finding.level).collect();
            assert_eq!(levels, expected);
            assert!(said(&findings).contains(what), "{findings:?}");
        }
    }

    #[test]
    fn an_account_at_work_is_nothing_to_speak_of() {
        let findings = judge(&[health()], &[account()], &["acme"]);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].level, Level::Ok);
    }

    #[test]
    fn a_queue_that_nobody_has_counted_is_not_called_empty() {
        let findings = judge(&[], &[account()], &["acme"]);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].level, Level::Warning);
    }

    #[test]
    fn what_is_left_undone_is_a_warning_with_its_number_and_the_command_for_it() {
        let unknown = HealthRow {
            paused_reason: Some("unknown_account".into()),
            ..health()
        };
        let table = [
            (
                HealthRow {
                    dead: 2,
                    ..health()
                },
                true,
                "2 jobs dead",
                "retry --dead --account acme",
            ),
            (
                HealthRow {
                    oldest_due_seconds: 3_661.9,
                    ..health()
                },
                true,
                "1 job due, the oldest for 1h 1m 1s",
                "status",
            ),
            (
                unknown.clone(),
                false,
                "1 request and 3 jobs wait",
                "add [accounts.acme]",
            ),
            (unknown, true, "unknown_account", "restart"),
        ];
        for (row, is_configured, what, next) in table {
            let findings = judge_health(&row, is_configured);
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert_eq!(findings[0].level, Level::Warning);
            let said = said(&findings);
            assert!(said.contains(what) && said.contains(next), "{said}");
        }
        let nothing = HealthRow {
            paused_reason: Some("unknown_account".into()),
            pending: 0,
            requests_waiting: 0,
            ..health()
        };
        assert_eq!(judge_health(&nothing, false), []);
    }

    #[test]
    fn a_paused_account_is_not_overdue_but_paused() {
        let row = HealthRow {
            paused_reason: Some("operator".into()),
            oldest_due_seconds: 9_999.0,
            ..health()
        };
        assert_eq!(judge_health(&row, true), []);
        let by_operator = AccountRow {
            operator_paused_at: Some(DateTime::UNIX_EPOCH),
            operator_paused_by: Some("ann@db".into()),
            ..account()
        };
        let refused = AccountRow {
            pause_reason: Some("auth".into()),
            pause_error: Some("HTTP 401".into()),
            ..account()
        };
        for (row, what, next) in [
            (by_operator, "paused by ann@db since 1970", "resume acme"),
            (refused, "(auth): HTTP 401", "put a key"),
        ] {
            let said = said(&judge_account(&row));
            assert!(said.contains(what) && said.contains(next), "{said}");
        }
    }
}
