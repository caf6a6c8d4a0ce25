//! The `feather-sync` binary: parse the command line, run it, exit code.

use std::process::ExitCode;

use clap::Parser;
use feather_sync::cli;
use feather_sync::cli::Cli;
use feather_sync::config::Env;
use feather_sync::feather;

fn main() -> ExitCode {
    feather::install_tls();
    match cli::run(Cli::parse(), Env::from_process()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            failure.exit_code().into()
        }
    }
}
