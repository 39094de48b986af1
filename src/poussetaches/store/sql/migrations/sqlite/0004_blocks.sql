-- An index by state and queue in blocks of 1,024 tasks that were added one after another. Without
-- them, the tasks of a commit are in as many places of the index as they have queues and states,
-- and each place is a page to be written. See filter_query.py, which finds the blocks.
DROP INDEX tasks_listed;
CREATE INDEX tasks_listed ON tasks (seq >> 10, state, queue);
