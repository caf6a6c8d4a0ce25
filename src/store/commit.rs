//! The write-back: what a batch of attempts came to, in one transaction, fenced by lease tokens.

mod first;

use crate::domain::AccountName;
use crate::domain::ErrorClass;
use crate::domain::Finished;
use crate::domain::Next;
use crate::domain::Outcome;
use crate::domain::settle::time_delta;
use crate::failpoint::Point;
use crate::failpoint::reach;
use crate::store::account;
use crate::store::account::Said;
use crate::store::attempt;
use crate::store::attempt::AttemptRecord;
use crate::store::attempt::ToolChanges;
use crate::store::closing::Closing;
use crate::store::connection::Db;
use crate::store::connection::Recording;
use crate::store::connection::within;
use crate::store::error::StoreError;
use crate::store::event::Changes;
use crate::store::job;
use crate::store::job::JobUpdate;
use crate::store::snapshot;
use crate::store::snapshot::SnapshotWrite;
use crate::store::tools;
use chrono::DateTime;
use chrono::Utc;
use sqlx::Connection;
use sqlx::PgConnection;
use std::collections::HashMap;
use std::collections::HashSet;
use std::time::Duration;
use std::time::Instant;
use uuid::Uuid;

/// What became of one attempt's write-back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// All of it is visible, by this commit or by an earlier one of unknown outcome.
    Applied {
        /// Tools added or revived, changed, marked removed.
        tools: ToolChanges,
        /// When the job is due again, if it is.
        due_in: Option<Duration>,
        /// From the oldest request's wish to now; for synced ones that were asked for.
        time_to_sync: Option<Duration>,
        /// Nothing of its answer is: another account has come to hold the connection since the claim, and it ended as
        /// [`Finished::if_held`] says.
        held: bool,
    },
    /// The lease was lost: nothing of it was written.
    LeaseLost,
}

impl Db {
    /// Writes connections, tools, history, job states and account pauses of a batch, all or nothing. An attempt
    /// whose lease token no longer holds is left out altogether. The results are in the batch's order. `at` is now.
    ///
    /// # Errors
    /// When the transaction failed. With [`StoreError::Data`] one of the batch holds a value that Postgres refuses.
    /// After a lost connection the outcome is unknown; committing the batch again is safe and says what became of it:
    /// what came through no longer holds its token, and is found in the history.
    pub async fn commit(
        &self,
        batch: &[Finished],
        worker: &str,
        settle_deadline: Duration,
        at: Instant,
    ) -> Result<Vec<Committed>, StoreError> {
        let terms = Terms {
            worker,
            settle_deadline,
            recording: self.recording(),
        };
        let mut session = self.session().await?;
        let result = within(async {
            let committed = match first::write(&mut session, batch, terms, at).await? {
                Some(committed) => committed,
                None => {
                    let mut tx = session.begin().await?;
                    let committed = write_batch(&mut tx, batch, terms).await?;
                    reach(Point::BeforeCommit);
                    tx.commit().await?;
                    committed
                }
            };
            reach(Point::Committed);
            Ok(committed)
        })
        .await;
        session.settle(result)
    }
}

/// What a write-back goes by.
#[derive(Clone, Copy)]
struct Terms<'a> {
    worker: &'a str,
    settle_deadline: Duration,
    recording: Recording,
}

async fn write_batch(
    conn: &mut PgConnection,
    batch: &[Finished],
    terms: Terms<'_>,
) -> Result<Vec<Committed>, StoreError> {
    let ids: Vec<_> = batch.iter().map(|f| f.job.connection_id).collect();
    let tokens: Vec<_> = batch.iter().map(|f| f.job.lease_token).collect();
    let (now, locked) = job::lock(conn, &ids, &tokens).await?;
    reach(Point::Locked);
    // By token: a batch may hold a late attempt and a newer one at the same connection.
    let held: HashSet<Uuid> = locked.iter().map(|job| job.lease_token).collect();
    let applied: Vec<&Finished> = batch
        .iter()
        .filter(|f| held.contains(&f.job.lease_token))
        .collect();
    let before = if applied.len() == batch.len() {
        HashMap::new()
    } else {
        committed_before(conn, batch, &held, terms.worker).await?
    };
    if applied.is_empty() {
        return Ok(batch
            .iter()
            .map(|f| before.get(&f.job.lease_token).copied())
            .map(|known| known.unwrap_or(Committed::LeaseLost))
            .collect());
    }

    let said = applied.iter().map(|finished| Said::from(*finished));
    let paused_until = account::apply_words(conn, said, now).await?;
    let changes = write_snapshots(conn, &applied, terms.recording.history).await?;
    let instead: HashMap<Uuid, Finished> = applied
        .iter()
        .filter(|f| changes.written.held.contains(&f.job.connection_id))
        .filter_map(|f| Some((f.job.connection_id, f.if_held()?)))
        .collect();
    reach(Point::ChangesWritten);
    let back = WriteBack {
        applied: applied
            .into_iter()
            .map(|f| instead.get(&f.job.connection_id).unwrap_or(f))
            .collect(),
        changes,
        now,
        is_reckoned: false,
        paused_until,
        first: &[],
        lease_tokens: &[],
    };
    let due = back.close(conn, terms).await?.unwrap_or_default();

    Ok(batch
        .iter()
        .map(|f| {
            if !held.contains(&f.job.lease_token) {
                let known = before.get(&f.job.lease_token).copied();
                return known.unwrap_or(Committed::LeaseLost);
            }
            let instead = instead.get(&f.job.connection_id);
            back.committed(instead.unwrap_or(f), &due, instead.is_some())
        })
        .collect())
}

/// When jobs are due again, by connection.
type Due = HashMap<Uuid, DateTime<Utc>>;

/// A batch before its last statement.
struct WriteBack<'a> {
    applied: Vec<&'a Finished>,
    changes: Changes<'a>,
    /// On the database's clock.
    now: DateTime<Utc>,
    /// Nobody has asked it.
    is_reckoned: bool,
    /// Of accounts that were refused.
    paused_until: HashMap<AccountName, DateTime<Utc>>,
    /// As [`Closing::first`] and [`Closing::lease_tokens`].
    first: &'a [SnapshotWrite<'a>],
    lease_tokens: &'a [Uuid],
}

impl WriteBack<'_> {
    /// Writes what is left. `None`: nothing, because a lease is lost.
    async fn close(
        &self,
        conn: &mut PgConnection,
        terms: Terms<'_>,
    ) -> Result<Option<Due>, sqlx::Error> {
        let applied = &self.applied;
        let updates: Vec<JobUpdate> = applied
            .iter()
            .filter_map(|f| JobUpdate::after(f, self.now, terms.settle_deadline))
            .collect();
        let mut due: Due = updates
            .iter()
            .filter(|update| update.dead.is_none())
            .map(|update| (update.connection_id, update.run_at))
            .collect();
        // The pause holds a deferred job back, not its own schedule: whoever ends the pause sets it free.
        for f in applied.iter().filter(|f| f.verdict.next == Next::Defer) {
            if let Some(until) = self.paused_until.get(&f.job.account) {
                due.insert(f.job.connection_id, *until);
            }
        }
        let done = applied.iter().filter(|f| f.verdict.next == Next::Done);
        let events = applied.iter().filter_map(|f| self.changes.of_attempt(f));
        let held = Closing {
            new_tools: &self.changes.tools.new,
            attempts: &attempts(applied, self.now, terms.worker, &self.changes, &due),
            done: &done.map(|f| f.job.connection_id).collect::<Vec<_>>(),
            updates: &updates,
            events: &events.collect::<Vec<_>>(),
            notify: terms.recording.notify,
            first: self.first,
            lease_tokens: self.lease_tokens,
            reckoned: self.is_reckoned.then_some(self.now),
        }
        .write(conn)
        .await?;
        Ok(held.then_some(due))
    }

    fn committed(&self, finished: &Finished, due: &Due, held: bool) -> Committed {
        let id = finished.job.connection_id;
        Committed::Applied {
            tools: self.changes.tools_of(id),
            due_in: due
                .get(&id)
                .map(|at| (*at - self.now).to_std().unwrap_or_default()),
            time_to_sync: time_to_sync(finished, self.now),
            held,
        }
    }
}

/// From the oldest request's wish to `now`, of one that is synced and was asked for.
fn time_to_sync(finished: &Finished, now: DateTime<Utc>) -> Option<Duration> {
    (finished.verdict.outcome == Outcome::Synced && !finished.job.is_only_looked_after())
        .then(|| (now - finished.job.wanted_at).to_std().unwrap_or_default())
}

/// What an earlier try, whose answer was lost, has committed after all; by lease token.
async fn committed_before(
    conn: &mut PgConnection,
    batch: &[Finished],
    held: &HashSet<Uuid>,
    worker: &str,
) -> Result<HashMap<Uuid, Committed>, sqlx::Error> {
    let missing: Vec<_> = batch
        .iter()
        .filter(|f| !held.contains(&f.job.lease_token))
        .collect();
    let ids: Vec<_> = missing.iter().map(|f| f.job.connection_id).collect();
    let started: Vec<_> = missing.iter().map(|f| f.job.started_at).collect();
    let recorded = attempt::recorded(conn, &ids, &started, worker).await?;
    Ok(missing
        .iter()
        .filter_map(|f| {
            let found = recorded.iter().find(|row| {
                row.connection_id == f.job.connection_id && row.started_at == f.job.started_at
            })?;
            let refused = found.error_class.as_deref() == Some(ErrorClass::OtherAccount.as_str());
            let instead = f.if_held().filter(|_| refused);
            let committed = Committed::Applied {
                tools: found.tools,
                due_in: found.due_in,
                time_to_sync: time_to_sync(instead.as_ref().unwrap_or(f), found.now),
                held: instead.is_some(),
            };
            Some((f.job.lease_token, committed))
        })
        .collect())
}

async fn write_snapshots<'a>(
    conn: &mut PgConnection,
    applied: &[&'a Finished],
    history: bool,
) -> Result<Changes<'a>, StoreError> {
    let mut changes = Changes::default();
    let gone: Vec<_> = applied.iter().filter(|f| f.verdict.gone).collect();
    if !gone.is_empty() {
        let ids: Vec<_> = gone.iter().map(|f| f.job.connection_id).collect();
        let accounts: Vec<_> = gone.iter().map(|f| f.job.account.as_str()).collect();
        let removed = snapshot::mark_removed(conn, &ids, &accounts, history).await?;
        changes.removed.extend(removed);
    }
    let mut writes: Vec<_> = applied.iter().filter_map(|f| snapshot_write(f)).collect();
    if writes.is_empty() {
        return Ok(changes);
    }
    let written = snapshot::write_connections(conn, &writes, history).await?;
    reach(Point::ConnectionsWritten);
    if written.overtaken {
        // A list holds no leases.
        let why = "a connection was written from a list meanwhile";
        return Err(StoreError::Conflict(why.into()));
    }
    writes.retain(|write| {
        let id = &write.snapshot.id;
        !written.stale.contains(id) && !written.held.contains(id)
    });
    changes.tools = tools::write_tools(conn, &writes, &written.with_tools, history).await?;
    changes.written = written;
    Ok(changes)
}

/// What an attempt has to store, if anything.
fn snapshot_write(Finished { job, verdict, .. }: &Finished) -> Option<SnapshotWrite<'_>> {
    let stored = verdict.stored.as_ref()?;
    Some(SnapshotWrite {
        snapshot: &stored.snapshot,
        account: job.account.as_str(),
        takes_over: job.takes_over.as_ref().map(AccountName::as_str),
        finalized: stored.finalized,
        complete: stored.complete,
        as_of: None,
    })
}

/// What the history says of a batch.
fn attempts<'a>(
    applied: &[&'a Finished],
    now: DateTime<Utc>,
    worker: &'a str,
    changes: &Changes<'_>,
    due: &Due,
) -> Vec<AttemptRecord<'a>> {
    applied
        .iter()
        .map(
            |finished @ Finished {
                 job, verdict, took, ..
             }| AttemptRecord {
                account: job.account.as_str(),
                connection_id: job.connection_id,
                kind: job.phase.call().as_str(),
                attempt: super::signed(job.attempt),
                worker,
                started_at: job.started_at,
                finished_at: job.started_at + time_delta(*took),
                outcome: verdict.outcome.as_str(),
                http_status: verdict.http_status.map(i32::from),
                error_class: verdict.class.map(|class| class.as_str()),
                error: verdict.error_on_record(),
                retry_at: due.get(&job.connection_id).copied(),
                tools_status: verdict
                    .stored
                    .as_ref()
                    .map(|s| s.snapshot.tools_status.as_str()),
                tools: changes.tools_of(job.connection_id),
                upstream_request_id: verdict.upstream_request_id.as_deref(),
                finalize_started_at: Some(job.finalize_started_at),
                time_to_sync: time_to_sync(finished, now),
            },
        )
        .collect()
}
