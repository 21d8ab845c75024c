-- The number that the agent gave an outcome when its run ended: without gaps, in the order in which runs ended. Outcomes
-- from before have none.
ALTER TABLE outcomes ADD COLUMN seq INTEGER;
CREATE INDEX outcomes_by_seq ON outcomes (seq) WHERE seq IS NOT NULL;
-- How far the destination of each sink has the outcomes of this store, by their numbers.
CREATE TABLE positions (
  sink TEXT PRIMARY KEY,
  seq INTEGER NOT NULL
) WITHOUT ROWID;
PRAGMA user_version = 3;
