-- last_number: given to a task so far
SELECT seq FROM sqlite_sequence WHERE name = 'tasks';

-- add_task: one row a task
INSERT INTO tasks (seq, lane, failure_group, failed_at, {task_columns})
VALUES (?, ?, ?, ?, {task_marks});

-- add_plain_task: the same for a new task with nothing out of the ordinary
INSERT INTO tasks (
    seq, lane, state, forced, cancelled, attempt_count, attempt_total, round, {plain_columns}
)
VALUES (?, ?, 'waiting', 0, 0, 0, 0, 1, {plain_marks});

-- restore_task: unless the id is known
INSERT INTO tasks (lane, failure_group, failed_at, {task_columns})
VALUES (?, ?, ?, {task_marks})
ON CONFLICT (id) DO NOTHING RETURNING seq;

-- add_label: for finding a task
INSERT INTO labels (name, value, task) VALUES (?, ?, ?);

-- delete_labels: of one task
DELETE FROM labels WHERE task = ?;

-- key: what it stands for
SELECT CAST(task_id AS BLOB), content FROM keys WHERE queue = ? AND key = ? AND expires_at > ?;

-- free_key: if it belongs to this task
DELETE FROM keys WHERE queue = ? AND key = ? AND task_id = ?;

-- free_keys_of_queue: of any task
DELETE FROM keys WHERE queue = ?;

-- put_key: new, or in the place of one past its time
REPLACE INTO keys (queue, key, task_id, content, expires_at) VALUES (?, ?, ?, ?, ?);

-- unique_tasks: those that wait with a value, the newest first
SELECT seq FROM tasks
WHERE state = 'waiting' AND unique_value IS NOT NULL AND queue = ? AND unique_value = ?
ORDER BY seq DESC;

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

-- tasks: many of them, with their numbers
SELECT {task_columns}, seq FROM tasks WHERE seq IN (SELECT value FROM json_each(?));

-- light_task: without headers and body
SELECT {light_columns} FROM tasks WHERE seq = ?;

-- light_tasks: many of them, with their numbers
SELECT {light_columns}, seq FROM tasks WHERE seq IN (SELECT value FROM json_each(?));

-- sizes: of the bodies that tasks have, and their attempts
SELECT seq, ifnull(length(body), 0)
    + ifnull((SELECT sum(length(response_body)) FROM attempts WHERE task = seq), 0)
FROM tasks WHERE seq IN (SELECT value FROM json_each(?));

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

-- place_of_task: what tells who comes before it
SELECT seq, lane, priority, run_at FROM tasks WHERE id = ? AND state = 'waiting';

-- count_due: of a lane and a priority, those due before another, up to a limit
SELECT count(*) FROM (
    SELECT 1 FROM tasks
    WHERE state = 'waiting' AND lane = ? AND priority = ? AND run_at <= ?
        AND (run_at, seq) < (?, ?) AND seq NOT IN (SELECT value FROM json_each(?))
    LIMIT ?
);

-- first_waiting: the first to run of lanes, each with its highest priority below another
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

-- first_unexpired: the same without expired tasks
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

-- waiting_after: a moment; reads the index alone
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

-- lanes_numbered: some of them
SELECT id, CAST(queue AS BLOB), CAST(origin AS BLOB), forced FROM lanes
WHERE id IN (SELECT value FROM json_each(?));

-- last_use: creation of the task added last, and the latest minute
SELECT
    (SELECT created_at FROM tasks ORDER BY seq DESC LIMIT 1),
    (SELECT max(minute) FROM minutes);

-- move_task: what the end of an attempt changes
UPDATE tasks
SET lane = ifnull(?, lane), failure_group = ?, failed_at = ifnull(?, failed_at),
    ({moved_columns}) = ({moved_marks})
WHERE seq = ?;

-- succeed_tasks: what the end of an attempt that went well changes
UPDATE tasks
SET state = 'succeeded', ended_at = ended.column2, attempt_count = ended.column3,
    attempt_total = ended.column4, last_status = ended.column5, last_error = ended.column6,
    failure_group = NULL, cancelled = 0
FROM (VALUES (?, ?, ?, ?, ?, ?)) AS ended
WHERE seq = ended.column1;

-- put_off_task: what the end of an attempt changes of a task that goes on waiting
UPDATE tasks
SET failure_group = ?, failed_at = ifnull(?, failed_at),
    ({progress_columns}) = ({progress_marks})
WHERE seq = ?;

-- leased_task: what tells whether the end of an attempt is on disk
SELECT attempt_total, cancelled FROM tasks WHERE seq = ? AND state = 'waiting';

-- cancelled_tasks: those that a crash left waiting
SELECT seq FROM tasks WHERE cancelled = 1 AND state = 'waiting';

-- delete_task: the row alone
DELETE FROM tasks WHERE seq = ?;

-- delete_attempts: of one task
DELETE FROM attempts WHERE task = ?;

-- unfinished_runs: of a schedule
SELECT seq, attempt_count FROM tasks WHERE schedule = ? AND state = 'waiting';

-- latest_run: of a schedule
SELECT seq FROM tasks WHERE schedule = ? ORDER BY seq DESC LIMIT 1;

-- expired_tasks: waiting past their end
SELECT seq FROM tasks
WHERE state = 'waiting' AND expires_at IS NOT NULL AND expires_at <= ?
ORDER BY expires_at LIMIT ?;

-- next_expiry: of waiting tasks
SELECT min(expires_at) FROM tasks WHERE state = 'waiting' AND expires_at IS NOT NULL;

-- ended_tasks: of a queue and state, those that ended first
SELECT seq, ended_at FROM tasks WHERE queue = ? AND state = ? AND ended_at IS NOT NULL
ORDER BY ended_at, seq LIMIT ?;

-- lanes: all of them; a text that is not UTF-8 must not stop the start
SELECT id, CAST(queue AS BLOB), CAST(origin AS BLOB), forced FROM lanes;

-- lane: its number
SELECT id FROM lanes WHERE queue = ? AND origin = ? AND forced = ?;

-- use_lane: new or known, it is used now; returns its number
INSERT INTO lanes (queue, origin, forced, used_at) VALUES (?, ?, ?, ?)
ON CONFLICT (queue, origin, forced) DO UPDATE SET used_at = max(used_at, excluded.used_at)
RETURNING id;

-- idle_lanes: unused since a moment, and without waiting tasks
SELECT id, CAST(queue AS BLOB), CAST(origin AS BLOB), forced FROM lanes
WHERE used_at <= ?
    AND NOT EXISTS (SELECT 1 FROM tasks WHERE state = 'waiting' AND lane = lanes.id)
LIMIT ?;

-- delete_lane: by its number
DELETE FROM lanes WHERE id = ?;

-- delete_lanes_of: a queue
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

-- stored_queues: as they were set; a text that is not UTF-8 must not stop the start
SELECT CAST(name AS BLOB), CAST(settings AS BLOB), CAST(declared AS BLOB), configured, paused FROM queues;

-- idle_queues: that nobody set anything on, without tasks and lanes
SELECT CAST(name AS BLOB) FROM queues
WHERE NOT configured AND NOT paused AND settings IS NULL AND name <> 'default'
    AND waiting = 0 AND succeeded = 0 AND dead = 0
    AND NOT EXISTS (SELECT 1 FROM lanes WHERE lanes.queue = queues.name)
LIMIT ?;

-- queues: with their counts
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

-- count_all_schedules: whoever owns them
SELECT count(*) FROM schedules;

-- owner_of_schedule: by its name
SELECT owner FROM schedules WHERE name = ?;

-- version_of: what an owner declared last
SELECT version FROM owners WHERE name = ?;

-- put_version: of what an owner declares
REPLACE INTO owners (name, version) VALUES (?, ?);

-- schedule: by its name
SELECT {schedule_columns} FROM schedules WHERE name = CAST(? AS TEXT);

-- raw_attempts: of a task, whatever the rows hold
SELECT * FROM attempts WHERE task = ? ORDER BY ordinal;

-- raw_schedule: whatever the row holds
SELECT * FROM schedules WHERE name = CAST(? AS TEXT);

-- owned_schedules: their names, the next to run first
SELECT CAST(name AS BLOB) FROM schedules WHERE owner = ? ORDER BY next_run_at, name;

-- all_schedules: their names, the next to run first
SELECT CAST(name AS BLOB) FROM schedules ORDER BY next_run_at, name;

-- due_schedules: their names
SELECT CAST(name AS BLOB) FROM schedules WHERE paused = 0 AND next_run_at <= ? ORDER BY next_run_at, name;

-- stranded_schedules: fired, or made, at a time still to come
SELECT CAST(name AS BLOB) FROM schedules
WHERE max(ifnull(last_fired_at, 0), created_at) > ? ORDER BY name;

-- next_schedule_at: the earliest of all
SELECT min(next_run_at) FROM schedules WHERE paused = 0;

-- firing_of: when a schedule fired last, unless it is paused, or not due at an occurrence any more
SELECT last_fired_at FROM schedules WHERE name = ? AND NOT paused AND next_run_at <= ?;

-- note_run: the last one of a schedule
UPDATE schedules SET last_task_id = ? WHERE name = ?;

-- move_schedule: its moments, unless it is not due any more at the occurrence that it leaves
UPDATE schedules
SET created_at = :created_at, anchor_at = :anchor_at, next_run_at = :next_run_at,
    last_fired_at = :last_fired_at, last_task_id = :last_task_id
WHERE name = :name AND (:last_fired_at IS NULL OR next_run_at <= :last_fired_at);

-- pause_schedule: by its name
UPDATE schedules SET paused = 1 WHERE name = ?;

-- delete_schedule: by its name
DELETE FROM schedules WHERE name = CAST(? AS TEXT);

-- server_value: one that the server keeps
SELECT value FROM server WHERE name = ?;

-- put_server_value: new or changed
INSERT INTO server (name, value) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- kept_clock: the clock record; a text that is not UTF-8 must not stop the start
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

-- unreadable_count: rows that were set aside at any time
SELECT count(*) FROM unreadable;

-- queue_counts: as they are stored
SELECT waiting, failing, succeeded, dead FROM queues WHERE name = ?;

-- queues_with: tasks waiting, succeeded or dead, each asked for by a one
SELECT name FROM queues
WHERE waiting * ? + succeeded * ? + dead * ? > 0 ORDER BY name;

-- add_failure_group: unless it is there
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

-- failures: the next tasks of a state in the order of their groups, counted by these
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

-- delete_passed_keys: past their time
DELETE FROM keys WHERE (queue, key) IN (
    SELECT queue, key FROM keys WHERE expires_at <= ? ORDER BY expires_at LIMIT ?
);

-- put_minute: new, or in the place of what was known of it
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

-- application: whose database it is
PRAGMA application_id;

-- expected_tasks: as many as the counts of the queues say
SELECT ifnull(sum(waiting + succeeded + dead), 0) FROM queues;

-- queue_names: and the empty one, for all queues together
SELECT CAST(name AS BLOB) FROM queues UNION ALL SELECT x'';

-- export_server: what it keeps of itself
SELECT name, value FROM server ORDER BY name;

-- export_owners: with the version that was declared last
SELECT name, version FROM owners ORDER BY name;

-- export_keys: what each stands for
SELECT queue, key, task_id, content, expires_at FROM keys ORDER BY queue, key;

-- export_minutes: of all queues
SELECT {minute_columns} FROM minutes ORDER BY queue, minute;

-- export_unreadable: rows that were set aside
SELECT found_at, origin_table, reason, content FROM unreadable ORDER BY id;

-- export_ordinals: of a task's attempts
SELECT ordinal FROM attempts WHERE task = ? ORDER BY ordinal;

-- failed_at: when a task failed
SELECT failed_at FROM tasks WHERE seq = ?;
