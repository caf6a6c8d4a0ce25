-- What people have begun that is about more than they can see: performed by the daemon, in portions.
SET LOCAL lock_timeout = '5s';

CREATE TABLE feather.sync_actions (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action        text        NOT NULL,
    filter        jsonb       NOT NULL,
    requested_by  text        NOT NULL,
    requested_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    expected      bigint,
    done          bigint      NOT NULL DEFAULT 0,
    behind        uuid,
    stopped_by    text,
    finished_at   timestamptz,
    outcome       text,
    error         text,
    worker        text,
    lease_token   uuid,
    lease_until   timestamptz,
    CONSTRAINT action_is_known CHECK (action IN ('retry', 'cancel', 'sync')),
    CONSTRAINT outcome_is_known CHECK (outcome IN ('done', 'stopped', 'failed')),
    CONSTRAINT end_is_whole CHECK ((finished_at IS NULL) = (outcome IS NULL)),
    CONSTRAINT turn_is_whole CHECK ((lease_token IS NULL) = (lease_until IS NULL) AND (lease_token IS NULL) = (worker IS NULL)),
    CONSTRAINT counts_are_natural CHECK (done >= 0 AND expected >= 0)
) WITH (fillfactor = 50);

COMMENT ON TABLE  feather.sync_actions IS 'Actions on all jobs that a filter matches: what was asked for, whose turn it is to perform it, and how far it is.';
COMMENT ON COLUMN feather.sync_actions.id IS 'Number of the action.';
COMMENT ON COLUMN feather.sync_actions.action IS 'retry, cancel or sync.';
COMMENT ON COLUMN feather.sync_actions.filter IS 'Which jobs. A daemon that does not know all of it leaves the action to others.';
COMMENT ON COLUMN feather.sync_actions.requested_by IS 'Who asked for it.';
COMMENT ON COLUMN feather.sync_actions.requested_at IS 'When. What was asked for later is left alone, but for jobs planned for later and those that a later request has joined.';
COMMENT ON COLUMN feather.sync_actions.expected IS 'How many jobs matched then; null where there were too many to count.';
COMMENT ON COLUMN feather.sync_actions.done IS 'On how many it has acted.';
COMMENT ON COLUMN feather.sync_actions.behind IS 'Connections up to this one have been looked at; null while none has, or none need be.';
COMMENT ON COLUMN feather.sync_actions.stopped_by IS 'Who wants no more of it done; null while nobody.';
COMMENT ON COLUMN feather.sync_actions.finished_at IS 'When it was over; null before.';
COMMENT ON COLUMN feather.sync_actions.outcome IS 'done, stopped or failed; null before it is over.';
COMMENT ON COLUMN feather.sync_actions.error IS 'Why it failed.';
COMMENT ON COLUMN feather.sync_actions.worker IS 'Replica that performs it; null while none does.';
COMMENT ON COLUMN feather.sync_actions.lease_token IS 'Fencing token of the turn.';
COMMENT ON COLUMN feather.sync_actions.lease_until IS 'When another replica may take over, unless the turn is prolonged.';

CREATE INDEX sync_actions_open ON feather.sync_actions (id) WHERE finished_at IS NULL;
COMMENT ON INDEX feather.sync_actions_open IS 'For what is not over.';

COMMENT ON TABLE feather.sync_audit IS 'Who did what, by command or on the dashboard: retry, cancel, sync, forget, pause, resume.';
