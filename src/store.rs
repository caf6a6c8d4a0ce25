//! All SQL. A function here is one thing that can be asked of the database; what it decides, it decides in one
//! statement or one transaction, and never across an HTTP call.
//!
//! | module | subject |
//! |---|---|
//! | [`connection`](Db), `pool` | sessions, which are closed rather than reused when in doubt |
//! | `route`, `hosts` | the way to a server that will do, of several perhaps, at a pace that hammers nothing |
//! | `requests` | the inbox: enqueue, take in |
//! | `claim`, `lease` | leasing due jobs within the account's budget; giving back and expiring leases |
//! | `lone` | both for a request that comes alone |
//! | `draw`, `listed`, `reconcile` | a call outside of the queue; writing what a list says; whose turn it is to compare |
//! | `refresh` | whose tools have become old |
//! | `commit`, `snapshot`, `tools`, `job` | writing what came of a batch of attempts |
//! | `closing`, `attempt`, `minute`, `event` | what every transaction that changes something ends with |
//! | `account`, `fleet`, `retention` | what replicas share, and the upkeep of it |
//! | `search`, `dossier` | tools of all connections; one connection, one tool |
//! | `jobs`, `actions` | lists of jobs, and what is done to all that a filter matches |
//! | `glance`, `timeline`, `inspect`, `audit`, `operate` | what people ask and do |
//! | `verify` | the invariants of the stored state |
//! | `checkup` | what `doctor` asks of the server |
//! | `migrate`, `listen` | the schema; the wake-up hint |

mod account;
mod actions;
mod attempt;
mod audit;
mod checkup;
mod claim;
mod closing;
mod commit;
mod connection;
mod dossier;
mod draw;
mod error;
mod event;
mod fleet;
mod glance;
mod horizon;
mod hosts;
mod inspect;
mod job;
mod jobs;
mod lease;
mod listed;
mod listen;
mod lone;
mod migrate;
mod minute;
mod operate;
mod partitions;
mod pool;
mod reconcile;
mod refresh;
mod requests;
mod retention;
mod route;
mod search;
mod snapshot;
mod timeline;
mod tools;
mod verify;

pub use account::AccountRow;
pub use account::PausedAccount;
pub use actions::Action;
pub use actions::ActionRow;
pub use actions::Begun;
pub use actions::Ended;
pub use actions::Portion;
pub use actions::Turn;
pub use attempt::ToolChanges;
pub use audit::AuditRow;
pub use checkup::Holder;
pub use checkup::Rights;
pub use checkup::Server;
pub use claim::Claim;
pub use claim::ClaimRequest;
pub use claim::Lane;
pub use commit::Committed;
pub use connection::Db;
pub use connection::DbSettings;
pub use connection::PoolState;
pub use connection::Recording;
pub use dossier::Field;
pub use dossier::ToolDetails;
pub use dossier::ToolSlug;
pub use draw::Draw;
pub use draw::Token;
pub use error::StoreError;
pub use fleet::AccountCounts;
pub use fleet::ReplicaRow;
pub use glance::ErrorCount;
pub use glance::HealthRow;
pub use glance::OldestDue;
pub use glance::OldestRequest;
pub use inspect::AttemptRow;
pub use inspect::ConnectionReport;
pub use inspect::Remaining;
pub use inspect::StatusRow;
pub use inspect::ToolRow;
pub use jobs::Count;
pub use jobs::IdPrefix;
pub use jobs::JobFilter;
pub use jobs::JobRow;
pub use jobs::JobState;
pub use jobs::PAGE;
pub use jobs::Page;
pub use jobs::Place;
pub use lease::Expired;
pub use listed::Change;
pub use listed::List;
pub use listed::ListedChange;
pub use listen::Listener;
pub use listen::WakeUp;
pub use lone::Lone;
pub use lone::LoneRequest;
pub use migrate::Bound;
pub use migrate::Migrated;
pub use migrate::Roles;
pub use migrate::SchemaState;
pub use migrate::migrate;
pub use migrate::schema_version;
pub use migrate::take_back;
pub use operate::DeadFilter;
pub use partitions::Kept;
pub use partitions::LeftBehind;
pub use partitions::PartitionState;
pub use partitions::Partitioned;
pub use reconcile::Held;
pub use reconcile::ReconcileRow;
pub use reconcile::Reconciled;
pub use refresh::RefreshStep;
pub use requests::EnqueueError;
pub use requests::EnqueueRequest;
pub use requests::Look;
pub use requests::TakenIn;
pub use search::FoundTool;
pub use search::ToolFilter;
pub use search::ToolKind;
pub use search::ToolPlace;
pub use timeline::LastError;
pub use timeline::Slot;
pub use timeline::Span;
pub use verify::Finding;
pub use verify::Invariant;
pub use verify::VerifySettings;
pub use verify::Violation;

use crate::domain::duration::LONGEST;
use std::time::Duration;

/// Seconds from the database as a duration: what is past or not a number is zero, and what is longer than anybody
/// waits is [`LONGEST`], so that adding it to an instant cannot overflow.
fn seconds(seconds: f64) -> Duration {
    let within = seconds.clamp(0.0, LONGEST.as_secs_f64());
    Duration::try_from_secs_f64(within).unwrap_or_default()
}

/// A count as Postgres holds it.
fn signed(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_number_of_seconds_the_database_says_can_be_added_to_an_instant() {
        let table = [
            (0.25, Duration::from_millis(250)),
            (-1.0, Duration::ZERO),
            (f64::NEG_INFINITY, Duration::ZERO),
            (f64::NAN, Duration::ZERO),
            (1e19, LONGEST),
            (f64::INFINITY, LONGEST),
        ];
        for (from, duration) in table {
            assert_eq!(seconds(from), duration, "{from}");
            let _ = std::time::Instant::now() + duration;
        }
    }
}
