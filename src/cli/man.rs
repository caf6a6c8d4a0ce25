//! `man`

use std::fs;
use std::path::PathBuf;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::cli::failure::Failure;
use crate::cli::output;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  feather-sync man | man -l -
  feather-sync man --dir /usr/local/share/man/man1")]
pub(super) struct ManArgs {
    /// Write one page per command into this folder, which is made if need be
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &ManArgs) -> Result<(), Failure> {
    if let Some(dir) = &args.dir {
        return fs::create_dir_all(dir)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
            .map_err(|error| {
                Failure::Failed(format!(
                    "cannot write the pages into {}: {error}",
                    dir.display()
                ))
            });
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut page)
        .map_err(|error| Failure::Failed(format!("cannot make the page: {error}")))?;
    output::write(&page).map(drop)
}
