//! `pause`

use crate::cli::arguments;
use crate::cli::failure::Failure;
use crate::cli::invocation::Invocation;
use crate::cli::output;
use crate::cli::output::harmless;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  feather-sync pause default
  feather-sync resume default

It holds for all daemons and outlives restarts. Calls under way finish;
requests are taken in and wait.")]
pub(super) struct PauseArgs {
    /// Name of the account
    #[arg(value_name = "ACCOUNT", value_parser = arguments::account)]
    account: String,
}

pub(super) async fn run(args: PauseArgs, invocation: &Invocation) -> Result<(), Failure> {
    let db = invocation.database().await?;
    let configured = db
        .accounts()
        .await?
        .iter()
        .any(|row| row.account == args.account && row.requests_per_minute.is_some());
    let paused = db.pause(&args.account, &invocation.actor()).await?;
    let account = harmless(&args.account);
    if !configured {
        output::remark(&format!(
            "feather-sync: no daemon has been configured with account {account} yet"
        ));
    }
    output::print(&match paused {
        true => format!("paused {account} until `feather-sync resume {account}`"),
        false => format!("{account} was paused already"),
    })?;
    Ok(())
}
