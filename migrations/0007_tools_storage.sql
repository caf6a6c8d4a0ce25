-- How tools are stored, from now on; what is there stays as it is.
SET LOCAL lock_timeout = '2s';

-- Most of what writing a tool cost the server was compressing its schemas. lz4 takes a fraction of the time of pglz for
-- about the same size. A server built without it goes on with pglz.
DO $$
BEGIN
    ALTER TABLE feather.integration_connection_tools
        ALTER COLUMN description          SET COMPRESSION lz4,
        ALTER COLUMN input_schema         SET COMPRESSION lz4,
        ALTER COLUMN response_schema      SET COMPRESSION lz4,
        ALTER COLUMN response_field_map   SET COMPRESSION lz4,
        ALTER COLUMN input_defaults       SET COMPRESSION lz4,
        ALTER COLUMN merged_input_preview SET COMPRESSION lz4,
        ALTER COLUMN _extra               SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END $$;

-- Schemas of a kilobyte belong out of the row: last_seen_at moves with each sync, and would take them along each time.
ALTER TABLE feather.integration_connection_tools SET (toast_tuple_target = 512);
