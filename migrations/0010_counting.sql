-- Counting a queue of ten million takes a core for seconds. It rests for twenty times as long as it took, so that it never
-- takes more than a twentieth of one.
SET LOCAL lock_timeout = '2s';

ALTER TABLE feather.sync_counts ADD COLUMN took interval NOT NULL DEFAULT '0';
COMMENT ON COLUMN feather.sync_counts.took IS 'How long counting took.';
