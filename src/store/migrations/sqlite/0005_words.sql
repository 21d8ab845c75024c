-- Tables, columns and stored values get the words that the documentation uses. `sqlite/salvage.rs` has the former names.
ALTER TABLE intents RENAME TO planned_runs;
ALTER TABLE watches RENAME TO alert_states;
ALTER TABLE memory RENAME TO alerting_entries;
ALTER TABLE memos RENAME TO receiver_states;
ALTER TABLE beats RENAME TO check_ins;
ALTER TABLE notices RENAME TO notifications;
ALTER TABLE notifications RENAME COLUMN owed_at TO queued_at;
DROP INDEX notices_owed;
UPDATE notifications SET state = 'queued' WHERE state = 'owed';
CREATE INDEX notifications_queued ON notifications (receiver, seq) WHERE state = 'queued';
ALTER TABLE decisions RENAME COLUMN why TO reason;
UPDATE decisions SET reason = CASE reason
  WHEN 'own_fault' THEN 'agent_fault'
  WHEN 'count' THEN 'below_threshold'
  WHEN 'repeat' THEN 'already_open'
  WHEN 'raised' THEN 'severity_raised'
  WHEN 'waiting' THEN 'group_wait'
  WHEN 'told' THEN 'notified'
  WHEN 'brief' THEN 'resolved_early'
  WHEN 'limited' THEN 'rate_limited'
  ELSE reason END;
PRAGMA user_version = 5;
