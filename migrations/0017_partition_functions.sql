-- Attempts and minutes are to be kept in partitions, as the change feed and the history are: the functions learn of two
-- more tables, and of a partition that begins with whatever was there before.
SET LOCAL lock_timeout = '2s';

CREATE OR REPLACE FUNCTION feather.partition_bounds(relation text, OUT name text, OUT since timestamptz, OUT until timestamptz)
RETURNS SETOF record LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' SET DateStyle = 'ISO'
AS $$
    SELECT c.relname::text, COALESCE((b.words)[1], '-infinity')::timestamptz, (b.words)[2]::timestamptz
    FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid
    CROSS JOIN LATERAL regexp_match(pg_get_expr(c.relpartbound, c.oid),
                                    'FROM \((?:MINVALUE|''(.+)'')\) TO \(''(.+)''\)') AS b (words)
    WHERE i.inhparent = format('feather.%I', relation)::regclass AND b.words IS NOT NULL
$$;
COMMENT ON FUNCTION feather.partition_bounds(text) IS 'The partitions of a table and the times that they cover, from since to before until; without the one for the rest. Of one that holds all that was before the others, since is -infinity.';

-- Runs as the tables' owner, so that the daemon need not own them. It knows five tables and does two things to them.
-- The lock that dropping takes keeps everybody out, and whoever comes after it waits as long as it does: so it waits for
-- a tenth of a second, and comes again.
CREATE OR REPLACE FUNCTION feather.keep_partitions(relation text, keep interval, OUT made integer, OUT dropped integer,
                                                   OUT deleted integer, OUT unfinished boolean, OUT stuck text[])
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' SET TimeZone = 'UTC' SET DateStyle = 'ISO'
AS $$
DECLARE
    key_column text := CASE relation WHEN 'sync_events' THEN 'at' WHEN 'connection_versions' THEN 'valid_to'
                                     WHEN 'tool_versions' THEN 'valid_to' WHEN 'sync_attempts' THEN 'finished_at'
                                     WHEN 'sync_throughput' THEN 'minute' END;
    -- A table in partitions has none itself that they could be like.
    storage    text := CASE relation WHEN 'sync_attempts' THEN 'WITH (autovacuum_vacuum_insert_scale_factor = 0.1)'
                                     WHEN 'sync_throughput' THEN 'WITH (fillfactor = 50)' ELSE '' END;
    unit       text := CASE WHEN keep <= interval '60 days' THEN 'day' WHEN keep <= interval '1 year' THEN 'week'
                            ELSE 'month' END;
    ahead      timestamptz := now() + CASE unit WHEN 'day' THEN interval '7 days' WHEN 'week' THEN interval '4 weeks'
                                                ELSE interval '3 months' END;
    rest       text := relation || '_default';
    -- Not the period's first day: of what was before the first partition nothing is known.
    first      timestamptz := date_trunc('day', now());
    last       timestamptz;
    stray      timestamptz;
    strays     boolean;
    part       record;
    name       text;
    reason     text;
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

    EXECUTE format('SELECT EXISTS (SELECT FROM feather.%I)', rest) INTO strays;
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
                    EXECUTE format('CREATE TABLE feather.%I (LIKE feather.%I INCLUDING ALL EXCLUDING IDENTITY) %s', name, relation, storage);
                    EXECUTE format('COMMENT ON TABLE feather.%I IS %L', name,
                                   format('Part of %s: from %s to %s.', relation, first, last));
                    EXECUTE format('ALTER TABLE feather.%I ATTACH PARTITION feather.%I FOR VALUES FROM (%L) TO (%L)',
                                   relation, name, first, last);
                    made := made + 1;
                    IF strays THEN
                        -- Attaching reads them all, and who writes to them waits: one at a time, and nothing else with it.
                        unfinished := true;
                        RETURN;
                    END IF;
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

    EXECUTE format('DELETE FROM feather.%2$I WHERE ctid = ANY (ARRAY(SELECT ctid FROM feather.%2$I WHERE %1$I < $1 LIMIT 50000))',
                   key_column, rest) USING now() - keep;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    unfinished := unfinished OR deleted = 50000;

    -- One at a time: should the clock go wrong, as little as can be is lost until somebody looks.
    FOR part IN SELECT p.name FROM feather.partition_bounds(relation) p WHERE p.until <= now() - keep ORDER BY p.until LOOP
        IF dropped > 0 THEN
            unfinished := true;
            EXIT;
        END IF;
        BEGIN
            EXECUTE format('LOCK TABLE ONLY feather.%I IN ACCESS EXCLUSIVE MODE', relation);
            EXECUTE format('DROP TABLE feather.%I', part.name);
            dropped := 1;
        EXCEPTION
        WHEN dependent_objects_still_exist THEN
            -- Somebody has made a view of it, say. It stays until that is gone, and keeps no other.
            GET STACKED DIAGNOSTICS reason = PG_EXCEPTION_DETAIL;
            stuck := stuck || format('feather.%I: %s', part.name, replace(reason, E'\n', '; '));
        WHEN lock_not_available OR deadlock_detected THEN
            -- Somebody reads.
            unfinished := true;
            EXIT;
        END;
    END LOOP;
END $$;
COMMENT ON FUNCTION feather.keep_partitions(text, interval) IS 'Makes partitions of sync_attempts, sync_throughput, sync_events, connection_versions or tool_versions some periods ahead, and drops one that is past its time. unfinished: something was in the way or is left. stuck: past its time, and something depends on it.';
