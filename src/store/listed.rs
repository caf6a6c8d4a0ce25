//! Connections of a list into the tables, some hundred at a time, beside daemons that work on the same ones.

use crate::domain::AccountName;
use crate::domain::ConnectionSnapshot;
use crate::domain::SettleRule;
use crate::domain::Sighting;
use crate::domain::listed;
use crate::domain::listed::FollowUp;
use crate::domain::listed::Known;
use crate::domain::listed::Reason;
use crate::domain::listed::Treatment;
use crate::domain::snapshot::fingerprint;
use crate::store::attempt::ToolChanges;
use crate::store::closing::Closing;
use crate::store::connection::Db;
use crate::store::connection::Recording;
use crate::store::connection::within;
use crate::store::error::StoreError;
use crate::store::event::Changes;
use crate::store::snapshot;
use crate::store::snapshot::SnapshotWrite;
use crate::store::tools;
use chrono::DateTime;
use chrono::Utc;
use sqlx::Connection;
use sqlx::PgConnection;
use std::collections::HashMap;
use uuid::Uuid;

pub(super) mod queue;

/// The list that connections are from.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    /// Whose it is.
    pub account: &'a AccountName,
    /// When it was asked for, on the database's clock.
    pub asked_at: DateTime<Utc>,
    /// `[settle]`.
    pub settle: &'a SettleRule,
    /// Connections that the tables hold are left alone.
    pub only_missing: bool,
    /// Everything is done, and then undone.
    pub rehearse: bool,
}

/// What became of a connection's row and those of its tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It was not there.
    New,
    /// It had been removed, and is back.
    Revived,
    /// Some content is another.
    Changed,
    /// Nothing but the sync time has moved.
    Unchanged,
    /// Left alone: what is stored may be newer.
    Newer,
    /// Left alone: another account holds it.
    OtherAccount,
    /// Left alone: it is there already.
    NotMissing,
}

/// What became of one listed connection.
#[derive(Clone, Copy, Debug)]
pub struct ListedChange {
    /// The connection.
    pub id: Uuid,
    /// Its rows.
    pub change: Change,
    /// What is to follow.
    pub next: FollowUp,
    /// Its tools.
    pub tools: ToolChanges,
}

/// What is stored of a connection, as far as a decision takes it.
struct Stored {
    tools_status: String,
    tools_synced_at: Option<DateTime<Utc>>,
    synced_at: DateTime<Utc>,
    removed_at: Option<DateTime<Utc>>,
    finalized: bool,
    /// It is held from another account, whoever serves that: replicas that are away for a moment must not lose what they hold.
    foreign: bool,
    read_at: DateTime<Utc>,
}

impl Db {
    /// Applies a part of a list, all or nothing: connections with distinct ids. The results are in the part's order.
    ///
    /// Jobs are locked first, as a commit locks them, so that no attempt at these connections is written meanwhile.
    /// Where another one comes first with a row that was not there to be locked, it starts over.
    ///
    /// # Errors
    /// When the transaction failed. With [`StoreError::Data`] one of them holds a value that Postgres refuses.
    pub async fn apply_listed(
        &self,
        list: List<'_>,
        part: &[ConnectionSnapshot],
    ) -> Result<Vec<ListedChange>, StoreError> {
        let mut session = self.session().await?;
        let result = within(async {
            loop {
                let mut tx = session.begin().await?;
                let Some(changes) = apply(&mut tx, list, part, self.recording()).await? else {
                    tx.rollback().await?;
                    continue;
                };
                if list.rehearse {
                    tx.rollback().await?;
                } else {
                    tx.commit().await?;
                }
                return Ok(changes);
            }
        })
        .await;
        session.settle(result)
    }
}

/// `None`: another one has come first with a row, and what was decided does not hold.
async fn apply(
    conn: &mut PgConnection,
    list: List<'_>,
    part: &[ConnectionSnapshot],
    recording: Recording,
) -> Result<Option<Vec<ListedChange>>, sqlx::Error> {
    let ids: Vec<_> = part.iter().map(|listed| listed.id).collect();
    queue::hold_forget(conn).await?;
    let jobs = queue::lock_jobs(conn, &ids).await?;
    let stored = lock_stored(conn, list, &ids).await?;
    let dealings = queue::dealings(conn, list, &ids).await?;
    let sightings = sightings(conn, list.settle, part, &stored).await?;
    let treated: Vec<(&ConnectionSnapshot, Treatment)> = part
        .iter()
        .map(|one| {
            let seen = sightings.get(&one.id).cloned();
            let known = Known {
                newer: jobs.running.contains(&one.id)
                    || dealings.forgotten.contains(&one.id)
                    || stored.get(&one.id).is_some_and(|row| row.is_newer(list)),
                refuted: jobs.refuted.contains(&one.id),
                queued: dealings.queued.contains(&one.id),
                seen,
                ..known(stored.get(&one.id))
            };
            let treatment =
                listed::treat(one, &known, list.asked_at, list.settle, list.only_missing);
            (one, treatment)
        })
        .collect();
    let mut writes: Vec<_> = treated
        .iter()
        .filter_map(|(snapshot, treatment)| match treatment {
            Treatment::Leave(_) => None,
            Treatment::Store { complete, .. } => Some(SnapshotWrite {
                snapshot,
                account: list.account.as_str(),
                takes_over: None,
                finalized: false,
                complete: *complete,
                as_of: Some(list.asked_at),
            }),
        })
        .collect();
    let mut made = Changes::default();
    let answered: Vec<_> = writes.iter().map(|write| write.snapshot.id).collect();
    if !writes.is_empty() {
        let written = snapshot::write_connections(conn, &writes, recording.history).await?;
        if written.overtaken || written.known.iter().any(|id| !stored.contains_key(id)) {
            return Ok(None);
        }
        writes.retain(|write| !written.stale.contains(&write.snapshot.id));
        made.tools =
            tools::write_tools(conn, &writes, &written.with_tools, recording.history).await?;
        made.written = written;
    }
    let leads_to = |wanted| -> Vec<&ConnectionSnapshot> {
        let chosen = treated.iter().filter(|(snapshot, treatment)| {
            let next = matches!(treatment, Treatment::Store { next, .. } if *next == wanted);
            next && !made.written.stale.contains(&snapshot.id)
        });
        chosen.map(|(snapshot, _)| *snapshot).collect()
    };
    queue::finalize(conn, list, &leads_to(FollowUp::Finalize)).await?;
    queue::follow(conn, list, &leads_to(FollowUp::Follow)).await?;
    // Of what was not applied too: an older answer says that a removed connection is back. A rehearsal tells nothing.
    let told = answered.iter().filter(|_| !list.rehearse);
    let account = list.account.as_str();
    let closing = Closing {
        new_tools: &made.tools.new,
        events: &told
            .filter_map(|id| made.of_written(account, *id))
            .collect::<Vec<_>>(),
        notify: recording.notify,
        ..Closing::default()
    };
    closing.write(conn).await?;
    let changes = treated
        .iter()
        .map(|(snapshot, treatment)| {
            let tools = made.tools_of(snapshot.id);
            let left = |change| (change, FollowUp::Nothing);
            let (change, next) = match treatment {
                Treatment::Leave(Reason::Newer) => left(Change::Newer),
                Treatment::Leave(Reason::OtherAccount) => left(Change::OtherAccount),
                Treatment::Leave(Reason::NotMissing) => left(Change::NotMissing),
                Treatment::Store { .. } if made.written.stale.contains(&snapshot.id) => {
                    let back = made.written.back.contains(&snapshot.id);
                    left(if back { Change::Revived } else { Change::Newer })
                }
                Treatment::Store { next, .. } => {
                    let change = match stored.get(&snapshot.id) {
                        None => Change::New,
                        Some(stored) if stored.removed_at.is_some() => Change::Revived,
                        Some(_) if made.written.changed.contains(&snapshot.id) => Change::Changed,
                        Some(_) if tools != ToolChanges::default() => Change::Changed,
                        Some(_) => Change::Unchanged,
                    };
                    (change, *next)
                }
            };
            ListedChange {
                id: snapshot.id,
                change,
                next,
                tools,
            }
        })
        .collect();
    Ok(Some(changes))
}

impl Stored {
    /// A time that is still to come is a mistake, and guarding with it would shut the row for as long.
    fn is_newer(&self, list: List<'_>) -> bool {
        let mut times = [Some(self.synced_at), self.removed_at]
            .into_iter()
            .flatten();
        times.any(|at| list.asked_at <= at && at <= self.read_at)
    }
}

/// What the stored row says.
fn known(stored: Option<&Stored>) -> Known {
    let Some(stored) = stored else {
        return Known::default();
    };
    let held = stored.removed_at.is_none();
    Known {
        held,
        foreign: held && stored.foreign,
        finalized: stored.finalized,
        ..Known::default()
    }
}

async fn lock_stored(
    conn: &mut PgConnection,
    list: List<'_>,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Stored>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        SELECT id, tools_status, tools_synced_at, _synced_at AS synced_at, _removed_at AS removed_at,
               _finalized_at IS NOT NULL AS "finalized!", clock_timestamp() AS "read_at!",
               _account <> $2 AS "foreign!"
        FROM feather.integration_connections WHERE id = ANY($1) ORDER BY id FOR UPDATE
        "#,
        ids,
        list.account.as_str()
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let stored = Stored {
                tools_status: row.tools_status,
                tools_synced_at: row.tools_synced_at,
                synced_at: row.synced_at,
                removed_at: row.removed_at,
                finalized: row.finalized,
                foreign: row.foreign,
                read_at: row.read_at,
            };
            (row.id, stored)
        })
        .collect())
}

/// How those looked when they were last checked whose words alone do not say whether they have settled.
async fn sightings(
    conn: &mut PgConnection,
    settle: &SettleRule,
    part: &[ConnectionSnapshot],
    stored: &HashMap<Uuid, Stored>,
) -> Result<HashMap<Uuid, Sighting>, sqlx::Error> {
    let open: Vec<_> = part
        .iter()
        .filter(|listed| settle.needs_another_look(listed))
        .filter_map(|listed| Some((listed, stored.get(&listed.id)?)))
        .collect();
    if open.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<_> = open.iter().map(|(listed, _)| listed.id).collect();
    let rows = sqlx::query!(
        r#"
        SELECT connection_id, _hash AS hash FROM feather.integration_connection_tools
        WHERE connection_id = ANY($1) AND _removed_at IS NULL ORDER BY connection_id, id
        "#,
        &ids
    )
    .fetch_all(conn)
    .await?;
    let mut hashes: HashMap<Uuid, Vec<Vec<u8>>> = HashMap::new();
    for row in rows {
        hashes.entry(row.connection_id).or_default().push(row.hash);
    }
    Ok(open
        .into_iter()
        .map(|(listed, stored)| {
            let tools = hashes.remove(&listed.id).unwrap_or_default();
            let tools = listed.tools.is_some().then_some(tools.as_slice());
            let print = fingerprint(&stored.tools_status, stored.tools_synced_at, tools);
            let sighting = Sighting {
                fingerprint: print.to_vec(),
                at: stored.synced_at,
            };
            (listed.id, sighting)
        })
        .collect())
}
