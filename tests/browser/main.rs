//! The dashboard in a real browser: a headless Chromium looks at a daemon that works against the simulated API.
//!
//! `make test-browser` runs it, and brings the browser where that is missing. `make screenshots` makes the pictures of
//! the README with the same scene.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests ask the database whatever they like"
)]

mod browser;
mod hostile;
mod jobs;
mod looks;
mod pages;
#[path = "../support/ports.rs"]
mod ports;
mod scene;
mod screenshots;
#[path = "../support/truth.rs"]
mod truth;
#[path = "../it/world.rs"]
#[expect(dead_code, reason = "not every test needs all of the world")]
mod world;
