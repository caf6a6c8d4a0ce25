//! `resume`

use crate::cli::arguments;
use crate::cli::failure::Failure;
use crate::cli::invocation::Invocation;
use crate::cli::output;
use crate::cli::output::harmless;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  feather-sync resume default

A pause by the API itself (a refused key, a rate limit) ends with the next call
that succeeds; resume makes that call due.")]
pub(super) struct ResumeArgs {
    /// Name of the account
    #[arg(value_name = "ACCOUNT", value_parser = arguments::account)]
    account: String,
}

pub(super) async fn run(args: ResumeArgs, invocation: &Invocation) -> Result<(), Failure> {
    let db = invocation.database().await?;
    let account = harmless(&args.account);
    if db.resume(&args.account, &invocation.actor()).await? {
        output::print(&format!("resumed {account}"))?;
        return Ok(());
    }
    let accounts = db.accounts().await?;
    if accounts.iter().any(|row| row.account == args.account) {
        output::print(&format!("{account} was not paused"))?;
        return Ok(());
    }
    let known: Vec<_> = accounts.iter().map(|row| harmless(&row.account)).collect();
    Err(Failure::Failed(format!(
        "there is no account {account}; known are: {}",
        known.join(", ")
    )))
}
