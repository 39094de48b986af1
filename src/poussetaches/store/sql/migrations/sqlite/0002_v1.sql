-- Queues with settings, lanes that no pause stops, keys, labels, failure groups, statistics.
-- Tasks are written anew, so that body stays the last column. The failure groups of those that
-- are there already are filled in afterwards: see sqlite/migration_steps.py.

ALTER TABLE queues ADD COLUMN settings TEXT;
ALTER TABLE queues ADD COLUMN configured INTEGER NOT NULL DEFAULT 0;
ALTER TABLE queues ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
INSERT INTO queues (name) VALUES ('default') ON CONFLICT (name) DO NOTHING;

-- A lane whose tasks were told to run now is apart from the others: no pause stops it. The
-- origin is empty for URLs that are paths.
CREATE TABLE new_lanes (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL REFERENCES queues (name),
    origin TEXT NOT NULL,
    forced INTEGER NOT NULL,
    used_at INTEGER NOT NULL,
    UNIQUE (queue, origin, forced)
) STRICT;
INSERT INTO new_lanes (id, queue, origin, forced, used_at)
SELECT id, queue, origin, 0, used_at FROM lanes;
DROP TABLE lanes;
ALTER TABLE new_lanes RENAME TO lanes;

-- The lane of an ended task may be gone: it is looked up again when the task is requeued.
CREATE TABLE new_tasks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    lane INTEGER NOT NULL,
    queue TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'succeeded', 'dead')),
    reason TEXT,
    priority INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    ended_at INTEGER,
    forced INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    round INTEGER NOT NULL,
    attempt_count INTEGER NOT NULL,
    attempt_total INTEGER NOT NULL,
    last_status INTEGER,
    last_error TEXT,
    failure_group TEXT REFERENCES failure_groups (id),
    failed_at INTEGER,
    schedule TEXT,
    key TEXT,
    unique_value TEXT,
    labels TEXT,
    envelope INTEGER NOT NULL,
    method TEXT NOT NULL,
    url TEXT NOT NULL,
    expected TEXT,
    timeout REAL,
    retry TEXT,
    on_success TEXT,
    on_dead TEXT,
    body_kind TEXT,
    headers TEXT,
    body BLOB
) STRICT;
INSERT INTO new_tasks (
    seq, id, lane, queue, state, reason, priority, run_at, due_at, created_at, expires_at,
    ended_at, cancelled, round, attempt_count, attempt_total, last_status, last_error, schedule,
    envelope, method, url, expected, timeout, headers, body
)
SELECT
    seq, id, lane, queue, state, reason, priority, run_at, due_at, created_at, expires_at,
    ended_at, cancelled, round, attempt_count, attempt_total, last_status, last_error, schedule,
    envelope, method, url, expected, timeout, headers, body
FROM tasks;
-- Numbers that were given out once are never given out again.
DELETE FROM sqlite_sequence WHERE name = 'new_tasks';
INSERT INTO sqlite_sequence (name, seq)
SELECT 'new_tasks', seq FROM sqlite_sequence WHERE name = 'tasks';
DROP TABLE tasks;
ALTER TABLE new_tasks RENAME TO tasks;

CREATE INDEX tasks_due ON tasks (lane, priority, run_at) WHERE state = 'waiting';
-- Every index ends in seq, so that what it finds comes in the order of adding.
CREATE INDEX tasks_listed ON tasks (queue, state);
CREATE INDEX tasks_expiring ON tasks (expires_at)
    WHERE state = 'waiting' AND expires_at IS NOT NULL;
CREATE INDEX tasks_ended ON tasks (queue, state, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX tasks_envelope ON tasks (state, run_at, id) WHERE envelope = 1;
CREATE INDEX tasks_cancelled ON tasks (seq) WHERE cancelled = 1;
CREATE INDEX tasks_schedule ON tasks (schedule) WHERE schedule IS NOT NULL;
CREATE INDEX tasks_key ON tasks (key) WHERE key IS NOT NULL;
CREATE INDEX tasks_unique ON tasks (queue, unique_value)
    WHERE state = 'waiting' AND unique_value IS NOT NULL;
-- Failing and dead tasks only: failed_at is when the last attempt failed, or the task died.
-- With seq before failed_at a group is read in the order of adding, and counted from here alone.
CREATE INDEX tasks_failures ON tasks (state, failure_group, seq, failed_at)
    WHERE failure_group IS NOT NULL;
CREATE INDEX tasks_failing ON tasks (queue)
    WHERE state = 'waiting' AND failure_group IS NOT NULL;

CREATE TABLE labels (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    task INTEGER NOT NULL REFERENCES tasks (seq),
    PRIMARY KEY (name, value, task)
) STRICT, WITHOUT ROWID;

CREATE INDEX labels_of ON labels (task);

-- A key outlives its task. content is a digest of the url, the method and the body.
CREATE TABLE keys (
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    task_id TEXT NOT NULL,
    content BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (queue, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX keys_expiring ON keys (expires_at);

CREATE TABLE failure_groups (
    id TEXT PRIMARY KEY,
    queue TEXT NOT NULL,
    url_path TEXT NOT NULL,
    status INTEGER,
    error TEXT NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE schedules ADD COLUMN misfire TEXT NOT NULL DEFAULT 'once';
ALTER TABLE schedules ADD COLUMN misfire_grace REAL;
ALTER TABLE schedules ADD COLUMN overlap TEXT NOT NULL DEFAULT 'skip';
ALTER TABLE schedules ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
DROP INDEX schedules_due;
CREATE INDEX schedules_due ON schedules (next_run_at) WHERE paused = 0;

-- Who declares whole sets of schedules, and the version that was declared last.
CREATE TABLE owners (
    name TEXT PRIMARY KEY,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- queue is empty for all queues together. Spans are seconds.
CREATE TABLE minutes (
    queue TEXT NOT NULL,
    minute INTEGER NOT NULL,
    pushed INTEGER NOT NULL,
    started INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    died INTEGER NOT NULL,
    lateness_p50 REAL,
    lateness_p95 REAL,
    duration_p50 REAL,
    duration_p95 REAL,
    PRIMARY KEY (queue, minute)
) STRICT, WITHOUT ROWID;

CREATE INDEX minutes_passed ON minutes (minute);
