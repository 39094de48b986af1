-- last_number: the highest number ever given to a task
SELECT seq FROM sqlite_sequence WHERE name = 'tasks';

-- add_task: one row
INSERT INTO tasks (seq, lane, failure_group, failed_at, {task_columns})
VALUES (?, ?, ?, ?, {task_marks});

-- add_minimal_task: one row of a task whose other columns have their defaults
INSERT INTO tasks (
    seq, lane, state, forced, cancelled, attempt_count, attempt_total, round, {minimal_columns}
)
VALUES (?, ?, 'waiting', 0, 0, 0, 0, 1, {minimal_marks});

-- restore_task: unless the id exists
INSERT INTO tasks (lane, failure_group, failed_at, {task_columns})
VALUES (?, ?, ?, {task_marks})
ON CONFLICT (id) DO NOTHING RETURNING seq;

-- add_label: to the index of labels
INSERT INTO labels (name, value, task) VALUES (?, ?, ?);

-- delete_labels: all labels of a task
DELETE FROM labels WHERE task = ?;

-- key: its task and the digest of its push, unless it has expired
SELECT CAST(task_id AS BLOB), content FROM keys WHERE queue = ? AND key = ? AND expires_at > ?;

-- free_key: if it belongs to the task
DELETE FROM keys WHERE queue = ? AND key = ? AND task_id = ?;

-- free_keys_of_queue: all keys of a queue
DELETE FROM keys WHERE queue = ?;

-- put_key: replaces an expired one
REPLACE INTO keys (queue, key, task_id, content, expires_at) VALUES (?, ?, ?, ?, ?);

-- unique_tasks: waiting tasks with the value, newest first
SELECT seq FROM tasks
WHERE state = 'waiting' AND unique_value IS NOT NULL AND queue = ? AND unique_value = ?
ORDER BY seq DESC;

-- add_attempt: of the task with this number
INSERT INTO attempts (task, ordinal, {attempt_columns}) VALUES (?, ?, {attempt_marks});

-- cut_attempt: the response of an earlier attempt
UPDATE attempts
SET response_body = substr(response_body, 1, :keep), response_truncated = 1
WHERE task = :task AND ordinal = :ordinal AND length(response_body) > :keep;

-- drop_attempt: one from the middle, if a task has too many
DELETE FROM attempts WHERE task = ? AND ordinal = ?;

-- seq_of: the number of a task
SELECT seq FROM tasks WHERE id = ?;

-- task: by its number
SELECT {task_columns} FROM tasks WHERE seq = ?;

-- tasks: by their numbers, which are in the last column
SELECT {task_columns}, seq FROM tasks WHERE seq IN (SELECT value FROM json_each(?));

-- light_task: without headers and body
SELECT {light_columns} FROM tasks WHERE seq = ?;

-- light_tasks: like tasks, without headers and bodies
SELECT {light_columns}, seq FROM tasks WHERE seq IN (SELECT value FROM json_each(?));

-- sizes: bytes of tasks' bodies and of their attempts' responses
SELECT seq, ifnull(length(body), 0)
    + ifnull((SELECT sum(length(response_body)) FROM attempts WHERE task = seq), 0)
FROM tasks WHERE seq IN (SELECT value FROM json_each(?));

-- raw_task: all columns, not decoded
SELECT * FROM tasks WHERE seq = ?;

-- attempts: of a task, oldest first
SELECT {attempt_columns} FROM attempts WHERE task = ? ORDER BY ordinal;

-- last_attempt: of a task
SELECT {attempt_columns} FROM attempts WHERE task = ? ORDER BY ordinal DESC LIMIT 1;

-- last_failure: the last failed attempt of a task
SELECT {attempt_columns} FROM attempts WHERE task = ? AND NOT succeeded
ORDER BY ordinal DESC LIMIT 1;

-- list_enveloped: a page of the original's tasks, including runs of schedules
SELECT seq, run_at, CAST(id AS BLOB) FROM tasks
WHERE envelope = 1 AND state = :state AND (run_at, id) > (:run_at, :id)
ORDER BY run_at, id LIMIT :limit;

-- list_enveloped_waiting: a page of the original's waiting tasks, without runs of schedules
SELECT seq, run_at, CAST(id AS BLOB) FROM tasks
WHERE envelope = 1 AND state = :state AND (run_at, id) > (:run_at, :id) AND schedule IS NULL
ORDER BY run_at, id LIMIT :limit;

-- next_priority: the highest priority below a limit among a lane's waiting tasks
SELECT priority FROM tasks WHERE state = 'waiting' AND lane = ? AND priority < ?
ORDER BY priority DESC LIMIT 1;

-- place_of_task: the columns that decide its place in its lane
SELECT seq, lane, priority, run_at FROM tasks WHERE id = ? AND state = 'waiting';

-- count_due: tasks of a lane and a priority that are due before a given one, up to a limit
SELECT count(*) FROM (
    SELECT 1 FROM tasks
    WHERE state = 'waiting' AND lane = ? AND priority = ? AND run_at <= ?
        AND (run_at, seq) < (?, ?) AND seq NOT IN (SELECT value FROM json_each(?))
    LIMIT ?
);

-- first_waiting: for each lane, the first tasks of its highest priority below a limit
SELECT json_group_array(json_array(wanted.lane, (
    SELECT json_group_array(json_array(seq, run_at, priority))
    FROM (
        SELECT seq, run_at, priority FROM tasks
        WHERE state = 'waiting' AND lane = wanted.lane AND priority = (
            SELECT priority FROM tasks
            WHERE state = 'waiting' AND lane = wanted.lane AND priority < wanted.below
            ORDER BY priority DESC LIMIT 1
        )
        ORDER BY run_at, seq LIMIT ?
    ) AS first
)))
FROM (SELECT value ->> 0 AS lane, value ->> 1 AS below FROM json_each(?)) AS wanted;

-- first_unexpired: like first_waiting, without expired tasks
SELECT json_group_array(json_array(wanted.lane, (
    SELECT json_group_array(json_array(seq, run_at, priority))
    FROM (
        SELECT seq, run_at, priority FROM tasks
        WHERE state = 'waiting' AND lane = wanted.lane AND priority = (
            SELECT priority FROM tasks
            WHERE state = 'waiting' AND lane = wanted.lane AND priority < wanted.below
                AND (expires_at IS NULL OR expires_at > :now)
            ORDER BY priority DESC LIMIT 1
        ) AND (expires_at IS NULL OR expires_at > :now)
        ORDER BY run_at, seq LIMIT :limit
    ) AS first
)))
FROM (SELECT value ->> 0 AS lane, value ->> 1 AS below FROM json_each(:wanted)) AS wanted;

-- waiting_after: tasks due after a moment; reads only the index
SELECT seq FROM tasks INDEXED BY tasks_due WHERE state = 'waiting' AND run_at > ?;

-- pull_back: after the clock was set back
UPDATE tasks SET
    run_at = CASE
        WHEN attempt_count > 0 AND NOT forced THEN min(run_at, :now + run_at - failed_at)
        ELSE :now
    END,
    due_at = min(due_at, :now),
    failed_at = min(failed_at, :now)
WHERE seq IN (SELECT value FROM json_each(:numbers)) AND state = 'waiting' AND run_at > :now
    AND CASE
        WHEN attempt_count > 0 AND NOT forced THEN failed_at > :confirmed
        ELSE run_at <= created_at
            OR (run_at <= :was AND (forced OR created_at > :now OR round > 1))
    END
RETURNING seq, lane, run_at;

-- lanes_numbered: lanes by their numbers
SELECT id, CAST(queue AS BLOB), CAST(origin AS BLOB), forced FROM lanes
WHERE id IN (SELECT value FROM json_each(?));

-- last_use: creation of the task added last, and the latest minute
SELECT
    (SELECT created_at FROM tasks ORDER BY seq DESC LIMIT 1),
    (SELECT max(minute) FROM minutes);

-- move_task: after an attempt or a burial
UPDATE tasks
SET lane = ifnull(?, lane), failure_group = ?, failed_at = ifnull(?, failed_at),
    ({moved_columns}) = ({moved_marks})
WHERE seq = ?;

-- succeed_tasks: after successful attempts
UPDATE tasks
SET state = 'succeeded', ended_at = ended.column2, attempt_count = ended.column3,
    attempt_total = ended.column4, last_status = ended.column5, last_error = ended.column6,
    failure_group = NULL, cancelled = 0
FROM (VALUES (?, ?, ?, ?, ?, ?)) AS ended
WHERE seq = ended.column1;

-- put_off_task: after a failed attempt, if the task waits for a retry
UPDATE tasks
SET failure_group = ?, failed_at = ifnull(?, failed_at),
    ({progress_columns}) = ({progress_marks})
WHERE seq = ?;

-- leased_task: shows whether the end of an attempt is on disk
SELECT attempt_total, cancelled FROM tasks WHERE seq = ? AND state = 'waiting';

-- cancelled_tasks: waiting tasks that were cancelled while running before a crash
SELECT seq FROM tasks WHERE cancelled = 1 AND state = 'waiting';

-- delete_task: only its own row
DELETE FROM tasks WHERE seq = ?;

-- delete_attempts: all attempts of a task
DELETE FROM attempts WHERE task = ?;

-- unfinished_runs: of a schedule
SELECT seq, attempt_count FROM tasks WHERE schedule = ? AND state = 'waiting';

-- latest_run: of a schedule
SELECT seq FROM tasks WHERE schedule = ? ORDER BY seq DESC LIMIT 1;

-- expired_tasks: waiting tasks past their expires_at
SELECT seq FROM tasks
WHERE state = 'waiting' AND expires_at IS NOT NULL AND expires_at <= ?
ORDER BY expires_at LIMIT ?;

-- next_expiry: the earliest expires_at of waiting tasks
SELECT min(expires_at) FROM tasks WHERE state = 'waiting' AND expires_at IS NOT NULL;

-- ended_tasks: of a queue and state, earliest ended first
SELECT seq, ended_at FROM tasks WHERE queue = ? AND state = ? AND ended_at IS NOT NULL
ORDER BY ended_at, seq LIMIT ?;

-- lanes: all; as blobs, since a text that is not UTF-8 must not prevent a start
SELECT id, CAST(queue AS BLOB), CAST(origin AS BLOB), forced FROM lanes;

-- lane: the number of a lane
SELECT id FROM lanes WHERE queue = ? AND origin = ? AND forced = ?;

-- use_lane: create a lane or update its last use; return its number
INSERT INTO lanes (queue, origin, forced, used_at) VALUES (?, ?, ?, ?)
ON CONFLICT (queue, origin, forced) DO UPDATE SET used_at = max(used_at, excluded.used_at)
RETURNING id;

-- idle_lanes: unused since a moment, without waiting tasks
SELECT id, CAST(queue AS BLOB), CAST(origin AS BLOB), forced FROM lanes
WHERE used_at <= ?
    AND NOT EXISTS (SELECT 1 FROM tasks WHERE state = 'waiting' AND lane = lanes.id)
LIMIT ?;

-- delete_lane: by its number
DELETE FROM lanes WHERE id = ?;

-- delete_lanes_of: all lanes of a queue
DELETE FROM lanes WHERE queue = ?;

-- lanes_used_since: a moment
SELECT id, CAST(queue AS BLOB), CAST(origin AS BLOB), forced FROM lanes WHERE used_at >= ?;

-- put_queue: new or changed
INSERT INTO queues (name, settings, declared, configured, paused) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE
SET settings = excluded.settings, declared = excluded.declared, configured = excluded.configured,
    paused = excluded.paused;

-- delete_queue: by its name
DELETE FROM queues WHERE name = ?;

-- stored_queues: as blobs, since a text that is not UTF-8 must not prevent a start
SELECT CAST(name AS BLOB), CAST(settings AS BLOB), CAST(declared AS BLOB), configured, paused FROM queues;

-- idle_queues: never configured, without tasks and lanes
SELECT CAST(name AS BLOB) FROM queues
WHERE NOT configured AND NOT paused AND settings IS NULL AND name <> 'default'
    AND waiting = 0 AND succeeded = 0 AND dead = 0
    AND NOT EXISTS (SELECT 1 FROM lanes WHERE lanes.queue = queues.name)
LIMIT ?;

-- queues: all, with their counts
SELECT CAST(name AS BLOB), waiting, failing, succeeded, dead FROM queues;

-- count: add to the counts of queues
UPDATE queues
SET waiting = waiting + added.column2, failing = failing + added.column3,
    succeeded = succeeded + added.column4, dead = dead + added.column5
FROM (VALUES (?, ?, ?, ?, ?)) AS added
WHERE name = added.column1;

-- put_schedule: new or changed
REPLACE INTO schedules ({schedule_columns}) VALUES ({schedule_marks});

-- count_schedules: of an owner
SELECT count(*) FROM schedules WHERE owner = ?;

-- count_all_schedules: of all owners
SELECT count(*) FROM schedules;

-- owner_of_schedule: by the schedule's name
SELECT owner FROM schedules WHERE name = ?;

-- version_of: the version that an owner declared last
SELECT version FROM owners WHERE name = ?;

-- put_version: the version that an owner declared last
REPLACE INTO owners (name, version) VALUES (?, ?);

-- schedule: by its name
SELECT {schedule_columns} FROM schedules WHERE name = CAST(? AS TEXT);

-- raw_attempts: all columns of a task's attempts, not decoded
SELECT * FROM attempts WHERE task = ? ORDER BY ordinal;

-- raw_schedule: all columns, not decoded
SELECT * FROM schedules WHERE name = CAST(? AS TEXT);

-- owned_schedules: names of an owner's schedules, the next to run first
SELECT CAST(name AS BLOB) FROM schedules WHERE owner = ? ORDER BY next_run_at, name;

-- all_schedules: names, the next to run first
SELECT CAST(name AS BLOB) FROM schedules ORDER BY next_run_at, name;

-- due_schedules: their names
SELECT CAST(name AS BLOB) FROM schedules WHERE paused = 0 AND next_run_at <= ? ORDER BY next_run_at, name;

-- stranded_schedules: fired or created after a moment
SELECT CAST(name AS BLOB) FROM schedules
WHERE max(ifnull(last_fired_at, 0), created_at) > ? ORDER BY name;

-- next_schedule_at: the earliest next run
SELECT min(next_run_at) FROM schedules WHERE paused = 0;

-- firing_of: the last occurrence fired, unless the schedule is paused or not due
SELECT last_fired_at FROM schedules WHERE name = ? AND NOT paused AND next_run_at <= ?;

-- note_run: the latest run of a schedule
UPDATE schedules SET last_task_id = ? WHERE name = ?;

-- move_schedule: its moments, unless it is no longer due at the occurrence that it skips
UPDATE schedules
SET created_at = :created_at, anchor_at = :anchor_at, next_run_at = :next_run_at,
    last_fired_at = :last_fired_at, last_task_id = :last_task_id
WHERE name = :name AND (:last_fired_at IS NULL OR next_run_at <= :last_fired_at);

-- pause_schedule: by its name
UPDATE schedules SET paused = 1 WHERE name = ?;

-- delete_schedule: by its name
DELETE FROM schedules WHERE name = CAST(? AS TEXT);

-- server_value: a value of the server by its name
SELECT value FROM server WHERE name = ?;

-- put_server_value: new or changed
INSERT INTO server (name, value) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- kept_clock: the clock record; as a blob, since a text that is not UTF-8 must not prevent a start
SELECT CAST(value AS BLOB) FROM server WHERE name = 'clock';

-- buckets: of all queues
SELECT CAST(substr(name, 8) AS BLOB), CAST(value AS BLOB) FROM server
WHERE name >= 'bucket:' AND name < 'bucket;';

-- delete_full_buckets: full by a moment, or unreadable
DELETE FROM server WHERE name IN (
    SELECT name FROM server WHERE name >= 'bucket:' AND name < 'bucket;'
        AND CASE WHEN json_valid(value) THEN ifnull(value ->> 'full_at', 0) ELSE 0 END <= ?
    LIMIT ?
);

-- add_unreadable: a row that was set aside
INSERT INTO unreadable (found_at, origin_table, reason, content) VALUES (?, ?, ?, ?);

-- unreadable_count: the number of rows that were ever set aside
SELECT count(*) FROM unreadable;

-- queue_counts: of a queue, as stored
SELECT waiting, failing, succeeded, dead FROM queues WHERE name = ?;

-- failing_queues: queues with failing tasks
SELECT name FROM queues WHERE failing > 0 ORDER BY name;

-- add_failure_group: unless it exists
INSERT INTO failure_groups (id, queue, url_path, status, error) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING;

-- idle_failure_groups: without tasks
SELECT CAST(id AS BLOB) FROM failure_groups
WHERE NOT EXISTS (
    SELECT 1 FROM tasks WHERE state IN ('waiting', 'dead') AND failure_group = failure_groups.id
)
LIMIT ?;

-- delete_failure_group: by its id
DELETE FROM failure_groups WHERE id = CAST(? AS TEXT);

-- failures: the next tasks of a state in the order of their groups, counted by group
SELECT id, CAST(queue AS BLOB), CAST(url_path AS BLOB), status, CAST(error AS BLOB), found.size, found.first_at, found.last_at,
    found.newest, (SELECT CAST(id AS BLOB) FROM tasks WHERE seq = found.newest)
FROM (
    SELECT failure_group, count(*) AS size, min(failed_at) AS first_at,
        max(failed_at) AS last_at, max(seq) AS newest
    FROM (
        SELECT failure_group, seq, failed_at FROM tasks INDEXED BY tasks_failures
        WHERE state = :state AND failure_group = :group AND seq > :seq
        UNION ALL
        SELECT failure_group, seq, failed_at FROM tasks INDEXED BY tasks_failures
        WHERE state = :state AND failure_group > :group
        ORDER BY failure_group, seq LIMIT :limit
    )
    GROUP BY failure_group
) AS found JOIN failure_groups ON failure_groups.id = found.failure_group
ORDER BY id;

-- delete_passed_keys: expired by a moment
DELETE FROM keys WHERE (queue, key) IN (
    SELECT queue, key FROM keys WHERE expires_at <= ? ORDER BY expires_at LIMIT ?
);

-- put_minute: new or replaced
REPLACE INTO minutes ({minute_columns}) VALUES ({minute_marks});

-- minutes: of a queue, from a moment on
SELECT {minute_columns} FROM minutes WHERE queue = ? AND minute >= ? ORDER BY minute;

-- delete_passed_minutes: before a moment
DELETE FROM minutes WHERE (queue, minute) IN (
    SELECT queue, minute FROM minutes WHERE minute < ? ORDER BY minute LIMIT ?
);

-- page_count: of the database
PRAGMA page_count;

-- page_size: in bytes
PRAGMA page_size;

-- application: the id of the program that owns the database
PRAGMA application_id;

-- expected_tasks: the number of tasks according to the counts of queues
SELECT ifnull(sum(waiting + succeeded + dead), 0) FROM queues;

-- queue_names: all, and the empty name for all queues together
SELECT CAST(name AS BLOB) FROM queues UNION ALL SELECT x'';

-- export_server: all values of the server
SELECT name, value FROM server ORDER BY name;

-- export_owners: with the versions that they declared last
SELECT name, version FROM owners ORDER BY name;

-- export_keys: all idempotency keys
SELECT queue, key, task_id, content, expires_at FROM keys ORDER BY queue, key;

-- export_minutes: of all queues
SELECT {minute_columns} FROM minutes ORDER BY queue, minute;

-- export_unreadable: rows that were set aside
SELECT found_at, origin_table, reason, content FROM unreadable ORDER BY id;

-- export_ordinals: numbers of a task's attempts over all its rounds
SELECT ordinal FROM attempts WHERE task = ? ORDER BY ordinal;

-- failed_at: the time of a task's last failure
SELECT failed_at FROM tasks WHERE seq = ?;
