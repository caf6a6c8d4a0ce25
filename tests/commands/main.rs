//! The real binary, called as operators call it, against a private Postgres.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what goes wrong in a helper fails its test"
)]

mod actions;
mod backfill;
mod certificates;
mod comments;
mod configuration;
mod database;
mod doctor;
mod enqueue;
mod healthy;
mod help;
mod inspect;
mod log;
mod migrate;
mod needles;
mod pages;
mod pipes;
#[path = "../support/ports.rs"]
mod ports;
mod posting;
mod privileges;
mod program;
mod refusals;
mod requests;
mod run;
mod schema_pages;
mod secret_refusals;
mod secrets;
mod service;
mod sim;
mod status;
mod tls;
mod traps;
mod verify;
