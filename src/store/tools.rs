//! Tools into their table. What is stored is compared here, by hash: what is the same is neither sent nor written, of
//! what was merely seen again only the narrow columns are.

use crate::domain::snapshot::ToolSnapshot;
use crate::domain::snapshot::Warning;
use crate::store::attempt::ToolChanges;
use crate::store::snapshot::SnapshotWrite;
use chrono::DateTime;
use chrono::Utc;
use sqlx::PgConnection;
use std::collections::HashMap;
use std::collections::HashSet;
use uuid::Uuid;

/// One column of many tools.
macro_rules! column {
    ($tools:ident.$field:ident) => {
        $tools.iter().map(|(_, t)| &t.$field).collect::<Vec<_>>()
    };
    ($tools:ident.$field:ident copied) => {
        $tools.iter().map(|(_, t)| t.$field).collect::<Vec<_>>()
    };
    ($tools:ident.$field:ident json) => {
        $tools
            .iter()
            .map(|(_, t)| t.$field.json())
            .collect::<Vec<_>>()
    };
    ($tools:ident.$field:ident present) => {
        $tools
            .iter()
            .map(|(_, t)| t.$field.is_present())
            .collect::<Vec<_>>()
    };
    ($tools:ident.$field:ident array) => {
        $tools
            .iter()
            .map(|(_, t)| $crate::store::tools::text_array(&t.$field))
            .collect::<Vec<_>>()
    };
    ($tools:ident.$field:ident bytes) => {
        $tools
            .iter()
            .map(|(_, t)| t.$field.as_slice())
            .collect::<Vec<_>>()
    };
    ($tools:ident.$field:ident warnings) => {
        $tools
            .iter()
            .map(|(_, t)| $crate::store::tools::warnings_json(&t.$field))
            .collect::<Vec<_>>()
    };
}
pub(super) use column;

mod rows;

/// What is stored of a tool, as far as it takes to tell whether anything changed.
struct Stored {
    hash: Vec<u8>,
    last_seen_at: DateTime<Utc>,
    warned: bool,
    removed: bool,
}

/// A tool of an answer, with its connection.
pub(super) type Answered<'a> = (Uuid, &'a ToolSnapshot);

/// Tools of one connection that are not what they were, by their ids.
#[derive(Debug, Default)]
pub(super) struct ToolIds {
    /// New or back.
    pub(super) added: Vec<Uuid>,
    pub(super) changed: Vec<Uuid>,
    /// Marked removed.
    pub(super) removed: Vec<Uuid>,
}

impl ToolIds {
    /// How many they are.
    pub(super) fn counts(&self) -> ToolChanges {
        let count = |ids: &[Uuid]| i32::try_from(ids.len()).unwrap_or(i32::MAX);
        ToolChanges {
            added: count(&self.added),
            changed: count(&self.changed),
            removed: count(&self.removed),
        }
    }
}

/// What became of the tools of a batch.
#[derive(Default)]
pub(super) struct WrittenTools<'a> {
    /// By connection.
    pub(super) changes: HashMap<Uuid, ToolIds>,
    /// Those that are to be inserted still.
    pub(super) new: Vec<Answered<'a>>,
}

/// What has to be done about the tools of a batch.
#[derive(Default)]
struct Work<'a> {
    added: Vec<Answered<'a>>,
    /// Another text, or a tool that had been removed.
    differing: Vec<Answered<'a>>,
    seen: Vec<Answered<'a>>,
    gone: Vec<(Uuid, Uuid)>,
}

/// Writes tools of connections that are already written, and thereby locked; stale ones left out by the caller. Those that
/// are new are returned, and left to the closing statement.
/// `with_tools` are those of which tools are stored. With `history` it is kept what they were before they changed.
pub(super) async fn write_tools<'a>(
    conn: &mut PgConnection,
    writes: &[SnapshotWrite<'a>],
    with_tools: &HashSet<Uuid>,
    history: bool,
) -> Result<WrittenTools<'a>, sqlx::Error> {
    let known: Vec<_> = writes
        .iter()
        .filter(|w| w.snapshot.tools.is_some())
        .map(|w| w.snapshot.id)
        .filter(|id| with_tools.contains(id))
        .collect();
    let stored = if known.is_empty() {
        HashMap::new()
    } else {
        read_stored(conn, &known).await?
    };
    let work = Work::find(writes, &stored);
    let mut changes: HashMap<Uuid, ToolIds> = HashMap::new();
    for (connection_id, tool) in &work.added {
        let of_connection = changes.entry(*connection_id).or_default();
        of_connection.added.push(tool.id);
    }
    if !work.differing.is_empty() {
        for judged in rows::change(conn, &work.differing, history).await? {
            let of_connection = changes.entry(judged.connection_id);
            if judged.back {
                of_connection.or_default().added.push(judged.id);
            } else if judged.changed {
                of_connection.or_default().changed.push(judged.id);
            }
        }
    }
    if !work.seen.is_empty() {
        rows::touch(conn, &work.seen).await?;
    }
    if !work.gone.is_empty() {
        rows::remove(conn, &work.gone, history).await?;
        for (connection_id, id) in &work.gone {
            changes.entry(*connection_id).or_default().removed.push(*id);
        }
    }
    Ok(WrittenTools {
        changes,
        new: work.added,
    })
}

impl<'a> Work<'a> {
    fn find(writes: &[SnapshotWrite<'a>], stored: &HashMap<(Uuid, Uuid), Stored>) -> Self {
        let mut work = Self::default();
        let mut answered = HashSet::new();
        for write in writes {
            let connection_id = write.snapshot.id;
            for tool in write.snapshot.tools.iter().flatten() {
                let item = (connection_id, tool);
                match stored.get(&(connection_id, tool.id)) {
                    None => work.added.push(item),
                    Some(old) if old.removed || old.hash != tool.hash => work.differing.push(item),
                    // Warnings are rare; whether they are the same ones the statement finds out.
                    Some(old) if old.warned || !tool.warnings.is_empty() => work.seen.push(item),
                    Some(old) if old.last_seen_at != tool.last_seen_at => work.seen.push(item),
                    Some(_) => {}
                }
                if !stored.is_empty() {
                    answered.insert((connection_id, tool.id));
                }
            }
        }
        let complete: HashSet<_> = writes
            .iter()
            .filter(|w| w.complete)
            .map(|w| w.snapshot.id)
            .collect();
        work.gone = stored
            .iter()
            .filter(|(key, old)| !old.removed && complete.contains(&key.0))
            .map(|(key, _)| *key)
            .filter(|key| !answered.contains(key))
            .collect();
        work
    }
}

async fn read_stored(
    conn: &mut PgConnection,
    connection_ids: &[Uuid],
) -> Result<HashMap<(Uuid, Uuid), Stored>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        SELECT connection_id, id, last_seen_at, _warnings IS NOT NULL AS "warned!", _removed_at IS NOT NULL AS "removed!",
               _hash AS hash
        FROM feather.integration_connection_tools
        WHERE connection_id = ANY($1)
        "#,
        connection_ids
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let stored = Stored {
                hash: row.hash,
                last_seen_at: row.last_seen_at,
                warned: row.warned,
                removed: row.removed,
            };
            ((row.connection_id, row.id), stored)
        })
        .collect())
}

pub(super) fn warnings_json(warnings: &[Warning]) -> Option<String> {
    let list: Vec<_> = warnings
        .iter()
        .map(|warning| serde_json::json!({"field": warning.field, "warning": warning.what}))
        .collect();
    (!list.is_empty()).then(|| serde_json::Value::from(list).to_string())
}

pub(super) fn connections(tools: &[Answered<'_>]) -> Vec<Uuid> {
    tools.iter().map(|(id, _)| *id).collect()
}

/// A `text[]` as Postgres reads it; arrays of arrays do not unnest into rows of arrays.
pub(super) fn text_array(items: &[String]) -> String {
    let quoted: Vec<_> = items
        .iter()
        .map(|item| format!("\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\"")))
        .collect();
    format!("{{{}}}", quoted.join(","))
}
