//! `status`

use std::io;
use std::io::IsTerminal;
use std::time::Duration;

use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::invocation::Invocation;
use crate::cli::output;
use crate::cli::output::Reader;
use crate::cli::output::harmless;
use crate::cli::output::or_dash;
use crate::cli::output::short;
use crate::cli::output::table;
use crate::cli::output::time;
use crate::cli::stop;
use crate::store::AccountRow;
use crate::store::Db;
use crate::store::HealthRow;
use crate::store::ReplicaRow;
use crate::store::StoreError;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(2);

/// Moves the cursor home and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  feather-sync status
  feather-sync status --watch
  feather-sync status --json | jq '.health[] | select(.dead > 0)'

Counts are at most 15 seconds old, with millions of jobs some minutes.
One connection: feather-sync show ID")]
pub(super) struct StatusArgs {
    /// Print JSON, one line per look
    #[arg(long)]
    json: bool,

    /// Look again every 2 seconds until Ctrl-C
    #[arg(long)]
    watch: bool,
}

/// All that `status` shows.
#[derive(Debug, Serialize)]
struct Status {
    health: Vec<HealthRow>,
    accounts: Vec<AccountRow>,
    replicas: Vec<ReplicaRow>,
    errors_last_hour: Vec<ErrorCount>,
}

#[derive(Debug, Serialize)]
struct ErrorCount {
    account: String,
    error_class: String,
    failures: i64,
}

pub(super) async fn run(args: StatusArgs, invocation: &Invocation) -> Result<(), Failure> {
    let db = invocation.database().await?;
    let clear = args.watch && !args.json && io::stdout().is_terminal();
    print(&look(&db).await?, args.json, clear)?;
    if !args.watch {
        return Ok(());
    }
    let stopped = stop::asked()?;
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => return Ok(()),
            () = tokio::time::sleep(INTERVAL) => {}
        }
        match look(&db).await {
            Ok(status) => {
                if print(&status, args.json, clear)? == Reader::Gone {
                    return Ok(());
                }
            }
            Err(error) if error.is_passing() => {
                output::remark(&format!("feather-sync: {error}; trying again"));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn look(db: &Db) -> Result<Status, StoreError> {
    Ok(Status {
        health: db.health().await?,
        accounts: db.accounts().await?,
        replicas: db.replicas().await?,
        errors_last_hour: db
            .recent_errors()
            .await?
            .into_iter()
            .map(|(account, error_class, failures)| ErrorCount {
                account,
                error_class,
                failures,
            })
            .collect(),
    })
}

fn print(status: &Status, json: bool, clear: bool) -> Result<Reader, Failure> {
    if json {
        return output::print_json(status);
    }
    let page = [
        queue(&status.health),
        accounts(&status.accounts),
        replicas(&status.replicas),
        errors(&status.errors_last_hour),
    ]
    .join("\n\n");
    output::print(&if clear {
        format!("{CLEAR}{page}")
    } else {
        page
    })
}

fn queue(health: &[HealthRow]) -> String {
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
            oldest(row.oldest_due_seconds),
            row.synced_last_hour.to_string(),
            row.failed_last_hour.to_string(),
            row.paused_reason
                .as_deref()
                .map_or_else(String::new, waits_for),
        ]
    });
    format!("Queue, counted {as_of}\n{}", table(&header, rows))
}

fn oldest(seconds: f64) -> String {
    match Duration::try_from_secs_f64(seconds) {
        Ok(age) if age >= Duration::from_secs(1) => {
            humantime::format_duration(Duration::from_secs(age.as_secs())).to_string()
        }
        _ => "-".to_owned(),
    }
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

fn accounts(accounts: &[AccountRow]) -> String {
    let rows = accounts.iter().map(|row| {
        vec![
            harmless(&row.account),
            or_dash(row.requests_per_minute, |limit| limit.to_string()),
            state(row),
        ]
    });
    format!(
        "Accounts\n{}",
        table(&["ACCOUNT", "REQUESTS/MIN", "STATE"], rows)
    )
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
    // Rounded down: 100 % is for those that are not held back at all.
    if row.pace < 1.0 {
        states.push(format!(
            "held to {:.0} % of its limit after refusals, climbing back",
            (row.pace * 100.0).floor()
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
