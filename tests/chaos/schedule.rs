//! What goes wrong when: made from the seed alone, before anything starts, so that it can be had again.

use crate::api;
use feather_sync::sim::FaultRule;
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// Accounts of the daemons, each with an upstream of its own.
pub(crate) const ACCOUNTS: [&str; 3] = ["default", "second", "quiet"];

/// The account for which is seldom asked, so that its budget has something left for what nobody asks for.
pub(crate) const QUIET: usize = 2;

/// What can go wrong with a way from a replica to the database or to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Net {
    Cut,
    Silent,
    Slow,
    Refused,
}

/// One thing that goes wrong. Replicas and accounts are counted from 0.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Killed {
        replica: usize,
    },
    Frozen {
        replica: usize,
    },
    Terminated {
        replica: usize,
    },
    ClockStepped {
        replica: usize,
        seconds: i64,
    },
    PostgresKilled,
    PostgresRestarted,
    PostgresDown,
    /// One of its processes, by SIGKILL.
    BackendKilled,
    BackendsTerminated,
    DiskFull,
    SnapshotHeld,
    ProducerStalled,
    DatabaseNet {
        replica: usize,
        how: Net,
    },
    /// COMMIT never reaches the server, this many times.
    CommitLost {
        replica: usize,
        times: u32,
    },
    /// COMMIT is carried out, and its answer lost.
    CommitUnknown {
        replica: usize,
        times: u32,
    },
    ApiNet {
        replica: usize,
        account: usize,
        how: Net,
    },
    ApiAnswers {
        account: usize,
        rules: Vec<FaultRule>,
    },
    /// The key is refused for a while, then accepted again.
    KeyRevoked {
        account: usize,
    },
    /// The key is refused for good; after a while its file holds another.
    KeyRotated {
        account: usize,
    },
    Edited {
        account: usize,
        place: usize,
    },
    Deleted {
        account: usize,
        place: usize,
    },
}

/// A fault with its time.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Since the start.
    pub(crate) at: Duration,
    /// Until it is undone.
    pub(crate) lasts: Duration,
    pub(crate) fault: Fault,
}

/// Events that do not overlap, since they happen to the same thing.
pub(crate) type Lane = Vec<Event>;

impl Fault {
    /// The row of the final table that counts it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Killed { .. } => "daemon killed",
            Self::Frozen { .. } => "daemon frozen past its leases",
            Self::Terminated { .. } => "daemon terminated",
            Self::ClockStepped { .. } => "clock stepped",
            Self::PostgresKilled => "Postgres killed",
            Self::PostgresRestarted => "Postgres restarted",
            Self::PostgresDown => "Postgres down for a while",
            Self::BackendKilled => "Postgres process killed",
            Self::BackendsTerminated => "backends terminated",
            Self::DiskFull => "disk full",
            Self::SnapshotHeld => "snapshot held",
            Self::ProducerStalled => "producer's transaction left open",
            Self::DatabaseNet { how, .. } => match how {
                Net::Cut => "database connections cut",
                Net::Silent => "database silent",
                Net::Slow => "database slow",
                Net::Refused => "database refuses",
            },
            Self::CommitLost { .. } => "COMMIT cut before the server",
            Self::CommitUnknown { .. } => "COMMIT cut before its answer",
            Self::ApiNet { how, .. } => match how {
                Net::Cut => "API connections cut",
                Net::Silent => "API silent",
                Net::Slow => "API slow",
                Net::Refused => "API refuses",
            },
            Self::ApiAnswers { .. } => "API answers wrongly for a while",
            Self::KeyRevoked { .. } => "key revoked",
            Self::KeyRotated { .. } => "key rotated",
            Self::Edited { .. } => "edited upstream",
            Self::Deleted { .. } => "deleted upstream for a while",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::Killed { replica }
            | Self::Frozen { replica }
            | Self::Terminated { replica }
            | Self::DatabaseNet { replica, .. } => write!(f, ", replica {replica}"),
            Self::ClockStepped { replica, seconds } => {
                write!(f, ", replica {replica}, {seconds:+} s")
            }
            Self::CommitLost { replica, times } | Self::CommitUnknown { replica, times } => {
                write!(f, ", replica {replica}, {times} times")
            }
            Self::ApiNet {
                replica, account, ..
            } => write!(f, ", replica {replica}, account {}", ACCOUNTS[*account]),
            Self::ApiAnswers { account, rules } => {
                let kinds: Vec<String> = rules.iter().map(api::name).collect();
                write!(f, ", account {}: {}", ACCOUNTS[*account], kinds.join(", "))
            }
            Self::KeyRevoked { account } | Self::KeyRotated { account } => {
                write!(f, ", account {}", ACCOUNTS[*account])
            }
            Self::Edited { account, place } | Self::Deleted { account, place } => {
                write!(f, ", account {}, connection {place}", ACCOUNTS[*account])
            }
            Self::PostgresKilled
            | Self::PostgresRestarted
            | Self::PostgresDown
            | Self::BackendKilled
            | Self::BackendsTerminated
            | Self::DiskFull
            | Self::SnapshotHeld
            | Self::ProducerStalled => Ok(()),
        }
    }
}

/// The dice of one part of a run; parts do not disturb each other's.
pub(crate) fn dice(seed: u64, part: u64) -> StdRng {
    StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ part)
}

/// All lanes of a run.
pub(crate) fn make(seed: u64, length: Duration, replicas: usize, connections: usize) -> Vec<Lane> {
    let mut lanes = Vec::new();
    let mut number = 0;
    let mut lane = |gap: Range<f64>, choose: &mut dyn FnMut(&mut StdRng) -> (Fault, f64)| {
        number += 1;
        let mut dice = dice(seed, number);
        let mut events = Vec::new();
        let mut at = dice.random_range(1.0..gap.end);
        loop {
            let (fault, lasts) = choose(&mut dice);
            if at + lasts > length.as_secs_f64() {
                break;
            }
            events.push(Event {
                at: millis(at),
                lasts: millis(lasts),
                fault,
            });
            at += lasts + dice.random_range(gap.clone());
        }
        lanes.push(events);
    };
    lane(6.0..22.0, &mut postgres);
    lane(5.0..20.0, &mut |dice| {
        (Fault::SnapshotHeld, dice.random_range(4.0..15.0))
    });
    lane(3.0..12.0, &mut |dice| {
        (Fault::ProducerStalled, dice.random_range(3.0..12.0))
    });
    for account in 0..ACCOUNTS.len() {
        lane(2.0..6.0, &mut |dice| {
            let rules = api::rules(dice);
            (
                Fault::ApiAnswers { account, rules },
                dice.random_range(2.0..6.0),
            )
        });
        lane(15.0..40.0, &mut |dice| key(dice, account));
        lane(0.5..3.0, &mut |dice| upstream(dice, account, connections));
    }
    for replica in 0..replicas {
        lane(5.0..20.0, &mut |dice| process(dice, replica));
        lane(5.0..15.0, &mut |dice| database_net(dice, replica));
        lane(6.0..20.0, &mut |dice| {
            let account = dice.random_range(0..ACCOUNTS.len());
            let (how, lasts) = net(dice);
            (
                Fault::ApiNet {
                    replica,
                    account,
                    how,
                },
                lasts,
            )
        });
        lane(8.0..25.0, &mut |dice| {
            let seconds = if dice.random_bool(0.5) { 3600 } else { -3600 };
            (
                Fault::ClockStepped { replica, seconds },
                dice.random_range(3.0..12.0),
            )
        });
    }
    lanes
}

fn millis(seconds: f64) -> Duration {
    // Whole milliseconds, as they are printed.
    Duration::from_millis(
        Duration::from_secs_f64(seconds)
            .as_millis()
            .try_into()
            .unwrap(),
    )
}

fn postgres(dice: &mut StdRng) -> (Fault, f64) {
    match dice.random_range(0..7) {
        0 => (Fault::PostgresKilled, 1.0),
        1 => (Fault::PostgresRestarted, 1.0),
        2 => (Fault::PostgresDown, dice.random_range(1.0..6.0)),
        3 | 4 => (Fault::BackendsTerminated, 0.5),
        5 => (Fault::BackendKilled, 0.5),
        _ => (Fault::DiskFull, dice.random_range(2.0..6.0)),
    }
}

fn process(dice: &mut StdRng, replica: usize) -> (Fault, f64) {
    match dice.random_range(0..3) {
        0 => (Fault::Killed { replica }, dice.random_range(0.1..4.0)),
        1 => (Fault::Frozen { replica }, dice.random_range(3.5..8.0)),
        _ => (Fault::Terminated { replica }, dice.random_range(0.1..3.0)),
    }
}

fn net(dice: &mut StdRng) -> (Net, f64) {
    match dice.random_range(0..4) {
        0 => (Net::Cut, 0.2),
        1 => (Net::Silent, dice.random_range(1.0..7.0)),
        2 => (Net::Slow, dice.random_range(2.0..6.0)),
        _ => (Net::Refused, dice.random_range(1.0..4.0)),
    }
}

fn database_net(dice: &mut StdRng, replica: usize) -> (Fault, f64) {
    let times = dice.random_range(1..4);
    match dice.random_range(0..4) {
        0 => (Fault::CommitLost { replica, times }, 3.0),
        1 => (Fault::CommitUnknown { replica, times }, 3.0),
        _ => {
            let (how, lasts) = net(dice);
            (Fault::DatabaseNet { replica, how }, lasts)
        }
    }
}

fn key(dice: &mut StdRng, account: usize) -> (Fault, f64) {
    let lasts = dice.random_range(1.0..7.0);
    if dice.random_bool(0.5) {
        (Fault::KeyRevoked { account }, lasts)
    } else {
        (Fault::KeyRotated { account }, lasts)
    }
}

fn upstream(dice: &mut StdRng, account: usize, connections: usize) -> (Fault, f64) {
    let place = dice.random_range(0..connections);
    if dice.random_bool(0.7) {
        (Fault::Edited { account, place }, 0.0)
    } else {
        (
            Fault::Deleted { account, place },
            dice.random_range(1.0..10.0),
        )
    }
}

/// A line per event, in order of time.
pub(crate) fn print(lanes: &[Lane]) {
    let mut events: Vec<&Event> = lanes.iter().flatten().collect();
    events.sort_by_key(|event| event.at);
    for event in events {
        let (at, lasts) = (event.at.as_secs_f64(), event.lasts.as_secs_f64());
        println!("  {at:7.2} s  for {lasts:5.2} s  {}", event.fault);
    }
}
