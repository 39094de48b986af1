-- end_missing: succeeded or dead tasks have no end time
SELECT id FROM tasks WHERE state <> 'waiting' AND ended_at IS NULL;

-- end_too_early: waiting tasks have an end time, or a reason for dying
SELECT id FROM tasks WHERE state = 'waiting' AND (ended_at IS NOT NULL OR reason IS NOT NULL);

-- reason_missing: dead tasks have no reason
SELECT id FROM tasks WHERE state = 'dead' AND reason IS NULL;

-- reason_of_success: succeeded tasks have a reason for dying
SELECT id FROM tasks WHERE state = 'succeeded' AND reason IS NOT NULL;

-- attempts_miscounted: tasks have an impossible number of attempts or rounds
SELECT id FROM tasks WHERE attempt_count < 0 OR attempt_total < attempt_count OR round < 1;

-- lane_missing: waiting tasks belong to no lane, so they are not sent
SELECT id FROM tasks
WHERE state = 'waiting' AND NOT EXISTS (
    SELECT 1 FROM lanes WHERE lanes.id = tasks.lane
        AND lanes.queue = tasks.queue AND lanes.forced = tasks.forced
);

-- queue_missing: tasks belong to an unknown queue
SELECT id FROM tasks WHERE queue NOT IN (SELECT name FROM queues);

-- lane_of_no_queue: lanes belong to an unknown queue
SELECT queue || ' ' || origin FROM lanes WHERE queue NOT IN (SELECT name FROM queues);

-- group_missing: failing or dead tasks have no failure group
SELECT id FROM tasks
WHERE (state = 'dead' OR (state = 'waiting' AND attempt_count > 0)) AND NOT EXISTS (
    SELECT 1 FROM failure_groups WHERE failure_groups.id = tasks.failure_group
);

-- attempts_of_none: attempts belong to no task
SELECT request_id FROM attempts WHERE task NOT IN (SELECT seq FROM tasks);

-- attempts_too_many: attempts are numbered higher than the number of attempts of their task
SELECT id FROM tasks WHERE attempt_total < (SELECT max(ordinal) FROM attempts WHERE task = seq);

-- labels_of_none: labels belong to no task
SELECT name || '=' || value FROM labels WHERE task NOT IN (SELECT seq FROM tasks);

-- labels_differ: tasks have other labels than the index of labels
SELECT id FROM tasks
WHERE CASE WHEN labels IS NULL THEN 0 WHEN json_valid(labels)
        THEN (SELECT count(*) FROM json_each(labels)) ELSE -1 END
    <> (SELECT count(*) FROM labels WHERE task = seq);

-- number_not_counted: tasks have a number that will be used again
SELECT id FROM tasks
WHERE seq > (SELECT max(seq) FROM sqlite_sequence WHERE name = 'tasks');

-- keys_cut: keys have no digest of the push
SELECT key FROM keys WHERE length(content) <> 32;

-- schedule_stands_still: schedules are due before the last occurrence that was fired
SELECT name FROM schedules WHERE next_run_at <= last_fired_at;

-- pause_unclear: the server's own pause is neither on nor off
SELECT value FROM server WHERE name = 'paused' AND value NOT IN ('0', '1');

-- counts_differ: queues have counts that differ from the numbers of their tasks
SELECT queues.name FROM queues LEFT JOIN (
    SELECT queue, sum(state = 'waiting') AS waiting,
        sum(state = 'waiting' AND attempt_count > 0) AS failing,
        sum(state = 'succeeded') AS succeeded, sum(state = 'dead') AS dead
    FROM tasks GROUP BY queue
) AS counted ON counted.queue = queues.name
WHERE (queues.waiting, queues.failing, queues.succeeded, queues.dead) <> (
    ifnull(counted.waiting, 0), ifnull(counted.failing, 0),
    ifnull(counted.succeeded, 0), ifnull(counted.dead, 0)
);

-- set_aside: rows could not be read, and were set aside in the table unreadable
SELECT id || ' of ' || origin_table || ' (' || reason || ')' FROM unreadable;
