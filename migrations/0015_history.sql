-- The change feed and the history: append-only, in partitions by time that are made ahead and dropped whole. An older
-- program beside this one writes to neither.
SET LOCAL lock_timeout = '2s';

CREATE TABLE feather.sync_events (
    id              bigint      GENERATED ALWAYS AS IDENTITY,
    at              timestamptz NOT NULL,
    account         text        NOT NULL,
    connection_id   uuid        NOT NULL,
    kind            text        NOT NULL,
    error_class     text,
    changed_columns text[],
    tools_added     uuid[],
    tools_changed   uuid[],
    tools_removed   uuid[],
    PRIMARY KEY (id, at),
    CONSTRAINT kind_is_known CHECK (kind IN (
        'connection_added', 'connection_synced', 'connection_changed', 'connection_removed', 'connection_revived',
        'connection_dead', 'connection_cancelled', 'tools_changed'))
) PARTITION BY RANGE (at);
CREATE TABLE feather.sync_events_default PARTITION OF feather.sync_events DEFAULT;
CREATE INDEX sync_events_connection ON feather.sync_events (connection_id, id);

COMMENT ON TABLE  feather.sync_events IS 'The change feed: one row per connection and transaction that changed something visible, in the order in which it became visible. Read on from the last id seen. Kept for retention.events.';
COMMENT ON COLUMN feather.sync_events.id IS 'Number of the event. A larger one never becomes visible before a smaller one; numbers may be missing.';
COMMENT ON COLUMN feather.sync_events.at IS 'When it was written, on the database''s clock.';
COMMENT ON COLUMN feather.sync_events.account IS 'Account whose key was used.';
COMMENT ON COLUMN feather.sync_events.connection_id IS 'The connection.';
COMMENT ON COLUMN feather.sync_events.kind IS 'The most telling of what happened: connection_removed, connection_dead (its sync was given up), connection_synced (for the first time, or again after it was given up or cancelled), connection_revived, connection_added (received for the first time, not yet synced), connection_changed, tools_changed or connection_cancelled.';
COMMENT ON COLUMN feather.sync_events.error_class IS 'Why the sync was given up; null when it was not.';
COMMENT ON COLUMN feather.sync_events.changed_columns IS 'Columns of the connection that have another value; null when none has, or it is new.';
COMMENT ON COLUMN feather.sync_events.tools_added IS 'Tools that are new or back; null when none is, or the connection is new.';
COMMENT ON COLUMN feather.sync_events.tools_changed IS 'Tools whose content is another; null when no one''s is.';
COMMENT ON COLUMN feather.sync_events.tools_removed IS 'Tools that were marked removed; null when none was.';
COMMENT ON INDEX  feather.sync_events_connection IS 'For the events of one connection, and for forget.';
COMMENT ON TABLE  feather.sync_events_default IS 'Part of sync_events: what no other part covers.';

CREATE TABLE feather.connection_versions (
    id                   uuid        NOT NULL,
    organization_id      uuid        NOT NULL,
    integration_key      text        NOT NULL,
    nickname_slug        text        NOT NULL,
    nickname             text        NOT NULL,
    vendor               text        NOT NULL,
    vendor_connection_id text,
    status               text        NOT NULL,
    tools_status         text        NOT NULL,
    tools_synced_at      timestamptz,
    status_reason        text,
    connected_at         timestamptz,
    last_refreshed_at    timestamptz,
    last_used_at         timestamptz,
    metadata             jsonb       NOT NULL,
    voice_account_cps    numeric,
    created_at           timestamptz NOT NULL,
    updated_at           timestamptz NOT NULL,
    _account             text        NOT NULL,
    _extra               jsonb       NOT NULL,
    _warnings            jsonb,
    _first_seen_at       timestamptz NOT NULL,
    _finalized_at        timestamptz,
    _synced_at           timestamptz NOT NULL,
    _changed_at          timestamptz NOT NULL,
    _removed_at          timestamptz,
    valid_to             timestamptz NOT NULL,
    ended_by             text[]      NOT NULL
) PARTITION BY RANGE (valid_to);
CREATE TABLE feather.connection_versions_default PARTITION OF feather.connection_versions DEFAULT;
CREATE INDEX connection_versions_id ON feather.connection_versions (id, valid_to);

COMMENT ON TABLE  feather.connection_versions IS 'What connections were before they changed: each version when it has ended. Kept for retention.history.';
COMMENT ON INDEX  feather.connection_versions_id IS 'For the history of one connection, and for forget.';
COMMENT ON TABLE  feather.connection_versions_default IS 'Part of connection_versions: what no other part covers.';

CREATE TABLE feather.tool_versions (
    connection_id        uuid        NOT NULL,
    id                   uuid        NOT NULL,
    organization_id      uuid        NOT NULL,
    integration_key      text        NOT NULL,
    nickname_slug        text        NOT NULL,
    tool_path            text        NOT NULL,
    slug                 text        NOT NULL,
    display_name         text        NOT NULL,
    description          text,
    input_schema         jsonb       NOT NULL,
    response_schema      jsonb,
    response_field_map   jsonb,
    input_defaults       jsonb,
    is_enabled           boolean     NOT NULL,
    last_seen_at         timestamptz NOT NULL,
    created_at           timestamptz NOT NULL,
    updated_at           timestamptz NOT NULL,
    stale_field_paths    text[]      NOT NULL,
    default_count        bigint      NOT NULL,
    pinned_count         bigint      NOT NULL,
    stale_input_fields   text[]      NOT NULL,
    merged_input_preview jsonb       NOT NULL,
    _extra               jsonb       NOT NULL,
    _warnings            jsonb,
    _first_seen_at       timestamptz NOT NULL,
    _changed_at          timestamptz NOT NULL,
    _removed_at          timestamptz,
    valid_to             timestamptz NOT NULL,
    ended_by             text[]      NOT NULL
) PARTITION BY RANGE (valid_to);
CREATE TABLE feather.tool_versions_default PARTITION OF feather.tool_versions DEFAULT;
CREATE INDEX tool_versions_id ON feather.tool_versions (connection_id, id, valid_to);

COMMENT ON TABLE  feather.tool_versions IS 'What tools were before they changed: each version when it has ended. Kept for retention.history.';
COMMENT ON INDEX  feather.tool_versions_id IS 'For the history of one tool or connection, and for forget.';
COMMENT ON TABLE  feather.tool_versions_default IS 'Part of tool_versions: what no other part covers.';

-- Stored as the tools themselves are.
DO $$
BEGIN
    ALTER TABLE feather.tool_versions
        ALTER COLUMN description          SET COMPRESSION lz4,
        ALTER COLUMN input_schema         SET COMPRESSION lz4,
        ALTER COLUMN response_schema      SET COMPRESSION lz4,
        ALTER COLUMN response_field_map   SET COMPRESSION lz4,
        ALTER COLUMN input_defaults       SET COMPRESSION lz4,
        ALTER COLUMN merged_input_preview SET COMPRESSION lz4,
        ALTER COLUMN _extra               SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END $$;

CREATE VIEW feather.connection_history AS
SELECT v.id, v.organization_id, v.integration_key, v.nickname_slug, v.nickname, v.vendor, v.vendor_connection_id,
       v.status, v.tools_status, v.tools_synced_at, v.status_reason, v.connected_at, v.last_refreshed_at,
       v.last_used_at, v.metadata, v.voice_account_cps, v.created_at, v.updated_at, v._account, v._extra, v._warnings,
       v._first_seen_at, v._finalized_at, v._synced_at, v._changed_at, v._removed_at,
       COALESCE(b.valid_to, v._first_seen_at) AS valid_from, v.valid_to, b.ended_by AS changed_columns
FROM (
    SELECT id, organization_id, integration_key, nickname_slug, nickname, vendor, vendor_connection_id, status,
           tools_status, tools_synced_at, status_reason, connected_at, last_refreshed_at, last_used_at, metadata,
           voice_account_cps, created_at, updated_at, _account, _extra, _warnings, _first_seen_at, _finalized_at,
           _synced_at, _changed_at, _removed_at,
           valid_to
    FROM feather.connection_versions
    UNION ALL
    SELECT id, organization_id, integration_key, nickname_slug, nickname, vendor, vendor_connection_id, status,
           tools_status, tools_synced_at, status_reason, connected_at, last_refreshed_at, last_used_at, metadata,
           voice_account_cps, created_at, updated_at, _account, _extra, _warnings, _first_seen_at, _finalized_at,
           _synced_at, _changed_at, _removed_at,
           NULL
    FROM feather.integration_connections
) AS v
LEFT JOIN LATERAL (
    SELECT p.valid_to, p.ended_by FROM feather.connection_versions p
    WHERE p.id = v.id AND p.valid_to < COALESCE(v.valid_to, 'infinity')
    ORDER BY p.valid_to DESC LIMIT 1
) AS b ON true;
COMMENT ON VIEW feather.connection_history IS 'Every version of every connection that is on record, removed ones included; the one that holds has no valid_to. Columns that move without making a version are as they were when it ended: the last_… times, tools_synced_at, updated_at, _finalized_at, _synced_at, _changed_at, _warnings.';

CREATE VIEW feather.tool_history AS
SELECT v.connection_id, v.id, v.organization_id, v.integration_key, v.nickname_slug, v.tool_path, v.slug,
       v.display_name, v.description, v.input_schema, v.response_schema, v.response_field_map, v.input_defaults,
       v.is_enabled, v.last_seen_at, v.created_at, v.updated_at, v.stale_field_paths, v.default_count, v.pinned_count,
       v.stale_input_fields, v.merged_input_preview, v._extra, v._warnings, v._first_seen_at, v._changed_at,
       v._removed_at,
       COALESCE(b.valid_to, v._first_seen_at) AS valid_from, v.valid_to, b.ended_by AS changed_columns
FROM (
    SELECT connection_id, id, organization_id, integration_key, nickname_slug, tool_path, slug, display_name,
           description, input_schema, response_schema, response_field_map, input_defaults, is_enabled, last_seen_at,
           created_at, updated_at, stale_field_paths, default_count, pinned_count, stale_input_fields,
           merged_input_preview, _extra, _warnings, _first_seen_at, _changed_at, _removed_at,
           valid_to
    FROM feather.tool_versions
    UNION ALL
    SELECT connection_id, id, organization_id, integration_key, nickname_slug, tool_path, slug, display_name,
           description, input_schema, response_schema, response_field_map, input_defaults, is_enabled, last_seen_at,
           created_at, updated_at, stale_field_paths, default_count, pinned_count, stale_input_fields,
           merged_input_preview, _extra, _warnings, _first_seen_at, _changed_at, _removed_at,
           NULL
    FROM feather.integration_connection_tools
) AS v
LEFT JOIN LATERAL (
    SELECT p.valid_to, p.ended_by FROM feather.tool_versions p
    WHERE p.connection_id = v.connection_id AND p.id = v.id AND p.valid_to < COALESCE(v.valid_to, 'infinity')
    ORDER BY p.valid_to DESC LIMIT 1
) AS b ON true;
COMMENT ON VIEW feather.tool_history IS 'Every version of every tool that is on record, removed ones included; the one that holds has no valid_to. last_seen_at and _warnings, which move without making a version, are as they were when it ended.';

DO $$
DECLARE
    col record;
BEGIN
    FOR col IN
        SELECT pair.v AS relation, a.attname AS column_name,
               COALESCE(pg_catalog.col_description(t.oid, b.attnum), CASE a.attname
                   WHEN 'valid_from' THEN 'Since when it was so: when the version before ended, or, where none is on record, _first_seen_at.'
                   WHEN 'valid_to' THEN 'Until when it was so, exclusive; null while it holds.'
                   WHEN 'changed_columns' THEN 'Columns in which it differs from the version before; null where that is not on record.'
                   WHEN 'ended_by' THEN 'Columns in which the version after it differs.' END) AS meaning
        FROM (VALUES ('connection_versions', 'integration_connections'), ('tool_versions', 'integration_connection_tools'),
                     ('connection_versions_default', 'integration_connections'), ('tool_versions_default', 'integration_connection_tools'),
                     ('sync_events_default', 'sync_events'),
                     ('connection_history', 'integration_connections'), ('tool_history', 'integration_connection_tools')) AS pair (v, t)
        JOIN pg_catalog.pg_class v ON v.oid = ('feather.' || pair.v)::pg_catalog.regclass
        JOIN pg_catalog.pg_class t ON t.oid = ('feather.' || pair.t)::pg_catalog.regclass
        JOIN pg_catalog.pg_attribute a ON a.attrelid = v.oid AND a.attnum > 0
        LEFT JOIN pg_catalog.pg_attribute b ON b.attrelid = t.oid AND b.attname = a.attname
    LOOP
        EXECUTE pg_catalog.format('COMMENT ON COLUMN feather.%I.%I IS %L', col.relation, col.column_name, col.meaning);
    END LOOP;
END $$;

CREATE FUNCTION feather.partition_bounds(relation text, OUT name text, OUT since timestamptz, OUT until timestamptz)
RETURNS SETOF record LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' SET DateStyle = 'ISO'
AS $$
    SELECT c.relname::text, (b.words)[1]::timestamptz, (b.words)[2]::timestamptz
    FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid
    CROSS JOIN LATERAL regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(.+)''\) TO \(''(.+)''\)') AS b (words)
    WHERE i.inhparent = format('feather.%I', relation)::regclass AND b.words IS NOT NULL
$$;
COMMENT ON FUNCTION feather.partition_bounds(text) IS 'The partitions of a table and the times that they cover, from since to before until; without the one for the rest.';

-- At a time there was what ended first after it, or, where nothing has ended since, what is there now. Before the first
-- partition nobody knows. Bodies are bound to what they name here, whatever the caller's search_path.
CREATE FUNCTION feather.connections_as_of(moment timestamptz) RETURNS SETOF feather.connections LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT h.id, h.organization_id, h.integration_key, h.nickname_slug, h.nickname, h.vendor, h.vendor_connection_id,
           h.status, h.tools_status, h.tools_synced_at, h.status_reason, h.connected_at, h.last_refreshed_at,
           h.last_used_at, h.metadata, h.voice_account_cps, h.created_at, h.updated_at, h._account, h._extra,
           h._warnings, h._first_seen_at, h._finalized_at, h._synced_at, h._changed_at, h._removed_at,
           NULL::bytea
    FROM (
        SELECT DISTINCT ON (v.id)
               v.id, v.organization_id, v.integration_key, v.nickname_slug, v.nickname, v.vendor,
               v.vendor_connection_id, v.status, v.tools_status, v.tools_synced_at, v.status_reason, v.connected_at,
               v.last_refreshed_at, v.last_used_at, v.metadata, v.voice_account_cps, v.created_at, v.updated_at,
               v._account, v._extra, v._warnings, v._first_seen_at, v._finalized_at, v._synced_at, v._changed_at,
               v._removed_at
        FROM feather.connection_versions v WHERE v.valid_to > moment ORDER BY v.id, v.valid_to
    ) AS h
    WHERE h._first_seen_at <= moment AND h._removed_at IS NULL
      AND moment >= (SELECT pg_catalog.min(p.since) FROM feather.partition_bounds('connection_versions') p)
    UNION ALL
    SELECT c.id, c.organization_id, c.integration_key, c.nickname_slug, c.nickname, c.vendor, c.vendor_connection_id,
           c.status, c.tools_status, c.tools_synced_at, c.status_reason, c.connected_at, c.last_refreshed_at,
           c.last_used_at, c.metadata, c.voice_account_cps, c.created_at, c.updated_at, c._account, c._extra,
           c._warnings, c._first_seen_at, c._finalized_at, c._synced_at, c._changed_at, c._removed_at,
           NULL::bytea
    FROM feather.integration_connections c
    WHERE c._first_seen_at <= moment AND c._removed_at IS NULL
      AND NOT EXISTS (SELECT FROM feather.connection_versions v WHERE v.id = c.id AND v.valid_to > moment)
      AND moment >= (SELECT pg_catalog.min(p.since) FROM feather.partition_bounds('connection_versions') p);
END;
COMMENT ON FUNCTION feather.connections_as_of(timestamptz) IS 'What the view connections had at that time; nothing for a time before history is kept. Without _hash; columns that move without making a version are as in connection_history.';

CREATE FUNCTION feather.tools_as_of(moment timestamptz) RETURNS SETOF feather.tools LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT t.connection_id, t.id, t.organization_id, t.integration_key, t.nickname_slug, t.tool_path, t.slug,
           t.display_name, t.description, t.input_schema, t.response_schema, t.response_field_map, t.input_defaults,
           t.is_enabled, t.last_seen_at, t.created_at, t.updated_at, t.stale_field_paths, t.default_count,
           t.pinned_count, t.stale_input_fields, t.merged_input_preview, t._extra, t._warnings, t._first_seen_at,
           t._changed_at, t._removed_at,
           NULL::bytea, c.nickname, c.status, c.tools_status, c._synced_at, c._account
    FROM (
        SELECT h.connection_id, h.id, h.organization_id, h.integration_key, h.nickname_slug, h.tool_path, h.slug,
               h.display_name, h.description, h.input_schema, h.response_schema, h.response_field_map,
               h.input_defaults, h.is_enabled, h.last_seen_at, h.created_at, h.updated_at, h.stale_field_paths,
               h.default_count, h.pinned_count, h.stale_input_fields, h.merged_input_preview, h._extra, h._warnings,
               h._first_seen_at, h._changed_at, h._removed_at
        FROM (
            SELECT DISTINCT ON (v.connection_id, v.id)
                   v.connection_id, v.id, v.organization_id, v.integration_key, v.nickname_slug, v.tool_path, v.slug,
                   v.display_name, v.description, v.input_schema, v.response_schema, v.response_field_map,
                   v.input_defaults, v.is_enabled, v.last_seen_at, v.created_at, v.updated_at, v.stale_field_paths,
                   v.default_count, v.pinned_count, v.stale_input_fields, v.merged_input_preview, v._extra,
                   v._warnings, v._first_seen_at, v._changed_at, v._removed_at
            FROM feather.tool_versions v WHERE v.valid_to > moment ORDER BY v.connection_id, v.id, v.valid_to
        ) AS h
        UNION ALL
        SELECT n.connection_id, n.id, n.organization_id, n.integration_key, n.nickname_slug, n.tool_path, n.slug,
               n.display_name, n.description, n.input_schema, n.response_schema, n.response_field_map,
               n.input_defaults, n.is_enabled, n.last_seen_at, n.created_at, n.updated_at, n.stale_field_paths,
               n.default_count, n.pinned_count, n.stale_input_fields, n.merged_input_preview, n._extra, n._warnings,
               n._first_seen_at, n._changed_at, n._removed_at
        FROM feather.integration_connection_tools n
        WHERE NOT EXISTS (SELECT FROM feather.tool_versions v
                          WHERE v.connection_id = n.connection_id AND v.id = n.id AND v.valid_to > moment)
    ) AS t
    JOIN feather.connections_as_of(moment) c ON c.id = t.connection_id
    WHERE t._first_seen_at <= moment AND t._removed_at IS NULL
      AND moment >= (SELECT pg_catalog.min(p.since) FROM feather.partition_bounds('tool_versions') p);
END;
COMMENT ON FUNCTION feather.tools_as_of(timestamptz) IS 'What the view tools had at that time; nothing for a time before history is kept. Without _hash; columns that move without making a version are as in tool_history.';

-- Runs as the tables' owner, so that the daemon need not own them. It knows three tables and does two things to them.
-- The lock that dropping takes keeps everybody out, and whoever comes after it waits as long as it does: so it waits for
-- a tenth of a second, and comes again.
CREATE FUNCTION feather.keep_partitions(relation text, keep interval, OUT made integer, OUT dropped integer,
                                        OUT deleted integer, OUT unfinished boolean, OUT stuck text[])
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' SET TimeZone = 'UTC' SET DateStyle = 'ISO'
AS $$
DECLARE
    key_column text := CASE relation WHEN 'sync_events' THEN 'at' WHEN 'connection_versions' THEN 'valid_to'
                                     WHEN 'tool_versions' THEN 'valid_to' END;
    unit       text := CASE WHEN keep <= interval '60 days' THEN 'day' WHEN keep <= interval '1 year' THEN 'week'
                            ELSE 'month' END;
    ahead      timestamptz := now() + CASE unit WHEN 'day' THEN interval '7 days' WHEN 'week' THEN interval '4 weeks'
                                                ELSE interval '3 months' END;
    rest       text := relation || '_default';
    -- Not the period's first day: of what was before the first partition nothing is known.
    first      timestamptz := date_trunc('day', now());
    last       timestamptz;
    stray      timestamptz;
    part       record;
    name       text;
BEGIN
    made := 0;
    dropped := 0;
    deleted := 0;
    unfinished := false;
    stuck := '{}';
    IF keep < interval '0' THEN
        RAISE EXCEPTION 'rows cannot be kept for %', keep USING ERRCODE = '22023';
    END IF;
    IF key_column IS NULL THEN
        RAISE EXCEPTION 'feather.% is not kept in partitions', relation USING ERRCODE = '22023';
    END IF;
    -- One at a time. What another one is doing needs not be done again.
    IF NOT pg_try_advisory_xact_lock(7305801, 7) THEN
        unfinished := true;
        RETURN;
    END IF;

    WHILE first < ahead LOOP
        SELECT p.until INTO last FROM feather.partition_bounds(relation) p WHERE p.since <= first AND first < p.until;
        IF NOT FOUND THEN
            SELECT LEAST(date_trunc(unit, first) + ('1 ' || unit)::interval, min(p.since)) INTO last
            FROM feather.partition_bounds(relation) p WHERE p.since > first;
            -- Rows that came while no partition was there stay where they are, and the partition begins after them.
            EXECUTE format('SELECT date_trunc(''day'', max(%1$I)) + interval ''1 day'' FROM feather.%2$I WHERE %1$I >= $1 AND %1$I < $2',
                           key_column, rest) INTO stray USING first, last;
            first := GREATEST(first, stray);
            IF first < last THEN
                name := relation || to_char(first, '_YYYYMMDD');
                BEGIN
                    -- Made apart and attached: this way nobody who writes has to wait. Whoever reads the rest is waited for,
                    -- a tenth of a second at a time.
                    EXECUTE format('CREATE TABLE feather.%I (LIKE feather.%I INCLUDING ALL EXCLUDING IDENTITY)', name, relation);
                    EXECUTE format('COMMENT ON TABLE feather.%I IS %L', name,
                                   format('Part of %s: from %s to %s.', relation, first, last));
                    EXECUTE format('ALTER TABLE feather.%I ATTACH PARTITION feather.%I FOR VALUES FROM (%L) TO (%L)',
                                   relation, name, first, last);
                    made := made + 1;
                EXCEPTION
                WHEN duplicate_table THEN
                    -- Somebody has detached it: the rest takes what would lie in it.
                    NULL;
                WHEN lock_not_available OR deadlock_detected OR check_violation THEN
                    -- Somebody reads, or a row of that period has just come.
                    unfinished := true;
                    EXIT;
                END;
            END IF;
        END IF;
        first := last;
    END LOOP;

    EXECUTE format('DELETE FROM feather.%2$I WHERE ctid = ANY (ARRAY(SELECT ctid FROM feather.%2$I WHERE %1$I < $1 LIMIT 2000))',
                   key_column, rest) USING now() - keep;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    unfinished := unfinished OR deleted = 2000;

    -- One at a time: should the clock go wrong, as little as can be is lost until somebody looks.
    FOR part IN SELECT p.name FROM feather.partition_bounds(relation) p WHERE p.until <= now() - keep ORDER BY p.until LIMIT 1 LOOP
        BEGIN
            EXECUTE format('LOCK TABLE ONLY feather.%I IN ACCESS EXCLUSIVE MODE', relation);
            EXECUTE format('DROP TABLE feather.%I', part.name);
            dropped := 1;
        EXCEPTION WHEN lock_not_available OR deadlock_detected OR dependent_objects_still_exist THEN
            -- Somebody reads, or has made a view of it.
            unfinished := true;
        END;
    END LOOP;
END $$;
COMMENT ON FUNCTION feather.keep_partitions(text, interval) IS 'Makes partitions of sync_events, connection_versions or tool_versions some periods ahead, and drops one that is past its time. unfinished: something was in the way or is left.';
-- Whoever may run it is said in the grants; without the roles it is the owner alone.
REVOKE EXECUTE ON FUNCTION feather.keep_partitions(text, interval) FROM PUBLIC;

SELECT feather.keep_partitions('sync_events', '30 days'), feather.keep_partitions('connection_versions', '400 days'),
       feather.keep_partitions('tool_versions', '400 days');

-- Last, because everybody who commits waits for it.
ALTER TABLE feather.sync_results ADD COLUMN synced_since timestamptz;
COMMENT ON COLUMN feather.sync_results.synced_since IS 'Since when the connection has been synced without a sync that was given up or cancelled; infinity after one that was, null before the first success.';
