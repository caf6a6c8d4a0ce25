//! Snapshots into the two tables: what has not changed is not written, what went back in time is not applied.

use crate::domain::snapshot::ConnectionSnapshot;
use crate::domain::snapshot::ToolSnapshot;
use crate::domain::snapshot::Warning;
use crate::store::attempt::ToolChanges;
use crate::store::connection::plan_for;
use sqlx::PgConnection;
use std::collections::HashMap;
use std::collections::HashSet;
use uuid::Uuid;

/// A snapshot on its way into the tables.
pub(super) struct SnapshotWrite<'a> {
    pub(super) snapshot: &'a ConnectionSnapshot,
    pub(super) account: &'a str,
    pub(super) finalized: bool,
    /// The tools are all that there are: what is stored beyond them is removed.
    pub(super) complete: bool,
}

/// Writes connections, at most one snapshot each. Returns those whose answer was older than what is stored: their
/// check counts, their content is not applied.
pub(super) async fn write_connections(
    conn: &mut PgConnection,
    writes: &[SnapshotWrite<'_>],
) -> Result<HashSet<Uuid>, sqlx::Error> {
    macro_rules! column {
        ($field:ident) => {
            writes
                .iter()
                .map(|w| &w.snapshot.$field)
                .collect::<Vec<_>>()
        };
        ($field:ident copied) => {
            writes.iter().map(|w| w.snapshot.$field).collect::<Vec<_>>()
        };
    }
    let accounts: Vec<_> = writes.iter().map(|w| w.account).collect();
    let finalized: Vec<_> = writes.iter().map(|w| w.finalized).collect();
    let cps: Vec<_> = writes
        .iter()
        .map(|w| w.snapshot.voice_account_cps.json())
        .collect();
    let has_cps: Vec<_> = writes
        .iter()
        .map(|w| w.snapshot.voice_account_cps.is_present())
        .collect();
    let warnings: Vec<_> = writes
        .iter()
        .map(|w| warnings_json(&w.snapshot.warnings))
        .collect();
    let hashes: Vec<_> = writes.iter().map(|w| w.snapshot.hash.as_slice()).collect();
    let tools_synced_at = column!(tools_synced_at copied);
    let connected_at = column!(connected_at copied);
    let last_refreshed_at = column!(last_refreshed_at copied);
    let last_used_at = column!(last_used_at copied);
    let rows = sqlx::query!(
        r#"
        WITH new AS MATERIALIZED (
            SELECT v.id, v.organization_id, v.integration_key, v.nickname_slug, v.nickname, v.vendor,
                   v.vendor_connection_id, v.status, v.tools_status, v.tools_synced_at, v.status_reason, v.connected_at,
                   v.last_refreshed_at, v.last_used_at, v.metadata::jsonb AS metadata,
                   CASE WHEN v.has_cps THEN v.cps::numeric ELSE o.voice_account_cps END AS voice_account_cps,
                   v.created_at, v.updated_at, v.account, COALESCE(o._extra, '{}') || v.extra::jsonb AS extra,
                   v.warnings::jsonb AS warnings, v.hash, v.finalized, o.id IS NOT NULL AS known,
                   -- A time in the far future is a mistake, and guarding with it would shut the row for good.
                   COALESCE(o.updated_at > v.updated_at AND o.updated_at <= now() + interval '1 day', false) AS stale
            FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                        $9::text[], $10::timestamptz[], $11::text[], $12::timestamptz[], $13::timestamptz[],
                        $14::timestamptz[], $15::text[], $16::text[], $17::bool[], $18::timestamptz[],
                        $19::timestamptz[], $20::text[], $21::text[], $22::text[], $23::bytea[], $24::bool[])
                 AS v (id, organization_id, integration_key, nickname_slug, nickname, vendor, vendor_connection_id,
                       status, tools_status, tools_synced_at, status_reason, connected_at, last_refreshed_at,
                       last_used_at, metadata, cps, has_cps, created_at, updated_at, account, extra, warnings, hash,
                       finalized)
            LEFT JOIN feather.integration_connections o ON o.id = v.id AND o.id = ANY($1)
        ), changed AS MATERIALIZED (
            SELECT n.id FROM new n JOIN feather.integration_connections o ON o.id = n.id AND o.id = ANY($1)
            WHERE NOT n.stale AND (o._hash <> n.hash OR o._account <> n.account)
              AND (o.organization_id, o.integration_key, o.nickname_slug, o.nickname, o.vendor, o.vendor_connection_id,
                   o.status, o.tools_status, o.tools_synced_at, o.status_reason, o.connected_at, o.metadata,
                   o.voice_account_cps, o.created_at, o.updated_at, o._account, o._extra)
                  IS DISTINCT FROM
                  (n.organization_id, n.integration_key, n.nickname_slug, n.nickname, n.vendor, n.vendor_connection_id,
                   n.status, n.tools_status, n.tools_synced_at, n.status_reason, n.connected_at, n.metadata,
                   n.voice_account_cps, n.created_at, n.updated_at, n.account, n.extra)
        ), written AS (
            INSERT INTO feather.integration_connections AS c
                (id, organization_id, integration_key, nickname_slug, nickname, vendor, vendor_connection_id, status,
                 tools_status, tools_synced_at, status_reason, connected_at, last_refreshed_at, last_used_at, metadata,
                 voice_account_cps, created_at, updated_at, _account, _extra, _warnings, _first_seen_at, _finalized_at,
                 _synced_at, _changed_at, _removed_at, _hash)
            SELECT id, organization_id, integration_key, nickname_slug, nickname, vendor, vendor_connection_id, status,
                   tools_status, tools_synced_at, status_reason, connected_at, last_refreshed_at, last_used_at, metadata,
                   voice_account_cps, created_at, updated_at, account, extra, warnings, now(),
                   CASE WHEN finalized THEN now() END, now(), now(), NULL, hash
            FROM new
            WHERE NOT known OR id IN (SELECT id FROM changed)
            ORDER BY id
            ON CONFLICT (id) DO UPDATE
            SET organization_id = excluded.organization_id, integration_key = excluded.integration_key,
                nickname_slug = excluded.nickname_slug, nickname = excluded.nickname, vendor = excluded.vendor,
                vendor_connection_id = excluded.vendor_connection_id, status = excluded.status,
                tools_status = excluded.tools_status, tools_synced_at = excluded.tools_synced_at,
                status_reason = excluded.status_reason, connected_at = excluded.connected_at,
                last_refreshed_at = excluded.last_refreshed_at, last_used_at = excluded.last_used_at,
                metadata = excluded.metadata, voice_account_cps = excluded.voice_account_cps,
                created_at = excluded.created_at, updated_at = excluded.updated_at, _account = excluded._account,
                _extra = excluded._extra, _warnings = excluded._warnings,
                -- A clock that has gone back since must not leave what came first behind what follows.
                _first_seen_at = LEAST(c._first_seen_at, now()), _synced_at = excluded._synced_at,
                _finalized_at = COALESCE(excluded._finalized_at, LEAST(c._finalized_at, now())),
                _changed_at = excluded._changed_at, _removed_at = NULL, _hash = excluded._hash
        )
        -- Only checked: the bookkeeping columns, and what moves without being a change.
        UPDATE feather.integration_connections c
        SET _first_seen_at = LEAST(c._first_seen_at, now()), _synced_at = now(),
            _finalized_at = CASE WHEN n.finalized THEN now() ELSE LEAST(c._finalized_at, now()) END,
            last_refreshed_at = CASE WHEN n.stale THEN c.last_refreshed_at ELSE n.last_refreshed_at END,
            last_used_at = CASE WHEN n.stale THEN c.last_used_at ELSE n.last_used_at END,
            _hash = CASE WHEN n.stale THEN c._hash ELSE n.hash END,
            _changed_at = CASE WHEN c._removed_at IS NULL THEN c._changed_at ELSE now() END,
            _removed_at = NULL,
            _warnings = CASE WHEN n.stale THEN jsonb_build_array(jsonb_build_object('field', 'updated_at', 'warning',
                                 format('an answer with the older updated_at %s was not applied', n.updated_at)))
                             ELSE n.warnings END
        FROM new n
        WHERE c.id = n.id AND c.id = ANY($1) AND n.known AND n.id NOT IN (SELECT id FROM changed)
        RETURNING c.id, n.stale AS "stale!"
        "#,
        &column!(id copied),
        &column!(organization_id copied),
        &column!(integration_key) as _,
        &column!(nickname_slug) as _,
        &column!(nickname) as _,
        &column!(vendor) as _,
        &column!(vendor_connection_id) as _,
        &column!(status) as _,
        &column!(tools_status) as _,
        &tools_synced_at as _,
        &column!(status_reason) as _,
        &connected_at as _,
        &last_refreshed_at as _,
        &last_used_at as _,
        &column!(metadata) as _,
        &cps as _,
        &has_cps,
        &column!(created_at copied),
        &column!(updated_at copied),
        &accounts as _,
        &column!(extra) as _,
        &warnings as _,
        &hashes as _,
        &finalized
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .filter(|row| row.stale)
        .map(|row| row.id)
        .collect())
}

/// Writes tools of connections that are already written, stale ones left out by the caller.
pub(super) async fn write_tools(
    conn: &mut PgConnection,
    writes: &[SnapshotWrite<'_>],
) -> Result<HashMap<Uuid, ToolChanges>, sqlx::Error> {
    let complete: Vec<_> = writes
        .iter()
        .filter(|w| w.complete)
        .map(|w| w.snapshot.id)
        .collect();
    let tools: Vec<(Uuid, &ToolSnapshot)> = writes
        .iter()
        .flat_map(|w| {
            w.snapshot
                .tools
                .iter()
                .flatten()
                .map(|tool| (w.snapshot.id, tool))
        })
        .collect();
    if complete.is_empty() && tools.is_empty() {
        return Ok(HashMap::new());
    }
    plan_for(conn, tools.len()).await?;
    macro_rules! column {
        ($field:ident) => {
            tools.iter().map(|(_, t)| &t.$field).collect::<Vec<_>>()
        };
        ($field:ident copied) => {
            tools.iter().map(|(_, t)| t.$field).collect::<Vec<_>>()
        };
        ($field:ident json) => {
            tools
                .iter()
                .map(|(_, t)| t.$field.json())
                .collect::<Vec<_>>()
        };
        ($field:ident present) => {
            tools
                .iter()
                .map(|(_, t)| t.$field.is_present())
                .collect::<Vec<_>>()
        };
        ($field:ident array) => {
            tools
                .iter()
                .map(|(_, t)| text_array(&t.$field))
                .collect::<Vec<_>>()
        };
    }
    let written: Vec<_> = writes.iter().map(|w| w.snapshot.id).collect();
    let connection_ids: Vec<_> = tools.iter().map(|(id, _)| *id).collect();
    let warnings: Vec<_> = tools
        .iter()
        .map(|(_, t)| warnings_json(&t.warnings))
        .collect();
    let hashes: Vec<_> = tools.iter().map(|(_, t)| t.hash.as_slice()).collect();
    let rows = sqlx::query!(
        r#"
        WITH old AS MATERIALIZED (
            SELECT connection_id, id, response_schema, response_field_map, input_defaults, last_seen_at, _warnings, _removed_at,
                   _hash
            FROM feather.integration_connection_tools WHERE connection_id = ANY($30)
        ), new AS MATERIALIZED (
            SELECT v.connection_id, v.id, v.organization_id, v.integration_key, v.nickname_slug, v.tool_path, v.slug,
                   v.display_name, v.description, v.input_schema,
                   CASE WHEN v.has_response_schema THEN v.response_schema::jsonb ELSE o.response_schema END AS response_schema,
                   CASE WHEN v.has_field_map THEN v.field_map::jsonb ELSE o.response_field_map END AS response_field_map,
                   CASE WHEN v.has_defaults THEN v.defaults::jsonb ELSE o.input_defaults END AS input_defaults,
                   v.is_enabled, v.last_seen_at, v.created_at, v.updated_at, v.stale_field_paths, v.default_count,
                   v.pinned_count, v.stale_input_fields, v.merged_input_preview, v.extra, v.warnings, v.hash,
                   CASE WHEN o.id IS NULL OR o._removed_at IS NOT NULL THEN 'added'
                        WHEN o._hash <> v.hash THEN 'differs'
                        WHEN (o.last_seen_at, o._warnings) IS DISTINCT FROM (v.last_seen_at, v.warnings::jsonb) THEN 'seen'
                        ELSE 'same' END AS found
            FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                        $9::text[], $10::text[], $11::text[], $12::bool[], $13::text[], $14::bool[], $15::text[],
                        $16::bool[], $17::bool[], $18::timestamptz[], $19::timestamptz[], $20::timestamptz[],
                        $21::text[], $22::bigint[], $23::bigint[], $24::text[], $25::text[], $26::text[], $27::text[],
                        $28::bytea[])
                 AS v (connection_id, id, organization_id, integration_key, nickname_slug, tool_path, slug, display_name,
                       description, input_schema, response_schema, has_response_schema, field_map, has_field_map,
                       defaults, has_defaults, is_enabled, last_seen_at, created_at, updated_at, stale_field_paths,
                       default_count, pinned_count, stale_input_fields, merged_input_preview, extra, warnings, hash)
            LEFT JOIN old o ON o.connection_id = v.connection_id AND o.id = v.id
        ), judged AS MATERIALIZED (
            -- Another text is not yet another content: keys may have changed their order.
            SELECT n.connection_id, n.id,
                   CASE WHEN n.found <> 'differs' THEN n.found
                        WHEN (o.organization_id, o.integration_key, o.nickname_slug, o.tool_path, o.slug, o.display_name,
                              o.description, o.input_schema, o.response_schema, o.response_field_map, o.input_defaults,
                              o.is_enabled, o.created_at, o.updated_at, o.stale_field_paths, o.default_count,
                              o.pinned_count, o.stale_input_fields, o.merged_input_preview, o._extra)
                             IS DISTINCT FROM
                             (n.organization_id, n.integration_key, n.nickname_slug, n.tool_path, n.slug, n.display_name,
                              n.description, n.input_schema::jsonb, n.response_schema, n.response_field_map,
                              n.input_defaults, n.is_enabled, n.created_at, n.updated_at, n.stale_field_paths::text[],
                              n.default_count, n.pinned_count, n.stale_input_fields::text[],
                              n.merged_input_preview::jsonb, o._extra || n.extra::jsonb)
                        THEN 'changed' ELSE 'seen' END AS verdict
            FROM new n
            LEFT JOIN feather.integration_connection_tools o
                ON n.found = 'differs' AND o.connection_id = n.connection_id AND o.id = n.id AND o.connection_id = ANY($30)
        ), written AS (
            INSERT INTO feather.integration_connection_tools AS t
                (connection_id, id, organization_id, integration_key, nickname_slug, tool_path, slug, display_name,
                 description, input_schema, response_schema, response_field_map, input_defaults, is_enabled,
                 last_seen_at, created_at, updated_at, stale_field_paths, default_count, pinned_count,
                 stale_input_fields, merged_input_preview, _extra, _warnings, _first_seen_at, _changed_at, _removed_at,
                 _hash)
            SELECT n.connection_id, n.id, n.organization_id, n.integration_key, n.nickname_slug, n.tool_path, n.slug,
                   n.display_name, n.description, n.input_schema::jsonb, n.response_schema, n.response_field_map,
                   n.input_defaults, n.is_enabled, n.last_seen_at, n.created_at, n.updated_at,
                   n.stale_field_paths::text[], n.default_count, n.pinned_count, n.stale_input_fields::text[],
                   n.merged_input_preview::jsonb, n.extra::jsonb, n.warnings::jsonb, now(), now(), NULL, n.hash
            FROM new n JOIN judged j ON j.connection_id = n.connection_id AND j.id = n.id
            WHERE j.verdict IN ('added', 'changed')
            ORDER BY n.connection_id, n.id
            ON CONFLICT (connection_id, id) DO UPDATE
            SET organization_id = excluded.organization_id, integration_key = excluded.integration_key,
                nickname_slug = excluded.nickname_slug, tool_path = excluded.tool_path, slug = excluded.slug,
                display_name = excluded.display_name, description = excluded.description,
                input_schema = excluded.input_schema, response_schema = excluded.response_schema,
                response_field_map = excluded.response_field_map, input_defaults = excluded.input_defaults,
                is_enabled = excluded.is_enabled, last_seen_at = excluded.last_seen_at,
                created_at = excluded.created_at, updated_at = excluded.updated_at,
                stale_field_paths = excluded.stale_field_paths, default_count = excluded.default_count,
                pinned_count = excluded.pinned_count, stale_input_fields = excluded.stale_input_fields,
                merged_input_preview = excluded.merged_input_preview, _extra = t._extra || excluded._extra,
                _warnings = excluded._warnings, _first_seen_at = LEAST(t._first_seen_at, now()),
                _changed_at = excluded._changed_at, _removed_at = NULL, _hash = excluded._hash
        ), seen AS (
            -- Narrow: wide columns that an UPDATE leaves alone stay where they are.
            UPDATE feather.integration_connection_tools t
            SET last_seen_at = n.last_seen_at, _warnings = n.warnings::jsonb, _hash = n.hash
            FROM new n JOIN judged j ON j.connection_id = n.connection_id AND j.id = n.id
            WHERE j.verdict = 'seen' AND t.connection_id = n.connection_id AND t.id = n.id AND t.connection_id = ANY($30)
              AND (t.last_seen_at, t._warnings, t._hash) IS DISTINCT FROM (n.last_seen_at, n.warnings::jsonb, n.hash)
        ), gone AS (
            UPDATE feather.integration_connection_tools t
            SET _removed_at = now(), _changed_at = now(), _first_seen_at = LEAST(t._first_seen_at, now())
            WHERE t.connection_id = ANY($29) AND t._removed_at IS NULL
              AND NOT EXISTS (SELECT FROM new n WHERE n.connection_id = t.connection_id AND n.id = t.id)
            RETURNING t.connection_id
        )
        SELECT connection_id AS "connection_id!",
               count(*) FILTER (WHERE verdict = 'added')::int AS "added!",
               count(*) FILTER (WHERE verdict = 'changed')::int AS "changed!",
               count(*) FILTER (WHERE verdict = 'removed')::int AS "removed!"
        FROM (SELECT connection_id, verdict FROM judged UNION ALL SELECT connection_id, 'removed' FROM gone) AS all_of_it
        GROUP BY connection_id
        "#,
        &connection_ids,
        &column!(id copied),
        &column!(organization_id copied),
        &column!(integration_key) as _,
        &column!(nickname_slug) as _,
        &column!(tool_path) as _,
        &column!(slug) as _,
        &column!(display_name) as _,
        &column!(description) as _,
        &column!(input_schema) as _,
        &column!(response_schema json) as _,
        &column!(response_schema present),
        &column!(response_field_map json) as _,
        &column!(response_field_map present),
        &column!(input_defaults json) as _,
        &column!(input_defaults present),
        &column!(is_enabled copied),
        &column!(last_seen_at copied),
        &column!(created_at copied),
        &column!(updated_at copied),
        &column!(stale_field_paths array),
        &column!(default_count copied),
        &column!(pinned_count copied),
        &column!(stale_input_fields array),
        &column!(merged_input_preview) as _,
        &column!(extra) as _,
        &warnings as _,
        &hashes as _,
        &complete,
        &written
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let changes = ToolChanges {
                added: row.added,
                changed: row.changed,
                removed: row.removed,
            };
            (row.connection_id, changes)
        })
        .collect())
}

/// Marks connections as removed that we hold from the very account that says so.
pub(super) async fn mark_removed(
    conn: &mut PgConnection,
    connection_ids: &[Uuid],
    accounts: &[&str],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        UPDATE feather.integration_connections c
        SET _removed_at = now(), _changed_at = now(), _first_seen_at = LEAST(c._first_seen_at, now())
        FROM unnest($1::uuid[], $2::text[]) AS v (id, account)
        WHERE c.id = v.id AND c._account = v.account AND c._removed_at IS NULL
        "#,
        connection_ids,
        accounts as _
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn warnings_json(warnings: &[Warning]) -> Option<String> {
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
