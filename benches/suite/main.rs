//! How fast, how flat and how frugal: each measure against a floor in the same run. `make bench` says how to call it.
//! Ratios travel, absolute figures do not.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    unreachable_pub,
    reason = "a benchmark prints figures and fails by panicking"
)]

mod backlog;
mod bloat;
mod drain;
mod fleet;
mod floor;
mod idle;
mod latency;
mod memory;
#[path = "../../tests/support/ports.rs"]
mod ports;
mod process;
mod producers;
mod queue;
mod report;
mod resync;
mod snapshot;
mod stage;

use clap::Parser;
use clap::Subcommand;
use stage::Stage;
use std::path::PathBuf;

const MEASURES: [&str; 10] = [
    "drain",
    "latency",
    "backlog",
    "snapshot",
    "bloat",
    "resync",
    "producers",
    "fleet",
    "idle",
    "memory",
];
/// They play scenarios.
const SIMULATED: [&str; 3] = ["resync", "fleet", "memory"];

/// Measures the daemon against a floor program. Nothing else should run on the machine meanwhile.
#[derive(Parser)]
struct Arguments {
    /// Which measures; all of them unless named.
    #[arg(value_parser = MEASURES)]
    measures: Vec<String>,
    /// The feather-sync to measure: a release build.
    #[arg(long, default_value = "target/bench/feather-sync")]
    program: PathBuf,
    /// A server instead of a private one; databases whose names begin with feather_sync_bench are made in it, and
    /// dropped. Needs pg_stat_statements. The CPU of the server is not measured then.
    #[arg(long)]
    database_url: Option<String>,
    /// An API instead of the simulator.
    #[arg(long)]
    api: Option<String>,
    /// Interleaved rounds; medians are shown. 5 unless given.
    #[arg(long)]
    rounds: Option<usize>,
    /// A twentieth of everything in one round, to see that it works.
    #[arg(long)]
    quick: bool,
    /// A backlog of ten million too, and a drain of a million: some 10 GB of disk, and hours.
    #[arg(long)]
    huge: bool,
    /// Where the JSON goes.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// The floor program.
    #[command(hide = true)]
    Floor(floor::Floor),
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    if let Some(Part::Floor(given)) = arguments.part {
        return floor::run(given).await;
    }
    let stage = Stage::new(
        arguments.program,
        arguments.database_url.as_deref(),
        arguments.api,
        arguments
            .rounds
            .unwrap_or(if arguments.quick { 1 } else { 5 }),
        arguments.quick,
        arguments.huge,
    );
    feather_sync::feather::install_tls();
    let wanted =
        |name: &str| arguments.measures.is_empty() || arguments.measures.iter().any(|m| m == name);
    for name in MEASURES.into_iter().filter(|name| wanted(name)) {
        if SIMULATED.contains(&name) && !stage.is_simulated() {
            println!("\n{name}: left out, it needs the simulator");
            continue;
        }
        let report = match name {
            "drain" => drain::measure(&stage).await,
            "latency" => latency::measure(&stage).await,
            "backlog" => backlog::measure(&stage).await,
            "snapshot" => snapshot::measure(&stage).await,
            "bloat" => bloat::measure(&stage).await,
            "resync" => resync::measure(&stage).await,
            "producers" => producers::measure(&stage).await,
            "fleet" => fleet::measure(&stage).await,
            "idle" => idle::measure(&stage).await,
            "memory" => memory::measure(&stage).await,
            _ => unreachable!(),
        };
        report.print();
        report.write(&arguments.out);
    }
}
