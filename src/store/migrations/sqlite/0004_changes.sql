-- What became of incidents, numbered together with outcomes: what sinks that record incidents are given.
CREATE TABLE incident_changes (
  seq INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  body TEXT NOT NULL
);
CREATE INDEX incident_changes_by_time ON incident_changes (at);
PRAGMA user_version = 4;
