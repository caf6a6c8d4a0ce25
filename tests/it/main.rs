//! Integration tests: the daemon in this process against a real Postgres and the simulated API over HTTP.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests ask the database whatever they like"
)]

mod accounts;
mod admin;
mod backlog;
mod bystander;
mod claiming;
mod dashboard;
mod descriptors;
mod first_syncs;
mod fleet;
mod gathering;
mod killed;
mod lists;
mod lone_requests;
mod main_job;
mod operating;
mod outcomes;
mod poison;
#[path = "../support/ports.rs"]
mod ports;
mod posting;
#[path = "../support/proxy.rs"]
mod proxy;
mod proxying;
mod queue;
mod reconciling;
mod refreshing;
mod reporting;
mod snapshots;
mod stopping;
mod trouble;
#[path = "../support/truth.rs"]
mod truth;
mod upgrade;
mod verify;
mod world;
