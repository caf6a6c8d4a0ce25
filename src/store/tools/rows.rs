//! Rows of tools that are stored, many at a time: compared and changed, touched, marked removed.

use crate::store::tools::Answered;
use crate::store::tools::connections;
use sqlx::PgConnection;
use uuid::Uuid;

/// A tool whose text differs, compared by content.
pub(super) struct Judged {
    pub(super) connection_id: Uuid,
    pub(super) id: Uuid,
    /// It had been removed.
    pub(super) back: bool,
    /// Another text is not yet another content: keys may have changed their order.
    pub(super) changed: bool,
}

/// Compares tools with what is stored, by content, and writes what has changed; with `history` what it was before, too.
pub(super) async fn change(
    conn: &mut PgConnection,
    tools: &[Answered<'_>],
    history: bool,
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
            SELECT n.connection_id, n.id, n.back, array_remove(ARRAY[
                   CASE WHEN o.organization_id IS DISTINCT FROM n.organization_id THEN 'organization_id' END,
                   CASE WHEN o.integration_key IS DISTINCT FROM n.integration_key THEN 'integration_key' END,
                   CASE WHEN o.nickname_slug IS DISTINCT FROM n.nickname_slug THEN 'nickname_slug' END,
                   CASE WHEN o.tool_path IS DISTINCT FROM n.tool_path THEN 'tool_path' END,
                   CASE WHEN o.slug IS DISTINCT FROM n.slug THEN 'slug' END,
                   CASE WHEN o.display_name IS DISTINCT FROM n.display_name THEN 'display_name' END,
                   CASE WHEN o.description IS DISTINCT FROM n.description THEN 'description' END,
                   CASE WHEN o.input_schema IS DISTINCT FROM n.input_schema THEN 'input_schema' END,
                   CASE WHEN o.response_schema IS DISTINCT FROM n.response_schema THEN 'response_schema' END,
                   CASE WHEN o.response_field_map IS DISTINCT FROM n.response_field_map THEN 'response_field_map' END,
                   CASE WHEN o.input_defaults IS DISTINCT FROM n.input_defaults THEN 'input_defaults' END,
                   CASE WHEN o.is_enabled IS DISTINCT FROM n.is_enabled THEN 'is_enabled' END,
                   CASE WHEN o.created_at IS DISTINCT FROM n.created_at THEN 'created_at' END,
                   CASE WHEN o.updated_at IS DISTINCT FROM n.updated_at THEN 'updated_at' END,
                   CASE WHEN o.stale_field_paths IS DISTINCT FROM n.stale_field_paths THEN 'stale_field_paths' END,
                   CASE WHEN o.default_count IS DISTINCT FROM n.default_count THEN 'default_count' END,
                   CASE WHEN o.pinned_count IS DISTINCT FROM n.pinned_count THEN 'pinned_count' END,
                   CASE WHEN o.stale_input_fields IS DISTINCT FROM n.stale_input_fields THEN 'stale_input_fields' END,
                   CASE WHEN o.merged_input_preview IS DISTINCT FROM n.merged_input_preview THEN 'merged_input_preview' END,
                   CASE WHEN o._extra IS DISTINCT FROM n.extra THEN '_extra' END], NULL) AS columns
            FROM new n
            JOIN feather.integration_connection_tools o
                ON o.connection_id = n.connection_id AND o.id = n.id AND o.connection_id = ANY($1)
        ), kept AS (
            INSERT INTO feather.tool_versions
                (connection_id, id, organization_id, integration_key, nickname_slug, tool_path, slug, display_name,
                 description, input_schema, response_schema, response_field_map, input_defaults, is_enabled,
                 last_seen_at, created_at, updated_at, stale_field_paths, default_count, pinned_count,
                 stale_input_fields, merged_input_preview, _extra, _warnings, _first_seen_at, _changed_at, _removed_at,
                 valid_to, ended_by)
            SELECT o.connection_id, o.id, o.organization_id, o.integration_key, o.nickname_slug, o.tool_path, o.slug,
                   o.display_name, o.description, o.input_schema, o.response_schema, o.response_field_map,
                   o.input_defaults, o.is_enabled, o.last_seen_at, o.created_at, o.updated_at, o.stale_field_paths,
                   o.default_count, o.pinned_count, o.stale_input_fields, o.merged_input_preview, o._extra,
                   o._warnings, o._first_seen_at, o._changed_at, o._removed_at,
                   now(), j.columns || CASE WHEN j.back THEN ARRAY['_removed_at'] ELSE '{}' END
            FROM judged j
            JOIN feather.integration_connection_tools o
                ON o.connection_id = j.connection_id AND o.id = j.id AND o.connection_id = ANY($1)
            WHERE $29 AND (j.back OR j.columns <> '{}')
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
            WHERE (j.back OR j.columns <> '{}') AND t.connection_id = n.connection_id AND t.id = n.id AND t.connection_id = ANY($1)
        ), seen AS (
            -- Wide columns that an UPDATE leaves alone stay where they are.
            UPDATE feather.integration_connection_tools t
            SET last_seen_at = n.last_seen_at, _warnings = n.warnings, _hash = n.hash
            FROM new n JOIN judged j ON j.connection_id = n.connection_id AND j.id = n.id
            WHERE NOT j.back AND j.columns = '{}'
              AND t.connection_id = n.connection_id AND t.id = n.id AND t.connection_id = ANY($1)
        )
        SELECT connection_id AS "connection_id!", id AS "id!", back AS "back!", columns <> '{}' AS "changed!" FROM judged
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
        &column!(tools.input_defaults present),
        history
    )
    .fetch_all(conn)
    .await
}

/// Writes what moves without being a change.
pub(super) async fn touch(
    conn: &mut PgConnection,
    seen: &[Answered<'_>],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        UPDATE feather.integration_connection_tools t
        SET last_seen_at = v.last_seen_at, _warnings = v.warnings::jsonb
        FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[]) AS v (connection_id, id, last_seen_at, warnings)
        WHERE t.connection_id = v.connection_id AND t.id = v.id AND t.connection_id = ANY($1)
          AND (t.last_seen_at, t._warnings) IS DISTINCT FROM (v.last_seen_at, v.warnings::jsonb)
        "#,
        &connections(seen),
        &column!(seen.id copied),
        &column!(seen.last_seen_at copied),
        &column!(seen.warnings warnings) as _
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Marks tools as removed, each by its connection and its own id; with `history` it is kept what they were.
pub(super) async fn remove(
    conn: &mut PgConnection,
    gone: &[(Uuid, Uuid)],
    history: bool,
) -> Result<(), sqlx::Error> {
    let (gone_from, gone_ids): (Vec<_>, Vec<_>) = gone.iter().copied().unzip();
    sqlx::query!(
        r#"
        WITH gone AS MATERIALIZED (
            SELECT * FROM unnest($1::uuid[], $2::uuid[]) AS g (connection_id, id)
        ), kept AS (
            INSERT INTO feather.tool_versions
                (connection_id, id, organization_id, integration_key, nickname_slug, tool_path, slug, display_name,
                 description, input_schema, response_schema, response_field_map, input_defaults, is_enabled,
                 last_seen_at, created_at, updated_at, stale_field_paths, default_count, pinned_count,
                 stale_input_fields, merged_input_preview, _extra, _warnings, _first_seen_at, _changed_at, _removed_at,
                 valid_to, ended_by)
            SELECT o.connection_id, o.id, o.organization_id, o.integration_key, o.nickname_slug, o.tool_path, o.slug,
                   o.display_name, o.description, o.input_schema, o.response_schema, o.response_field_map,
                   o.input_defaults, o.is_enabled, o.last_seen_at, o.created_at, o.updated_at, o.stale_field_paths,
                   o.default_count, o.pinned_count, o.stale_input_fields, o.merged_input_preview, o._extra,
                   o._warnings, o._first_seen_at, o._changed_at, o._removed_at,
                   now(), ARRAY['_removed_at']
            FROM gone g
            JOIN feather.integration_connection_tools o
                ON o.connection_id = g.connection_id AND o.id = g.id AND o.connection_id = ANY($1)
            WHERE $3
        )
        UPDATE feather.integration_connection_tools t
        SET _removed_at = now(), _changed_at = now(), _first_seen_at = LEAST(t._first_seen_at, now())
        FROM gone g
        WHERE t.connection_id = g.connection_id AND t.id = g.id AND t.connection_id = ANY($1)
        "#,
        &gone_from,
        &gone_ids,
        history
    )
    .execute(conn)
    .await?;
    Ok(())
}
