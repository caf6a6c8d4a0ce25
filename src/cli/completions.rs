//! `completions`

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::cli::failure::Failure;
use crate::cli::output;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  feather-sync completions bash > /etc/bash_completion.d/feather-sync
  feather-sync completions zsh > ~/.zfunc/_feather-sync
  feather-sync completions fish > ~/.config/fish/completions/feather-sync.fish")]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "feather-sync", &mut script);
    output::write(&script).map(drop)
}
