//! First syncs: one statement.

use crate::domain::Finished;
use crate::domain::Next;
use crate::failpoint::Point;
use crate::failpoint::reach;
use crate::store::commit::Committed;
use crate::store::commit::Terms;
use crate::store::commit::WriteBack;
use crate::store::commit::snapshot_write;
use crate::store::error::StoreError;
use crate::store::event::Changes;
use crate::store::tools;
use sqlx::PgConnection;
use std::collections::HashMap;
use std::collections::HashSet;
use std::time::Instant;

/// Writes a batch of connections of which none is stored, in one statement that is the whole transaction. `None`: that is
/// not what the batch is, or not any more, and nothing is written.
///
/// A first sync is what somebody waits for, and of an idle daemon's four round trips more most would be waiting.
pub(super) async fn write(
    conn: &mut PgConnection,
    batch: &[Finished],
    terms: Terms<'_>,
    at: Instant,
) -> Result<Option<Vec<Committed>>, StoreError> {
    let is_first = |f: &Finished| {
        let plain = matches!(f.verdict.next, Next::Done | Next::Poll { .. });
        plain && f.job.stored.is_none() && !f.job.probe && !f.verdict.gone
    };
    let writes: Option<Vec<_>> = batch
        .iter()
        .map(|f| snapshot_write(f).filter(|_| is_first(f)))
        .collect();
    let (Some(writes), Some(now)) = (writes, batch.iter().map(|f| f.time_at(at)).max()) else {
        return Ok(None);
    };
    let history = terms.recording.history;
    let lease_tokens: Vec<_> = batch.iter().map(|f| f.job.lease_token).collect();
    let back = WriteBack {
        applied: batch.iter().collect(),
        changes: Changes {
            tools: tools::write_tools(conn, &writes, &HashSet::new(), history).await?,
            ..Changes::default()
        },
        now,
        is_reckoned: true,
        paused_until: HashMap::new(),
        first: &writes,
        lease_tokens: &lease_tokens,
    };
    reach(Point::BeforeCommit);
    match back.close(conn, terms).await {
        Ok(due) => Ok(due.map(|due| {
            batch
                .iter()
                .map(|f| back.committed(f, &due, false))
                .collect()
        })),
        // From a list, since the claim.
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
