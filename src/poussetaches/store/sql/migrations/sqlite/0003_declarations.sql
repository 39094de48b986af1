-- The last declaration by code: of a queue in the format of settings, of a schedule as JSON.
ALTER TABLE queues ADD COLUMN declared TEXT;
ALTER TABLE schedules ADD COLUMN declared TEXT;

-- The last report of the handler, as JSON, and the cause of a failure.
ALTER TABLE attempts ADD COLUMN progress TEXT;
ALTER TABLE attempts ADD COLUMN cause TEXT;
