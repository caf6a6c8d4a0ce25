//! Whether the books are straight: what the API was asked, and what is on record of it.

use crate::world::World;
use feather_sync::sim::Kind;
use std::collections::BTreeMap;
use uuid::Uuid;

impl World {
    /// The books are straight: every invariant holds, every call is recorded once, and nothing is on its way.
    pub(crate) async fn check(&self) {
        let mut calls: BTreeMap<(Uuid, &str), i64> = BTreeMap::new();
        for call in self.sim.calls() {
            let kind = match call.kind {
                Kind::Finalize => "finalize",
                Kind::Refresh => "reconcile",
                _ => "poll",
            };
            if let Some(id) = call.connection_id {
                *calls.entry((id, kind)).or_default() += 1;
            }
        }
        for ((id, kind), calls) in calls {
            let sql = format!(
                "SELECT count(*) FROM feather.sync_attempts WHERE connection_id = '{id}' AND kind = '{kind}'"
            );
            assert_eq!(
                self.value::<i64>(&sql).await,
                calls,
                "recorded attempts and calls: {kind} {id}"
            );
        }
        self.assert_invariants().await;
        for (what, sql) in [
            (
                "running jobs",
                "SELECT count(*) FROM feather.sync_jobs WHERE state = 'running'",
            ),
            ("requests", "SELECT count(*) FROM feather.sync_requests"),
        ] {
            assert_eq!(self.value::<i64>(sql).await, 0, "{what}");
        }
    }
}
