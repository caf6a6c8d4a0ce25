//! `config`

use clap::Subcommand;

use crate::cli::failure::Failure;
use crate::cli::invocation::Invocation;
use crate::cli::output;
use crate::config;
use crate::config::Config;
use crate::config::ConfigError;
use crate::config::Problem;
use crate::config::redacted_url;

#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  feather-sync config show
  feather-sync --config new.toml config check && systemctl restart feather-sync
  feather-sync config default > feather-sync.toml"
)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print what is in force, and where each value comes from; no secrets
    #[command(after_help = "Examples:\n  feather-sync config show")]
    Show,
    /// Check everything that `run` needs, short of database and API themselves; 78 when something is wrong
    #[command(after_help = "Examples:\n  feather-sync --config new.toml config check")]
    Check,
    /// Print the built-in default, every key documented
    #[command(after_help = "Examples:\n  feather-sync config default > feather-sync.toml")]
    Default,
}

pub(super) fn run(args: ConfigArgs, invocation: &Invocation) -> Result<(), Failure> {
    let text = match args.command {
        ConfigCommand::Show => invocation.config()?.to_toml_redacted(),
        ConfigCommand::Check => check(&invocation.config()?)? + "\n",
        ConfigCommand::Default => config::DEFAULT_TOML.to_owned(),
    };
    output::write(text.as_bytes()).map(drop)
}

/// What was read, if `run` could start with it.
fn check(config: &Config) -> Result<String, ConfigError> {
    let mut problems = Vec::new();
    let mut note = |problem: ConfigError| problems.extend(problem.problems);
    let database = config.database_url().map(redacted_url).map_err(&mut note);
    if let Err(error) = config.admin.read_token() {
        note(error.into());
    }
    let accounts = config.accounts().map_err(&mut note);
    for (name, account) in accounts.iter().flatten() {
        if let Err(error) = account.key.read() {
            note(
                Problem {
                    origin: None,
                    message: format!("account `{}`: {error}", name.escape_debug()),
                }
                .into(),
            );
        }
    }
    let (Ok(database), Ok(accounts), true) = (database, accounts, problems.is_empty()) else {
        return Err(ConfigError { problems });
    };
    let file = match &config.file {
        Some(file) => file.display().to_string(),
        None => "no file: built-in defaults and environment".to_owned(),
    };
    let accounts: Vec<_> = accounts
        .iter()
        .map(|(name, account)| {
            format!(
                "{} ({}, key: {})",
                name.escape_debug(),
                account.base_url,
                account.key
            )
        })
        .collect();
    Ok(format!(
        "ok\n  read      {file}\n  database  {database}\n  accounts  {}",
        accounts.join("\n            ")
    ))
}
