//! `run`

use std::io;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::arguments;
use crate::cli::failure::Failure;
use crate::cli::invocation::Invocation;
use crate::config::Config;
use crate::daemon;
use crate::daemon::UntilEmpty;
use crate::failpoint;
use crate::telemetry;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  feather-sync run
  feather-sync run --until-empty --timeout 10m

With --until-empty, 0 means that all is synced (or dead, see status), and 1
names what is left. It neither refreshes old tools nor compares lists then,
whatever [reconcile] says.")]
pub(super) struct RunArgs {
    /// End once nothing is left to do for the configured accounts; waiting and future jobs count, dead ones do not
    #[arg(long)]
    until_empty: bool,

    /// Give up after this time, and name what is left
    #[arg(long, value_name = "DURATION", requires = "until_empty", value_parser = arguments::duration)]
    timeout: Option<Duration>,
}

pub(super) async fn run(args: RunArgs, invocation: &Invocation) -> Result<(), Failure> {
    let config = invocation.config()?;
    let under_journald = telemetry::stderr_is_journal(invocation.env.get("JOURNAL_STREAM"));
    telemetry::init(&config.log, io::stderr().is_terminal(), under_journald)?;
    failpoint::arm(|name| invocation.env.get(name)).map_err(Failure::Usage)?;
    let until_empty = args.until_empty.then_some(UntilEmpty {
        timeout: args.timeout,
    });
    let (file, env) = (invocation.config_file.clone(), invocation.env.clone());
    let reread = Arc::new(move || Config::load(file.as_deref(), &env));
    let ended = daemon::run(config, reread, until_empty).await;
    ended.map_err(|error| {
        if tracing::enabled!(tracing::Level::ERROR) {
            // Whoever reads the log as JSON finds nothing else in it.
            tracing::error!(%error, "feather-sync cannot go on");
            Failure::Logged(error)
        } else {
            Failure::Daemon(error)
        }
    })
}
