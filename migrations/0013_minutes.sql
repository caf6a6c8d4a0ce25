-- Statistics by the minute. An older program goes on counting what it knew; the rest of its minutes stays empty.
SET LOCAL lock_timeout = '2s';

ALTER TABLE feather.sync_throughput
    ADD COLUMN deferred        bigint NOT NULL DEFAULT 0,
    ADD COLUMN calls           bigint NOT NULL DEFAULT 0,
    ADD COLUMN failed_by_class jsonb  NOT NULL DEFAULT '{}',
    ADD COLUMN time_to_sync    bigint[];
COMMENT ON COLUMN feather.sync_throughput.deferred IS 'Attempts that ended deferred.';
COMMENT ON COLUMN feather.sync_throughput.calls IS 'Attempts that ended, however; 0 where an older program counted.';
COMMENT ON COLUMN feather.sync_throughput.failed_by_class IS 'The failed ones by error class.';
COMMENT ON COLUMN feather.sync_throughput.time_to_sync IS 'How many of the synced ones took how long, by the bounds of time_to_sync_bounds(); null when none was.';

CREATE INDEX sync_throughput_minute ON feather.sync_throughput (minute);
COMMENT ON INDEX feather.sync_throughput_minute IS 'For the last hour, and for retention.';

-- Bodies are bound to what they name here, whatever the caller's search_path.
CREATE FUNCTION feather.time_to_sync_bounds() RETURNS double precision[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ARRAY[0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400]::double precision[];
COMMENT ON FUNCTION feather.time_to_sync_bounds()
    IS 'Upper bounds, in seconds and inclusive, of the buckets of time_to_sync_histogram; one more bucket holds what is beyond.';

CREATE FUNCTION feather.histogram_add(a bigint[], b bigint[]) RETURNS bigint[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN a IS NULL THEN b WHEN b IS NULL THEN a
            ELSE ARRAY(SELECT COALESCE(u.x, 0) + COALESCE(u.y, 0)
                       FROM ROWS FROM (pg_catalog.unnest(a), pg_catalog.unnest(b)) WITH ORDINALITY AS u (x, y, n) ORDER BY u.n) END;
COMMENT ON FUNCTION feather.histogram_add(bigint[], bigint[]) IS 'Adds two histograms bucket by bucket; null counts as empty.';

CREATE AGGREGATE feather.histogram_sum(bigint[]) (
    SFUNC = feather.histogram_add, STYPE = bigint[], COMBINEFUNC = feather.histogram_add, PARALLEL = SAFE);
COMMENT ON AGGREGATE feather.histogram_sum(bigint[]) IS 'Adds up histograms bucket by bucket; null when there are none.';

CREATE FUNCTION feather.counts_add(a jsonb, b jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN COALESCE(a, '{}') = '{}' THEN b WHEN COALESCE(b, '{}') = '{}' THEN a
            ELSE (SELECT pg_catalog.jsonb_object_agg(s.key, s.n)
                  FROM (SELECT e.key, pg_catalog.sum(e.value::bigint) AS n
                        FROM (SELECT key, value FROM pg_catalog.jsonb_each_text(a)
                              UNION ALL SELECT key, value FROM pg_catalog.jsonb_each_text(b)) AS e
                        GROUP BY e.key) AS s) END;
COMMENT ON FUNCTION feather.counts_add(jsonb, jsonb) IS 'Adds two objects of counts name by name; null counts as empty.';

CREATE AGGREGATE feather.counts_sum(jsonb) (
    SFUNC = feather.counts_add, STYPE = jsonb, COMBINEFUNC = feather.counts_add, PARALLEL = SAFE);
COMMENT ON AGGREGATE feather.counts_sum(jsonb) IS 'Adds up objects of counts name by name; null when there are none.';

CREATE FUNCTION feather.time_to_sync_percentile(histogram bigint[], fraction double precision)
RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT CASE WHEN t.upper IS NULL THEN t.lower
                ELSE t.lower + (t.upper - t.lower) * GREATEST(fraction * t.total - (t.upto - t.n), 0) / t.n END
    FROM (
        SELECT b.place, b.n::double precision AS n, pg_catalog.sum(b.n) OVER (ORDER BY b.place) AS upto,
               pg_catalog.sum(b.n) OVER () AS total,
               COALESCE((feather.time_to_sync_bounds())[b.place - 1], 0) AS lower,
               (feather.time_to_sync_bounds())[b.place] AS upper
        FROM pg_catalog.unnest(histogram) WITH ORDINALITY AS b (n, place)
    ) AS t
    WHERE t.n > 0 AND t.upto >= fraction * t.total
    ORDER BY t.place
    LIMIT 1
);
COMMENT ON FUNCTION feather.time_to_sync_percentile(bigint[], double precision)
    IS 'The percentile (0 to 1) of a time_to_sync_histogram, in seconds, interpolated within its bucket; at most the last bound. Null when nothing was counted.';

CREATE VIEW feather.sync_minutes AS
SELECT m.account, m.minute, m.synced, m.failed, m.deferred, m.calls, m.failed_by_class, m.time_to_sync_histogram,
       feather.time_to_sync_percentile(m.time_to_sync_histogram, 0.5)  AS time_to_sync_p50,
       feather.time_to_sync_percentile(m.time_to_sync_histogram, 0.95) AS time_to_sync_p95,
       feather.time_to_sync_percentile(m.time_to_sync_histogram, 0.99) AS time_to_sync_p99
FROM (
    SELECT account, minute,
           pg_catalog.sum(synced)::bigint AS synced,
           pg_catalog.sum(failed)::bigint AS failed,
           pg_catalog.sum(deferred)::bigint AS deferred,
           -- An older program counts no calls.
           pg_catalog.sum(GREATEST(calls, synced + failed))::bigint AS calls,
           COALESCE(feather.counts_sum(failed_by_class), '{}') AS failed_by_class,
           feather.histogram_sum(time_to_sync) AS time_to_sync_histogram
    FROM feather.sync_throughput
    GROUP BY account, minute
) AS m;
COMMENT ON VIEW feather.sync_minutes IS 'How attempts ended, by account and minute, over all replicas; counted in the transaction that commits them. Minutes in which none ended have no row.';
COMMENT ON COLUMN feather.sync_minutes.account IS 'Account.';
COMMENT ON COLUMN feather.sync_minutes.minute IS 'Start of the minute in which they were committed.';
COMMENT ON COLUMN feather.sync_minutes.synced IS 'Attempts that ended synced.';
COMMENT ON COLUMN feather.sync_minutes.failed IS 'Attempts that ended retry, dead or crashed.';
COMMENT ON COLUMN feather.sync_minutes.deferred IS 'Attempts that ended deferred (401, 429, a stop) and count for nothing.';
COMMENT ON COLUMN feather.sync_minutes.calls IS 'Attempts that ended, however: synced, settling, failed and deferred ones.';
COMMENT ON COLUMN feather.sync_minutes.failed_by_class IS 'The failed ones by error class, as an object; counts_sum adds up those of many minutes.';
COMMENT ON COLUMN feather.sync_minutes.time_to_sync_histogram IS 'How many of the synced ones took how long, from the later of requested_at and run_at of the oldest request to being visible: one count per bucket of time_to_sync_bounds(), and one for what took longer. Null when none was synced. histogram_sum adds up those of many minutes.';
COMMENT ON COLUMN feather.sync_minutes.time_to_sync_p50 IS 'Median time to sync in seconds, from the histogram; null when none was synced.';
COMMENT ON COLUMN feather.sync_minutes.time_to_sync_p95 IS '95th percentile of the time to sync in seconds, from the histogram.';
COMMENT ON COLUMN feather.sync_minutes.time_to_sync_p99 IS '99th percentile of the time to sync in seconds, from the histogram.';
