-- An account whose API refuses calls below the configured limit goes slower for a while. An older program does not
-- know these columns and draws the whole limit.
SET LOCAL lock_timeout = '5s';

ALTER TABLE feather.sync_accounts
    ADD COLUMN pace    double precision NOT NULL DEFAULT 1 CONSTRAINT pace_is_a_share CHECK (pace > 0 AND pace <= 1),
    ADD COLUMN pace_at timestamptz      NOT NULL DEFAULT 'epoch';

COMMENT ON COLUMN feather.sync_accounts.pace IS 'Part of requests_per_minute that is drawn, as of pace_at; a 429 lowers it, and it climbs back with time.';
COMMENT ON COLUMN feather.sync_accounts.pace_at IS 'Since when pace climbs; a refusal of a call that was claimed before does not lower it again.';
