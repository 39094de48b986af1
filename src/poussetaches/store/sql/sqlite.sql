-- add_task: one row a task
INSERT INTO tasks (lane, {task_columns}) VALUES (?, {task_marks});

-- restore_task: unless the id is known
INSERT INTO tasks (lane, {task_columns}) VALUES (?, {task_marks})
ON CONFLICT (id) DO NOTHING RETURNING seq;

-- add_attempt: of the task with this seq
INSERT INTO attempts (task, ordinal, {attempt_columns}) VALUES (?, ?, {attempt_marks});

-- cut_attempt: what is kept of an earlier answer
UPDATE attempts
SET response_body = substr(response_body, 1, :keep), response_truncated = 1
WHERE task = :task AND ordinal = :ordinal AND length(response_body) > :keep;

-- drop_attempt: one from the middle, when a task has too many
DELETE FROM attempts WHERE task = ? AND ordinal = ?;

-- seq_of: the row of a task
SELECT seq FROM tasks WHERE id = ?;

-- task: by its row
SELECT {task_columns} FROM tasks WHERE seq = ?;

-- raw_task: whatever the row holds
SELECT * FROM tasks WHERE seq = ?;

-- attempts: of a task, oldest first
SELECT {attempt_columns} FROM attempts WHERE task = ? ORDER BY ordinal;

-- last_attempt: of a task
SELECT {attempt_columns} FROM attempts WHERE task = ? ORDER BY ordinal DESC LIMIT 1;

-- last_failure: the last attempt of a task that failed
SELECT {attempt_columns} FROM attempts WHERE task = ? AND NOT succeeded
ORDER BY ordinal DESC LIMIT 1;

-- list_enveloped: a page of the original's tasks, runs of schedules included
SELECT seq, run_at, CAST(id AS BLOB) FROM tasks
WHERE envelope = 1 AND state = :state AND (run_at, id) > (:run_at, :id)
ORDER BY run_at, id LIMIT :limit;

-- list_enveloped_waiting: the same for waiting ones, runs of schedules left out
SELECT seq, run_at, CAST(id AS BLOB) FROM tasks
WHERE envelope = 1 AND state = :state AND (run_at, id) > (:run_at, :id) AND schedule IS NULL
ORDER BY run_at, id LIMIT :limit;

-- next_priority: the highest priority below another that a lane has waiting
SELECT priority FROM tasks WHERE state = 'waiting' AND lane = ? AND priority < ?
ORDER BY priority DESC LIMIT 1;

-- first_waiting: of a lane and a priority, the first to run
SELECT seq, run_at FROM tasks WHERE state = 'waiting' AND lane = ? AND priority = ?
ORDER BY run_at, seq LIMIT ?;

-- move_task: what the end of an attempt changes
UPDATE tasks
SET state = ?, reason = ?, run_at = ?, ended_at = ?, attempt_count = ?, attempt_total = ?,
    last_status = ?, last_error = ?
WHERE seq = ?;

-- bury_task: a task that waits dies
UPDATE tasks SET state = 'dead', reason = ?, ended_at = ?
WHERE seq = ? AND state = 'waiting';

-- cancel_task: it runs, and is not to be tried again
UPDATE tasks SET cancelled = 1 WHERE seq = ?;

-- leased_task: what tells whether the end of an attempt is on disk
SELECT attempt_total, cancelled FROM tasks WHERE seq = ? AND state = 'waiting';

-- cancelled_tasks: those that a crash left waiting
SELECT seq, queue, attempt_count FROM tasks WHERE cancelled = 1 AND state = 'waiting';

-- delete_task: the row alone
DELETE FROM tasks WHERE seq = ?;

-- delete_attempts: of one task
DELETE FROM attempts WHERE task = ?;

-- unfinished_runs: of a schedule
SELECT seq, queue, attempt_count FROM tasks WHERE schedule = ? AND state = 'waiting';

-- latest_run: of a schedule
SELECT seq FROM tasks WHERE schedule = ? ORDER BY seq DESC LIMIT 1;

-- expired_tasks: waiting past their end
SELECT seq, queue, attempt_count FROM tasks
WHERE state = 'waiting' AND expires_at IS NOT NULL AND expires_at <= ?
ORDER BY expires_at LIMIT ?;

-- ended_tasks: of a queue and state, those that ended first
SELECT seq, ended_at FROM tasks WHERE queue = ? AND state = ? AND ended_at IS NOT NULL
ORDER BY ended_at, seq LIMIT ?;

-- lanes: all of them
SELECT id, queue, origin FROM lanes;

-- lane: its number
SELECT id FROM lanes WHERE queue = ? AND origin = ?;

-- use_lane: new or known, it is used now; returns its number
INSERT INTO lanes (queue, origin, used_at) VALUES (?, ?, ?)
ON CONFLICT (queue, origin) DO UPDATE SET used_at = max(used_at, excluded.used_at)
RETURNING id;

-- lanes_used_since: a moment
SELECT queue, origin FROM lanes WHERE used_at >= ?;

-- add_queue: unless it is there
INSERT INTO queues (name) VALUES (?) ON CONFLICT (name) DO NOTHING;

-- queues: with their counts
SELECT name, waiting, failing, succeeded, dead FROM queues;

-- count: add to a queue's counts
UPDATE queues
SET waiting = waiting + ?, failing = failing + ?, succeeded = succeeded + ?, dead = dead + ?
WHERE name = ?;

-- add_schedule: unless the name is known
INSERT INTO schedules ({schedule_columns}) VALUES ({schedule_marks})
ON CONFLICT (name) DO NOTHING RETURNING 1;

-- schedule: by its name
SELECT {schedule_columns} FROM schedules WHERE name = ?;

-- raw_attempts: of a task, whatever the rows hold
SELECT * FROM attempts WHERE task = ? ORDER BY ordinal;

-- raw_schedule: whatever the row holds
SELECT * FROM schedules WHERE name = ?;

-- owned_schedules: their names, the next to run first
SELECT name FROM schedules WHERE owner = ? ORDER BY next_run_at, name;

-- due_schedules: their names
SELECT name FROM schedules WHERE next_run_at <= ? ORDER BY next_run_at, name;

-- stranded_schedules: fired, or made, at a time still to come
SELECT name FROM schedules WHERE max(ifnull(last_fired_at, 0), created_at) > ? ORDER BY name;

-- next_schedule_at: the earliest of all
SELECT min(next_run_at) FROM schedules;

-- last_fired_at: of a schedule
SELECT last_fired_at FROM schedules WHERE name = ?;

-- move_schedule: its moments
UPDATE schedules
SET created_at = ?, anchor_at = ?, next_run_at = ?, last_fired_at = ?, last_task_id = ?
WHERE name = ?;

-- delete_schedule: by its name
DELETE FROM schedules WHERE name = ?;

-- server_value: one that the server keeps
SELECT value FROM server WHERE name = ?;

-- put_server_value: new or changed
INSERT INTO server (name, value) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- add_unreadable: a row that was set aside
INSERT INTO unreadable (found_at, origin_table, reason, content) VALUES (?, ?, ?, ?);

-- unreadable_count: rows that were set aside at any time
SELECT count(*) FROM unreadable;

-- queue_counts: of ended tasks
SELECT succeeded, dead FROM queues WHERE name = ?;
