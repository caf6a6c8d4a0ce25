//! `sim`

use std::path::PathBuf;

use tokio::net::TcpListener;

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::stop;
use crate::sim::Count;
use crate::sim::Scenario;
use crate::sim::Sim;
use crate::sim::Span;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  feather-sync sim --listen 127.0.0.1:8700
  feather-sync sim --listen 127.0.0.1:8700 --tools 3..9 --latency 20ms..80ms --seed 7
  feather-sync sim --listen 127.0.0.1:8700 --scenario faults.toml
  FEATHER_BASE_URL=http://127.0.0.1:8700 FEATHER_API_KEY=anything feather-sync run

Every UUID is a connection. Faults, limits and settling times are for the
scenario file to say.")]
pub(super) struct SimArgs {
    /// Address and port; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8700")]
    listen: String,

    /// Tools per connection, a number or a range (3..9) [default: 5]
    #[arg(long, value_name = "N")]
    tools: Option<Count>,

    /// How long a call takes, a duration or a range (20ms..80ms) [default: 0s]
    #[arg(long, value_name = "DURATION")]
    latency: Option<Span>,

    /// Scenario in TOML; the other options beat it
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,

    /// What all that looks random comes from [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

pub(super) async fn run(args: SimArgs) -> Result<(), Failure> {
    let failed = |what: String| {
        move |error: &dyn std::fmt::Display| Failure::Failed(format!("{what}: {error}"))
    };
    let mut scenario = match &args.scenario {
        Some(file) => Scenario::load(file)
            .map_err(|error| failed(format!("--scenario {}", file.display()))(&error))?,
        None => Scenario::default(),
    };
    scenario.tools = args.tools.unwrap_or(scenario.tools);
    scenario.latency = args.latency.unwrap_or(scenario.latency);
    scenario.seed = args.seed.unwrap_or(scenario.seed);

    let cannot_listen = failed(format!("cannot listen on {}", args.listen));
    let listener = TcpListener::bind(&args.listen)
        .await
        .map_err(|error| cannot_listen(&error))?;
    let stopped = stop::asked()?;
    let sim = Sim::serve(listener, scenario)
        .map_err(|error| failed("cannot start the simulator".to_owned())(&error))?;
    output::print(&sim.url())?;
    stopped.await;
    sim.stop().await;
    Ok(())
}
