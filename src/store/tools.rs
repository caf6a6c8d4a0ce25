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

/// What is stored of a tool, as far as it takes to tell whether anything changed.
struct Stored {
    hash: Vec<u8>,
    last_seen_at: DateTime<Utc>,
    warned: bool,
    removed: bool,
}

/// A tool of an answer, with its connection.
type Answered<'a> = (Uuid, &'a ToolSnapshot);

/// What has to be done about the tools of a batch.
#[derive(Default)]
struct Work<'a> {
    added: Vec<Answered<'a>>,
    /// Another text, or a tool that had been removed.
    differing: Vec<Answered<'a>>,
    seen: Vec<Answered<'a>>,
    gone: Vec<(Uuid, Uuid)>,
}

/// Writes tools of connections that are already written, and thereby locked; stale ones left out by the caller.
/// `with_tools` are those of which tools are stored.
pub(super) async fn write_tools(
    conn: &mut PgConnection,
    writes: &[SnapshotWrite<'_>],
    with_tools: &HashSet<Uuid>,
) -> Result<HashMap<Uuid, ToolChanges>, sqlx::Error> {
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
    let mut changes: HashMap<Uuid, ToolChanges> = HashMap::new();
    if !work.added.is_empty() {
        insert(conn, &work.added).await?;
        for (connection_id, _) in &work.added {
            changes.entry(*connection_id).or_default().added += 1;
        }
    }
    if !work.differing.is_empty() {
        for judged in change(conn, &work.differing).await? {
            let of = changes.entry(judged.connection_id).or_default();
            if judged.back {
                of.added += 1;
            } else if judged.changed {
                of.changed += 1;
            }
        }
    }
    if !work.seen.is_empty() || !work.gone.is_empty() {
        touch(conn, &work.seen, &work.gone).await?;
        for (connection_id, _) in &work.gone {
            changes.entry(*connection_id).or_default().removed += 1;
        }
    }
    Ok(changes)
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
            .map(|(_, t)| text_array(&t.$field))
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
            .map(|(_, t)| warnings_json(&t.$field))
            .collect::<Vec<_>>()
    };
}

fn connections(tools: &[Answered<'_>]) -> Vec<Uuid> {
    tools.iter().map(|(id, _)| *id).collect()
}

/// Inserts tools that are not stored.
async fn insert(conn: &mut PgConnection, tools: &[Answered<'_>]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        INSERT INTO feather.integration_connection_tools
            (connection_id, id, organization_id, integration_key, nickname_slug, tool_path, slug, display_name,
             description, input_schema, response_schema, response_field_map, input_defaults, is_enabled, last_seen_at,
             created_at, updated_at, stale_field_paths, default_count, pinned_count, stale_input_fields,
             merged_input_preview, _extra, _warnings, _first_seen_at, _changed_at, _hash)
        SELECT connection_id, id, organization_id, integration_key, nickname_slug, tool_path, slug, display_name,
               description, input_schema::jsonb, response_schema::jsonb, field_map::jsonb, defaults::jsonb, is_enabled,
               last_seen_at, created_at, updated_at, stale_field_paths::text[], default_count, pinned_count,
               stale_input_fields::text[], merged_input_preview::jsonb, extra::jsonb, warnings::jsonb, now(), now(), hash
        FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                    $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bool[], $15::timestamptz[],
                    $16::timestamptz[], $17::timestamptz[], $18::text[], $19::bigint[], $20::bigint[], $21::text[],
                    $22::text[], $23::text[], $24::text[], $25::bytea[])
             AS v (connection_id, id, organization_id, integration_key, nickname_slug, tool_path, slug, display_name,
                   description, input_schema, response_schema, field_map, defaults, is_enabled, last_seen_at, created_at,
                   updated_at, stale_field_paths, default_count, pinned_count, stale_input_fields, merged_input_preview,
                   extra, warnings, hash)
        "#,
        &connections(tools),
        &column!(tools.id copied),
        &column!(tools.organization_id copied),
        &column!(tools.integration_key) as _,
        &column!(tools.nickname_slug) as _,
        &column!(tools.tool_path) as _,
        &column!(tools.slug) as _,
        &column!(tools.display_name) as _,
        &column!(tools.description) as _,
        &column!(tools.input_schema) as _,
        &column!(tools.response_schema json) as _,
        &column!(tools.response_field_map json) as _,
        &column!(tools.input_defaults json) as _,
        &column!(tools.is_enabled copied),
        &column!(tools.last_seen_at copied),
        &column!(tools.created_at copied),
        &column!(tools.updated_at copied),
        &column!(tools.stale_field_paths array),
        &column!(tools.default_count copied),
        &column!(tools.pinned_count copied),
        &column!(tools.stale_input_fields array),
        &column!(tools.merged_input_preview) as _,
        &column!(tools.extra) as _,
        &column!(tools.warnings warnings) as _,
        &column!(tools.hash bytes) as _
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A tool whose text differs, compared by content.
struct Judged {
    connection_id: Uuid,
    /// It had been removed.
    back: bool,
    /// Another text is not yet another content: keys may have changed their order.
    changed: bool,
}

/// Compares tools with what is stored, by content, and writes what has changed.
async fn change(
    conn: &mut PgConnection,
    tools: &[Answered<'_>],
) -> Result<Vec<Judged>, sqlx::Error> {
    sqlx::query_as!(
        Judged,
        r#"
        WITH new AS MATERIALIZED (
            SELECT v.connection_id, v.id, v.organization_id, v.integration_key, v.nickname_slug, v.tool_path, v.slug,
                   v.display_name, v.description, v.input_schema::jsonb AS input_schema,
                   -- What an answer lacks keeps its value.
                   CASE WHEN v.has_response_schema THEN v.response_schema::jsonb ELSE o.response_schema END AS response_schema,
                   CASE WHEN v.has_field_map THEN v.field_map::jsonb ELSE o.response_field_map END AS response_field_map,
                   CASE WHEN v.has_defaults THEN v.defaults::jsonb ELSE o.input_defaults END AS input_defaults,
                   v.is_enabled, v.last_seen_at, v.created_at, v.updated_at, v.stale_field_paths::text[] AS stale_field_paths,
                   v.default_count, v.pinned_count, v.stale_input_fields::text[] AS stale_input_fields,
                   v.merged_input_preview::jsonb AS merged_input_preview, o._extra || v.extra::jsonb AS extra,
                   v.warnings::jsonb AS warnings, v.hash, o._removed_at IS NOT NULL AS back
            FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                        $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bool[], $15::timestamptz[],
                        $16::timestamptz[], $17::timestamptz[], $18::text[], $19::bigint[], $20::bigint[], $21::text[],
                        $22::text[], $23::text[], $24::text[], $25::bytea[], $26::bool[], $27::bool[], $28::bool[])
                 AS v (connection_id, id, organization_id, integration_key, nickname_slug, tool_path, slug, display_name,
                       description, input_schema, response_schema, field_map, defaults, is_enabled, last_seen_at,
                       created_at, updated_at, stale_field_paths, default_count, pinned_count, stale_input_fields,
                       merged_input_preview, extra, warnings, hash, has_response_schema, has_field_map, has_defaults)
            JOIN feather.integration_connection_tools o
                ON o.connection_id = v.connection_id AND o.id = v.id AND o.connection_id = ANY($1)
        ), judged AS MATERIALIZED (
            SELECT n.connection_id, n.id, n.back,
                   (o.organization_id, o.integration_key, o.nickname_slug, o.tool_path, o.slug, o.display_name,
                    o.description, o.input_schema, o.response_schema, o.response_field_map, o.input_defaults,
                    o.is_enabled, o.created_at, o.updated_at, o.stale_field_paths, o.default_count, o.pinned_count,
                    o.stale_input_fields, o.merged_input_preview, o._extra)
                   IS DISTINCT FROM
                   (n.organization_id, n.integration_key, n.nickname_slug, n.tool_path, n.slug, n.display_name,
                    n.description, n.input_schema, n.response_schema, n.response_field_map, n.input_defaults,
                    n.is_enabled, n.created_at, n.updated_at, n.stale_field_paths, n.default_count, n.pinned_count,
                    n.stale_input_fields, n.merged_input_preview, n.extra) AS changed
            FROM new n
            JOIN feather.integration_connection_tools o
                ON o.connection_id = n.connection_id AND o.id = n.id AND o.connection_id = ANY($1)
        ), written AS (
            UPDATE feather.integration_connection_tools t
            SET organization_id = n.organization_id, integration_key = n.integration_key, nickname_slug = n.nickname_slug,
                tool_path = n.tool_path, slug = n.slug, display_name = n.display_name, description = n.description,
                input_schema = n.input_schema, response_schema = n.response_schema,
                response_field_map = n.response_field_map, input_defaults = n.input_defaults, is_enabled = n.is_enabled,
                last_seen_at = n.last_seen_at, created_at = n.created_at, updated_at = n.updated_at,
                stale_field_paths = n.stale_field_paths, default_count = n.default_count, pinned_count = n.pinned_count,
                stale_input_fields = n.stale_input_fields, merged_input_preview = n.merged_input_preview,
                _extra = n.extra, _warnings = n.warnings, _hash = n.hash, _removed_at = NULL,
                _first_seen_at = LEAST(t._first_seen_at, now()), _changed_at = now()
            FROM new n JOIN judged j ON j.connection_id = n.connection_id AND j.id = n.id
            WHERE (j.back OR j.changed) AND t.connection_id = n.connection_id AND t.id = n.id AND t.connection_id = ANY($1)
        ), seen AS (
            -- Wide columns that an UPDATE leaves alone stay where they are.
            UPDATE feather.integration_connection_tools t
            SET last_seen_at = n.last_seen_at, _warnings = n.warnings, _hash = n.hash
            FROM new n JOIN judged j ON j.connection_id = n.connection_id AND j.id = n.id
            WHERE NOT j.back AND NOT j.changed
              AND t.connection_id = n.connection_id AND t.id = n.id AND t.connection_id = ANY($1)
        )
        SELECT connection_id AS "connection_id!", back AS "back!", changed AS "changed!" FROM judged
        "#,
        &connections(tools),
        &column!(tools.id copied),
        &column!(tools.organization_id copied),
        &column!(tools.integration_key) as _,
        &column!(tools.nickname_slug) as _,
        &column!(tools.tool_path) as _,
        &column!(tools.slug) as _,
        &column!(tools.display_name) as _,
        &column!(tools.description) as _,
        &column!(tools.input_schema) as _,
        &column!(tools.response_schema json) as _,
        &column!(tools.response_field_map json) as _,
        &column!(tools.input_defaults json) as _,
        &column!(tools.is_enabled copied),
        &column!(tools.last_seen_at copied),
        &column!(tools.created_at copied),
        &column!(tools.updated_at copied),
        &column!(tools.stale_field_paths array),
        &column!(tools.default_count copied),
        &column!(tools.pinned_count copied),
        &column!(tools.stale_input_fields array),
        &column!(tools.merged_input_preview) as _,
        &column!(tools.extra) as _,
        &column!(tools.warnings warnings) as _,
        &column!(tools.hash bytes) as _,
        &column!(tools.response_schema present),
        &column!(tools.response_field_map present),
        &column!(tools.input_defaults present)
    )
    .fetch_all(conn)
    .await
}

/// Writes what moves without being a change, and marks tools as removed.
async fn touch(
    conn: &mut PgConnection,
    seen: &[Answered<'_>],
    gone: &[(Uuid, Uuid)],
) -> Result<(), sqlx::Error> {
    let (gone_from, gone_ids): (Vec<_>, Vec<_>) = gone.iter().copied().unzip();
    sqlx::query!(
        r#"
        WITH gone AS (
            UPDATE feather.integration_connection_tools t
            SET _removed_at = now(), _changed_at = now(), _first_seen_at = LEAST(t._first_seen_at, now())
            FROM unnest($5::uuid[], $6::uuid[]) AS g (connection_id, id)
            WHERE t.connection_id = g.connection_id AND t.id = g.id AND t.connection_id = ANY($5)
        )
        UPDATE feather.integration_connection_tools t
        SET last_seen_at = v.last_seen_at, _warnings = v.warnings::jsonb
        FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[]) AS v (connection_id, id, last_seen_at, warnings)
        WHERE t.connection_id = v.connection_id AND t.id = v.id AND t.connection_id = ANY($1)
          AND (t.last_seen_at, t._warnings) IS DISTINCT FROM (v.last_seen_at, v.warnings::jsonb)
        "#,
        &connections(seen),
        &column!(seen.id copied),
        &column!(seen.last_seen_at copied),
        &column!(seen.warnings warnings) as _,
        &gone_from,
        &gone_ids
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) fn warnings_json(warnings: &[Warning]) -> Option<String> {
    let list: Vec<_> = warnings
        .iter()
        .map(|warning| serde_json::json!({"field": warning.field, "warning": warning.what}))
        .collect();
    (!list.is_empty()).then(|| serde_json::Value::from(list).to_string())
}

/// A `text[]` as Postgres reads it; arrays of arrays do not unnest into rows of arrays.
fn text_array(items: &[String]) -> String {
    let quoted: Vec<_> = items
        .iter()
        .map(|item| format!("\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\"")))
        .collect();
    format!("{{{}}}", quoted.join(","))
}
