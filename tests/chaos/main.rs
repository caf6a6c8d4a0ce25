//! Chaos: real daemons, a real Postgres and the simulated API, with everything going wrong that a seed says; then
//! nothing may be lost, and every table must be as the API says. `make chaos` runs it, `cargo test` does not.
//!
//! The way of a run: `schedule` (what goes wrong when, from the seed alone) → `stage` (the parts, with proxies between
//! them) → `producer`, `operator`, `refresher` and `inflict` side by side → `heal` → `drain` → `check` → `report`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and this one tells what it does"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests ask the database whatever they like"
)]

mod api;
mod calls;
mod check;
mod inflict;
mod ledger;
mod operator;
mod options;
mod outcome;
mod outside;
mod producer;
#[path = "../support/proxy.rs"]
#[allow(dead_code, reason = "not every test needs every control")]
mod proxy;
mod refresher;
mod replica;
mod report;
mod schedule;
mod stage;
#[path = "../support/truth.rs"]
mod truth;

use options::Options;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::read();
    if let Some(seed) = options.inside() {
        return outcome::of_run(&options, seed);
    }
    let mut failed = false;
    for seed in options.seeds() {
        println!("seed {seed}");
        failed |= !outside::run(&options, seed);
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
