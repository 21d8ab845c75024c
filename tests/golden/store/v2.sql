PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO "_sqlx_migrations" VALUES(1,'tables','2026-11-29 20:00:00',1,X'603F55B773FAD9A946BEA6193C481231B7F89F84A87850E66E3B007D130784015BC375FE27D4B978AC0CD12E9BE5BF77',1000);
INSERT INTO "_sqlx_migrations" VALUES(2,'identity','2026-11-29 20:00:00',1,X'B4D92538063702FCA7BBB3AE10E9AA0DDC3A6ED810048811D61A8BDEB4D79091575E9DD57529EA87D033A6671B455CC0',1000);
CREATE TABLE beats (
  name TEXT PRIMARY KEY,
  started_at INTEGER,
  ended_at INTEGER,
  code INTEGER
) WITHOUT ROWID;
INSERT INTO "beats" VALUES('job',NULL,1795982029247379,0);
CREATE TABLE decisions (
  id INTEGER PRIMARY KEY,
  subject TEXT NOT NULL,
  why TEXT NOT NULL,
  first_at INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  count INTEGER NOT NULL,
  body TEXT NOT NULL
);
INSERT INTO "decisions" VALUES(1,'up','good',1795982026871374,1795982031745299,6,'{"subject":"up","why":"good","detail":"","run":"01a228de-f798-7505-96e2-a2f431daab1e","at":"2026-11-29T19:53:51.745299065Z"}');
INSERT INTO "decisions" VALUES(2,'down','opened',1795982027622486,1795982027622486,1,'{"subject":"down","why":"opened","detail":"1 bad of the last 1, 1 needed","run":"01a228de-e7ad-72a5-9ae8-9cee544fe559","at":"2026-11-29T19:53:47.622486236Z"}');
INSERT INTO "decisions" VALUES(3,'down','told',1795982027822885,1795982027822885,1,'{"subject":"down","why":"told","detail":"opened as down:1 to hook, console","run":null,"at":"2026-11-29T19:53:47.822885691Z"}');
INSERT INTO "decisions" VALUES(4,'down','repeat',1795982028622545,1795982031622808,4,'{"subject":"down","why":"repeat","detail":"open since 2026-11-29 19:53:47","run":"01a228de-f71d-7311-88c7-6b09d04ffd36","at":"2026-11-29T19:53:51.622808078Z"}');
CREATE TABLE incidents (
  id TEXT PRIMARY KEY,
  opened_at INTEGER NOT NULL,
  resolved_at INTEGER,
  body TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "incidents" VALUES('down:1',1795982027622486,NULL,'{"subject":"down","opening":1,"name":"down","tags":{},"kind":"tcp","severity":"warning","location":"here","opened_at":"2026-11-29T19:53:47.622486236Z","opened_by":"01a228de-e7ad-72a5-9ae8-9cee544fe559","resolved_at":null,"resolved_by":null,"verdict":"failed","last_run":"01a228de-f71d-7311-88c7-6b09d04ffd36","reason":"connect","message":"no connection to 127.0.0.1:9: Connection refused (os error 111)","step":"tcp 127.0.0.1:9","place":"s/a.yaml:3:10","bad_runs":5,"events":1,"receivers":["hook","console"]}');
CREATE TABLE intents (
  run TEXT PRIMARY KEY,
  scenario TEXT NOT NULL,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  location TEXT NOT NULL,
  due_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE memory (
  key TEXT PRIMARY KEY,
  body TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "memory" VALUES('group/{"to":["hook","console"],"by":[],"cause":"connect · tcp 127.0.0.1:9 · no connection to 127.0.0.1:9 Connection refused (os error N)"}','{"lead":{"subject":"down","opening":1,"name":"down","tags":{},"kind":"tcp","severity":"warning","location":"here","opened_at":"2026-11-29T19:53:47.622486236Z","opened_by":"01a228de-e7ad-72a5-9ae8-9cee544fe559","resolved_at":null,"resolved_by":null,"verdict":"failed","last_run":"01a228de-e7ad-72a5-9ae8-9cee544fe559","reason":"connect","message":"no connection to 127.0.0.1:9: Connection refused (os error 111)","step":"tcp 127.0.0.1:9","place":"s/a.yaml:3:10","bad_runs":1,"events":1,"receivers":[]},"receivers":["hook","console"],"told":["console","hook"],"told_at":"2026-11-29T19:53:47.822885691Z","events":1,"severity":"warning","causes":["connect · tcp 127.0.0.1:9 · no connection to 127.0.0.1:9 Connection refused (os error N)"],"due":null,"notes":[],"remind":null,"acknowledged":null,"quiet_until":null,"members":{"down":{"number":0,"severity":"warning","open":true,"told":true,"cause":{"key":"connect · tcp 127.0.0.1:9 · no connection to 127.0.0.1:9 Connection refused (os error N)","brief":"connect"}}},"open":1,"untold":0,"shown":[]}');
INSERT INTO "memory" VALUES('mute/a10cc61f511c','{"id":"a10cc61f511c","maintenance":false,"match":{"scenario":"up"},"from":"2026-11-29T19:53:49.265071310Z","until":"2026-11-29T20:53:49.265071310Z","author":"x","reason":"y"}');
CREATE TABLE memos (
  receiver TEXT NOT NULL,
  key TEXT NOT NULL,
  kept_at INTEGER NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (receiver, key)
) WITHOUT ROWID;
CREATE TABLE notices (
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
INSERT INTO "notices" VALUES(1,'down:1#1@hook','hook','down:1','owed',0,1795982027822885,NULL,'no connection: Connection refused (os error 111)','{"id":"down:1#1@hook","receiver":"hook","event":"opened","key":"down:1","incident":{"subject":"down","opening":1,"name":"down","tags":{},"kind":"tcp","severity":"warning","location":"here","opened_at":"2026-11-29T19:53:47.622486236Z","opened_by":"01a228de-e7ad-72a5-9ae8-9cee544fe559","resolved_at":null,"resolved_by":null,"verdict":"failed","last_run":"01a228de-e7ad-72a5-9ae8-9cee544fe559","reason":"connect","message":"no connection to 127.0.0.1:9: Connection refused (os error 111)","step":"tcp 127.0.0.1:9","place":"s/a.yaml:3:10","bad_runs":1,"events":1,"receivers":["hook","console"]},"uncounted":0,"owed_at":"2026-11-29T19:53:47.822885691Z"}');
INSERT INTO "notices" VALUES(2,'down:1#1@console','console','down:1','sent',1,1795982027822885,1795982027833376,NULL,'{"id":"down:1#1@console","receiver":"console","event":"opened","key":"down:1","incident":{"subject":"down","opening":1,"name":"down","tags":{},"kind":"tcp","severity":"warning","location":"here","opened_at":"2026-11-29T19:53:47.622486236Z","opened_by":"01a228de-e7ad-72a5-9ae8-9cee544fe559","resolved_at":null,"resolved_by":null,"verdict":"failed","last_run":"01a228de-e7ad-72a5-9ae8-9cee544fe559","reason":"connect","message":"no connection to 127.0.0.1:9: Connection refused (os error 111)","step":"tcp 127.0.0.1:9","place":"s/a.yaml:3:10","bad_runs":1,"events":1,"receivers":["hook","console"]},"uncounted":0,"owed_at":"2026-11-29T19:53:47.822885691Z"}');
CREATE TABLE outcomes (
  run TEXT PRIMARY KEY,
  scenario TEXT NOT NULL,
  location TEXT NOT NULL,
  ended_at INTEGER NOT NULL,
  verdict TEXT NOT NULL,
  reason TEXT,
  seconds REAL NOT NULL,
  body TEXT NOT NULL
);
INSERT INTO "outcomes" VALUES('01a228de-e7ad-72a5-9ae8-9cf0eefd5ce2','up','here',1795982026871374,'passed',NULL,0.001013189,'{"run":"01a228de-e7ad-72a5-9ae8-9cf0eefd5ce2","scenario":"up","name":"up","kind":"tcp","location":"here","due_at":"2026-11-29T19:53:46.743Z","started_at":"2026-11-29T19:53:46.870360951Z","ended_at":"2026-11-29T19:53:46.871374140Z","duration":0.001013,"verdict":"passed","steps":[{"name":"tcp 127.0.0.1:29815","depth":0,"finally":false,"optional":false,"span_id":"8031844961dbf561","offset":0.000096,"duration":0.000868,"status":"passed","place":"s/a.yaml:4:8"}],"evidence":[]}');
INSERT INTO "outcomes" VALUES('01a228de-e7ad-72a5-9ae8-9cee544fe559','down','here',1795982027622486,'failed','connect',0.000673864,'{"run":"01a228de-e7ad-72a5-9ae8-9cee544fe559","scenario":"down","name":"down","kind":"tcp","location":"here","due_at":"2026-11-29T19:53:47.620Z","started_at":"2026-11-29T19:53:47.621812372Z","ended_at":"2026-11-29T19:53:47.622486236Z","duration":0.000674,"verdict":"failed","reason":"connect","message":"no connection to 127.0.0.1:9: Connection refused (os error 111)","failed_step":0,"steps":[{"name":"tcp 127.0.0.1:9","depth":0,"finally":false,"optional":false,"span_id":"ba3f5df6f01c7d71","offset":0.000077,"duration":0.000528,"status":"failed","place":"s/a.yaml:3:10","failure":{"reason":"connect","message":"no connection to 127.0.0.1:9: Connection refused (os error 111)"}}],"evidence":[]}');
INSERT INTO "outcomes" VALUES('01a228de-e7f8-7287-868f-fd516fd142d4','up','here',1795982027745827,'passed',NULL,0.000535184,'{"run":"01a228de-e7f8-7287-868f-fd516fd142d4","scenario":"up","name":"up","kind":"tcp","location":"here","due_at":"2026-11-29T19:53:47.743Z","started_at":"2026-11-29T19:53:47.745292072Z","ended_at":"2026-11-29T19:53:47.745827256Z","duration":0.000535,"verdict":"passed","steps":[{"name":"tcp 127.0.0.1:29815","depth":0,"finally":false,"optional":false,"span_id":"8f5fcbfbd132fb9d","offset":0.000039,"duration":0.000456,"status":"passed","place":"s/a.yaml:4:8"}],"evidence":[]}');
INSERT INTO "outcomes" VALUES('01a228de-eb65-75a0-ba3f-5df5b45ea588','down','here',1795982028622545,'failed','connect',0.000563597,'{"run":"01a228de-eb65-75a0-ba3f-5df5b45ea588","scenario":"down","name":"down","kind":"tcp","location":"here","due_at":"2026-11-29T19:53:48.620Z","started_at":"2026-11-29T19:53:48.621981441Z","ended_at":"2026-11-29T19:53:48.622545038Z","duration":0.000564,"verdict":"failed","reason":"connect","message":"no connection to 127.0.0.1:9: Connection refused (os error 111)","failed_step":0,"steps":[{"name":"tcp 127.0.0.1:9","depth":0,"finally":false,"optional":false,"span_id":"828c9eca0a66b75f","offset":0.000042,"duration":0.000465,"status":"failed","place":"s/a.yaml:3:10","failure":{"reason":"connect","message":"no connection to 127.0.0.1:9: Connection refused (os error 111)"}}],"evidence":[]}');
CREATE TABLE store (
  identity TEXT NOT NULL,
  last_commit INTEGER NOT NULL DEFAULT 0
);
INSERT INTO "store" VALUES('f19c3c51',0);
CREATE TABLE unqualified_keys (
  key TEXT PRIMARY KEY
) WITHOUT ROWID;
INSERT INTO "unqualified_keys" VALUES('down:1');
CREATE TABLE watches (
  subject TEXT PRIMARY KEY,
  body TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "watches" VALUES('down','{"window":["failed"],"good":0,"unknown":0,"last_run":"01a228de-f71d-7311-88c7-6b09d04ffd36","openings":1,"open":{"subject":"down","opening":1,"name":"down","tags":{},"kind":"tcp","severity":"warning","location":"here","opened_at":"2026-11-29T19:53:47.622486236Z","opened_by":"01a228de-e7ad-72a5-9ae8-9cee544fe559","resolved_at":null,"resolved_by":null,"verdict":"failed","last_run":"01a228de-f71d-7311-88c7-6b09d04ffd36","reason":"connect","message":"no connection to 127.0.0.1:9: Connection refused (os error 111)","step":"tcp 127.0.0.1:9","place":"s/a.yaml:3:10","bad_runs":5,"events":1,"receivers":["hook","console"]},"looked_at":"2026-11-29T19:53:51.622165703Z","flapping":{"changes":["2026-11-29T19:53:47.822885691Z"],"steady_at":null},"locations":[{"location":"here","mark":"failed","at":"2026-11-29T19:53:51.622808078Z"}]}');
INSERT INTO "watches" VALUES('up','{"window":["passed"],"good":6,"unknown":0,"last_run":"01a228de-f798-7505-96e2-a2f431daab1e","openings":0,"open":null,"looked_at":"2026-11-29T19:53:51.744607027Z","flapping":{"changes":[],"steady_at":null},"locations":[{"location":"here","mark":"passed","at":"2026-11-29T19:53:51.745299065Z"}]}');
CREATE INDEX outcomes_by_scenario ON outcomes (scenario, ended_at, verdict, reason, seconds, run);
CREATE INDEX outcomes_by_time ON outcomes (ended_at);
CREATE INDEX incidents_by_time ON incidents (opened_at);
CREATE INDEX decisions_by_subject ON decisions (subject, id);
CREATE INDEX notices_owed ON notices (receiver, seq) WHERE state = 'owed';
CREATE INDEX notices_by_incident ON notices (incident);
COMMIT;
