//! `forget`

use std::io;
use std::io::IsTerminal;
use std::io::Write;

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
  feather-sync forget 3c90c3cc-0d44-4b50-8888-8dd25736052a
  feather-sync forget --yes 3c90c3cc-0d44-4b50-8888-8dd25736052a

Without a terminal to ask on, --yes is needed. Upstream is not touched. That it
was done, and by whom, stays on record.")]
pub(super) struct ForgetArgs {
    /// Ids of connections
    #[arg(value_name = "ID", required = true, value_parser = arguments::connection_id)]
    ids: Vec<Uuid>,

    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(args: ForgetArgs, invocation: &Invocation) -> Result<(), Failure> {
    if !args.yes {
        confirm(args.ids.len())?;
    }
    let db = invocation.database().await?;
    let forgotten = db.forget(&args.ids, &invocation.actor()).await?;
    output::print(&format!(
        "forgot {}",
        count(forgotten.len() as u64, "connection")
    ))?;
    missing::report(&args.ids, &forgotten, "is not known")
}

fn confirm(connections: usize) -> Result<(), Failure> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Failure::Usage(
            "forget asks before it erases, and here is no terminal to ask on; say --yes if you are sure".to_owned(),
        ));
    }
    let what = count(connections as u64, "connection");
    let mut stderr = io::stderr();
    let asked = write!(
        stderr,
        "Erase {what}, tools and history included? This cannot be undone. [y/N] "
    );
    let mut answer = String::new();
    let answered = asked
        .and_then(|()| stderr.flush())
        .and_then(|()| io::stdin().read_line(&mut answer));
    let yes = ["y", "yes"].contains(&answer.trim().to_lowercase().as_str());
    match answered {
        Ok(_) if yes => Ok(()),
        Ok(_) => Err(Failure::Failed("nothing was erased".to_owned())),
        Err(error) => Err(Failure::Failed(format!(
            "could not ask ({error}); nothing was erased"
        ))),
    }
}
