//! feather-sync: finalizes Feather integration connections from a Postgres queue.

pub mod admin;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod domain;
pub mod feather;
pub mod lifecycle;
pub mod local_postgres;
pub mod metrics;
pub mod sim;
pub mod store;
pub mod telemetry;
pub mod worker;
