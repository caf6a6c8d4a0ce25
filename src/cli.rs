//! The command line: one file per command, and what they share.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 78 configuration.

mod arguments;
mod backfill;
mod cancel;
mod completions;
mod config;
pub mod demo;
mod doctor;
mod enqueue;
mod failure;
mod forget;
mod healthy;
mod invocation;
mod man;
mod migrate;
mod missing;
mod operator;
mod output;
mod pause;
mod progress;
mod resume;
mod retry;
mod run;
mod show;
mod sim;
mod status;
mod stop;
mod verify;

pub use failure::Failure;

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use clap::Parser;
use clap::Subcommand;
use tokio::runtime::Builder;

use crate::cli::invocation::Invocation;
use crate::config::Env;
use crate::store;

const ABOUT: &str = "Finalizes Feather integration connections from a Postgres queue and keeps their tools in local tables";

const AFTER_HELP: &str = "\
Examples:
  feather-sync demo                     see it at work, with nothing set up
  feather-sync migrate                  make or update the schema `feather`
  feather-sync run                      run the daemon
  feather-sync enqueue 3c90c3cc-0d44-4b50-8888-8dd25736052a
  feather-sync backfill                 all connections that the API lists
  feather-sync status                   the queue at a glance
  feather-sync doctor                   what is wrong, and what to do

The database is DATABASE_URL, or `url` under [database] in the configuration
file, every key of which is documented by `feather-sync config default`.
Exit codes: 0 done, 1 failed, 2 wrong usage, 78 configuration.";

/// Version, revision, and the schema that this program makes and needs.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let (version, revision) = (env!("CARGO_PKG_VERSION"), env!("FEATHER_SYNC_REVISION"));
    let schema = store::schema_version();
    format!("{version} (revision {revision}, schema {schema})")
});

/// The command line as given.
#[derive(Debug, Parser)]
#[command(name = "feather-sync", version = VERSION.as_str(), about = ABOUT, after_help = AFTER_HELP)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub struct Cli {
    /// Configuration file [default: $FEATHER_SYNC_CONFIG, else /etc/feather-sync/feather-sync.toml where it exists]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon, or work the queue until it is empty
    Run(run::RunArgs),
    /// Make or update the schema and its roles
    Migrate(migrate::MigrateArgs),
    /// Ask for connections to be finalized and synced
    Enqueue(enqueue::EnqueueArgs),
    /// Show the queue, the accounts, the running daemons and recent errors
    Status(status::StatusArgs),
    /// Show everything about one connection
    Show(show::ShowArgs),
    /// Make waiting jobs due now and revive dead ones
    Retry(retry::RetryArgs),
    /// Take connections out of the queue, on record
    Cancel(cancel::CancelArgs),
    /// Erase connections everywhere, their history included
    Forget(forget::ForgetArgs),
    /// Stop working for an account until it is resumed
    Pause(pause::PauseArgs),
    /// Go on working for a paused account
    Resume(resume::ResumeArgs),
    /// Store what the API lists of an account, and have finalized what nobody has
    Backfill(backfill::BackfillArgs),
    /// Check the stored state against its invariants
    Verify(verify::VerifyArgs),
    /// Check configuration, database, API and queue, and say what to do
    Doctor(doctor::DoctorArgs),
    /// Ask the daemon on this machine whether it is ready; for container health checks
    Healthy(healthy::HealthyArgs),
    /// Show or check the configuration
    Config(config::ConfigArgs),
    /// Run a simulated Feather API, with faults if wanted
    Sim(sim::SimArgs),
    /// See it all at work against a simulated API and a private Postgres
    #[command(after_help = demo::AFTER_HELP)]
    Demo(demo::DemoArgs),
    /// Print a shell's completions
    Completions(completions::CompletionsArgs),
    /// Print the manual page, or write one page per command
    Man(man::ManArgs),
}

/// Carries out a command line in this environment.
///
/// # Errors
/// What went wrong, with its exit code.
pub fn run(cli: Cli, env: Env) -> Result<(), Failure> {
    let invocation = Invocation {
        config_file: cli.config,
        env,
    };
    match cli.command {
        Command::Run(args) => on_threads(run::run(args, &invocation)),
        Command::Migrate(args) => on_this_thread(migrate::run(args, &invocation)),
        Command::Enqueue(args) => on_this_thread(enqueue::run(args, &invocation)),
        Command::Status(args) => on_this_thread(status::run(args, &invocation)),
        Command::Show(args) => on_this_thread(show::run(args, &invocation)),
        Command::Retry(args) => on_this_thread(retry::run(args, &invocation)),
        Command::Cancel(args) => on_this_thread(cancel::run(args, &invocation)),
        Command::Forget(args) => on_this_thread(forget::run(args, &invocation)),
        Command::Pause(args) => on_this_thread(pause::run(args, &invocation)),
        Command::Resume(args) => on_this_thread(resume::run(args, &invocation)),
        Command::Backfill(args) => on_this_thread(backfill::run(args, &invocation)),
        Command::Verify(args) => on_this_thread(verify::run(args, &invocation)),
        Command::Doctor(args) => on_this_thread(doctor::run(args, &invocation)),
        Command::Healthy(args) => on_this_thread(healthy::run(args, &invocation)),
        Command::Config(args) => config::run(args, &invocation),
        Command::Sim(args) => on_threads(sim::run(args)),
        Command::Demo(args) => on_threads(async { demo::run(args).await.map_err(Failure::from) }),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// For what serves many calls at a time.
fn on_threads(task: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    block_on(Builder::new_multi_thread().worker_threads(2), task)
}

/// For what asks the database a few things and ends.
fn on_this_thread(task: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    block_on(&mut Builder::new_current_thread(), task)
}

fn block_on(
    builder: &mut Builder,
    task: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let runtime = builder.enable_all().build().map_err(|error| {
        Failure::Failed(format!(
            "cannot start: {error}; does the system run out of threads or file descriptors?"
        ))
    })?;
    let result = runtime.block_on(task);
    // A name look-up that nobody waits for any more must not delay the end.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}
