-- The producers' own books, in the same database and the same transactions as their requests. When a row was
-- committed is told by its xmin (track_commit_timestamp), unless `at` says so.
CREATE SCHEMA chaos;
CREATE TABLE chaos.wanted (
    deed bigint NOT NULL,
    connection_id uuid NOT NULL,
    -- Where nobody else ever asks for the connection: no call before this time.
    run_at timestamptz,
    at timestamptz
);
CREATE VIEW chaos.last_wanted AS
SELECT connection_id, max(COALESCE(at, pg_xact_commit_timestamp(xmin))) AS at, count(*) AS times
FROM chaos.wanted GROUP BY connection_id;
CREATE VIEW chaos.taken_back AS
SELECT connection_id, max(pg_xact_commit_timestamp(xmin)) AS at,
       max(pg_xact_commit_timestamp(xmin)) FILTER (WHERE action = 'forget') AS forgotten_at
FROM feather.sync_audit WHERE action IN ('cancel', 'forget') GROUP BY connection_id;
