//! The last statement before COMMIT: tools that are new, what was tried and what is counted of it, what becomes of the
//! jobs, and what the change feed tells. For connections that are not stored yet it writes all there is to write, and is
//! the whole transaction.
//!
//! One statement, because each is a round trip, and an idle daemon's job has few others.

use crate::store::attempt::AttemptRecord;
use crate::store::event::Event;
use crate::store::event::Kind;
use crate::store::job::JobUpdate;
use crate::store::minute;
use crate::store::snapshot::SnapshotWrite;
use crate::store::tools::Answered;
use crate::store::tools::ToolIds;
use crate::store::tools::column;
use crate::store::tools::connections;
use crate::store::tools::warnings_json;
use chrono::DateTime;
use chrono::Utc;
use sqlx::PgConnection;
use uuid::Uuid;

/// What a transaction ends with; any of it may be empty.
#[derive(Default)]
pub(super) struct Closing<'a> {
    /// Tools that are not stored, of connections that are locked.
    pub(super) new_tools: &'a [Answered<'a>],
    /// Rows of the history, at most one per connection; with them the last word and the minute's counts.
    pub(super) attempts: &'a [AttemptRecord<'a>],
    /// Jobs that are done, and locked.
    pub(super) done: &'a [Uuid],
    /// Running jobs that go on or are dead, and locked.
    pub(super) updates: &'a [JobUpdate],
    /// At most one per connection.
    pub(super) events: &'a [Event<'a>],
    /// Consumers of the feed listen.
    pub(super) notify: bool,
    /// Connections that are not stored, and whose jobs are not locked; then all of the above is theirs.
    pub(super) first: &'a [SnapshotWrite<'a>],
    /// Theirs, in the same order.
    pub(super) lease_tokens: &'a [Uuid],
    /// What the database's time was taken for, where it was not asked.
    pub(super) reckoned: Option<DateTime<Utc>>,
}

impl Closing<'_> {
    /// Writes it. Where the lease of one of the `first` is lost, or the database's time is seconds off the reckoned one,
    /// nothing is written, and `false` returned.
    ///
    /// After it nothing may be waited for that others hold: an event's number is drawn under a lock that the transaction
    /// keeps to its end, so that no larger number is seen before a smaller one.
    ///
    /// # Errors
    /// A unique violation where one of the `first` has come to be stored meanwhile.
    pub(super) async fn write(&self, conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let (tools, events, updates) = (self.new_tools, self.events, self.updates);
        if tools.is_empty()
            && self.attempts.is_empty()
            && self.done.is_empty()
            && updates.is_empty()
            && events.is_empty()
        {
            return Ok(true);
        }
        macro_rules! first {
            ($field:ident) => {
                self.first
                    .iter()
                    .map(|f| &f.snapshot.$field)
                    .collect::<Vec<_>>()
            };
            ($field:ident copied) => {
                self.first
                    .iter()
                    .map(|f| f.snapshot.$field)
                    .collect::<Vec<_>>()
            };
            ($first:ident => $value:expr) => {
                self.first.iter().map(|$first| $value).collect::<Vec<_>>()
            };
        }
        macro_rules! update {
            ($update:ident => $value:expr) => {
                updates.iter().map(|$update| $value).collect::<Vec<_>>()
            };
        }
        macro_rules! attempt {
            ($($field:tt)+) => { self.attempts.iter().map(|r| r.$($field)+).collect::<Vec<_>>() };
        }
        let finalize_started_at = attempt!(finalize_started_at);
        let retry_at = attempt!(retry_at);
        let minute = minute::counts(self.attempts);
        macro_rules! counted {
            ($($what:tt)+) => { minute.values().map(|m| m.$($what)+).collect::<Vec<_>>() };
        }
        let (accounts, workers): (Vec<_>, Vec<_>) = minute.keys().copied().unzip();
        macro_rules! told {
            ($event:ident => $value:expr) => {
                events.iter().map(|$event| $value).collect::<Vec<_>>()
            };
        }
        let ids = |pick: fn(&ToolIds) -> &Vec<Uuid>| told!(event => event.tools.map(pick).filter(|ids| !ids.is_empty()).map(|ids| array(ids)));
        let held = sqlx::query_scalar!(
            r#"
            WITH leases AS MATERIALIZED (
                SELECT connection_id FROM feather.sync_jobs
                WHERE connection_id = ANY($64) AND lease_token = ANY($65)
                ORDER BY connection_id
                FOR UPDATE
            ), hold AS MATERIALIZED (
                -- Everything below asks it, so that all of it happens or nothing. Where all was locked before, it is true.
                SELECT (SELECT count(*) FROM leases) = cardinality($64::uuid[])
                       AND COALESCE($100::timestamptz BETWEEN now() - interval '5 seconds'
                                    AND now() + interval '5 seconds', true) AS held
            ), connections AS (
                INSERT INTO feather.integration_connections
                    (id, organization_id, integration_key, nickname_slug, nickname, vendor, vendor_connection_id, status,
                     tools_status, tools_synced_at, status_reason, connected_at, last_refreshed_at, last_used_at, metadata,
                     voice_account_cps, created_at, updated_at, _account, _extra, _warnings, _first_seen_at, _finalized_at,
                     _synced_at, _changed_at, _hash)
                SELECT id, organization_id, integration_key, nickname_slug, nickname, vendor, vendor_connection_id, status,
                       tools_status, tools_synced_at, status_reason, connected_at, last_refreshed_at, last_used_at,
                       metadata::jsonb, cps::numeric, created_at, updated_at, account, extra::jsonb, warnings::jsonb,
                       now(), CASE WHEN finalized THEN now() END, now(), now(), hash
                FROM unnest($64::uuid[], $66::uuid[], $67::text[], $68::text[], $69::text[], $70::text[], $71::text[],
                            $72::text[], $73::text[], $74::timestamptz[], $75::text[], $76::timestamptz[],
                            $77::timestamptz[], $78::timestamptz[], $79::text[], $80::text[], $81::timestamptz[],
                            $82::timestamptz[], $83::text[], $84::text[], $85::text[], $86::bytea[], $87::bool[])
                     AS v (id, organization_id, integration_key, nickname_slug, nickname, vendor, vendor_connection_id,
                           status, tools_status, tools_synced_at, status_reason, connected_at, last_refreshed_at,
                           last_used_at, metadata, cps, created_at, updated_at, account, extra, warnings, hash, finalized)
                WHERE (SELECT held FROM hold)
                ORDER BY id
                RETURNING 1
            ), tools AS (
                INSERT INTO feather.integration_connection_tools
                    (connection_id, id, organization_id, integration_key, nickname_slug, tool_path, slug, display_name,
                     description, input_schema, response_schema, response_field_map, input_defaults, is_enabled,
                     last_seen_at, created_at, updated_at, stale_field_paths, default_count, pinned_count,
                     stale_input_fields, merged_input_preview, _extra, _warnings, _first_seen_at, _changed_at, _hash)
                SELECT connection_id, id, organization_id, integration_key, nickname_slug, tool_path, slug, display_name,
                       description, input_schema::jsonb, response_schema::jsonb, field_map::jsonb, defaults::jsonb,
                       is_enabled, last_seen_at, created_at, updated_at, stale_field_paths::text[], default_count,
                       pinned_count, stale_input_fields::text[], merged_input_preview::jsonb, extra::jsonb,
                       warnings::jsonb, now(), now(), hash
                FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[],
                            $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bool[],
                            $15::timestamptz[], $16::timestamptz[], $17::timestamptz[], $18::text[], $19::bigint[],
                            $20::bigint[], $21::text[], $22::text[], $23::text[], $24::text[], $25::bytea[])
                     AS v (connection_id, id, organization_id, integration_key, nickname_slug, tool_path, slug,
                           display_name, description, input_schema, response_schema, field_map, defaults, is_enabled,
                           last_seen_at, created_at, updated_at, stale_field_paths, default_count, pinned_count,
                           stale_input_fields, merged_input_preview, extra, warnings, hash)
                WHERE (SELECT held FROM hold)
                RETURNING 1
            ), tried AS MATERIALIZED (
                SELECT * FROM unnest($26::text[], $27::uuid[], $28::text[], $29::int[], $30::text[], $31::timestamptz[],
                                     $32::timestamptz[], $33::text[], $34::int[], $35::text[], $36::text[],
                                     $37::timestamptz[], $38::text[], $39::int[], $40::int[], $41::int[], $42::text[],
                                     $43::timestamptz[])
                    AS v (account, connection_id, kind, attempt, worker, started_at, finished_at, outcome, http_status,
                          error_class, error, retry_at, tools_status, tools_added, tools_changed, tools_removed,
                          upstream_request_id, finalize_started_at)
                WHERE (SELECT held FROM hold)
            ), attempts AS (
                INSERT INTO feather.sync_attempts
                    (account, connection_id, kind, attempt, worker, started_at, finished_at, outcome, http_status,
                     error_class, error, retry_at, tools_status, tools_added, tools_changed, tools_removed,
                     upstream_request_id)
                SELECT account, connection_id, kind, attempt, worker, started_at, GREATEST(started_at, finished_at),
                       outcome, http_status, error_class, error, retry_at, tools_status, tools_added, tools_changed,
                       tools_removed, upstream_request_id
                FROM tried
                RETURNING 1
            ), results AS (
                INSERT INTO feather.sync_results AS r
                    (connection_id, account, last_attempt_at, last_outcome, last_success_at, last_success_started_at,
                     last_error_class, last_error, synced_since)
                SELECT connection_id, account, GREATEST(started_at, finished_at), outcome,
                       CASE WHEN outcome = 'synced' THEN GREATEST(now(), finalize_started_at) END,
                       CASE WHEN outcome = 'synced' THEN finalize_started_at END, error_class, error,
                       CASE WHEN outcome = 'synced' THEN now()
                            -- A crash that is not tried again is the end of its job.
                            WHEN outcome IN ('dead', 'cancelled') OR outcome = 'crashed' AND retry_at IS NULL
                            THEN timestamptz 'infinity' END
                FROM tried
                ORDER BY connection_id
                ON CONFLICT (connection_id) DO UPDATE
                SET account = excluded.account, last_attempt_at = excluded.last_attempt_at,
                    last_outcome = excluded.last_outcome,
                    last_success_at = COALESCE(excluded.last_success_at, r.last_success_at),
                    last_success_started_at = COALESCE(excluded.last_success_started_at, r.last_success_started_at),
                    last_error_class = excluded.last_error_class, last_error = excluded.last_error,
                    -- An older program leaves none.
                    synced_since = CASE
                        WHEN excluded.synced_since = 'infinity' THEN excluded.synced_since
                        WHEN r.synced_since = 'infinity' OR r.synced_since IS NULL AND r.last_outcome IN ('dead', 'cancelled')
                            THEN COALESCE(excluded.synced_since, 'infinity')
                        ELSE COALESCE(r.synced_since, r.last_success_at, excluded.synced_since) END
                RETURNING r.connection_id, r.last_outcome = 'synced' AND r.synced_since = now() AS anew
            ), counts AS (
                INSERT INTO feather.sync_throughput AS t
                    (account, minute, worker, synced, failed, deferred, calls, failed_by_class, time_to_sync)
                SELECT account, date_trunc('minute', now()), worker, synced, failed, deferred, calls, failed_by_class::jsonb,
                       time_to_sync::bigint[]
                FROM unnest($45::text[], $46::text[], $47::bigint[], $48::bigint[], $49::bigint[], $50::bigint[],
                            $51::text[], $52::text[])
                    AS m (account, worker, synced, failed, deferred, calls, failed_by_class, time_to_sync)
                WHERE (SELECT held FROM hold)
                ORDER BY account, worker
                ON CONFLICT (account, minute, worker) DO UPDATE
                SET synced = t.synced + excluded.synced, failed = t.failed + excluded.failed,
                    deferred = t.deferred + excluded.deferred, calls = t.calls + excluded.calls,
                    -- A function's body is planned at each call.
                    failed_by_class = CASE WHEN excluded.failed_by_class = '{}' THEN t.failed_by_class
                                           ELSE feather.counts_add(t.failed_by_class, excluded.failed_by_class) END,
                    time_to_sync = CASE WHEN t.time_to_sync IS NULL THEN excluded.time_to_sync
                                        WHEN excluded.time_to_sync IS NULL THEN t.time_to_sync
                                        ELSE ARRAY(SELECT COALESCE(u.a, 0) + COALESCE(u.b, 0)
                                                   FROM ROWS FROM (unnest(t.time_to_sync), unnest(excluded.time_to_sync))
                                                        WITH ORDINALITY AS u (a, b, n) ORDER BY u.n) END
                RETURNING 1
            ), finished AS (
                DELETE FROM feather.sync_jobs WHERE connection_id = ANY($44) AND (SELECT held FROM hold)
                RETURNING 1
            ), updated AS (
                UPDATE feather.sync_jobs j
                SET state = CASE WHEN v.dead IS NULL THEN 'pending' ELSE 'dead' END, error_class = v.dead,
                    worker = NULL, lease_token = NULL, lease_until = NULL,
                    phase = v.phase, run_at = v.run_at,
                    priority = CASE WHEN v.behind AND j.priority < 32767 THEN j.priority + 1
                                    WHEN v.phase = 'settle' THEN LEAST(j.priority, j.asked_priority)
                                    ELSE j.priority END,
                    -- Its polls stand where it stood: a lasting backlog there would else keep them waiting until it is
                    -- too late.
                    asked_priority = CASE WHEN v.behind THEN COALESCE(j.asked_priority, j.priority)
                                          WHEN v.phase = 'settle' THEN NULL
                                          ELSE j.asked_priority END,
                    not_before = v.not_before, attempt = v.attempt, malformed = v.malformed,
                    settle_deadline = v.settle_deadline, settle_polls = v.settle_polls, seen_fingerprint = v.seen,
                    seen_at = v.seen_at
                FROM unnest($88::uuid[], $89::text[], $90::text[], $91::timestamptz[], $92::timestamptz[], $93::int[],
                            $94::int[], $95::timestamptz[], $96::int[], $97::bytea[], $98::timestamptz[], $99::bool[])
                     AS v (connection_id, dead, phase, run_at, not_before, attempt, malformed, settle_deadline,
                           settle_polls, seen, seen_at, behind)
                WHERE j.connection_id = v.connection_id AND j.connection_id = ANY($88) AND (SELECT held FROM hold)
                RETURNING 1
            ), told AS MATERIALIZED (
                SELECT v.account, v.connection_id,
                       CASE WHEN v.may_be_synced AND r.anew THEN $62::text ELSE v.kind END AS kind,
                       v.error_class, v.columns::text[] AS changed_columns, v.added::uuid[] AS tools_added,
                       v.changed::uuid[] AS tools_changed, v.removed::uuid[] AS tools_removed
                FROM unnest($53::text[], $54::uuid[], $55::text[], $56::bool[], $57::text[], $58::text[], $59::text[],
                            $60::text[], $61::text[])
                    AS v (account, connection_id, kind, may_be_synced, error_class, columns, added, changed, removed)
                LEFT JOIN results r ON r.connection_id = v.connection_id
                WHERE (v.kind IS NOT NULL OR v.may_be_synced AND r.anew) AND (SELECT held FROM hold)
            ), turn AS MATERIALIZED (
                -- Only where there is something to tell, and once all is written that takes time or that others may hold.
                SELECT pg_advisory_xact_lock(7305801, 5)
                WHERE (SELECT count(*) FROM told) > 0
                  AND (SELECT count(*) FROM connections) + (SELECT count(*) FROM tools)
                      + (SELECT count(*) FROM attempts) + (SELECT count(*) FROM counts)
                      + (SELECT count(*) FROM finished) + (SELECT count(*) FROM updated) >= 0
            ), called AS MATERIALIZED (
                SELECT pg_notify('feather_sync_events', '') FROM turn WHERE $63
            ), events AS (
                INSERT INTO feather.sync_events
                    (at, account, connection_id, kind, error_class, changed_columns, tools_added, tools_changed,
                     tools_removed)
                SELECT clock_timestamp(), told.*
                FROM turn
                LEFT JOIN called ON true
                CROSS JOIN told
            )
            SELECT held AS "held!" FROM hold
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
            &attempt!(account) as _,
            &attempt!(connection_id),
            &attempt!(kind) as _,
            &attempt!(attempt),
            &attempt!(worker) as _,
            &attempt!(started_at),
            &attempt!(finished_at),
            &attempt!(outcome) as _,
            &attempt!(http_status) as _,
            &attempt!(error_class) as _,
            &attempt!(error.as_deref()) as _,
            &retry_at as _,
            &attempt!(tools_status) as _,
            &attempt!(tools.added),
            &attempt!(tools.changed),
            &attempt!(tools.removed),
            &attempt!(upstream_request_id) as _,
            &finalize_started_at as _,
            self.done,
            &accounts as _,
            &workers as _,
            &counted!(synced),
            &counted!(failed),
            &counted!(deferred),
            &counted!(calls),
            &counted!(failed_by_class()),
            &counted!(time_to_sync()) as _,
            &told!(event => event.account) as _,
            &told!(event => event.connection_id),
            &told!(event => event.kind.map(Kind::as_str)) as _,
            &told!(event => event.may_be_synced),
            &told!(event => event.error_class) as _,
            &told!(event => event.columns.map(array)) as _,
            &ids(|tools| &tools.added) as _,
            &ids(|tools| &tools.changed) as _,
            &ids(|tools| &tools.removed) as _,
            Kind::Synced.as_str(),
            self.notify,
            &first!(id copied),
            self.lease_tokens,
            &first!(organization_id copied),
            &first!(integration_key) as _,
            &first!(nickname_slug) as _,
            &first!(nickname) as _,
            &first!(vendor) as _,
            &first!(vendor_connection_id) as _,
            &first!(status) as _,
            &first!(tools_status) as _,
            &first!(tools_synced_at copied) as _,
            &first!(status_reason) as _,
            &first!(connected_at copied) as _,
            &first!(last_refreshed_at copied) as _,
            &first!(last_used_at copied) as _,
            &first!(metadata) as _,
            &first!(f => f.snapshot.voice_account_cps.json()) as _,
            &first!(created_at copied),
            &first!(updated_at copied),
            &first!(f => f.account) as _,
            &first!(extra) as _,
            &first!(f => warnings_json(&f.snapshot.warnings)) as _,
            &first!(f => f.snapshot.hash.as_slice()) as _,
            &first!(f => f.finalized),
            &update!(u => u.connection_id),
            &update!(u => u.dead) as _,
            &update!(u => u.phase) as _,
            &update!(u => u.run_at),
            &update!(u => u.not_before) as _,
            &update!(u => u.attempt),
            &update!(u => u.malformed),
            &update!(u => u.settle_deadline) as _,
            &update!(u => u.settle_polls),
            &update!(u => u.seen.as_ref().map(|(print, _)| print.as_slice())) as _,
            &update!(u => u.seen.as_ref().map(|(_, at)| *at)) as _,
            &update!(u => u.behind),
            self.reckoned
        )
        .fetch_one(conn)
        .await?;
        Ok(held)
    }
}

/// An array of names or ids, which need no quotes; arrays of arrays do not unnest into rows of arrays.
fn array<T: ToString>(items: &[T]) -> String {
    let items: Vec<_> = items.iter().map(T::to_string).collect();
    format!("{{{}}}", items.join(","))
}
