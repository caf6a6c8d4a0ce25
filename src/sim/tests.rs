//! Tests over the wire, with a client that shares nothing with the simulator.

mod api;
mod client;
mod control;
mod document;
mod faults;
mod rules;
mod upstream;
