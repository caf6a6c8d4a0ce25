-- What the replicas share: budgets and pauses of the accounts, who is alive, cached counts, who did what.
SET LOCAL lock_timeout = '5s';

CREATE TABLE feather.sync_accounts (
    account             text             PRIMARY KEY,
    requests_per_minute integer,
    configured_at       timestamptz,
    tokens              double precision NOT NULL DEFAULT 0,
    tokens_at           timestamptz      NOT NULL DEFAULT 'epoch',
    pause_reason        text,
    paused_until        timestamptz,
    pause_step          integer          NOT NULL DEFAULT 0,
    pause_error         text,
    operator_paused_at  timestamptz,
    operator_paused_by  text,
    CONSTRAINT account_is_named CHECK (account <> '' AND length(account) <= 200),
    CONSTRAINT pause_is_whole CHECK ((pause_reason IS NULL) = (paused_until IS NULL)),
    CONSTRAINT pause_reason_is_known CHECK (pause_reason IN ('auth', 'rate_limited')),
    CONSTRAINT operator_pause_is_whole CHECK ((operator_paused_at IS NULL) = (operator_paused_by IS NULL))
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

COMMENT ON TABLE  feather.sync_accounts IS 'Rate budget and pauses of each account, shared by all replicas.';
COMMENT ON COLUMN feather.sync_accounts.account IS 'Name of the account.';
COMMENT ON COLUMN feather.sync_accounts.requests_per_minute IS 'Limit as last configured; null until a daemon knew the account.';
COMMENT ON COLUMN feather.sync_accounts.configured_at IS 'When a daemon that has the account in its configuration last started.';
COMMENT ON COLUMN feather.sync_accounts.tokens IS 'Token bucket: calls that may be made, as of tokens_at.';
COMMENT ON COLUMN feather.sync_accounts.tokens_at IS 'When tokens was last brought up to date.';
COMMENT ON COLUMN feather.sync_accounts.pause_reason IS 'auth or rate_limited while the API keeps the account from working.';
COMMENT ON COLUMN feather.sync_accounts.paused_until IS 'No call before; afterwards one probe at a time until a call succeeds.';
COMMENT ON COLUMN feather.sync_accounts.pause_step IS 'How often the pause has been prolonged, for its growth.';
COMMENT ON COLUMN feather.sync_accounts.pause_error IS 'What the API said.';
COMMENT ON COLUMN feather.sync_accounts.operator_paused_at IS 'Paused by an operator since; null when not.';
COMMENT ON COLUMN feather.sync_accounts.operator_paused_by IS 'The operator who paused it.';

INSERT INTO feather.sync_accounts (account) VALUES ('default');

CREATE TABLE feather.sync_replicas (
    worker     text        PRIMARY KEY,
    version    text        NOT NULL,
    accounts   text[]      NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

COMMENT ON TABLE  feather.sync_replicas IS 'Running daemons; a row that has not been seen for 45 s is not alive.';
COMMENT ON COLUMN feather.sync_replicas.worker IS 'Name of the replica: host, process and a random part.';
COMMENT ON COLUMN feather.sync_replicas.version IS 'Its version.';
COMMENT ON COLUMN feather.sync_replicas.accounts IS 'Accounts that it serves.';
COMMENT ON COLUMN feather.sync_replicas.started_at IS 'When it started.';
COMMENT ON COLUMN feather.sync_replicas.seen_at IS 'Last sign of life.';

CREATE TABLE feather.sync_counts (
    account          text        PRIMARY KEY,
    pending_finalize bigint      NOT NULL,
    pending_settle   bigint      NOT NULL,
    running_finalize bigint      NOT NULL,
    running_settle   bigint      NOT NULL,
    dead_finalize    bigint      NOT NULL,
    dead_settle      bigint      NOT NULL,
    due              bigint      NOT NULL,
    oldest_due_at    timestamptz,
    requests_waiting bigint      NOT NULL,
    as_of            timestamptz NOT NULL
) WITH (fillfactor = 50);

COMMENT ON TABLE  feather.sync_counts IS 'Cached counts of the queue, refreshed by one replica every 10 s.';
COMMENT ON COLUMN feather.sync_counts.account IS 'Account.';
COMMENT ON COLUMN feather.sync_counts.pending_finalize IS 'Jobs waiting for a finalize.';
COMMENT ON COLUMN feather.sync_counts.pending_settle IS 'Jobs waiting for a poll.';
COMMENT ON COLUMN feather.sync_counts.running_finalize IS 'Finalize calls under way.';
COMMENT ON COLUMN feather.sync_counts.running_settle IS 'Polls under way.';
COMMENT ON COLUMN feather.sync_counts.dead_finalize IS 'Dead jobs that died before they were finalized.';
COMMENT ON COLUMN feather.sync_counts.dead_settle IS 'Dead jobs that died while settling.';
COMMENT ON COLUMN feather.sync_counts.due IS 'Waiting jobs that are due.';
COMMENT ON COLUMN feather.sync_counts.oldest_due_at IS 'Since when the oldest due job has been due.';
COMMENT ON COLUMN feather.sync_counts.requests_waiting IS 'Requests not yet taken in.';
COMMENT ON COLUMN feather.sync_counts.as_of IS 'When it was counted.';

CREATE TABLE feather.sync_audit (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            timestamptz NOT NULL DEFAULT now(),
    actor         text        NOT NULL,
    action        text        NOT NULL,
    account       text,
    connection_id uuid,
    detail        text
);
COMMENT ON TABLE  feather.sync_audit IS 'Who did what by command: retry, cancel, forget, pause, resume.';
COMMENT ON COLUMN feather.sync_audit.id IS 'Number of the row.';
COMMENT ON COLUMN feather.sync_audit.at IS 'When.';
COMMENT ON COLUMN feather.sync_audit.actor IS 'Who: operating system user and database user.';
COMMENT ON COLUMN feather.sync_audit.action IS 'The command.';
COMMENT ON COLUMN feather.sync_audit.account IS 'The account it was about, if any.';
COMMENT ON COLUMN feather.sync_audit.connection_id IS 'The connection it was about, if any.';
COMMENT ON COLUMN feather.sync_audit.detail IS 'More, in words.';
