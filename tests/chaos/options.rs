//! The command line: `make chaos CHAOS_ARGS="--seed 42 --minutes 10 --replicas 3"`.

use clap::Parser;
use std::path::PathBuf;
use std::time::Duration;

/// The fixed seeds of CI, and how long each goes wrong; setting up, draining and checking come on top.
const CI_SEEDS: [u64; 3] = [1, 2, 3];
const CI_SECONDS: u64 = 30;
const CI_CONNECTIONS: usize = 100;

/// Lets everything go wrong that a seed says, and checks that nothing was lost.
#[derive(Clone, Debug, Parser)]
#[command(name = "chaos")]
pub(crate) struct Options {
    /// One run with this seed; by default a random one
    #[arg(long, conflicts_with_all = ["seeds", "ci"])]
    seed: Option<u64>,

    /// Several runs, one after another
    #[arg(long, value_delimiter = ',', conflicts_with = "ci")]
    seeds: Vec<u64>,

    /// How long things go wrong in each run [default: 90 s]
    #[arg(long, conflicts_with_all = ["seconds", "ci"])]
    minutes: Option<u64>,

    /// The same in seconds
    #[arg(long, conflicts_with = "ci")]
    seconds: Option<u64>,

    /// How many daemons
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    replicas: u8,

    /// How many connections of each account are asked for again and again
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u16).range(10..))]
    connections: u16,

    /// The short, fixed set of seeds for CI
    #[arg(long)]
    ci: bool,

    /// Print what would go wrong when, and do nothing
    #[arg(long)]
    pub(crate) schedule: bool,

    /// Keep data and logs also when all is well
    #[arg(long)]
    pub(crate) keep: bool,

    /// Where a run has its stage; set by the program itself
    #[arg(long, hide = true)]
    pub(crate) stage: Option<PathBuf>,
}

impl Options {
    pub(crate) fn read() -> Self {
        Self::parse()
    }

    /// The seed, where this process is the one that runs it.
    pub(crate) fn inside(&self) -> Option<u64> {
        self.seed.filter(|_| self.stage.is_some() || self.schedule)
    }

    pub(crate) fn seeds(&self) -> Vec<u64> {
        if self.ci {
            return CI_SEEDS.to_vec();
        }
        if !self.seeds.is_empty() {
            return self.seeds.clone();
        }
        // Short enough to be read aloud.
        vec![
            self.seed
                .unwrap_or_else(|| rand::random_range(1..1_000_000)),
        ]
    }

    /// How long things go wrong.
    pub(crate) fn lasts(&self) -> Duration {
        let seconds = match (self.ci, self.minutes, self.seconds) {
            (true, _, _) => CI_SECONDS,
            (_, Some(minutes), _) => minutes * 60,
            (_, _, Some(seconds)) => seconds,
            (false, None, None) => 90,
        };
        Duration::from_secs(seconds.max(10))
    }

    pub(crate) fn replicas(&self) -> usize {
        usize::from(self.replicas)
    }

    pub(crate) fn connections(&self) -> usize {
        if self.ci {
            CI_CONNECTIONS
        } else {
            usize::from(self.connections)
        }
    }

    /// The arguments that do the same again.
    pub(crate) fn again(&self, seed: u64) -> Vec<String> {
        let seconds = self.lasts().as_secs();
        let (replicas, connections) = (self.replicas, self.connections());
        format!(
            "--seed {seed} --seconds {seconds} --replicas {replicas} --connections {connections}"
        )
        .split(' ')
        .map(str::to_owned)
        .collect()
    }
}
