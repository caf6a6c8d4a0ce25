//! Connections into their table: what has not changed is not written, what went back in time is not applied.

use crate::domain::snapshot::ConnectionSnapshot;
use crate::store::tools::warnings_json;
use chrono::DateTime;
use chrono::Utc;
use sqlx::PgConnection;
use std::collections::HashMap;
use std::collections::HashSet;
use uuid::Uuid;

/// A snapshot on its way into the tables.
pub(super) struct SnapshotWrite<'a> {
    pub(super) snapshot: &'a ConnectionSnapshot,
    pub(super) account: &'a str,
    /// The other account that it may be taken over from.
    pub(super) takes_over: Option<&'a str>,
    pub(super) finalized: bool,
    /// The tools are all that there are: what is stored beyond them is removed.
    pub(super) complete: bool,
    /// It was asked for at that time; `None`: just now, under a lease.
    pub(super) as_of: Option<DateTime<Utc>>,
}

/// What was found when connections were written.
#[derive(Default)]
pub(super) struct Written {
    /// Somebody else has written one of them while it was being written here: what was found does not hold.
    pub(super) overtaken: bool,
    /// Those that another account holds than the one they may be taken over from: nothing of them is written.
    pub(super) held: HashSet<Uuid>,
    /// Those that were there.
    pub(super) known: HashSet<Uuid>,
    /// Those whose answer was older than what is stored: their check counts, their content is not applied.
    pub(super) stale: HashSet<Uuid>,
    /// Those of which tools are stored.
    pub(super) with_tools: HashSet<Uuid>,
    /// Those that are new, changed, or back after they had been removed; tools aside.
    pub(super) changed: HashSet<Uuid>,
    /// Those that are back after they had been removed.
    pub(super) back: HashSet<Uuid>,
    /// Which columns of those that were there have another value; not where upstream merely says that it has looked again.
    pub(super) columns: HashMap<Uuid, Vec<String>>,
}

/// Writes connections, at most one snapshot each; with `history` what they were before they changed, too.
pub(super) async fn write_connections(
    conn: &mut PgConnection,
    writes: &[SnapshotWrite<'_>],
    history: bool,
) -> Result<Written, sqlx::Error> {
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
    let taken_over: Vec<_> = writes.iter().map(|w| w.takes_over).collect();
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
    let as_of: Vec<_> = writes.iter().map(|w| w.as_of).collect();
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
                   o._synced_at AS seen_at, o._removed_at IS NOT NULL AS back, COALESCE(v.as_of, now()) AS checked_at,
                   -- A time in the far future is a mistake, and guarding with it would shut the row for good.
                   COALESCE(o.updated_at > v.updated_at AND o.updated_at <= now() + interval '1 day', false) AS stale,
                   COALESCE(o._account <> v.account AND o._account IS DISTINCT FROM v.takes_over AND o._removed_at IS NULL, false) AS held
            FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                        $9::text[], $10::timestamptz[], $11::text[], $12::timestamptz[], $13::timestamptz[],
                        $14::timestamptz[], $15::text[], $16::text[], $17::bool[], $18::timestamptz[],
                        $19::timestamptz[], $20::text[], $21::text[], $22::text[], $23::bytea[], $24::bool[],
                        $25::timestamptz[], $27::text[])
                 AS v (id, organization_id, integration_key, nickname_slug, nickname, vendor, vendor_connection_id,
                       status, tools_status, tools_synced_at, status_reason, connected_at, last_refreshed_at,
                       last_used_at, metadata, cps, has_cps, created_at, updated_at, account, extra, warnings, hash,
                       finalized, as_of, takes_over)
            LEFT JOIN feather.integration_connections o ON o.id = v.id AND o.id = ANY($1)
        ), changed AS MATERIALIZED (
            SELECT *, NOT columns <@ ARRAY['tools_synced_at', 'updated_at'] AS telling FROM (
                SELECT n.id, array_remove(ARRAY[
                       CASE WHEN o.organization_id IS DISTINCT FROM n.organization_id THEN 'organization_id' END,
                       CASE WHEN o.integration_key IS DISTINCT FROM n.integration_key THEN 'integration_key' END,
                       CASE WHEN o.nickname_slug IS DISTINCT FROM n.nickname_slug THEN 'nickname_slug' END,
                       CASE WHEN o.nickname IS DISTINCT FROM n.nickname THEN 'nickname' END,
                       CASE WHEN o.vendor IS DISTINCT FROM n.vendor THEN 'vendor' END,
                       CASE WHEN o.vendor_connection_id IS DISTINCT FROM n.vendor_connection_id THEN 'vendor_connection_id' END,
                       CASE WHEN o.status IS DISTINCT FROM n.status THEN 'status' END,
                       CASE WHEN o.tools_status IS DISTINCT FROM n.tools_status THEN 'tools_status' END,
                       CASE WHEN o.tools_synced_at IS DISTINCT FROM n.tools_synced_at THEN 'tools_synced_at' END,
                       CASE WHEN o.status_reason IS DISTINCT FROM n.status_reason THEN 'status_reason' END,
                       CASE WHEN o.connected_at IS DISTINCT FROM n.connected_at THEN 'connected_at' END,
                       CASE WHEN o.metadata IS DISTINCT FROM n.metadata THEN 'metadata' END,
                       CASE WHEN o.voice_account_cps IS DISTINCT FROM n.voice_account_cps THEN 'voice_account_cps' END,
                       CASE WHEN o.created_at IS DISTINCT FROM n.created_at THEN 'created_at' END,
                       CASE WHEN o.updated_at IS DISTINCT FROM n.updated_at THEN 'updated_at' END,
                       CASE WHEN o._account IS DISTINCT FROM n.account THEN '_account' END,
                       CASE WHEN o._extra IS DISTINCT FROM n.extra THEN '_extra' END], NULL) AS columns
                FROM new n JOIN feather.integration_connections o ON o.id = n.id AND o.id = ANY($1)
                WHERE NOT n.stale AND NOT n.held AND (o._hash <> n.hash OR o._account <> n.account)
                -- Compared once, and not again wherever the result is named.
                OFFSET 0
            ) AS compared
            WHERE columns <> '{}'
        ), kept AS (
            INSERT INTO feather.connection_versions
                (id, organization_id, integration_key, nickname_slug, nickname, vendor, vendor_connection_id, status,
                 tools_status, tools_synced_at, status_reason, connected_at, last_refreshed_at, last_used_at, metadata,
                 voice_account_cps, created_at, updated_at, _account, _extra, _warnings, _first_seen_at, _finalized_at,
                 _synced_at, _changed_at, _removed_at,
                 valid_to, ended_by)
            SELECT o.id, o.organization_id, o.integration_key, o.nickname_slug, o.nickname, o.vendor,
                   o.vendor_connection_id, o.status, o.tools_status, o.tools_synced_at, o.status_reason,
                   o.connected_at, o.last_refreshed_at, o.last_used_at, o.metadata, o.voice_account_cps, o.created_at,
                   o.updated_at, o._account, o._extra, o._warnings, o._first_seen_at, o._finalized_at, o._synced_at,
                   o._changed_at, o._removed_at,
                   now(), COALESCE(d.columns, '{}') || CASE WHEN n.back THEN ARRAY['_removed_at'] ELSE '{}' END
            FROM new n
            JOIN feather.integration_connections o ON o.id = n.id AND o.id = ANY($1)
            LEFT JOIN changed d ON d.id = n.id
            WHERE $26 AND (n.back OR d.telling)
        ), written AS (
            INSERT INTO feather.integration_connections AS c
                (id, organization_id, integration_key, nickname_slug, nickname, vendor, vendor_connection_id, status,
                 tools_status, tools_synced_at, status_reason, connected_at, last_refreshed_at, last_used_at, metadata,
                 voice_account_cps, created_at, updated_at, _account, _extra, _warnings, _first_seen_at, _finalized_at,
                 _synced_at, _changed_at, _removed_at, _hash)
            SELECT id, organization_id, integration_key, nickname_slug, nickname, vendor, vendor_connection_id, status,
                   tools_status, tools_synced_at, status_reason, connected_at, last_refreshed_at, last_used_at, metadata,
                   voice_account_cps, created_at, updated_at, account, extra, warnings, checked_at,
                   CASE WHEN finalized THEN now() END, checked_at, now(),
                   -- For the condition below; a row that is new was not seen, and is not removed.
                   seen_at, hash
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
                _first_seen_at = LEAST(c._first_seen_at, excluded._synced_at), _synced_at = excluded._synced_at,
                _finalized_at = COALESCE(excluded._finalized_at,
                                         CASE WHEN c._finalized_at > now() THEN now() ELSE c._finalized_at END),
                _changed_at = excluded._changed_at, _removed_at = NULL, _hash = excluded._hash
            -- Only the row that was compared. Whoever writes a row, or tools of it, moves its time.
            WHERE c._synced_at = excluded._removed_at
            RETURNING c.id
        ), checked AS (
            -- The bookkeeping columns, and what moves without being a change.
            UPDATE feather.integration_connections c
            SET _first_seen_at = LEAST(c._first_seen_at, n.checked_at), _synced_at = n.checked_at,
                -- Not LEAST, which makes a time of none.
                _finalized_at = CASE WHEN n.finalized OR c._finalized_at > now() THEN now() ELSE c._finalized_at END,
                last_refreshed_at = CASE WHEN n.stale THEN c.last_refreshed_at ELSE n.last_refreshed_at END,
                last_used_at = CASE WHEN n.stale THEN c.last_used_at ELSE n.last_used_at END,
                _hash = CASE WHEN n.stale THEN c._hash ELSE n.hash END,
                _changed_at = CASE WHEN c._removed_at IS NULL THEN c._changed_at ELSE now() END,
                _removed_at = NULL,
                _warnings = CASE WHEN n.stale THEN jsonb_build_array(jsonb_build_object('field', 'updated_at', 'warning',
                                     format('an answer with the older updated_at %s was not applied', n.updated_at)))
                                 ELSE n.warnings END
            FROM new n
            WHERE c.id = n.id AND c.id = ANY($1) AND n.known AND NOT n.held AND n.id NOT IN (SELECT id FROM changed)
              AND c._synced_at = n.seen_at
            RETURNING c.id
        )
        SELECT n.id AS "id!", done.id IS NULL AND NOT n.held AS "overtaken!", n.held AS "held!", n.known AS "known!", n.stale AS "stale!", tool.id IS NOT NULL AS "with_tools!",
               NOT n.known OR n.back OR changed.id IS NOT NULL AS "changed!", n.back AS "back!",
               CASE WHEN changed.telling THEN changed.columns END AS "columns?"
        FROM new n
        LEFT JOIN changed ON changed.id = n.id
        LEFT JOIN (TABLE written UNION ALL TABLE checked) AS done ON done.id = n.id
        -- Asked by EXISTS, it may be planned as a table of all tools.
        LEFT JOIN LATERAL (
            SELECT t.id FROM feather.integration_connection_tools t WHERE t.connection_id = n.id LIMIT 1
        ) AS tool ON true
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
        &finalized,
        &as_of as _,
        history,
        &taken_over as _
    )
    .fetch_all(conn)
    .await?;
    let mut written = Written::default();
    for row in rows {
        written.overtaken |= row.overtaken;
        for (holds, ids) in [
            (row.held, &mut written.held),
            (row.known, &mut written.known),
            (row.stale, &mut written.stale),
            (row.with_tools, &mut written.with_tools),
            (row.changed, &mut written.changed),
            (row.back, &mut written.back),
        ] {
            if holds {
                ids.insert(row.id);
            }
        }
        if let Some(columns) = row.columns {
            written.columns.insert(row.id, columns);
        }
    }
    Ok(written)
}

/// Marks connections as removed that we hold from the very account that says so, and returns which; with `history` it is
/// kept what they were.
pub(super) async fn mark_removed(
    conn: &mut PgConnection,
    connection_ids: &[Uuid],
    accounts: &[&str],
    history: bool,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        WITH held AS MATERIALIZED (
            SELECT c.* FROM feather.integration_connections c
            JOIN unnest($1::uuid[], $2::text[]) AS v (id, account) ON v.id = c.id AND v.account = c._account
            WHERE c.id = ANY($1) AND c._removed_at IS NULL
            ORDER BY c.id
            FOR UPDATE OF c
        ), kept AS (
            INSERT INTO feather.connection_versions
                (id, organization_id, integration_key, nickname_slug, nickname, vendor, vendor_connection_id, status,
                 tools_status, tools_synced_at, status_reason, connected_at, last_refreshed_at, last_used_at, metadata,
                 voice_account_cps, created_at, updated_at, _account, _extra, _warnings, _first_seen_at, _finalized_at,
                 _synced_at, _changed_at, _removed_at,
                 valid_to, ended_by)
            SELECT id, organization_id, integration_key, nickname_slug, nickname, vendor, vendor_connection_id, status,
                   tools_status, tools_synced_at, status_reason, connected_at, last_refreshed_at, last_used_at,
                   metadata, voice_account_cps, created_at, updated_at, _account, _extra, _warnings, _first_seen_at,
                   _finalized_at, _synced_at, _changed_at, _removed_at,
                   now(), ARRAY['_removed_at']
            FROM held
            WHERE $3
        )
        UPDATE feather.integration_connections c
        SET _removed_at = now(), _changed_at = now(), _first_seen_at = LEAST(c._first_seen_at, now())
        FROM held
        WHERE c.id = held.id AND c.id = ANY($1)
        RETURNING c.id
        "#,
        connection_ids,
        accounts as _,
        history
    )
    .fetch_all(conn)
    .await
}
