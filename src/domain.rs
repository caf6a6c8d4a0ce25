//! The subject itself, without I/O: what a job is, what an answer means, what to do next.
//!
//! Nothing here knows Postgres, HTTP or the clock on the wall; every decision is a function of its arguments.

pub mod account;
pub mod budget;
pub mod clock;
pub mod duration;
pub mod failure;
pub mod job;
pub mod listed;
pub mod pace;
pub mod pause;
pub mod request;
pub mod retry;
pub mod settle;
pub mod snapshot;
pub mod time_to_sync;
pub mod verdict;
pub mod words;

pub use account::AccountName;
pub use budget::Budget;
pub use clock::Clock;
pub use clock::Dice;
pub use failure::ErrorClass;
pub use failure::Failure;
pub use failure::ServerHint;
pub use job::CallKind;
pub use job::Job;
pub use job::Phase;
pub use job::Sighting;
pub use job::StoredSync;
pub use pace::Pace;
pub use pause::Pause;
pub use pause::PauseReason;
pub use retry::RetryPolicy;
pub use settle::SettleRule;
pub use snapshot::ConnectionSnapshot;
pub use snapshot::ToolSnapshot;
pub use verdict::AccountWord;
pub use verdict::Answer;
pub use verdict::Finished;
pub use verdict::Next;
pub use verdict::Outcome;
pub use verdict::Verdict;
