//! Backlogs: what is huge is taken in and worked off in bounded memory, and what is fresh and urgent need not wait.
//!
//! Each test has a small form that runs with all others, and a large one for `make soak`, which prints figures too.
#![expect(clippy::print_stdout, reason = "figures are what a soak is for")]

mod claims;
mod floods;
mod order;
