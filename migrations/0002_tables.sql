-- What the API said. Bare names are upstream's own fields, a leading underscore marks ours.
-- No foreign key, no CHECK and no trigger: an upstream value or order must never fail a write.
SET LOCAL lock_timeout = '5s';

CREATE TABLE feather.integration_connections (
    id                   uuid        PRIMARY KEY,
    organization_id      uuid        NOT NULL,
    integration_key      text        NOT NULL,
    nickname_slug        text        NOT NULL,
    nickname             text        NOT NULL,
    vendor               text        NOT NULL,
    vendor_connection_id text,
    status               text        NOT NULL,
    tools_status         text        NOT NULL,
    tools_synced_at      timestamptz,
    status_reason        text,
    connected_at         timestamptz,
    last_refreshed_at    timestamptz,
    last_used_at         timestamptz,
    metadata             jsonb       NOT NULL,
    voice_account_cps    numeric,
    created_at           timestamptz NOT NULL,
    updated_at           timestamptz NOT NULL,
    _account             text        NOT NULL,
    _extra               jsonb       NOT NULL DEFAULT '{}',
    _warnings            jsonb,
    _first_seen_at       timestamptz NOT NULL,
    _finalized_at        timestamptz,
    _synced_at           timestamptz NOT NULL,
    _changed_at          timestamptz NOT NULL,
    _removed_at          timestamptz,
    _hash                bytea       NOT NULL
) WITH (fillfactor = 85);

COMMENT ON TABLE  feather.integration_connections IS 'One row per connection ever received from the Feather API, removed ones included.';
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

CREATE INDEX integration_connections_changed ON feather.integration_connections (_changed_at, id);
COMMENT ON INDEX feather.integration_connections_changed IS 'For incremental extracts.';

CREATE TABLE feather.integration_connection_tools (
    connection_id        uuid        NOT NULL,
    id                   uuid        NOT NULL,
    organization_id      uuid        NOT NULL,
    integration_key      text        NOT NULL,
    nickname_slug        text        NOT NULL,
    tool_path            text        NOT NULL,
    slug                 text        NOT NULL,
    display_name         text        NOT NULL,
    description          text,
    input_schema         jsonb       NOT NULL,
    response_schema      jsonb,
    response_field_map   jsonb,
    input_defaults       jsonb,
    is_enabled           boolean     NOT NULL,
    last_seen_at         timestamptz NOT NULL,
    created_at           timestamptz NOT NULL,
    updated_at           timestamptz NOT NULL,
    stale_field_paths    text[]      NOT NULL,
    default_count        bigint      NOT NULL,
    pinned_count         bigint      NOT NULL,
    stale_input_fields   text[]      NOT NULL,
    merged_input_preview jsonb       NOT NULL,
    _extra               jsonb       NOT NULL DEFAULT '{}',
    _warnings            jsonb,
    _first_seen_at       timestamptz NOT NULL,
    _changed_at          timestamptz NOT NULL,
    _removed_at          timestamptz,
    _hash                bytea       NOT NULL,
    PRIMARY KEY (connection_id, id)
) WITH (fillfactor = 90);

COMMENT ON TABLE  feather.integration_connection_tools IS 'One row per tool ever received with a connection, removed ones included.';
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
