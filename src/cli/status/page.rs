//! The report as a page: a sentence, then tables.

use std::time::Duration;

use crate::cli::output::harmless;
use crate::cli::output::or_dash;
use crate::cli::output::short;
use crate::cli::output::table;
use crate::cli::output::time;
use crate::cli::status::AccountUse;
use crate::cli::status::Report;
use crate::store::AccountRow;
use crate::store::ErrorCount;
use crate::store::HealthRow;
use crate::store::OldestDue;
use crate::store::ReconcileRow;
use crate::store::ReplicaRow;

pub(super) fn page(report: &Report) -> String {
    let status = &report.status;
    let mut parts = vec![
        harmless(&report.summary),
        queue(&status.health),
        oldest_due(&status.oldest_due),
        accounts(&status.accounts),
        replicas(&status.replicas),
    ];
    if !status.reconciles.is_empty() {
        parts.push(reconciles(&status.reconciles));
    }
    parts.push(errors(&status.errors_last_hour));
    parts.join("\n\n")
}

/// `2h 3m 4s`; a dash for less than a second.
pub(super) fn age(seconds: f64) -> String {
    match Duration::try_from_secs_f64(seconds) {
        Ok(age) if age >= Duration::from_secs(1) => {
            humantime::format_duration(Duration::from_secs(age.as_secs())).to_string()
        }
        _ => "-".to_owned(),
    }
}

/// A part of one in percent, rounded down: 100 % is for those that are not held back at all.
pub(super) fn percent(part: f64) -> String {
    format!("{:.0} %", (part * 100.0).floor())
}

fn queue(health: &[HealthRow]) -> String {
    if health.is_empty() {
        return "Queue\n too long to be counted here; a daemon counts it once it runs".to_owned();
    }
    let as_of = or_dash(health.iter().map(|row| row.as_of).min(), time);
    let header = [
        "ACCOUNT",
        "REQUESTS",
        "PENDING",
        "DUE",
        "RUNNING",
        "SETTLING",
        "DEAD",
        "OLDEST DUE",
        "SYNCED/H",
        "FAILED/H",
        "WAITS FOR",
    ];
    let rows = health.iter().map(|row| {
        vec![
            harmless(&row.account),
            row.requests_waiting.to_string(),
            row.pending.to_string(),
            row.due.to_string(),
            row.running.to_string(),
            row.settling.to_string(),
            row.dead.to_string(),
            age(row.oldest_due_seconds),
            row.synced_last_hour.to_string(),
            row.failed_last_hour.to_string(),
            row.paused_reason
                .as_deref()
                .map_or_else(String::new, waits_for),
        ]
    });
    format!("Queue, counted {as_of}\n{}", table(&header, rows))
}

fn waits_for(reason: &str) -> String {
    match reason {
        "operator" => "`feather-sync resume`".to_owned(),
        "unknown_account" => "a daemon that has this account in its configuration".to_owned(),
        "auth" => "an API key that is accepted".to_owned(),
        "rate_limited" => "the API's rate limit".to_owned(),
        other => harmless(other),
    }
}

fn oldest_due(oldest: &[OldestDue]) -> String {
    if oldest.is_empty() {
        return "Due for longest\n nothing is due".to_owned();
    }
    let rows = oldest.iter().map(|row| {
        vec![
            harmless(&row.account),
            row.connection_id.to_string(),
            time(row.due_at),
            age(row.due_seconds),
            harmless(&row.phase),
            row.attempt.to_string(),
        ]
    });
    let header = ["ACCOUNT", "CONNECTION", "SINCE", "FOR", "PHASE", "ATTEMPTS"];
    format!("Due for longest\n{}", table(&header, rows))
}

fn accounts(accounts: &[AccountUse]) -> String {
    let rows = accounts.iter().map(|account| {
        let row = &account.row;
        vec![
            harmless(&row.account),
            account.calls_last_minute.to_string(),
            or_dash(row.requests_per_minute, |limit| limit.to_string()),
            or_dash(account.rate_used_ratio, percent),
            percent(row.pace),
            state(row),
        ]
    });
    let header = [
        "ACCOUNT",
        "CALLS/MIN",
        "LIMIT/MIN",
        "IN USE",
        "PACE",
        "STATE",
    ];
    format!("Accounts\n{}", table(&header, rows))
}

fn state(row: &AccountRow) -> String {
    let mut states = Vec::new();
    if let Some(since) = row.operator_paused_at {
        let by = row.operator_paused_by.as_deref().unwrap_or("an operator");
        states.push(format!("paused by {} since {}", harmless(by), time(since)));
    }
    if let Some(reason) = &row.pause_reason {
        let next = or_dash(row.paused_until, time);
        let error = row
            .pause_error
            .as_deref()
            .map_or_else(String::new, |error| format!(": {}", short(error)));
        states.push(format!(
            "{} by the API, next try {next}{error}",
            harmless(reason)
        ));
    }
    if row.pace < 1.0 {
        states.push(format!(
            "held to {} of its limit after refusals, climbing back",
            percent(row.pace)
        ));
    }
    match (states.is_empty(), row.requests_per_minute) {
        (false, _) => states.join("; "),
        (true, Some(_)) => "works".to_owned(),
        (true, None) => "no daemon has been configured with it yet".to_owned(),
    }
}

fn replicas(replicas: &[ReplicaRow]) -> String {
    if replicas.is_empty() {
        return "Daemons\n none is running; start one: feather-sync run".to_owned();
    }
    let rows = replicas.iter().map(|row| {
        vec![
            harmless(&row.worker),
            harmless(&row.version),
            time(row.started_at),
            time(row.seen_at),
            harmless(&row.accounts.join(", ")),
        ]
    });
    format!(
        "Daemons\n{}",
        table(
            &["NAME", "VERSION", "STARTED", "LAST SEEN", "ACCOUNTS"],
            rows
        )
    )
}

fn reconciles(rows: &[ReconcileRow]) -> String {
    let rows = rows.iter().map(|row| {
        vec![
            harmless(&row.account),
            or_dash(row.finished_at, time),
            or_dash(row.outcome.as_deref(), harmless),
            or_dash(row.held, |held| held.to_string()),
            or_dash(row.listed, |listed| listed.to_string()),
            or_dash(row.absent, |absent| absent.to_string()),
            match &row.worker {
                Some(worker) => format!("under way, by {}", harmless(worker)),
                None => time(row.due_at),
            },
            row.error.as_deref().map_or_else(String::new, short),
        ]
    });
    let header = [
        "ACCOUNT", "LAST", "OUTCOME", "HELD", "LISTED", "ABSENT", "NEXT", "ERROR",
    ];
    format!("Compared with the API's list\n{}", table(&header, rows))
}

fn errors(errors: &[ErrorCount]) -> String {
    if errors.is_empty() {
        return "Errors of the last hour\n none".to_owned();
    }
    let rows = errors.iter().map(|row| {
        vec![
            harmless(&row.account),
            harmless(&row.error_class),
            row.failures.to_string(),
        ]
    });
    format!(
        "Errors of the last hour\n{}",
        table(&["ACCOUNT", "CLASS", "ATTEMPTS"], rows)
    )
}
