-- The embedded store. Times are Unix microseconds in UTC; bodies are JSON.
-- A run that was planned and has no outcome yet.
CREATE TABLE IF NOT EXISTS intents (
  run TEXT PRIMARY KEY,
  scenario TEXT NOT NULL,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  location TEXT NOT NULL,
  due_at INTEGER NOT NULL
) WITHOUT ROWID;
-- With row ids: a table that is an index puts a body of a kilobyte on a page of its own.
CREATE TABLE IF NOT EXISTS outcomes (
  run TEXT PRIMARY KEY,
  scenario TEXT NOT NULL,
  location TEXT NOT NULL,
  ended_at INTEGER NOT NULL,
  verdict TEXT NOT NULL,
  reason TEXT,
  seconds REAL NOT NULL,
  body TEXT NOT NULL
);
-- Holds all that a strip of runs shows, so that a page of a thousand scenarios reads no body.
CREATE INDEX IF NOT EXISTS outcomes_by_scenario ON outcomes (scenario, ended_at, verdict, reason, seconds, run);
CREATE INDEX IF NOT EXISTS outcomes_by_time ON outcomes (ended_at);
-- What alerting remembers of a subject between runs.
CREATE TABLE IF NOT EXISTS watches (
  subject TEXT PRIMARY KEY,
  body TEXT NOT NULL
) WITHOUT ROWID;
-- What else alerting remembers, by key: `group/…`, `silence/…`.
CREATE TABLE IF NOT EXISTS memory (
  key TEXT PRIMARY KEY,
  body TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS incidents (
  id TEXT PRIMARY KEY,
  opened_at INTEGER NOT NULL,
  resolved_at INTEGER,
  body TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS incidents_by_time ON incidents (opened_at);
-- A row per change of reason; while the reason stays, the last row of its subject counts up.
CREATE TABLE IF NOT EXISTS decisions (
  id INTEGER PRIMARY KEY,
  subject TEXT NOT NULL,
  why TEXT NOT NULL,
  first_at INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  count INTEGER NOT NULL,
  body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS decisions_by_subject ON decisions (subject, id);
-- The outbox: owed until sent or given up. `uncertain`: 0 no, 1 a try runs, 2 an earlier try may
-- have reached the receiver.
CREATE TABLE IF NOT EXISTS notices (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  receiver TEXT NOT NULL,
  -- The key of the group, which is the id of the incident that it began with.
  incident TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'owed',
  uncertain INTEGER NOT NULL DEFAULT 0,
  owed_at INTEGER NOT NULL,
  done_at INTEGER,
  problem TEXT,
  body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS notices_owed ON notices (receiver, seq) WHERE state = 'owed';
CREATE INDEX IF NOT EXISTS notices_by_incident ON notices (incident);
-- What has to be remembered of a key to tell a receiver more of it.
CREATE TABLE IF NOT EXISTS memos (
  receiver TEXT NOT NULL,
  key TEXT NOT NULL,
  kept_at INTEGER NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (receiver, key)
) WITHOUT ROWID;
-- Who called in: the last start and the last end of each name.
CREATE TABLE IF NOT EXISTS beats (
  name TEXT PRIMARY KEY,
  started_at INTEGER,
  ended_at INTEGER,
  code INTEGER
) WITHOUT ROWID;
