-- The queue: an inbox that belongs to producers, and jobs that belong to the daemon.
SET LOCAL lock_timeout = '5s';

COMMENT ON SCHEMA feather IS 'feather-sync: a queue of Feather connections to sync, and the tables that hold what the API said.';

CREATE TABLE feather.sync_requests (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection_id uuid        NOT NULL,
    account       text        NOT NULL DEFAULT 'default',
    priority      smallint    NOT NULL DEFAULT 0,
    run_at        timestamptz NOT NULL DEFAULT now(),
    requested_by  text        DEFAULT session_user,
    requested_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT account_is_named CHECK (account <> '' AND length(account) <= 200),
    -- Finite and of this era: infinity has no arithmetic, and clients cannot hold every year that Postgres can.
    CONSTRAINT run_at_is_finite CHECK (isfinite(run_at) AND run_at BETWEEN '0001-01-01' AND '9999-12-31'),
    CONSTRAINT requested_at_is_finite CHECK (isfinite(requested_at) AND requested_at BETWEEN '0001-01-01' AND '9999-12-31')
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.1);

COMMENT ON TABLE  feather.sync_requests IS 'Inbox: insert a row to have its connection finalized and synced. Rows leave once they are folded into sync_jobs.';
COMMENT ON COLUMN feather.sync_requests.id IS 'Number of the request. Not in commit order.';
COMMENT ON COLUMN feather.sync_requests.connection_id IS 'The Feather connection to finalize and sync.';
COMMENT ON COLUMN feather.sync_requests.account IS 'Account of the daemon''s configuration whose API key is used.';
COMMENT ON COLUMN feather.sync_requests.priority IS 'Smaller runs sooner.';
COMMENT ON COLUMN feather.sync_requests.run_at IS 'Not before this time.';
COMMENT ON COLUMN feather.sync_requests.requested_by IS 'Who asked; the session''s user unless said otherwise.';
COMMENT ON COLUMN feather.sync_requests.requested_at IS 'When the row was inserted.';

CREATE INDEX sync_requests_connection ON feather.sync_requests (connection_id);
COMMENT ON INDEX feather.sync_requests_connection IS 'For sync_status, cancel and forget of one connection.';

-- The state machine: requested -> pending -> running -> (gone | pending | dead), dead -> pending.
-- A request for a running connection waits in the inbox, so a running row belongs to its lease alone.
CREATE TABLE feather.sync_jobs (
    connection_id       uuid        PRIMARY KEY,
    account             text        NOT NULL,
    state               text        NOT NULL DEFAULT 'pending',
    phase               text        NOT NULL DEFAULT 'finalize',
    priority            smallint    NOT NULL,
    run_at              timestamptz NOT NULL,
    not_before          timestamptz,
    wanted_at           timestamptz NOT NULL,
    attempt             integer     NOT NULL DEFAULT 0,
    malformed           integer     NOT NULL DEFAULT 0,
    worker              text,
    lease_token         uuid,
    lease_until         timestamptz,
    started_at          timestamptz,
    finalize_started_at timestamptz,
    settle_deadline     timestamptz,
    settle_polls        integer     NOT NULL DEFAULT 0,
    seen_fingerprint    bytea,
    seen_at             timestamptz,
    error_class         text,
    CONSTRAINT state_is_known CHECK (state IN ('pending', 'running', 'dead')),
    CONSTRAINT phase_is_known CHECK (phase IN ('finalize', 'settle')),
    CONSTRAINT running_means_leased CHECK (
        (state = 'running') = (lease_token IS NOT NULL)
        AND (lease_token IS NULL) = (lease_until IS NULL)
        AND (lease_token IS NULL) = (worker IS NULL)
        AND (lease_token IS NULL OR (started_at IS NOT NULL AND attempt >= 1))),
    CONSTRAINT settling_has_a_deadline CHECK ((phase = 'settle') = (settle_deadline IS NOT NULL)),
    CONSTRAINT settling_was_finalized CHECK (phase <> 'settle' OR finalize_started_at IS NOT NULL),
    CONSTRAINT dead_has_a_class CHECK ((state = 'dead') = (error_class IS NOT NULL)),
    CONSTRAINT sighting_is_whole CHECK ((seen_fingerprint IS NULL) = (seen_at IS NULL)),
    CONSTRAINT counts_are_natural CHECK (attempt >= 0 AND malformed >= 0 AND settle_polls >= 0)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
        autovacuum_analyze_scale_factor = 0.1);

COMMENT ON TABLE  feather.sync_jobs IS 'One row per connection that still has work: waiting, running, settling or dead. Success deletes the row. Belongs to the daemon.';
COMMENT ON COLUMN feather.sync_jobs.connection_id IS 'The Feather connection.';
COMMENT ON COLUMN feather.sync_jobs.account IS 'Account whose key is used: that of the latest request.';
COMMENT ON COLUMN feather.sync_jobs.state IS 'pending (waits for run_at), running (leased by a worker) or dead (given up, revivable).';
COMMENT ON COLUMN feather.sync_jobs.phase IS 'finalize (the next call is POST finalize) or settle (finalized; polled by GET until the tools have settled).';
COMMENT ON COLUMN feather.sync_jobs.priority IS 'Smaller runs sooner.';
COMMENT ON COLUMN feather.sync_jobs.run_at IS 'Due from this time on.';
COMMENT ON COLUMN feather.sync_jobs.not_before IS 'A delay that the server asked for; no request brings the job forward past it.';
COMMENT ON COLUMN feather.sync_jobs.wanted_at IS 'Later of requested_at and run_at of the oldest request; time-to-sync counts from here.';
COMMENT ON COLUMN feather.sync_jobs.attempt IS 'Attempts counted since the last success or revival; the running one included.';
COMMENT ON COLUMN feather.sync_jobs.malformed IS 'Answers in a row that were not what the API promises.';
COMMENT ON COLUMN feather.sync_jobs.worker IS 'Name of the replica that runs it, for people; ownership is the lease token.';
COMMENT ON COLUMN feather.sync_jobs.lease_token IS 'Fencing token of the claim: every write-back must name it.';
COMMENT ON COLUMN feather.sync_jobs.lease_until IS 'When the lease runs out, on the database''s clock.';
COMMENT ON COLUMN feather.sync_jobs.started_at IS 'When the current or last attempt was claimed.';
COMMENT ON COLUMN feather.sync_jobs.finalize_started_at IS 'When the finalize attempt that is being followed was claimed.';
COMMENT ON COLUMN feather.sync_jobs.settle_deadline IS 'A poll begun after this time that finds the tools unsettled ends the job.';
COMMENT ON COLUMN feather.sync_jobs.settle_polls IS 'Polls since the finalize, for the interval''s growth.';
COMMENT ON COLUMN feather.sync_jobs.seen_fingerprint IS 'Fingerprint of the last unsettled answer (tools_status, tools_synced_at, tools).';
COMMENT ON COLUMN feather.sync_jobs.seen_at IS 'When an answer with that fingerprint was first seen.';
COMMENT ON COLUMN feather.sync_jobs.error_class IS 'Why the job is dead.';

CREATE INDEX sync_jobs_claim ON feather.sync_jobs (account, phase, priority, run_at) WHERE state = 'pending';
COMMENT ON INDEX feather.sync_jobs_claim IS 'For the claim: each (phase, priority) lane of an account in due order.';
CREATE INDEX sync_jobs_lease ON feather.sync_jobs (lease_until) WHERE state = 'running';
COMMENT ON INDEX feather.sync_jobs_lease IS 'For the expiry of leases.';
CREATE INDEX sync_jobs_dead ON feather.sync_jobs (account, error_class) WHERE state = 'dead';
COMMENT ON INDEX feather.sync_jobs_dead IS 'For retry --dead, by account and class.';

CREATE FUNCTION feather.enqueue(connection_id uuid, account text DEFAULT 'default', priority integer DEFAULT 0,
                                run_at timestamptz DEFAULT now())
RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    request_id bigint;
BEGIN
    IF priority NOT BETWEEN -32768 AND 32767 THEN
        RAISE EXCEPTION 'priority % is out of range: use -32768 (soonest) to 32767', priority USING ERRCODE = '22003';
    END IF;
    INSERT INTO feather.sync_requests AS r (connection_id, account, priority, run_at)
    VALUES (enqueue.connection_id, enqueue.account, enqueue.priority, enqueue.run_at)
    RETURNING r.id INTO request_id;
    RETURN request_id;
END $$;
COMMENT ON FUNCTION feather.enqueue(uuid, text, integer, timestamptz)
    IS 'Asks for one connection to be finalized and synced, in the caller''s transaction; returns the request''s id.';

CREATE FUNCTION feather.enqueue_many(connection_ids uuid[], account text DEFAULT 'default', priority integer DEFAULT 0,
                                     run_at timestamptz DEFAULT now())
RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    requested bigint;
BEGIN
    IF priority NOT BETWEEN -32768 AND 32767 THEN
        RAISE EXCEPTION 'priority % is out of range: use -32768 (soonest) to 32767', priority USING ERRCODE = '22003';
    END IF;
    INSERT INTO feather.sync_requests (connection_id, account, priority, run_at)
    SELECT i, enqueue_many.account, enqueue_many.priority, enqueue_many.run_at
    FROM pg_catalog.unnest(connection_ids) AS i;
    GET DIAGNOSTICS requested = ROW_COUNT;
    RETURN requested;
END $$;
COMMENT ON FUNCTION feather.enqueue_many(uuid[], text, integer, timestamptz)
    IS 'Asks for many connections to be finalized and synced, in the caller''s transaction; returns how many.';

-- NOTIFY takes a lock that serialises commits; only the producer that gets the advisory lock pays for it,
-- and one hint wakes the daemon for all. `SET feather.wake_up = off` leaves it out (two-phase commits).
CREATE FUNCTION feather.wake_worker() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_catalog.current_setting('feather.wake_up', true) IS DISTINCT FROM 'off'
       AND pg_catalog.pg_try_advisory_xact_lock(7305801, 1) THEN
        PERFORM pg_catalog.pg_notify('feather_sync', '');
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION feather.wake_worker() IS 'Wakes a sleeping worker; a hint only, polling finds the request anyway.';

CREATE TRIGGER wake_worker AFTER INSERT ON feather.sync_requests
    FOR EACH STATEMENT EXECUTE FUNCTION feather.wake_worker();
COMMENT ON TRIGGER wake_worker ON feather.sync_requests IS 'Wakes a sleeping worker once per statement.';
