-- A sync that finds nothing new still moves a connection's sync times and last word. With half of each page free the new
-- version stays beside the old one, and no index is written. Affects pages that are filled from now on.
SET LOCAL lock_timeout = '2s';

ALTER TABLE feather.integration_connections SET (fillfactor = 50);
ALTER TABLE feather.sync_results SET (fillfactor = 50);
