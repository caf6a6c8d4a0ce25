-- no-transaction
-- Attempts and minutes are kept in partitions from now on. What there is becomes the first partition as it lies: nothing
-- is copied or read. A table that is large has been prepared for that beside those who write (src/store/migrate/swap.rs).
--
-- For a moment nobody may read or write. That moment is asked for a tenth of a second at a time, so that nobody waits for
-- long behind one who waits for a report to end, and from the beginning each time, so that nothing is held meanwhile:
-- readers lock views and tables in any order. Now and then a little longer, as only this makes an autovacuum give way.
-- What was done can be done again.
DO $$
DECLARE
    relation   text;
    key_column text;
    pkey       text;
    second     text;
    storage    text;
    keep       interval;
    old        oid;
    owner      oid;
    cutoff     timestamptz;
    next_id    bigint;
    is_used    boolean;
    views      text[];
    privileges text[];
    statement  text;
    part       text;
    done       boolean;
BEGIN
    FOREACH relation IN ARRAY ARRAY['sync_attempts', 'sync_throughput'] LOOP
        IF relation = 'sync_attempts' THEN
            key_column := 'finished_at';
            pkey := 'connection_id, id, finished_at';
            second := 'sync_attempts_finished';
            storage := 'autovacuum_vacuum_insert_scale_factor = 0.1';
            keep := '90 days';
        ELSE
            key_column := 'minute';
            pkey := 'account, minute, worker';
            second := 'sync_throughput_minute';
            storage := 'fillfactor = 50';
            keep := '30 days';
        END IF;

        FOR try IN 1..60 LOOP
            EXIT WHEN (SELECT c.relkind = 'p' FROM pg_class c WHERE c.oid = format('feather.%I', relation)::regclass);
            done := false;
            BEGIN
                PERFORM set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO', true),
                        set_config('client_min_messages', 'warning', true);
                PERFORM set_config('lock_timeout', CASE WHEN try % 5 = 0 THEN '1500ms' ELSE '100ms' END, true);
                EXECUTE format('LOCK TABLE feather.%I IN ACCESS EXCLUSIVE MODE', relation);
                PERFORM set_config('lock_timeout', '100ms', true);
                SELECT c.oid, c.relowner INTO old, owner FROM pg_class c WHERE c.oid = format('feather.%I', relation)::regclass;

                -- Before this all rows are in the old table, and all that come.
                SELECT (regexp_match(pg_get_constraintdef(k.oid), '< ''(.+)''::'))[1]::timestamptz INTO cutoff
                FROM pg_constraint k WHERE k.conrelid = old AND k.conname = 'before_partitions' AND k.convalidated;
                IF cutoff IS NULL THEN
                    IF pg_relation_size(old) > 33554432 THEN
                        RAISE EXCEPTION 'feather.% has grown meanwhile, and is to be prepared first: run `feather-sync migrate` again', relation;
                    END IF;
                    EXECUTE format('SELECT date_trunc(''day'', GREATEST(clock_timestamp(), max(%I) + interval ''1 day'')) FROM feather.%I',
                                   key_column, relation) INTO cutoff;
                    EXECUTE format('ALTER TABLE feather.%I DROP CONSTRAINT IF EXISTS before_partitions, ADD CONSTRAINT before_partitions CHECK (%I < %L)',
                                   relation, key_column, cutoff);
                END IF;
                IF relation = 'sync_attempts' THEN
                    IF NOT EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = to_regclass('feather.sync_attempts_before_pkey') AND i.indisvalid) THEN
                        IF pg_relation_size(old) > 33554432 THEN
                            RAISE EXCEPTION 'feather.% has grown meanwhile, and is to be prepared first: run `feather-sync migrate` again', relation;
                        END IF;
                        DROP INDEX IF EXISTS feather.sync_attempts_before_pkey;
                        EXECUTE format('CREATE UNIQUE INDEX sync_attempts_before_pkey ON feather.sync_attempts (%s)', pkey);
                    END IF;
                    EXECUTE format('SELECT last_value, is_called FROM %s', pg_get_serial_sequence('feather.sync_attempts', 'id'))
                        INTO next_id, is_used;
                    ALTER TABLE feather.sync_attempts
                        ALTER COLUMN id DROP IDENTITY,
                        DROP CONSTRAINT sync_attempts_pkey,
                        ADD CONSTRAINT sync_attempts_before_pkey PRIMARY KEY USING INDEX sync_attempts_before_pkey;
                ELSE
                    ALTER INDEX feather.sync_throughput_pkey RENAME TO sync_throughput_before_pkey;
                END IF;

                -- Views are bound to the table, not to its name; rights, too.
                SELECT array_agg(format('CREATE OR REPLACE VIEW %s%s AS %s', c.oid::regclass, ' WITH (' || array_to_string(c.reloptions, ', ') || ')',
                                        pg_get_viewdef(c.oid))) INTO views
                FROM pg_class c
                WHERE c.relkind = 'v' AND c.oid IN (SELECT r.ev_class FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                                                    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = old);
                SELECT array_agg(format('GRANT %s%s ON feather.%I TO %s%s', g.privilege_type, g.of, relation,
                                        CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END,
                                        CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' END)) INTO privileges
                FROM (SELECT e.*, NULL AS of FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) AS e WHERE c.oid = old
                      UNION ALL
                      SELECT e.*, format(' (%I)', a.attname) FROM pg_attribute a CROSS JOIN LATERAL aclexplode(a.attacl) AS e
                      WHERE a.attrelid = old) AS g
                WHERE g.grantee <> owner;

                EXECUTE format('ALTER TABLE feather.%I RENAME TO %I', relation, relation || '_before');
                EXECUTE format('ALTER INDEX feather.%I RENAME TO %I', second, second || '_before');
                EXECUTE format('CREATE TABLE feather.%I (LIKE feather.%I INCLUDING ALL EXCLUDING INDEXES, PRIMARY KEY (%s)) PARTITION BY RANGE (%I)',
                               relation, relation || '_before', pkey, key_column);
                EXECUTE format('ALTER TABLE feather.%I DROP CONSTRAINT before_partitions', relation);
                EXECUTE format('CREATE INDEX %I ON feather.%I (%I)', second, relation, key_column);
                EXECUTE format('COMMENT ON INDEX feather.%I IS %L', second,
                               obj_description(format('feather.%I', second || '_before')::regclass, 'pg_class'));
                EXECUTE format('COMMENT ON TABLE feather.%I IS %L', relation, obj_description(old, 'pg_class'));
                IF relation = 'sync_attempts' THEN
                    ALTER TABLE feather.sync_attempts ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY;
                    PERFORM setval(pg_get_serial_sequence('feather.sync_attempts', 'id'), next_id, is_used);
                END IF;
                EXECUTE format('ALTER TABLE feather.%I ATTACH PARTITION feather.%I FOR VALUES FROM (MINVALUE) TO (%L)',
                               relation, relation || '_before', cutoff);
                EXECUTE format('ALTER TABLE feather.%I DROP CONSTRAINT before_partitions', relation || '_before');
                EXECUTE format('COMMENT ON TABLE feather.%I IS %L', relation || '_before',
                               format('Part of %s: what was there before it was kept in partitions, and what came until the next one began.', relation));
                EXECUTE format('CREATE TABLE feather.%I (LIKE feather.%I INCLUDING ALL EXCLUDING IDENTITY) WITH (%s)',
                               relation || '_default', relation, storage);
                EXECUTE format('ALTER TABLE feather.%I ATTACH PARTITION feather.%I DEFAULT', relation, relation || '_default');
                EXECUTE format('COMMENT ON TABLE feather.%I IS %L', relation || '_default',
                               format('Part of %s: what no other part covers.', relation));
                IF owner <> current_user::regrole THEN
                    FOREACH part IN ARRAY ARRAY[relation, relation || '_default'] LOOP
                        EXECUTE format('ALTER TABLE feather.%I OWNER TO %s', part, owner::regrole);
                    END LOOP;
                END IF;
                FOREACH statement IN ARRAY COALESCE(privileges, '{}') LOOP
                    EXECUTE statement;
                END LOOP;
                FOREACH statement IN ARRAY COALESCE(views, '{}') LOOP
                    BEGIN
                        EXECUTE statement;
                    EXCEPTION WHEN syntax_error_or_access_rule_violation THEN
                        -- Somebody else's, or with whole rows, which are of another type now: it goes on seeing what it
                        -- saw. `migrate` and `doctor` name it.
                        NULL;
                    END;
                END LOOP;
                done := true;
            EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
                IF try = 60 THEN
                    RAISE;
                END IF;
            END;
            COMMIT;
            EXIT WHEN done;
            PERFORM pg_sleep(0.3);
        END LOOP;

        PERFORM feather.keep_partitions(relation, keep);
        COMMIT;
    END LOOP;
END $$;
