-- What was tried, and the last word on each connection.
SET LOCAL lock_timeout = '5s';

CREATE TABLE feather.sync_attempts (
    id                  bigint GENERATED ALWAYS AS IDENTITY,
    account             text        NOT NULL,
    connection_id       uuid        NOT NULL,
    kind                text        NOT NULL,
    attempt             integer     NOT NULL,
    worker              text        NOT NULL,
    started_at          timestamptz NOT NULL,
    finished_at         timestamptz NOT NULL,
    outcome             text        NOT NULL,
    http_status         integer,
    error_class         text,
    error               text,
    retry_at            timestamptz,
    tools_status        text,
    tools_added         integer     NOT NULL DEFAULT 0,
    tools_changed       integer     NOT NULL DEFAULT 0,
    tools_removed       integer     NOT NULL DEFAULT 0,
    upstream_request_id text,
    PRIMARY KEY (connection_id, id),
    CONSTRAINT kind_is_known CHECK (kind IN ('finalize', 'poll', 'reconcile')),
    CONSTRAINT outcome_is_known CHECK (outcome IN ('synced', 'settling', 'retry', 'dead', 'deferred', 'crashed', 'cancelled')),
    CONSTRAINT finished_after_start CHECK (finished_at >= started_at)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);

COMMENT ON TABLE  feather.sync_attempts IS 'History: one row per attempt, written once when it ends. Kept for retention.attempts.';
COMMENT ON COLUMN feather.sync_attempts.id IS 'Number of the row. Not in commit order.';
COMMENT ON COLUMN feather.sync_attempts.account IS 'Account whose key was used.';
COMMENT ON COLUMN feather.sync_attempts.connection_id IS 'The connection.';
COMMENT ON COLUMN feather.sync_attempts.kind IS 'finalize, poll or reconcile.';
COMMENT ON COLUMN feather.sync_attempts.attempt IS 'Which attempt it was since the last success or revival.';
COMMENT ON COLUMN feather.sync_attempts.worker IS 'The replica that made it; for cancelled, the command that did it.';
COMMENT ON COLUMN feather.sync_attempts.started_at IS 'When it was claimed, on the database''s clock.';
COMMENT ON COLUMN feather.sync_attempts.finished_at IS 'When it ended.';
COMMENT ON COLUMN feather.sync_attempts.outcome IS 'synced, settling, retry, dead, deferred, crashed or cancelled.';
COMMENT ON COLUMN feather.sync_attempts.http_status IS 'Status code of the answer; null without one.';
COMMENT ON COLUMN feather.sync_attempts.error_class IS 'Class of the failure; null without one.';
COMMENT ON COLUMN feather.sync_attempts.error IS 'What went wrong, in words.';
COMMENT ON COLUMN feather.sync_attempts.retry_at IS 'When the next attempt is due; null when there is none.';
COMMENT ON COLUMN feather.sync_attempts.tools_status IS 'tools_status of the answer.';
COMMENT ON COLUMN feather.sync_attempts.tools_added IS 'Tools that this attempt added or revived.';
COMMENT ON COLUMN feather.sync_attempts.tools_changed IS 'Tools that this attempt changed.';
COMMENT ON COLUMN feather.sync_attempts.tools_removed IS 'Tools that this attempt marked removed.';
COMMENT ON COLUMN feather.sync_attempts.upstream_request_id IS 'x-request-id of the answer, for Feather''s support.';

CREATE INDEX sync_attempts_finished ON feather.sync_attempts (finished_at);
COMMENT ON INDEX feather.sync_attempts_finished IS 'For retention and for the errors of the last hour.';

CREATE TABLE feather.sync_results (
    connection_id           uuid        PRIMARY KEY,
    account                 text        NOT NULL,
    last_attempt_at         timestamptz NOT NULL,
    last_outcome            text        NOT NULL,
    last_success_at         timestamptz,
    last_success_started_at timestamptz,
    last_error_class        text,
    last_error              text
) WITH (fillfactor = 80);

COMMENT ON TABLE  feather.sync_results IS 'The last word on each connection; outlives the retention of sync_attempts.';
COMMENT ON COLUMN feather.sync_results.connection_id IS 'The connection.';
COMMENT ON COLUMN feather.sync_results.account IS 'Account of the last attempt.';
COMMENT ON COLUMN feather.sync_results.last_attempt_at IS 'When the last attempt ended.';
COMMENT ON COLUMN feather.sync_results.last_outcome IS 'Outcome of the last attempt.';
COMMENT ON COLUMN feather.sync_results.last_success_at IS 'When the connection was last synced, tools settled.';
COMMENT ON COLUMN feather.sync_results.last_success_started_at IS 'When the finalize that led to that success was begun: later than your commit means your request has been served.';
COMMENT ON COLUMN feather.sync_results.last_error_class IS 'Class of the last attempt''s failure; null when it did not fail.';
COMMENT ON COLUMN feather.sync_results.last_error IS 'The last attempt''s failure in words; null when it did not fail.';

-- One row per account, minute and replica, so that replicas never wait for each other here.
CREATE TABLE feather.sync_throughput (
    account text        NOT NULL,
    minute  timestamptz NOT NULL,
    worker  text        NOT NULL,
    synced  bigint      NOT NULL,
    failed  bigint      NOT NULL,
    PRIMARY KEY (account, minute, worker)
) WITH (fillfactor = 50);

COMMENT ON TABLE  feather.sync_throughput IS 'Outcomes per minute, counted in the transaction that commits them.';
COMMENT ON COLUMN feather.sync_throughput.account IS 'Account.';
COMMENT ON COLUMN feather.sync_throughput.minute IS 'Start of the minute.';
COMMENT ON COLUMN feather.sync_throughput.worker IS 'Replica that counted.';
COMMENT ON COLUMN feather.sync_throughput.synced IS 'Attempts that ended synced.';
COMMENT ON COLUMN feather.sync_throughput.failed IS 'Attempts that ended retry, dead or crashed.';
