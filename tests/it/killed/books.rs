//! Work of every kind, and what has to be true of it in the end, whatever died meanwhile.

use crate::killed::LEASE;
use crate::killed::PATIENCE;
use crate::killed::Process;
use crate::killed::short_leases;
use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Fault;
use feather_sync::sim::Kind;
use feather_sync::sim::Scenario;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// After its lease an orphan is claimable again within this time.
const FOUND_WITHIN: Duration = Duration::from_secs(15);

/// Whether two calls for one connection may have met at the API.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Overlap {
    Never,
    /// A lease ran out while its worker still lived.
    AcrossALostLease,
}

/// A world with work of every kind.
pub(super) struct Books {
    pub(super) world: World,
    /// All connections. The first one does not exist upstream; each of the others is synced in the end.
    pub(super) ids: Vec<Uuid>,
    /// When the first of them was asked for, on the database's clock.
    began: String,
}

impl Books {
    pub(super) async fn open() -> Self {
        let scenario = "tools = \"0..4\"\nlatency = \"5ms..30ms\"\nsettle = \"0ms..300ms\"";
        let mut world = World::with(Scenario::from_toml(scenario).unwrap()).await;
        short_leases(&mut world);
        let ids = ids(12);
        world.sim.delete(ids[0]);
        world.sim.script(ids[1], [Fault::status(500), Fault::Reset]);
        world.sim.script(ids[2], [const { Fault::NeverSettles }; 3]);
        world.sim.script(ids[3], [Fault::Close, Fault::NotActive]);
        world.sim.script(ids[4], [Fault::NotJson, Fault::ShortBody]);
        let began = world.value("SELECT clock_timestamp()::text").await;
        world.enqueue(&ids).await;
        Self { world, ids, began }
    }

    /// Asks again, and again, for some connections while `happening` has not happened: some are running then.
    pub(super) async fn while_asking<T>(&self, happening: impl Future<Output = T>) -> T {
        let asking = async {
            loop {
                self.world.enqueue(&self.ids[5..9]).await;
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        };
        tokio::select! {
            result = happening => result,
            () = asking => unreachable!("it asks for ever"),
        }
    }

    /// Asks once more, now that somebody is there to find what the dead have left. Returns when that was.
    pub(super) async fn ask_again(&self, worker: &Process) -> String {
        worker.until_log("is working").await;
        let now = self.world.value("SELECT clock_timestamp()::text").await;
        self.world.enqueue(&self.ids[5..9]).await;
        now
    }

    /// Waits until nothing is left to do.
    pub(super) async fn done(&self) {
        self.world
            .until(
                "SELECT NOT EXISTS (SELECT FROM feather.sync_requests)
                 AND NOT EXISTS (SELECT FROM feather.sync_jobs WHERE state <> 'dead')",
            )
            .await;
    }

    /// What has been asked for is served in the end, and every book is straight. All daemons have ended.
    pub(super) async fn check(&self, asked_last: &str, overlap: Overlap) {
        let world = &self.world;
        for (place, id) in self.ids.iter().enumerate() {
            let story = world.story(*id).await.join(" ");
            let asked = match place {
                5..9 => asked_last,
                _ => &self.began,
            };
            let (state, class, served): (String, Option<String>, bool) = world
                .row(&format!(
                    "SELECT state, last_error_class, COALESCE(last_success_started_at > '{asked}', false)
                     FROM feather.sync_status WHERE connection_id = '{id}'"
                ))
                .await;
            let found = (state.as_str(), class.as_deref(), served);
            if place == 0 {
                assert_eq!(found, ("dead", Some("not_found"), false), "{id}: {story}");
            } else {
                assert_eq!(found, ("idle", None, true), "{id}: {story}");
                world.equals_truth(*id).await.unwrap();
            }
        }
        check_calls(world, overlap).await;
        check_state(world, asked_last).await;
    }
}

/// No call went unrecorded; a recorded one may not have been made.
async fn check_calls(world: &World, overlap: Overlap) {
    let mut calls: BTreeMap<(Uuid, &str), i64> = BTreeMap::new();
    for call in world.sim.calls() {
        let kind = match call.kind {
            Kind::Finalize => "finalize",
            Kind::Refresh => "reconcile",
            _ => "poll",
        };
        let id = call.connection_id.unwrap();
        *calls.entry((id, kind)).or_default() += 1;
        assert!(
            overlap == Overlap::AcrossALostLease || !call.in_flight_overlap,
            "two calls for {id} at a time"
        );
    }
    for ((id, kind), calls) in calls {
        let recorded: i64 = world
            .value(&format!(
                "SELECT count(*) FROM feather.sync_attempts WHERE connection_id = '{id}' AND kind = '{kind}'"
            ))
            .await;
        assert!(
            calls <= recorded,
            "{id}: {calls} {kind} calls, {recorded} recorded"
        );
    }
}

/// The stored state is coherent, and nothing is left of who died. Since `attended` somebody was there to clear up.
async fn check_state(world: &World, attended: &str) {
    let (lease, limit) = (LEASE.as_secs(), FOUND_WITHIN.as_secs());
    for (what, sql) in [
        (
            "an attempt is recorded twice",
            "SELECT started_at::text || ' ' || connection_id FROM feather.sync_attempts
             GROUP BY connection_id, started_at HAVING count(*) > 1"
                .to_owned(),
        ),
        (
            "an orphan was not found in time",
            format!(
                "SELECT (finished_at - started_at)::text FROM feather.sync_attempts
                 WHERE outcome = 'crashed'
                   AND finished_at > GREATEST(started_at + interval '{lease} s', '{attended}') + interval '{limit} s'"
            ),
        ),
        (
            "a tool without its connection",
            "SELECT t.id::text FROM feather.integration_connection_tools t WHERE NOT EXISTS
             (SELECT FROM feather.integration_connections c WHERE c.id = t.connection_id)"
                .to_owned(),
        ),
        (
            "a job that is neither waiting nor dead with a class",
            "SELECT connection_id::text FROM feather.sync_jobs
             WHERE state = 'running' OR state = 'dead' AND error_class IS NULL"
                .to_owned(),
        ),
        (
            "times that go back",
            "SELECT id::text FROM feather.integration_connections
             WHERE _first_seen_at > _changed_at OR _changed_at > _synced_at OR _finalized_at > _synced_at"
                .to_owned(),
        ),
    ] {
        let rows: Vec<(String,)> = world.rows(&sql).await;
        assert!(rows.is_empty(), "{what}: {rows:?}");
    }
    // A server notices a moment later that its client is gone.
    let left = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                                   AND application_name = 'feather-sync')
                AND NOT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                                WHERE d.datname = current_database() AND l.locktype = 'advisory')";
    tokio::time::timeout(PATIENCE, world.until(left))
        .await
        .unwrap();
}
