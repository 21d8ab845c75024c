-- Which store this is, and the number of its last commit: one row. The identity is part of every key that receivers
-- see, so that two stores never share one.
CREATE TABLE store (
  identity TEXT NOT NULL,
  last_commit INTEGER NOT NULL DEFAULT 0
);
INSERT INTO store (identity) VALUES (lower(hex(randomblob(4))));
-- Keys that receivers know without an identity, because the store had none when they were notified.
CREATE TABLE unqualified_keys (
  key TEXT PRIMARY KEY
) WITHOUT ROWID;
INSERT INTO unqualified_keys (key) SELECT DISTINCT incident FROM notices;
PRAGMA user_version = 2;
