//! `cancel`

use uuid::Uuid;

use crate::cli::arguments;
use crate::cli::failure::Failure;
use crate::cli::invocation::Invocation;
use crate::cli::missing;
use crate::cli::output;
use crate::cli::output::count;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  feather-sync cancel 3c90c3cc-0d44-4b50-8888-8dd25736052a

A call that is under way goes on, but its answer is not written. Who cancelled
stays on record.")]
pub(super) struct CancelArgs {
    /// Ids of connections
    #[arg(value_name = "ID", required = true, value_parser = arguments::connection_id)]
    ids: Vec<Uuid>,
}

pub(super) async fn run(args: CancelArgs, invocation: &Invocation) -> Result<(), Failure> {
    let db = invocation.database().await?;
    let cancelled = db.cancel(&args.ids, &invocation.actor()).await?;
    output::print(&format!(
        "cancelled {}",
        count(cancelled.len() as u64, "sync")
    ))?;
    missing::report(&args.ids, &cancelled, "is not in the queue")
}
