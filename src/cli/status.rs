//! `status`

mod assessment;
mod page;

use std::io;
use std::io::IsTerminal;
use std::time::Duration;

use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::invocation::Invocation;
use crate::cli::output;
use crate::cli::output::Reader;
use crate::cli::status::assessment::Concern;
use crate::cli::stop;
use crate::store::AccountRow;
use crate::store::Db;
use crate::store::ErrorCount;
use crate::store::HealthRow;
use crate::store::OldestDue;
use crate::store::OldestRequest;
use crate::store::ReconcileRow;
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
  feather-sync status --json | jq -r .summary
  feather-sync status --json | jq '.health[] | select(.dead > 0)'

The first line says whether all is well, and if not, what to do about the worst.
Counts are at most 15 seconds old, with millions of jobs some minutes, and older
while no daemon runs. Everything else is of this moment.
One connection: feather-sync show ID")]
pub(super) struct StatusArgs {
    /// Print JSON, one line per look
    #[arg(long)]
    json: bool,

    /// Look again every 2 seconds until Ctrl-C
    #[arg(long)]
    watch: bool,
}

/// All that `status` shows, and what to think of it.
#[derive(Debug, Serialize)]
struct Report {
    /// The first line of the page.
    summary: String,
    /// The worst first; none when all is well.
    concerns: Vec<Concern>,
    #[serde(flatten)]
    status: Status,
}

/// What a look finds.
#[derive(Debug, Default, Serialize)]
struct Status {
    health: Vec<HealthRow>,
    accounts: Vec<AccountUse>,
    replicas: Vec<ReplicaRow>,
    /// One per account in which something is due.
    oldest_due: Vec<OldestDue>,
    oldest_request: Option<OldestRequest>,
    errors_last_hour: Vec<ErrorCount>,
    /// One per account that is compared with the API's list.
    reconciles: Vec<ReconcileRow>,
}

/// An account with how much of its limit is in use.
#[derive(Debug, Serialize)]
struct AccountUse {
    #[serde(flatten)]
    row: AccountRow,
    /// Calls of all replicas that began in the last 60 s.
    calls_last_minute: i64,
    /// The same as a part of `requests_per_minute`.
    rate_used_ratio: Option<f64>,
}

impl AccountUse {
    fn new(row: AccountRow, calls: i64) -> Self {
        Self {
            calls_last_minute: calls,
            rate_used_ratio: row
                .requests_per_minute
                .map(|limit| calls as f64 / f64::from(limit.max(1))),
            row,
        }
    }
}

pub(super) async fn run(args: StatusArgs, invocation: &Invocation) -> Result<(), Failure> {
    let db = invocation.database().await?;
    let clear = args.watch && !args.json && io::stdout().is_terminal();
    print(look(&db).await?, args.json, clear)?;
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
                if print(status, args.json, clear)? == Reader::Gone {
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
    let calls = db.calls_last_minute().await?;
    let calls_of = |account: &str| {
        let found = calls.iter().find(|(name, _)| name == account);
        found.map_or(0, |(_, calls)| *calls)
    };
    let accounts = db.accounts().await?.into_iter().map(|row| {
        let calls = calls_of(&row.account);
        AccountUse::new(row, calls)
    });
    Ok(Status {
        accounts: accounts.collect(),
        health: db.health().await?,
        replicas: db.replicas().await?,
        oldest_due: db.oldest_due().await?,
        oldest_request: db.oldest_request().await?,
        errors_last_hour: db.recent_errors().await?,
        reconciles: db.reconciles().await?,
    })
}

fn print(status: Status, json: bool, clear: bool) -> Result<Reader, Failure> {
    let concerns = assessment::concerns(&status);
    let report = Report {
        summary: assessment::summary(&status, &concerns),
        concerns,
        status,
    };
    if json {
        return output::print_json(&report);
    }
    let page = page::page(&report);
    output::print(&if clear {
        format!("{CLEAR}{page}")
    } else {
        page
    })
}
