-- Moments are microseconds since 1970-01-01 UTC. NULL in a column of tasks means the default.
-- The references are for readers and checks; they are not enforced at each write.

CREATE TABLE server (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The counts are changed in the transactions that change the tasks; nothing counts rows.
CREATE TABLE queues (
    name TEXT PRIMARY KEY,
    waiting INTEGER NOT NULL DEFAULT 0,
    failing INTEGER NOT NULL DEFAULT 0,
    succeeded INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE lanes (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL REFERENCES queues (name),
    origin TEXT NOT NULL,
    used_at INTEGER NOT NULL,
    UNIQUE (queue, origin)
) STRICT;

-- A running task is waiting here: its lease lives in the memory of the one process.
-- body comes last, so that reading the rest does not follow its pages.
-- Without AUTOINCREMENT the number of a deleted row would be given to another task, which would
-- then be taken for the deleted one by whoever still has its number in memory.
CREATE TABLE tasks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    lane INTEGER NOT NULL REFERENCES lanes (id),
    queue TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'succeeded', 'dead')),
    reason TEXT,
    priority INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    ended_at INTEGER,
    cancelled INTEGER NOT NULL DEFAULT 0,
    round INTEGER NOT NULL,
    attempt_count INTEGER NOT NULL,
    attempt_total INTEGER NOT NULL,
    last_status INTEGER,
    last_error TEXT,
    schedule TEXT,
    envelope INTEGER NOT NULL,
    method TEXT NOT NULL,
    url TEXT NOT NULL,
    headers TEXT,
    expected TEXT,
    timeout REAL,
    body BLOB
) STRICT;

CREATE INDEX tasks_due ON tasks (lane, priority, run_at) WHERE state = 'waiting';
CREATE INDEX tasks_expiring ON tasks (expires_at)
    WHERE state = 'waiting' AND expires_at IS NOT NULL;
CREATE INDEX tasks_ended ON tasks (queue, state, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX tasks_envelope ON tasks (state, run_at, id) WHERE envelope = 1;
CREATE INDEX tasks_cancelled ON tasks (seq) WHERE cancelled = 1;
CREATE INDEX tasks_schedule ON tasks (schedule) WHERE schedule IS NOT NULL;

-- ordinal counts a task's attempts over all its rounds, from 1.
CREATE TABLE attempts (
    task INTEGER NOT NULL REFERENCES tasks (seq),
    ordinal INTEGER NOT NULL,
    round INTEGER NOT NULL,
    number INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    duration REAL NOT NULL,
    succeeded INTEGER NOT NULL,
    status INTEGER,
    error TEXT,
    response_truncated INTEGER NOT NULL,
    key_sent INTEGER NOT NULL,
    response_body BLOB,
    PRIMARY KEY (task, ordinal)
) STRICT, WITHOUT ROWID;

CREATE TABLE schedules (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    cron TEXT NOT NULL,
    timezone TEXT NOT NULL,
    task TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    anchor_at INTEGER NOT NULL,
    next_run_at INTEGER NOT NULL,
    last_fired_at INTEGER,
    last_task_id TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX schedules_due ON schedules (next_run_at);

-- Rows that could not be read, whole, as JSON (blobs in hex), with what was wrong.
CREATE TABLE unreadable (
    id INTEGER PRIMARY KEY,
    found_at INTEGER NOT NULL,
    origin_table TEXT NOT NULL,
    reason TEXT NOT NULL,
    content TEXT NOT NULL
) STRICT;
