
CREATE SCHEMA feather;

COMMENT ON SCHEMA feather IS 'feather-sync: a queue of Feather connections to sync, and the tables that hold what the API said.';

CREATE FUNCTION feather.enqueue(connection_id uuid, account text DEFAULT 'default'::text, priority integer DEFAULT 0, run_at timestamp with time zone DEFAULT now()) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
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

COMMENT ON FUNCTION feather.enqueue(connection_id uuid, account text, priority integer, run_at timestamp with time zone) IS 'Asks for one connection to be finalized and synced, in the caller''s transaction; returns the request''s id.';

CREATE FUNCTION feather.enqueue_many(connection_ids uuid[], account text DEFAULT 'default'::text, priority integer DEFAULT 0, run_at timestamp with time zone DEFAULT now()) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
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

COMMENT ON FUNCTION feather.enqueue_many(connection_ids uuid[], account text, priority integer, run_at timestamp with time zone) IS 'Asks for many connections to be finalized and synced, in the caller''s transaction; returns how many.';

CREATE FUNCTION feather.wake_worker() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF pg_catalog.current_setting('feather.wake_up', true) IS DISTINCT FROM 'off'
       AND pg_catalog.pg_try_advisory_xact_lock(7305801, 1) THEN
        PERFORM pg_catalog.pg_notify('feather_sync', '');
    END IF;
    RETURN NULL;
END $$;

COMMENT ON FUNCTION feather.wake_worker() IS 'Wakes a sleeping worker; a hint only, polling finds the request anyway.';

CREATE TABLE feather._sqlx_migrations (
    version bigint NOT NULL,
    description text NOT NULL,
    installed_on timestamp with time zone DEFAULT now() NOT NULL,
    success boolean NOT NULL,
    checksum bytea NOT NULL,
    execution_time bigint NOT NULL
);

COMMENT ON TABLE feather._sqlx_migrations IS 'Migrations that have been applied.';

COMMENT ON COLUMN feather._sqlx_migrations.version IS 'Number of the migration.';

COMMENT ON COLUMN feather._sqlx_migrations.description IS 'Its name.';

COMMENT ON COLUMN feather._sqlx_migrations.installed_on IS 'When it was applied.';

COMMENT ON COLUMN feather._sqlx_migrations.success IS 'Whether it was applied wholly.';

COMMENT ON COLUMN feather._sqlx_migrations.checksum IS 'Hash of its text.';

COMMENT ON COLUMN feather._sqlx_migrations.execution_time IS 'How long it took, in nanoseconds.';

CREATE TABLE feather.integration_connections (
    id uuid NOT NULL,
    organization_id uuid NOT NULL,
    integration_key text NOT NULL,
    nickname_slug text NOT NULL,
    nickname text NOT NULL,
    vendor text NOT NULL,
    vendor_connection_id text,
    status text NOT NULL,
    tools_status text NOT NULL,
    tools_synced_at timestamp with time zone,
    status_reason text,
    connected_at timestamp with time zone,
    last_refreshed_at timestamp with time zone,
    last_used_at timestamp with time zone,
    metadata jsonb NOT NULL,
    voice_account_cps numeric,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    _account text NOT NULL,
    _extra jsonb DEFAULT '{}'::jsonb NOT NULL,
    _warnings jsonb,
    _first_seen_at timestamp with time zone NOT NULL,
    _finalized_at timestamp with time zone,
    _synced_at timestamp with time zone NOT NULL,
    _changed_at timestamp with time zone NOT NULL,
    _removed_at timestamp with time zone,
    _hash bytea NOT NULL
)
WITH (fillfactor='85');

COMMENT ON TABLE feather.integration_connections IS 'One row per connection ever received from the Feather API, removed ones included.';

COMMENT ON COLUMN feather.integration_connections.id IS 'Upstream id of the connection.';

COMMENT ON COLUMN feather.integration_connections.organization_id IS 'Upstream: the organisation that owns the connection.';

COMMENT ON COLUMN feather.integration_connections.integration_key IS 'Upstream: which integration (slack, notion, …; more are added upstream without notice).';

COMMENT ON COLUMN feather.integration_connections.nickname_slug IS 'Upstream: slug of the nickname; first part of each tool''s slug.';

COMMENT ON COLUMN feather.integration_connections.nickname IS 'Upstream: the name that the user gave.';

COMMENT ON COLUMN feather.integration_connections.vendor IS 'Upstream: the auth vendor, for example nango.';

COMMENT ON COLUMN feather.integration_connections.vendor_connection_id IS 'Upstream: the vendor''s id of the connection.';

COMMENT ON COLUMN feather.integration_connections.status IS 'Upstream: state of the connection, for example active.';

COMMENT ON COLUMN feather.integration_connections.tools_status IS 'Upstream: state of the tool sync.';

COMMENT ON COLUMN feather.integration_connections.tools_synced_at IS 'Upstream: when a tool sync last landed; null until the first.';

COMMENT ON COLUMN feather.integration_connections.status_reason IS 'Upstream: why the connection is in its state.';

COMMENT ON COLUMN feather.integration_connections.connected_at IS 'Upstream: when OAuth was completed.';

COMMENT ON COLUMN feather.integration_connections.last_refreshed_at IS 'Upstream: when credentials were last refreshed. Does not move _changed_at.';

COMMENT ON COLUMN feather.integration_connections.last_used_at IS 'Upstream: when a tool was last used. Does not move _changed_at.';

COMMENT ON COLUMN feather.integration_connections.metadata IS 'Upstream: free metadata, as sent.';

COMMENT ON COLUMN feather.integration_connections.voice_account_cps IS 'Upstream: calls per second of the voice account.';

COMMENT ON COLUMN feather.integration_connections.created_at IS 'Upstream: created.';

COMMENT ON COLUMN feather.integration_connections.updated_at IS 'Upstream: last updated; an answer with an older one is not applied.';

COMMENT ON COLUMN feather.integration_connections._account IS 'Account of the daemon that received the connection.';

COMMENT ON COLUMN feather.integration_connections._extra IS 'Fields of the answer that have no column yet.';

COMMENT ON COLUMN feather.integration_connections._warnings IS 'What had to be altered to be stored, or why an answer was not applied; null when nothing.';

COMMENT ON COLUMN feather.integration_connections._first_seen_at IS 'When the row was first received.';

COMMENT ON COLUMN feather.integration_connections._finalized_at IS 'When finalize last succeeded; null means never.';

COMMENT ON COLUMN feather.integration_connections._synced_at IS 'When the connection was last checked successfully, changed or not.';

COMMENT ON COLUMN feather.integration_connections._changed_at IS 'When the content last changed: inserted, changed, removed or revived. Indexed for incremental extracts.';

COMMENT ON COLUMN feather.integration_connections._removed_at IS 'When the connection was found deleted upstream; null while it exists.';

COMMENT ON COLUMN feather.integration_connections._hash IS 'Hash of the last applied answer''s text without volatile fields: equal means unchanged.';

CREATE VIEW feather.connections AS
 SELECT integration_connections.id,
    integration_connections.organization_id,
    integration_connections.integration_key,
    integration_connections.nickname_slug,
    integration_connections.nickname,
    integration_connections.vendor,
    integration_connections.vendor_connection_id,
    integration_connections.status,
    integration_connections.tools_status,
    integration_connections.tools_synced_at,
    integration_connections.status_reason,
    integration_connections.connected_at,
    integration_connections.last_refreshed_at,
    integration_connections.last_used_at,
    integration_connections.metadata,
    integration_connections.voice_account_cps,
    integration_connections.created_at,
    integration_connections.updated_at,
    integration_connections._account,
    integration_connections._extra,
    integration_connections._warnings,
    integration_connections._first_seen_at,
    integration_connections._finalized_at,
    integration_connections._synced_at,
    integration_connections._changed_at,
    integration_connections._removed_at,
    integration_connections._hash
   FROM feather.integration_connections
  WHERE (integration_connections._removed_at IS NULL);

COMMENT ON VIEW feather.connections IS 'Connections that exist upstream, as last received.';

COMMENT ON COLUMN feather.connections.id IS 'Upstream id of the connection.';

COMMENT ON COLUMN feather.connections.organization_id IS 'Upstream: the organisation that owns the connection.';

COMMENT ON COLUMN feather.connections.integration_key IS 'Upstream: which integration (slack, notion, …; more are added upstream without notice).';

COMMENT ON COLUMN feather.connections.nickname_slug IS 'Upstream: slug of the nickname; first part of each tool''s slug.';

COMMENT ON COLUMN feather.connections.nickname IS 'Upstream: the name that the user gave.';

COMMENT ON COLUMN feather.connections.vendor IS 'Upstream: the auth vendor, for example nango.';

COMMENT ON COLUMN feather.connections.vendor_connection_id IS 'Upstream: the vendor''s id of the connection.';

COMMENT ON COLUMN feather.connections.status IS 'Upstream: state of the connection, for example active.';

COMMENT ON COLUMN feather.connections.tools_status IS 'Upstream: state of the tool sync.';

COMMENT ON COLUMN feather.connections.tools_synced_at IS 'Upstream: when a tool sync last landed; null until the first.';

COMMENT ON COLUMN feather.connections.status_reason IS 'Upstream: why the connection is in its state.';

COMMENT ON COLUMN feather.connections.connected_at IS 'Upstream: when OAuth was completed.';

COMMENT ON COLUMN feather.connections.last_refreshed_at IS 'Upstream: when credentials were last refreshed. Does not move _changed_at.';

COMMENT ON COLUMN feather.connections.last_used_at IS 'Upstream: when a tool was last used. Does not move _changed_at.';

COMMENT ON COLUMN feather.connections.metadata IS 'Upstream: free metadata, as sent.';

COMMENT ON COLUMN feather.connections.voice_account_cps IS 'Upstream: calls per second of the voice account.';

COMMENT ON COLUMN feather.connections.created_at IS 'Upstream: created.';

COMMENT ON COLUMN feather.connections.updated_at IS 'Upstream: last updated; an answer with an older one is not applied.';

COMMENT ON COLUMN feather.connections._account IS 'Account of the daemon that received the connection.';

COMMENT ON COLUMN feather.connections._extra IS 'Fields of the answer that have no column yet.';

COMMENT ON COLUMN feather.connections._warnings IS 'What had to be altered to be stored, or why an answer was not applied; null when nothing.';

COMMENT ON COLUMN feather.connections._first_seen_at IS 'When the row was first received.';

COMMENT ON COLUMN feather.connections._finalized_at IS 'When finalize last succeeded; null means never.';

COMMENT ON COLUMN feather.connections._synced_at IS 'When the connection was last checked successfully, changed or not.';

COMMENT ON COLUMN feather.connections._changed_at IS 'When the content last changed: inserted, changed, removed or revived. Indexed for incremental extracts.';

COMMENT ON COLUMN feather.connections._removed_at IS 'When the connection was found deleted upstream; null while it exists.';

COMMENT ON COLUMN feather.connections._hash IS 'Hash of the last applied answer''s text without volatile fields: equal means unchanged.';

CREATE TABLE feather.integration_connection_tools (
    connection_id uuid NOT NULL,
    id uuid NOT NULL,
    organization_id uuid NOT NULL,
    integration_key text NOT NULL,
    nickname_slug text NOT NULL,
    tool_path text NOT NULL,
    slug text NOT NULL,
    display_name text NOT NULL,
    description text,
    input_schema jsonb NOT NULL,
    response_schema jsonb,
    response_field_map jsonb,
    input_defaults jsonb,
    is_enabled boolean NOT NULL,
    last_seen_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    stale_field_paths text[] NOT NULL,
    default_count bigint NOT NULL,
    pinned_count bigint NOT NULL,
    stale_input_fields text[] NOT NULL,
    merged_input_preview jsonb NOT NULL,
    _extra jsonb DEFAULT '{}'::jsonb NOT NULL,
    _warnings jsonb,
    _first_seen_at timestamp with time zone NOT NULL,
    _changed_at timestamp with time zone NOT NULL,
    _removed_at timestamp with time zone,
    _hash bytea NOT NULL
)
WITH (fillfactor='90');

COMMENT ON TABLE feather.integration_connection_tools IS 'One row per tool ever received with a connection, removed ones included.';

COMMENT ON COLUMN feather.integration_connection_tools.connection_id IS 'The connection that the tool belongs to.';

COMMENT ON COLUMN feather.integration_connection_tools.id IS 'Upstream id of the tool.';

COMMENT ON COLUMN feather.integration_connection_tools.organization_id IS 'Upstream: the organisation.';

COMMENT ON COLUMN feather.integration_connection_tools.integration_key IS 'Upstream: which integration.';

COMMENT ON COLUMN feather.integration_connection_tools.nickname_slug IS 'Upstream: slug of the connection''s nickname.';

COMMENT ON COLUMN feather.integration_connection_tools.tool_path IS 'Upstream: path of the tool at its provider.';

COMMENT ON COLUMN feather.integration_connection_tools.slug IS 'Upstream: {nickname_slug}_{tool}; what other Feather objects refer to.';

COMMENT ON COLUMN feather.integration_connection_tools.display_name IS 'Upstream: name for people.';

COMMENT ON COLUMN feather.integration_connection_tools.description IS 'Upstream: what the tool does.';

COMMENT ON COLUMN feather.integration_connection_tools.input_schema IS 'Upstream: JSON Schema of the tool''s input.';

COMMENT ON COLUMN feather.integration_connection_tools.response_schema IS 'Upstream: JSON Schema of the tool''s response.';

COMMENT ON COLUMN feather.integration_connection_tools.response_field_map IS 'Upstream: saved map of response fields.';

COMMENT ON COLUMN feather.integration_connection_tools.input_defaults IS 'Upstream: operator values by input field, each {value, type}.';

COMMENT ON COLUMN feather.integration_connection_tools.is_enabled IS 'Upstream: whether the tool may be used.';

COMMENT ON COLUMN feather.integration_connection_tools.last_seen_at IS 'Upstream: when the tool was last seen at its provider. Does not move _changed_at.';

COMMENT ON COLUMN feather.integration_connection_tools.created_at IS 'Upstream: created.';

COMMENT ON COLUMN feather.integration_connection_tools.updated_at IS 'Upstream: last updated.';

COMMENT ON COLUMN feather.integration_connection_tools.stale_field_paths IS 'Upstream: saved field-map paths that the response no longer has.';

COMMENT ON COLUMN feather.integration_connection_tools.default_count IS 'Upstream: input fields with an operator default.';

COMMENT ON COLUMN feather.integration_connection_tools.pinned_count IS 'Upstream: input fields pinned by the operator.';

COMMENT ON COLUMN feather.integration_connection_tools.stale_input_fields IS 'Upstream: configured input fields that a re-sync removed, renamed or retyped.';

COMMENT ON COLUMN feather.integration_connection_tools.merged_input_preview IS 'Upstream: input_schema with the operator''s values put in.';

COMMENT ON COLUMN feather.integration_connection_tools._extra IS 'Fields of the answer that have no column yet.';

COMMENT ON COLUMN feather.integration_connection_tools._warnings IS 'What had to be altered to be stored; null when nothing.';

COMMENT ON COLUMN feather.integration_connection_tools._first_seen_at IS 'When the tool was first received.';

COMMENT ON COLUMN feather.integration_connection_tools._changed_at IS 'When the content last changed: inserted, changed, removed or revived.';

COMMENT ON COLUMN feather.integration_connection_tools._removed_at IS 'When a settled answer no longer had the tool; null while it exists.';

COMMENT ON COLUMN feather.integration_connection_tools._hash IS 'Hash of the last applied text without volatile fields: equal means unchanged.';

CREATE TABLE feather.sync_accounts (
    account text NOT NULL,
    requests_per_minute integer,
    configured_at timestamp with time zone,
    tokens double precision DEFAULT 0 NOT NULL,
    tokens_at timestamp with time zone DEFAULT '1970-01-01 00:00:00+00'::timestamp with time zone NOT NULL,
    pause_reason text,
    paused_until timestamp with time zone,
    pause_step integer DEFAULT 0 NOT NULL,
    pause_error text,
    operator_paused_at timestamp with time zone,
    operator_paused_by text,
    CONSTRAINT account_is_named CHECK (((account <> ''::text) AND (length(account) <= 200))),
    CONSTRAINT operator_pause_is_whole CHECK (((operator_paused_at IS NULL) = (operator_paused_by IS NULL))),
    CONSTRAINT pause_is_whole CHECK (((pause_reason IS NULL) = (paused_until IS NULL))),
    CONSTRAINT pause_reason_is_known CHECK ((pause_reason = ANY (ARRAY['auth'::text, 'rate_limited'::text])))
)
WITH (fillfactor='20', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='200');

COMMENT ON TABLE feather.sync_accounts IS 'Rate budget and pauses of each account, shared by all replicas.';

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

CREATE TABLE feather.sync_attempts (
    id bigint NOT NULL,
    account text NOT NULL,
    connection_id uuid NOT NULL,
    kind text NOT NULL,
    attempt integer NOT NULL,
    worker text NOT NULL,
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone NOT NULL,
    outcome text NOT NULL,
    http_status integer,
    error_class text,
    error text,
    retry_at timestamp with time zone,
    tools_status text,
    tools_added integer DEFAULT 0 NOT NULL,
    tools_changed integer DEFAULT 0 NOT NULL,
    tools_removed integer DEFAULT 0 NOT NULL,
    upstream_request_id text,
    CONSTRAINT finished_after_start CHECK ((finished_at >= started_at)),
    CONSTRAINT kind_is_known CHECK ((kind = ANY (ARRAY['finalize'::text, 'poll'::text, 'reconcile'::text]))),
    CONSTRAINT outcome_is_known CHECK ((outcome = ANY (ARRAY['synced'::text, 'settling'::text, 'retry'::text, 'dead'::text, 'deferred'::text, 'crashed'::text, 'cancelled'::text])))
)
WITH (autovacuum_vacuum_insert_scale_factor='0.1');

COMMENT ON TABLE feather.sync_attempts IS 'History: one row per attempt, written once when it ends. Kept for retention.attempts.';

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

ALTER TABLE feather.sync_attempts ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME feather.sync_attempts_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE feather.sync_audit (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    account text,
    connection_id uuid,
    detail text
);

COMMENT ON TABLE feather.sync_audit IS 'Who did what by command: retry, cancel, forget, pause, resume.';

COMMENT ON COLUMN feather.sync_audit.id IS 'Number of the row.';

COMMENT ON COLUMN feather.sync_audit.at IS 'When.';

COMMENT ON COLUMN feather.sync_audit.actor IS 'Who: operating system user and database user.';

COMMENT ON COLUMN feather.sync_audit.action IS 'The command.';

COMMENT ON COLUMN feather.sync_audit.account IS 'The account it was about, if any.';

COMMENT ON COLUMN feather.sync_audit.connection_id IS 'The connection it was about, if any.';

COMMENT ON COLUMN feather.sync_audit.detail IS 'More, in words.';

ALTER TABLE feather.sync_audit ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME feather.sync_audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE feather.sync_counts (
    account text NOT NULL,
    pending_finalize bigint NOT NULL,
    pending_settle bigint NOT NULL,
    running_finalize bigint NOT NULL,
    running_settle bigint NOT NULL,
    dead_finalize bigint NOT NULL,
    dead_settle bigint NOT NULL,
    due bigint NOT NULL,
    oldest_due_at timestamp with time zone,
    requests_waiting bigint NOT NULL,
    as_of timestamp with time zone NOT NULL
)
WITH (fillfactor='50');

COMMENT ON TABLE feather.sync_counts IS 'Cached counts of the queue, refreshed by one replica every 10 s.';

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

CREATE TABLE feather.sync_jobs (
    connection_id uuid NOT NULL,
    account text NOT NULL,
    state text DEFAULT 'pending'::text NOT NULL,
    phase text DEFAULT 'finalize'::text NOT NULL,
    priority smallint NOT NULL,
    run_at timestamp with time zone NOT NULL,
    not_before timestamp with time zone,
    wanted_at timestamp with time zone NOT NULL,
    attempt integer DEFAULT 0 NOT NULL,
    malformed integer DEFAULT 0 NOT NULL,
    worker text,
    lease_token uuid,
    lease_until timestamp with time zone,
    started_at timestamp with time zone,
    finalize_started_at timestamp with time zone,
    settle_deadline timestamp with time zone,
    settle_polls integer DEFAULT 0 NOT NULL,
    seen_fingerprint bytea,
    seen_at timestamp with time zone,
    error_class text,
    CONSTRAINT counts_are_natural CHECK (((attempt >= 0) AND (malformed >= 0) AND (settle_polls >= 0))),
    CONSTRAINT dead_has_a_class CHECK (((state = 'dead'::text) = (error_class IS NOT NULL))),
    CONSTRAINT phase_is_known CHECK ((phase = ANY (ARRAY['finalize'::text, 'settle'::text]))),
    CONSTRAINT running_means_leased CHECK ((((state = 'running'::text) = (lease_token IS NOT NULL)) AND ((lease_token IS NULL) = (lease_until IS NULL)) AND ((lease_token IS NULL) = (worker IS NULL)) AND ((lease_token IS NULL) OR ((started_at IS NOT NULL) AND (attempt >= 1))))),
    CONSTRAINT settling_has_a_deadline CHECK (((phase = 'settle'::text) = (settle_deadline IS NOT NULL))),
    CONSTRAINT settling_was_finalized CHECK (((phase <> 'settle'::text) OR (finalize_started_at IS NOT NULL))),
    CONSTRAINT sighting_is_whole CHECK (((seen_fingerprint IS NULL) = (seen_at IS NULL))),
    CONSTRAINT state_is_known CHECK ((state = ANY (ARRAY['pending'::text, 'running'::text, 'dead'::text])))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_threshold='1000', autovacuum_analyze_scale_factor='0.1');

COMMENT ON TABLE feather.sync_jobs IS 'One row per connection that still has work: waiting, running, settling or dead. Success deletes the row. Belongs to the daemon.';

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

CREATE TABLE feather.sync_requests (
    id bigint NOT NULL,
    connection_id uuid NOT NULL,
    account text DEFAULT 'default'::text NOT NULL,
    priority smallint DEFAULT 0 NOT NULL,
    run_at timestamp with time zone DEFAULT now() NOT NULL,
    requested_by text DEFAULT SESSION_USER,
    requested_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT account_is_named CHECK (((account <> ''::text) AND (length(account) <= 200))),
    CONSTRAINT requested_at_is_finite CHECK ((isfinite(requested_at) AND ((requested_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (requested_at <= '9999-12-31 00:00:00+00'::timestamp with time zone)))),
    CONSTRAINT run_at_is_finite CHECK ((isfinite(run_at) AND ((run_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (run_at <= '9999-12-31 00:00:00+00'::timestamp with time zone))))
)
WITH (autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_insert_scale_factor='0.1', autovacuum_analyze_scale_factor='0.1');

COMMENT ON TABLE feather.sync_requests IS 'Inbox: insert a row to have its connection finalized and synced. Rows leave once they are folded into sync_jobs.';

COMMENT ON COLUMN feather.sync_requests.id IS 'Number of the request. Not in commit order.';

COMMENT ON COLUMN feather.sync_requests.connection_id IS 'The Feather connection to finalize and sync.';

COMMENT ON COLUMN feather.sync_requests.account IS 'Account of the daemon''s configuration whose API key is used.';

COMMENT ON COLUMN feather.sync_requests.priority IS 'Smaller runs sooner.';

COMMENT ON COLUMN feather.sync_requests.run_at IS 'Not before this time.';

COMMENT ON COLUMN feather.sync_requests.requested_by IS 'Who asked; the session''s user unless said otherwise.';

COMMENT ON COLUMN feather.sync_requests.requested_at IS 'When the row was inserted.';

CREATE VIEW feather.sync_counts_now AS
 WITH jobs AS (
         SELECT sync_jobs.account,
            count(*) FILTER (WHERE ((sync_jobs.state = 'pending'::text) AND (sync_jobs.phase = 'finalize'::text))) AS pending_finalize,
            count(*) FILTER (WHERE ((sync_jobs.state = 'pending'::text) AND (sync_jobs.phase = 'settle'::text))) AS pending_settle,
            count(*) FILTER (WHERE ((sync_jobs.state = 'running'::text) AND (sync_jobs.phase = 'finalize'::text))) AS running_finalize,
            count(*) FILTER (WHERE ((sync_jobs.state = 'running'::text) AND (sync_jobs.phase = 'settle'::text))) AS running_settle,
            count(*) FILTER (WHERE ((sync_jobs.state = 'dead'::text) AND (sync_jobs.phase = 'finalize'::text))) AS dead_finalize,
            count(*) FILTER (WHERE ((sync_jobs.state = 'dead'::text) AND (sync_jobs.phase = 'settle'::text))) AS dead_settle,
            count(*) FILTER (WHERE ((sync_jobs.state = 'pending'::text) AND (sync_jobs.run_at <= now()))) AS due,
            min(sync_jobs.run_at) FILTER (WHERE ((sync_jobs.state = 'pending'::text) AND (sync_jobs.run_at <= now()))) AS oldest_due_at
           FROM feather.sync_jobs
          GROUP BY sync_jobs.account
        ), requests AS (
         SELECT sync_requests.account,
            count(*) AS waiting
           FROM feather.sync_requests
          GROUP BY sync_requests.account
        )
 SELECT k.account,
    COALESCE(j.pending_finalize, (0)::bigint) AS pending_finalize,
    COALESCE(j.pending_settle, (0)::bigint) AS pending_settle,
    COALESCE(j.running_finalize, (0)::bigint) AS running_finalize,
    COALESCE(j.running_settle, (0)::bigint) AS running_settle,
    COALESCE(j.dead_finalize, (0)::bigint) AS dead_finalize,
    COALESCE(j.dead_settle, (0)::bigint) AS dead_settle,
    COALESCE(j.due, (0)::bigint) AS due,
    j.oldest_due_at,
    COALESCE(r.waiting, (0)::bigint) AS requests_waiting,
    now() AS as_of
   FROM ((( SELECT sync_accounts.account
           FROM feather.sync_accounts
        UNION
         SELECT jobs.account
           FROM jobs
        UNION
         SELECT requests.account
           FROM requests) k
     LEFT JOIN jobs j USING (account))
     LEFT JOIN requests r USING (account));

COMMENT ON VIEW feather.sync_counts_now IS 'Counts of the queue as of now; reads the whole queue.';

COMMENT ON COLUMN feather.sync_counts_now.account IS 'Account.';

COMMENT ON COLUMN feather.sync_counts_now.pending_finalize IS 'Jobs waiting for a finalize.';

COMMENT ON COLUMN feather.sync_counts_now.pending_settle IS 'Jobs waiting for a poll.';

COMMENT ON COLUMN feather.sync_counts_now.running_finalize IS 'Finalize calls under way.';

COMMENT ON COLUMN feather.sync_counts_now.running_settle IS 'Polls under way.';

COMMENT ON COLUMN feather.sync_counts_now.dead_finalize IS 'Dead jobs that died before they were finalized.';

COMMENT ON COLUMN feather.sync_counts_now.dead_settle IS 'Dead jobs that died while settling.';

COMMENT ON COLUMN feather.sync_counts_now.due IS 'Waiting jobs that are due.';

COMMENT ON COLUMN feather.sync_counts_now.oldest_due_at IS 'Since when the oldest due job has been due.';

COMMENT ON COLUMN feather.sync_counts_now.requests_waiting IS 'Requests not yet taken in.';

COMMENT ON COLUMN feather.sync_counts_now.as_of IS 'When it was counted.';

CREATE TABLE feather.sync_replicas (
    worker text NOT NULL,
    version text NOT NULL,
    accounts text[] NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    seen_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='50');

COMMENT ON TABLE feather.sync_replicas IS 'Running daemons; a row that has not been seen for 45 s is not alive.';

COMMENT ON COLUMN feather.sync_replicas.worker IS 'Name of the replica: host, process and a random part.';

COMMENT ON COLUMN feather.sync_replicas.version IS 'Its version.';

COMMENT ON COLUMN feather.sync_replicas.accounts IS 'Accounts that it serves.';

COMMENT ON COLUMN feather.sync_replicas.started_at IS 'When it started.';

COMMENT ON COLUMN feather.sync_replicas.seen_at IS 'Last sign of life.';

CREATE VIEW feather.sync_served_accounts AS
 WITH alive AS MATERIALIZED (
         SELECT sync_replicas.accounts
           FROM feather.sync_replicas
          WHERE (sync_replicas.seen_at > (now() - '00:00:45'::interval))
        )
 SELECT DISTINCT unnest(alive.accounts) AS account
   FROM alive
UNION
 SELECT sync_accounts.account
   FROM feather.sync_accounts
  WHERE ((NOT (EXISTS ( SELECT
           FROM alive))) AND ((sync_accounts.configured_at IS NOT NULL) OR (sync_accounts.account = 'default'::text)));

COMMENT ON VIEW feather.sync_served_accounts IS 'Accounts that a live replica serves.';

COMMENT ON COLUMN feather.sync_served_accounts.account IS 'Account.';

CREATE TABLE feather.sync_throughput (
    account text NOT NULL,
    minute timestamp with time zone NOT NULL,
    worker text NOT NULL,
    synced bigint NOT NULL,
    failed bigint NOT NULL
)
WITH (fillfactor='50');

COMMENT ON TABLE feather.sync_throughput IS 'Outcomes per minute, counted in the transaction that commits them.';

COMMENT ON COLUMN feather.sync_throughput.account IS 'Account.';

COMMENT ON COLUMN feather.sync_throughput.minute IS 'Start of the minute.';

COMMENT ON COLUMN feather.sync_throughput.worker IS 'Replica that counted.';

COMMENT ON COLUMN feather.sync_throughput.synced IS 'Attempts that ended synced.';

COMMENT ON COLUMN feather.sync_throughput.failed IS 'Attempts that ended retry, dead or crashed.';

CREATE VIEW feather.sync_health AS
 WITH fresh AS MATERIALIZED (
         SELECT sync_counts.account,
            sync_counts.pending_finalize,
            sync_counts.pending_settle,
            sync_counts.running_finalize,
            sync_counts.running_settle,
            sync_counts.dead_finalize,
            sync_counts.dead_settle,
            sync_counts.due,
            sync_counts.oldest_due_at,
            sync_counts.requests_waiting,
            sync_counts.as_of
           FROM feather.sync_counts
          WHERE (sync_counts.as_of > (now() - '00:00:15'::interval))
        ), counts AS (
         SELECT fresh.account,
            fresh.pending_finalize,
            fresh.pending_settle,
            fresh.running_finalize,
            fresh.running_settle,
            fresh.dead_finalize,
            fresh.dead_settle,
            fresh.due,
            fresh.oldest_due_at,
            fresh.requests_waiting,
            fresh.as_of
           FROM fresh
        UNION ALL
         SELECT sync_counts_now.account,
            sync_counts_now.pending_finalize,
            sync_counts_now.pending_settle,
            sync_counts_now.running_finalize,
            sync_counts_now.running_settle,
            sync_counts_now.dead_finalize,
            sync_counts_now.dead_settle,
            sync_counts_now.due,
            sync_counts_now.oldest_due_at,
            sync_counts_now.requests_waiting,
            sync_counts_now.as_of
           FROM feather.sync_counts_now
          WHERE (NOT (EXISTS ( SELECT
                   FROM fresh)))
        ), hour AS (
         SELECT sync_throughput.account,
            (sum(sync_throughput.synced))::bigint AS synced,
            (sum(sync_throughput.failed))::bigint AS failed
           FROM feather.sync_throughput
          WHERE (sync_throughput.minute > (now() - '01:00:00'::interval))
          GROUP BY sync_throughput.account
        )
 SELECT c.account,
    (c.pending_finalize + c.pending_settle) AS pending,
    c.due,
    (c.running_finalize + c.running_settle) AS running,
    (c.pending_settle + c.running_settle) AS settling,
    (c.dead_finalize + c.dead_settle) AS dead,
    c.requests_waiting,
    (COALESCE(EXTRACT(epoch FROM (now() - c.oldest_due_at)), (0)::numeric))::double precision AS oldest_due_seconds,
        CASE
            WHEN (a.operator_paused_at IS NOT NULL) THEN 'operator'::text
            WHEN (NOT (c.account IN ( SELECT s.account
               FROM feather.sync_served_accounts s))) THEN 'unknown_account'::text
            ELSE a.pause_reason
        END AS paused_reason,
    COALESCE(h.synced, (0)::bigint) AS synced_last_hour,
    COALESCE(h.failed, (0)::bigint) AS failed_last_hour,
    c.as_of
   FROM ((counts c
     LEFT JOIN feather.sync_accounts a ON ((a.account = c.account)))
     LEFT JOIN hour h ON ((h.account = c.account)));

COMMENT ON VIEW feather.sync_health IS 'One row per account that is configured or known: the queue at a glance, from counts at most 15 s old.';

COMMENT ON COLUMN feather.sync_health.account IS 'Account.';

COMMENT ON COLUMN feather.sync_health.pending IS 'Jobs that wait, due or not, settling ones included.';

COMMENT ON COLUMN feather.sync_health.due IS 'Jobs that wait and are due.';

COMMENT ON COLUMN feather.sync_health.running IS 'Calls under way.';

COMMENT ON COLUMN feather.sync_health.settling IS 'Finalized connections whose tools upstream is still syncing.';

COMMENT ON COLUMN feather.sync_health.dead IS 'Jobs given up; revive them with retry.';

COMMENT ON COLUMN feather.sync_health.requests_waiting IS 'Requests not yet taken in.';

COMMENT ON COLUMN feather.sync_health.oldest_due_seconds IS 'For how long the oldest due job has been due, in seconds; 0 when none is.';

COMMENT ON COLUMN feather.sync_health.paused_reason IS 'operator, unknown_account, auth or rate_limited; null when the account works.';

COMMENT ON COLUMN feather.sync_health.synced_last_hour IS 'Attempts that ended synced in the last hour.';

COMMENT ON COLUMN feather.sync_health.failed_last_hour IS 'Attempts that ended retry, dead or crashed in the last hour.';

COMMENT ON COLUMN feather.sync_health.as_of IS 'When the queue was counted.';

ALTER TABLE feather.sync_requests ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME feather.sync_requests_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE feather.sync_results (
    connection_id uuid NOT NULL,
    account text NOT NULL,
    last_attempt_at timestamp with time zone NOT NULL,
    last_outcome text NOT NULL,
    last_success_at timestamp with time zone,
    last_success_started_at timestamp with time zone,
    last_error_class text,
    last_error text
)
WITH (fillfactor='80');

COMMENT ON TABLE feather.sync_results IS 'The last word on each connection; outlives the retention of sync_attempts.';

COMMENT ON COLUMN feather.sync_results.connection_id IS 'The connection.';

COMMENT ON COLUMN feather.sync_results.account IS 'Account of the last attempt.';

COMMENT ON COLUMN feather.sync_results.last_attempt_at IS 'When the last attempt ended.';

COMMENT ON COLUMN feather.sync_results.last_outcome IS 'Outcome of the last attempt.';

COMMENT ON COLUMN feather.sync_results.last_success_at IS 'When the connection was last synced, tools settled.';

COMMENT ON COLUMN feather.sync_results.last_success_started_at IS 'When the finalize that led to that success was begun: later than your commit means your request has been served.';

COMMENT ON COLUMN feather.sync_results.last_error_class IS 'Class of the last attempt''s failure; null when it did not fail.';

COMMENT ON COLUMN feather.sync_results.last_error IS 'The last attempt''s failure in words; null when it did not fail.';

CREATE VIEW feather.sync_status AS
 SELECT COALESCE(j.account, q.account, r.account, c._account) AS account,
    k.connection_id,
        CASE
            WHEN (j.state = ANY (ARRAY['pending'::text, 'running'::text])) THEN j.state
            WHEN (q.connection_id IS NOT NULL) THEN 'requested'::text
            WHEN (j.state = 'dead'::text) THEN 'dead'::text
            ELSE 'idle'::text
        END AS state,
        CASE
            WHEN (j.state = ANY (ARRAY['pending'::text, 'running'::text])) THEN j.phase
            WHEN (q.connection_id IS NOT NULL) THEN 'finalize'::text
            ELSE j.phase
        END AS phase,
    COALESCE(j.attempt, 0) AS attempt,
        CASE
            WHEN (j.state = 'pending'::text) THEN GREATEST(j.run_at,
            CASE
                WHEN (a.pause_reason IS NOT NULL) THEN a.paused_until
                ELSE NULL::timestamp with time zone
            END)
            WHEN (j.state = 'running'::text) THEN NULL::timestamp with time zone
            ELSE q.run_at
        END AS next_attempt_at,
    LEAST(j.priority, q.priority) AS priority,
    c.status,
    c.tools_status,
    c.tools_synced_at,
    r.last_attempt_at,
    r.last_outcome,
    r.last_success_at,
    r.last_success_started_at,
        CASE
            WHEN waits_unserved.yes THEN 'unknown_account'::text
            ELSE r.last_error_class
        END AS last_error_class,
        CASE
            WHEN waits_unserved.yes THEN format('no running feather-sync knows account %s: add [accounts.%s] to its configuration, or enqueue for another account'::text, COALESCE(j.account, q.account), COALESCE(j.account, q.account))
            ELSE r.last_error
        END AS last_error
   FROM ((((((( SELECT sync_results.connection_id
           FROM feather.sync_results
        UNION
         SELECT sync_jobs.connection_id
           FROM feather.sync_jobs
        UNION
         SELECT sync_requests.connection_id
           FROM feather.sync_requests
        UNION
         SELECT integration_connections.id
           FROM feather.integration_connections) k(connection_id)
     LEFT JOIN feather.sync_jobs j ON ((j.connection_id = k.connection_id)))
     LEFT JOIN ( SELECT sync_requests.connection_id,
            min(sync_requests.run_at) AS run_at,
            min(sync_requests.priority) AS priority,
            (array_agg(sync_requests.account ORDER BY sync_requests.id DESC))[1] AS account
           FROM feather.sync_requests
          GROUP BY sync_requests.connection_id) q ON ((q.connection_id = k.connection_id)))
     LEFT JOIN feather.sync_results r ON ((r.connection_id = k.connection_id)))
     LEFT JOIN feather.integration_connections c ON ((c.id = k.connection_id)))
     LEFT JOIN feather.sync_accounts a ON ((a.account = j.account)))
     CROSS JOIN LATERAL ( SELECT (COALESCE((j.state = 'pending'::text), (q.connection_id IS NOT NULL)) AND (NOT (COALESCE(j.account, q.account) IN ( SELECT s.account
                   FROM feather.sync_served_accounts s)))) AS yes) waits_unserved);

COMMENT ON VIEW feather.sync_status IS 'One row per connection that the queue or the tables know: where it stands and how it went.';

COMMENT ON COLUMN feather.sync_status.account IS 'Account of the job, request or connection.';

COMMENT ON COLUMN feather.sync_status.connection_id IS 'The connection.';

COMMENT ON COLUMN feather.sync_status.state IS 'requested (request not yet taken in), pending, running, dead or idle (nothing queued).';

COMMENT ON COLUMN feather.sync_status.phase IS 'finalize or settle; null when idle.';

COMMENT ON COLUMN feather.sync_status.attempt IS 'Attempts counted so far.';

COMMENT ON COLUMN feather.sync_status.next_attempt_at IS 'When the next attempt is due.';

COMMENT ON COLUMN feather.sync_status.priority IS 'Smaller runs sooner.';

COMMENT ON COLUMN feather.sync_status.status IS 'status of the connection as last received.';

COMMENT ON COLUMN feather.sync_status.tools_status IS 'tools_status of the connection as last received.';

COMMENT ON COLUMN feather.sync_status.tools_synced_at IS 'tools_synced_at of the connection as last received.';

COMMENT ON COLUMN feather.sync_status.last_attempt_at IS 'When the last attempt ended.';

COMMENT ON COLUMN feather.sync_status.last_outcome IS 'How the last attempt ended.';

COMMENT ON COLUMN feather.sync_status.last_success_at IS 'When the connection was last synced, tools settled.';

COMMENT ON COLUMN feather.sync_status.last_success_started_at IS 'Later than your commit means that your request has been served.';

COMMENT ON COLUMN feather.sync_status.last_error_class IS 'Class of the last attempt''s failure, or unknown_account while no replica serves the account; null when all is well.';

COMMENT ON COLUMN feather.sync_status.last_error IS 'The same in words.';

CREATE VIEW feather.tools AS
 SELECT t.connection_id,
    t.id,
    t.organization_id,
    t.integration_key,
    t.nickname_slug,
    t.tool_path,
    t.slug,
    t.display_name,
    t.description,
    t.input_schema,
    t.response_schema,
    t.response_field_map,
    t.input_defaults,
    t.is_enabled,
    t.last_seen_at,
    t.created_at,
    t.updated_at,
    t.stale_field_paths,
    t.default_count,
    t.pinned_count,
    t.stale_input_fields,
    t.merged_input_preview,
    t._extra,
    t._warnings,
    t._first_seen_at,
    t._changed_at,
    t._removed_at,
    t._hash,
    c.nickname AS connection_nickname,
    c.status AS connection_status,
    c.tools_status AS connection_tools_status,
    c._synced_at AS connection_synced_at,
    c._account
   FROM (feather.integration_connection_tools t
     JOIN feather.integration_connections c ON ((c.id = t.connection_id)))
  WHERE ((t._removed_at IS NULL) AND (c._removed_at IS NULL));

COMMENT ON VIEW feather.tools IS 'Tools that exist, of connections that exist, with what reports need of the connection.';

COMMENT ON COLUMN feather.tools.connection_id IS 'The connection that the tool belongs to.';

COMMENT ON COLUMN feather.tools.id IS 'Upstream id of the tool.';

COMMENT ON COLUMN feather.tools.organization_id IS 'Upstream: the organisation.';

COMMENT ON COLUMN feather.tools.integration_key IS 'Upstream: which integration.';

COMMENT ON COLUMN feather.tools.nickname_slug IS 'Upstream: slug of the connection''s nickname.';

COMMENT ON COLUMN feather.tools.tool_path IS 'Upstream: path of the tool at its provider.';

COMMENT ON COLUMN feather.tools.slug IS 'Upstream: {nickname_slug}_{tool}; what other Feather objects refer to.';

COMMENT ON COLUMN feather.tools.display_name IS 'Upstream: name for people.';

COMMENT ON COLUMN feather.tools.description IS 'Upstream: what the tool does.';

COMMENT ON COLUMN feather.tools.input_schema IS 'Upstream: JSON Schema of the tool''s input.';

COMMENT ON COLUMN feather.tools.response_schema IS 'Upstream: JSON Schema of the tool''s response.';

COMMENT ON COLUMN feather.tools.response_field_map IS 'Upstream: saved map of response fields.';

COMMENT ON COLUMN feather.tools.input_defaults IS 'Upstream: operator values by input field, each {value, type}.';

COMMENT ON COLUMN feather.tools.is_enabled IS 'Upstream: whether the tool may be used.';

COMMENT ON COLUMN feather.tools.last_seen_at IS 'Upstream: when the tool was last seen at its provider. Does not move _changed_at.';

COMMENT ON COLUMN feather.tools.created_at IS 'Upstream: created.';

COMMENT ON COLUMN feather.tools.updated_at IS 'Upstream: last updated.';

COMMENT ON COLUMN feather.tools.stale_field_paths IS 'Upstream: saved field-map paths that the response no longer has.';

COMMENT ON COLUMN feather.tools.default_count IS 'Upstream: input fields with an operator default.';

COMMENT ON COLUMN feather.tools.pinned_count IS 'Upstream: input fields pinned by the operator.';

COMMENT ON COLUMN feather.tools.stale_input_fields IS 'Upstream: configured input fields that a re-sync removed, renamed or retyped.';

COMMENT ON COLUMN feather.tools.merged_input_preview IS 'Upstream: input_schema with the operator''s values put in.';

COMMENT ON COLUMN feather.tools._extra IS 'Fields of the answer that have no column yet.';

COMMENT ON COLUMN feather.tools._warnings IS 'What had to be altered to be stored; null when nothing.';

COMMENT ON COLUMN feather.tools._first_seen_at IS 'When the tool was first received.';

COMMENT ON COLUMN feather.tools._changed_at IS 'When the content last changed: inserted, changed, removed or revived.';

COMMENT ON COLUMN feather.tools._removed_at IS 'When a settled answer no longer had the tool; null while it exists.';

COMMENT ON COLUMN feather.tools._hash IS 'Hash of the last applied text without volatile fields: equal means unchanged.';

COMMENT ON COLUMN feather.tools.connection_nickname IS 'nickname of the connection.';

COMMENT ON COLUMN feather.tools.connection_status IS 'status of the connection.';

COMMENT ON COLUMN feather.tools.connection_tools_status IS 'tools_status of the connection.';

COMMENT ON COLUMN feather.tools.connection_synced_at IS 'When the connection was last checked successfully.';

COMMENT ON COLUMN feather.tools._account IS 'Account of the daemon that received the connection.';

INSERT INTO feather._sqlx_migrations VALUES (1, 'queue', '2026-11-23 00:12:15.001131+00', true, '\x500827633735772fb97c8d7daffeea2d06cf968ffe4c59e8c5ea8216c731fdee4c9c764e18a96362e35f225a08d31c48', 16078410);
INSERT INTO feather._sqlx_migrations VALUES (2, 'tables', '2026-11-23 00:12:15.017834+00', true, '\xa93108f2eb2b0c6da9486c975aead61d5a28db772d6dd1ef307a839f7b7cec32fc5af60b5601633f48c65129b62cf563', 8973017);
INSERT INTO feather._sqlx_migrations VALUES (3, 'history', '2026-11-23 00:12:15.0271+00', true, '\xd364f45cf05ad723ed83bbf4c8ee509ff8768b05f2131ea0bce7b7f6f25bac3a42748cbe6fbe9fbfc02cd53d8f75345f', 11512684);
INSERT INTO feather._sqlx_migrations VALUES (4, 'fleet', '2026-11-23 00:12:15.03892+00', true, '\xe36502655da8bb1cb9bb4643dbd9fbb123d5cd65dec015d1a5c795bc11eb325731ed862aaf405abb432acaf681d3f644', 14479928);
INSERT INTO feather._sqlx_migrations VALUES (5, 'views', '2026-11-23 00:12:15.05378+00', true, '\x2eeda4fe5d3bc0db2947ebd8a6ceea37eaf0b4056451cbecdf409d5bd63eb81ba2116e20a4b38d1612d286887db15203', 19837011);

INSERT INTO feather.sync_accounts VALUES ('default', NULL, NULL, 0, '1970-01-01 00:00:00+00', NULL, NULL, 0, NULL, NULL, NULL);

SELECT pg_catalog.setval('feather.sync_attempts_id_seq', 1, false);

SELECT pg_catalog.setval('feather.sync_audit_id_seq', 1, false);

SELECT pg_catalog.setval('feather.sync_requests_id_seq', 1, false);

ALTER TABLE ONLY feather._sqlx_migrations
    ADD CONSTRAINT _sqlx_migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY feather.integration_connection_tools
    ADD CONSTRAINT integration_connection_tools_pkey PRIMARY KEY (connection_id, id);

ALTER TABLE ONLY feather.integration_connections
    ADD CONSTRAINT integration_connections_pkey PRIMARY KEY (id);

ALTER TABLE ONLY feather.sync_accounts
    ADD CONSTRAINT sync_accounts_pkey PRIMARY KEY (account);

ALTER TABLE ONLY feather.sync_attempts
    ADD CONSTRAINT sync_attempts_pkey PRIMARY KEY (connection_id, id);

ALTER TABLE ONLY feather.sync_audit
    ADD CONSTRAINT sync_audit_pkey PRIMARY KEY (id);

ALTER TABLE ONLY feather.sync_counts
    ADD CONSTRAINT sync_counts_pkey PRIMARY KEY (account);

ALTER TABLE ONLY feather.sync_jobs
    ADD CONSTRAINT sync_jobs_pkey PRIMARY KEY (connection_id);

ALTER TABLE ONLY feather.sync_replicas
    ADD CONSTRAINT sync_replicas_pkey PRIMARY KEY (worker);

ALTER TABLE ONLY feather.sync_requests
    ADD CONSTRAINT sync_requests_pkey PRIMARY KEY (id);

ALTER TABLE ONLY feather.sync_results
    ADD CONSTRAINT sync_results_pkey PRIMARY KEY (connection_id);

ALTER TABLE ONLY feather.sync_throughput
    ADD CONSTRAINT sync_throughput_pkey PRIMARY KEY (account, minute, worker);

CREATE INDEX integration_connections_changed ON feather.integration_connections USING btree (_changed_at, id);

COMMENT ON INDEX feather.integration_connections_changed IS 'For incremental extracts.';

CREATE INDEX sync_attempts_finished ON feather.sync_attempts USING btree (finished_at);

COMMENT ON INDEX feather.sync_attempts_finished IS 'For retention and for the errors of the last hour.';

CREATE INDEX sync_jobs_claim ON feather.sync_jobs USING btree (account, phase, priority, run_at) WHERE (state = 'pending'::text);

COMMENT ON INDEX feather.sync_jobs_claim IS 'For the claim: each (phase, priority) lane of an account in due order.';

CREATE INDEX sync_jobs_dead ON feather.sync_jobs USING btree (account, error_class) WHERE (state = 'dead'::text);

COMMENT ON INDEX feather.sync_jobs_dead IS 'For retry --dead, by account and class.';

CREATE INDEX sync_jobs_lease ON feather.sync_jobs USING btree (lease_until) WHERE (state = 'running'::text);

COMMENT ON INDEX feather.sync_jobs_lease IS 'For the expiry of leases.';

CREATE INDEX sync_requests_connection ON feather.sync_requests USING btree (connection_id);

COMMENT ON INDEX feather.sync_requests_connection IS 'For sync_status, cancel and forget of one connection.';

CREATE TRIGGER wake_worker AFTER INSERT ON feather.sync_requests FOR EACH STATEMENT EXECUTE FUNCTION feather.wake_worker();

COMMENT ON TRIGGER wake_worker ON feather.sync_requests IS 'Wakes a sleeping worker once per statement.';

GRANT USAGE ON SCHEMA feather TO feather_worker;
GRANT USAGE ON SCHEMA feather TO feather_enqueuer;
GRANT USAGE ON SCHEMA feather TO feather_reporter;

REVOKE ALL ON FUNCTION feather.enqueue(connection_id uuid, account text, priority integer, run_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION feather.enqueue(connection_id uuid, account text, priority integer, run_at timestamp with time zone) TO feather_worker;
GRANT ALL ON FUNCTION feather.enqueue(connection_id uuid, account text, priority integer, run_at timestamp with time zone) TO feather_enqueuer;

REVOKE ALL ON FUNCTION feather.enqueue_many(connection_ids uuid[], account text, priority integer, run_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION feather.enqueue_many(connection_ids uuid[], account text, priority integer, run_at timestamp with time zone) TO feather_worker;
GRANT ALL ON FUNCTION feather.enqueue_many(connection_ids uuid[], account text, priority integer, run_at timestamp with time zone) TO feather_enqueuer;

REVOKE ALL ON FUNCTION feather.wake_worker() FROM PUBLIC;

GRANT SELECT ON TABLE feather._sqlx_migrations TO feather_worker;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE feather.integration_connections TO feather_worker;
GRANT SELECT ON TABLE feather.integration_connections TO feather_reporter;

GRANT SELECT ON TABLE feather.connections TO feather_worker;
GRANT SELECT ON TABLE feather.connections TO feather_reporter;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE feather.integration_connection_tools TO feather_worker;
GRANT SELECT ON TABLE feather.integration_connection_tools TO feather_reporter;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE feather.sync_accounts TO feather_worker;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE feather.sync_attempts TO feather_worker;
GRANT SELECT ON TABLE feather.sync_attempts TO feather_reporter;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE feather.sync_audit TO feather_worker;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE feather.sync_counts TO feather_worker;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE feather.sync_jobs TO feather_worker;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE feather.sync_requests TO feather_worker;
GRANT INSERT ON TABLE feather.sync_requests TO feather_enqueuer;

GRANT SELECT(id) ON TABLE feather.sync_requests TO feather_enqueuer;

GRANT SELECT ON TABLE feather.sync_counts_now TO feather_worker;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE feather.sync_replicas TO feather_worker;

GRANT SELECT ON TABLE feather.sync_served_accounts TO feather_worker;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE feather.sync_throughput TO feather_worker;

GRANT SELECT ON TABLE feather.sync_health TO feather_worker;
GRANT SELECT ON TABLE feather.sync_health TO feather_reporter;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE feather.sync_results TO feather_worker;

GRANT SELECT ON TABLE feather.sync_status TO feather_worker;
GRANT SELECT ON TABLE feather.sync_status TO feather_enqueuer;
GRANT SELECT ON TABLE feather.sync_status TO feather_reporter;

GRANT SELECT ON TABLE feather.tools TO feather_worker;
GRANT SELECT ON TABLE feather.tools TO feather_reporter;

