//! feather-sync: finalizes Feather integration connections from a Postgres queue and keeps their tools in local tables.
//!
//! # The six steps of one job
//!
//! 1. **Request.** A service inserts a row into `feather.sync_requests`, in its own transaction. A trigger may wake a
//!    sleeping worker; polling finds the row anyway.
//! 2. **Take in.** [`store::Db::take_in`] folds requests into `feather.sync_jobs`, one row per connection. A request
//!    whose connection is running waits in the inbox.
//! 3. **Claim.** [`worker::Worker::tick`] acquires slots, then [`store::Db::claim`] leases as many due jobs as slots
//!    and rate budget allow, in one statement that also counts the attempt.
//! 4. **Call.** Each job in a task of its own: [`feather::ApiClient::call`] makes one HTTP request, within a deadline
//!    that ends before the lease. No database connection is held.
//! 5. **Judge.** [`domain::verdict::judge`] makes of the answer or the failure everything that follows from it,
//!    without I/O.
//! 6. **Commit.** [`store::Db::commit`] writes connections, tools, history, job states and pauses of a batch in one
//!    transaction. A job whose lease token no longer holds is left out altogether.
//!
//! A connection whose tools upstream is still syncing stays in the queue, in [`domain::Phase::Settle`], and goes
//! through the same steps with a GET; one whose tools have become old, in [`domain::Phase::Refresh`], with a POST that asks
//! upstream to look anew. A lease that runs out is ended by the upkeep, in whichever replica looks first.
//!
//! Beside the queue, `backfill` and reconciling ask for all of an account's connections in one call:
//! [`worker::Inventory`] pulls them out of [`feather::Listing`] one by one, and [`store::Db::apply_listed`] writes them.
//!
//! # The map of the house
//!
//! In layers: a module may import those of the rows above its own.
//!
//! | modules | subject |
//! |---|---|
//! | [`domain`] | jobs, snapshots, failures, retry policy, settle rule, pauses, budget: decisions without I/O |
//! | [`feather`] | the API's client; the only place that names `reqwest` |
//! | … [`store`] | all SQL; the only place that names `sqlx`, beside `local_postgres` |
//! | … [`metrics`] | every metric with its name, help and labels |
//! | … [`config`] | typed sections; defaults, then file, then credentials, then environment |
//! | … [`sim`] | a simulated Feather API with scripted faults; shares no types with `feather` |
//! | [`worker`] | the loop that waits and the step that takes in, claims and starts; the committer; the upkeep |
//! | … [`admin`] | health, metrics and enqueueing over HTTP |
//! | [`daemon`] | the composition root: the only place that wires things together |
//! | [`cli`] | the command line |
//!
//! Rows that begin with `…` belong to the layer of the row before. Apart from the layers stand [`lifecycle`] (the soft
//! and the hard stop), [`failpoint`] (where tests have a process die), [`telemetry`] (logging) and [`local_postgres`]
//! (a private, throw-away Postgres for demo and tests).
//!
//! `tests/tidy` checks layers, walls, file sizes and the links of the documentation. `docs/how-it-works.md` tells the
//! same story at length, `docs/decisions/` why it is so, and `CONTRIBUTING.md` what to touch to add something.

pub mod admin;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod domain;
pub mod failpoint;
pub mod feather;
pub mod lifecycle;
pub mod local_postgres;
pub mod metrics;
pub mod sim;
pub mod store;
pub mod telemetry;
pub mod worker;
