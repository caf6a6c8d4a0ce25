//! The simulated Feather API: a tool for operators and tests.
//!
//! Every well-formed UUID is a connection with realistic, varied content that depends on its id and
//! the scenario's seed alone. What goes wrong is scripted ([`Scenario`], [`FaultRule`], [`Fault`]).
//! JSON is written by hand and shares no types with the client, so that a wrong field name there is
//! caught here.
//!
//! The way of a call: `serve` (socket) → `route` → `upstream` (record, key, limit, fault, gate, latency)
//! → `api` (carry out) → `world` (state) → `document` (text) → `spoil` and `body` (faults).

mod api;
mod body;
mod catalog;
mod chance;
mod clock;
mod control;
mod document;
mod edit;
mod fault;
mod fields;
mod limiter;
mod range;
mod record;
mod reply;
mod route;
mod rule;
mod scenario;
mod serve;
mod spoil;
#[cfg(test)]
mod tests;
mod upstream;
mod world;

use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use fault::Fault;
pub use fault::RetryAfter;
pub use fault::StatusFault;
pub use range::Count;
pub use range::Span;
pub use record::Call;
pub use record::Kind;
pub use record::Stats;
pub use rule::FaultRule;
pub use rule::On;
pub use scenario::Limit;
pub use scenario::Scenario;
pub use scenario::ScenarioError;
pub use scenario::Seen;
pub use scenario::SyncedAt;
pub use scenario::Window;

use upstream::Upstream;
use upstream::lock;

/// A running simulator. Dropping it ends the listener and all its connections.
#[derive(Debug)]
pub struct Sim {
    upstream: Arc<Upstream>,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Sim {
    /// Starts on a free port of 127.0.0.1. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// Where the port cannot be had, or a value of the scenario is out of its range.
    pub fn start(scenario: Scenario) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        // Connections inherit it: ended ones do not keep the port from being taken again.
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Self::serve(socket.listen(1024)?, scenario)
    }

    /// Starts on a listener. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// Where the listener has no address, or a value of the scenario is out of its range.
    pub fn serve(listener: TcpListener, scenario: Scenario) -> io::Result<Self> {
        scenario
            .check()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let address = listener.local_addr()?;
        let upstream = Arc::new(Upstream::new(scenario));
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(serve::accept(
            listener,
            Arc::clone(&upstream),
            stop.clone(),
            tasks.clone(),
        ));
        Ok(Self {
            upstream,
            address,
            stop,
            tasks,
        })
    }

    /// Ends the listener and all connections, and returns once its port is free again.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The base URL, without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The ids of the `connections` that the scenario asked for.
    pub fn ids(&self) -> Vec<Uuid> {
        self.upstream.scenario.connection_ids().collect()
    }

    /// The last [`Scenario::keep_calls`] calls, in order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.upstream.record).calls().cloned().collect()
    }

    /// Those of [`Sim::calls`] that were for this connection.
    pub fn calls_for(&self, id: Uuid) -> Vec<Call> {
        lock(&self.upstream.record)
            .calls()
            .filter(|call| call.connection_id == Some(id))
            .cloned()
            .collect()
    }

    /// Counts over all calls.
    pub fn stats(&self) -> Stats {
        self.upstream.stats()
    }

    /// The ConnectionResponse as it is once its tools have settled; null for a deleted connection.
    /// Long numbers are rounded to doubles: see [`Sim::truth_text`].
    pub fn truth(&self, id: Uuid) -> Value {
        serde_json::from_str(&self.truth_text(id)).unwrap_or_default()
    }

    /// [`Sim::truth`] as JSON text, with all digits.
    pub fn truth_text(&self, id: Uuid) -> String {
        control::truth(&self.upstream, id).unwrap_or_else(|| "null".to_owned())
    }

    /// The next calls for the connection get these faults in order, before any rule; then all is
    /// as before. [`Fault::None`] lets one call pass.
    pub fn script(&self, id: Uuid, faults: impl IntoIterator<Item = Fault>) {
        let mut world = self.upstream.world();
        world.known(id).script.extend(faults);
    }

    /// Replaces the scenario's rules; their `times` count anew.
    pub fn set_faults(&self, rules: Vec<FaultRule>) {
        self.upstream.set_rules(rules);
    }

    /// Replaces the accepted keys, for calls in flight too; `None` accepts any.
    pub fn set_keys(&self, keys: Option<Vec<String>>) {
        *lock(&self.upstream.keys) = keys;
    }

    /// Replaces the request limit; what was counted so far is forgotten.
    pub fn set_limit(&self, limit: Option<Limit>) {
        self.upstream.set_limit(limit);
    }

    /// Edits the truth, as something happening upstream does; `updated_at` moves with it. Fields that
    /// are set stay so until edited again; fields that are taken away are gone. Tools are recognised
    /// by `id`; what an added one lacks is made up
    /// where the API requires it. A deleted connection comes back.
    pub fn edit(&self, id: Uuid, change: impl FnOnce(&mut Value)) {
        control::change(&self.upstream, id, change);
    }

    /// Deletes the connection upstream: 404 from now on.
    pub fn delete(&self, id: Uuid) {
        self.upstream.world().known(id).deleted = true;
    }

    /// Brings a deleted connection back as it was.
    pub fn restore(&self, id: Uuid) {
        self.upstream.world().known(id).deleted = false;
    }

    /// Closes a gate: calls arrive and are on record, but wait until it is released or dropped.
    #[must_use = "the gate opens when dropped"]
    pub fn hold(&self) -> Gate {
        self.upstream.held.send_modify(|closed| *closed += 1);
        Gate {
            upstream: Arc::clone(&self.upstream),
        }
    }

    /// Returns once that many calls have arrived since the start, answered or not.
    pub async fn wait_for_calls(&self, number: u64) {
        let mut arrived = self.upstream.arrived.subscribe();
        // An error would mean that the sender is gone, which `self` keeps alive.
        let _ = arrived.wait_for(|calls| *calls >= number).await;
    }

    /// Pushes the simulator's clock forward: settle windows and the request limit see it at once.
    pub fn advance(&self, by: Duration) {
        self.upstream.clock.advance(by);
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Keeps calls waiting; see [`Sim::hold`].
#[derive(Debug)]
pub struct Gate {
    upstream: Arc<Upstream>,
}

impl Gate {
    /// Lets the waiting calls go on.
    pub fn release(self) {}
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.upstream.held.send_modify(|closed| *closed -= 1);
    }
}
