//! `status`

mod page;

use std::io;
use std::io::IsTerminal;
use std::time::Duration;

use serde::Serialize;

use crate::assessment;
use crate::assessment::Concern;
use crate::assessment::Status;
use crate::cli::failure::Failure;
use crate::cli::invocation::Invocation;
use crate::cli::output;
use crate::cli::output::Reader;
use crate::cli::stop;

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

pub(super) async fn run(args: StatusArgs, invocation: &Invocation) -> Result<(), Failure> {
    let db = invocation.database().await?;
    let clear = args.watch && !args.json && io::stdout().is_terminal();
    print(Status::look(&db).await?, args.json, clear)?;
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
        match Status::look(&db).await {
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
