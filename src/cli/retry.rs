//! `retry`

use clap::ArgGroup;
use clap::builder::PossibleValuesParser;
use uuid::Uuid;

use crate::cli::arguments;
use crate::cli::failure::Failure;
use crate::cli::invocation::Invocation;
use crate::cli::missing;
use crate::cli::output;
use crate::cli::output::count;
use crate::cli::progress::Progress;
use crate::domain::ErrorClass;
use crate::store::DeadFilter;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  feather-sync retry 3c90c3cc-0d44-4b50-8888-8dd25736052a
  feather-sync retry --dead
  feather-sync retry --dead --class upstream --account acme

A dead job starts afresh. A waiting one is brought forward, but never before a
delay that the API asked for.")]
#[command(group(ArgGroup::new("which").args(["ids", "dead"]).required(true)))]
pub(super) struct RetryArgs {
    /// Ids of connections
    #[arg(value_name = "ID", value_parser = arguments::connection_id)]
    ids: Vec<Uuid>,

    /// All dead jobs
    #[arg(long)]
    dead: bool,

    /// Only those that died of this class of error
    #[arg(long, requires = "dead", conflicts_with = "ids", value_parser = PossibleValuesParser::new(ErrorClass::ALL.map(ErrorClass::as_str)))]
    class: Option<String>,

    /// Only those of this account
    #[arg(long, requires = "dead", conflicts_with = "ids", value_parser = arguments::account)]
    account: Option<String>,
}

pub(super) async fn run(args: RetryArgs, invocation: &Invocation) -> Result<(), Failure> {
    let db = invocation.database().await?;
    let actor = invocation.actor();
    if !args.dead {
        let retried = db.retry(&args.ids, &actor).await?;
        output::print(&format!("made {} due", count(retried.len() as u64, "job")))?;
        return missing::report(&args.ids, &retried, "has no waiting or dead job");
    }

    let filter = DeadFilter {
        account: args.account,
        class: args.class,
    };
    let progress = Progress::new("revived", None, 0);
    let mut revived = 0;
    loop {
        let chunk = db.retry_dead(&filter, &actor).await.map_err(|error| {
            Failure::Failed(format!(
                "{error}; {} had been revived before",
                count(revived, "dead job")
            ))
        })?;
        revived += chunk;
        // Less than a whole chunk was the last one: what dies meanwhile must not keep us here.
        if chunk < u64::from(DeadFilter::CHUNK) {
            break;
        }
        progress.reached(revived);
    }
    progress.end();
    output::print(&format!("revived {}", count(revived, "dead job")))?;
    Ok(())
}
