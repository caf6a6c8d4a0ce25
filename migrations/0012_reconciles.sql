-- Whose turn it is to compare an account's list with the tables.
SET LOCAL lock_timeout = '5s';

CREATE TABLE feather.sync_reconciles (
    account     text        PRIMARY KEY,
    due_at      timestamptz NOT NULL,
    worker      text,
    lease_token uuid,
    lease_until timestamptz,
    started_at  timestamptz,
    finished_at timestamptz,
    outcome     text,
    error       text,
    held        bigint,
    listed      bigint,
    absent      bigint,
    CONSTRAINT turn_is_whole CHECK ((lease_token IS NULL) = (lease_until IS NULL) AND (lease_token IS NULL) = (worker IS NULL)),
    CONSTRAINT outcome_is_known CHECK (outcome IN ('done', 'short', 'failed'))
) WITH (fillfactor = 50);

COMMENT ON TABLE  feather.sync_reconciles IS 'Comparisons of each account''s list with the tables: whose turn it is, and what came of the last one.';
COMMENT ON COLUMN feather.sync_reconciles.account IS 'Account.';
COMMENT ON COLUMN feather.sync_reconciles.due_at IS 'The next one is not before.';
COMMENT ON COLUMN feather.sync_reconciles.worker IS 'Replica whose turn it is; null while it is nobody''s.';
COMMENT ON COLUMN feather.sync_reconciles.lease_token IS 'Fencing token of the turn.';
COMMENT ON COLUMN feather.sync_reconciles.lease_until IS 'When another replica may take over, unless the turn is prolonged.';
COMMENT ON COLUMN feather.sync_reconciles.started_at IS 'When the last turn was taken.';
COMMENT ON COLUMN feather.sync_reconciles.finished_at IS 'When the last one ended.';
COMMENT ON COLUMN feather.sync_reconciles.outcome IS 'done, short (more than half of what is held was not listed: nothing was asked after) or failed.';
COMMENT ON COLUMN feather.sync_reconciles.error IS 'Why it failed.';
COMMENT ON COLUMN feather.sync_reconciles.held IS 'Connections that the tables held from the account before it, and still hold.';
COMMENT ON COLUMN feather.sync_reconciles.listed IS 'Connections in the list.';
COMMENT ON COLUMN feather.sync_reconciles.absent IS 'Held ones that were not in the list; asked after one by one, if done.';

CREATE INDEX sync_audit_at ON feather.sync_audit (at);
COMMENT ON INDEX feather.sync_audit_at IS 'For what was forgotten or cancelled while a list is written.';
