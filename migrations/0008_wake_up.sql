-- Whether a statement wakes the worker is decided before the function is called: of many producers at once all but one
-- are spared it.
SET LOCAL lock_timeout = '2s';

CREATE OR REPLACE FUNCTION feather.wake_worker() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.pg_notify('feather_sync', '');
    RETURN NULL;
END $$;

-- NOTIFY takes a lock that serialises commits; only the producer that gets the advisory lock pays for it,
-- and one hint wakes the daemon for all. `SET feather.wake_up = off` leaves it out (two-phase commits).
CREATE OR REPLACE TRIGGER wake_worker AFTER INSERT ON feather.sync_requests
    FOR EACH STATEMENT
    WHEN (pg_catalog.current_setting('feather.wake_up', true) IS DISTINCT FROM 'off'
          AND pg_catalog.pg_try_advisory_xact_lock(7305801, 1))
    EXECUTE FUNCTION feather.wake_worker();
