//! The `feather-sync` binary: parse the command line, run it, exit code.

use std::process::ExitCode;

use clap::Parser;
use feather_sync::cli;
use feather_sync::cli::Cli;
use feather_sync::config::Env;
use feather_sync::feather;

fn main() -> ExitCode {
    give_back_large_blocks();
    feather::install_tls();
    match cli::run(Cli::parse(), Env::from_process()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            failure.exit_code().into()
        }
    }
}

/// Has the allocator give large blocks (bodies, batches) back to the system as soon as they are freed. By itself glibc
/// raises its threshold with the first that is freed, and keeps the later ones.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "no safe interface sets the allocator up")]
fn give_back_large_blocks() {
    const LARGE: libc::c_int = 128 * 1024;
    // SAFETY: it takes two numbers, and no other thread runs yet.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back_large_blocks() {}
