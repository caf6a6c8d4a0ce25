//! Whether the books are straight: what the API was asked, and what is on record of it.

use crate::world::World;
use feather_sync::sim::Kind;
use std::collections::BTreeMap;
use uuid::Uuid;

impl World {
    /// The books are straight: every invariant holds, every call is recorded once, and nothing is on its way.
    pub(crate) async fn check(&self) {
        self.check_books("true").await;
    }

    /// The same where connections to the database were cut: whoever claimed a job and never heard of it did not call,
    /// and the end of its lease is recorded all the same.
    pub(crate) async fn check_after_cuts(&self) {
        self.check_books("outcome <> 'crashed'").await;
    }

    /// Attempts that are not `certain` may lack their call.
    async fn check_books(&self, certain: &str) {
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
                "SELECT count(*) FILTER (WHERE {certain}), count(*) FROM feather.sync_attempts
                 WHERE connection_id = '{id}' AND kind = '{kind}'"
            );
            let (least, most): (i64, i64) = self.row(&sql).await;
            assert!(
                (least..=most).contains(&calls),
                "{kind} {id}: {calls} calls, {most} recorded attempts, {least} of them certain"
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
