-- The last of what is added to a segment that takes no more events, in one transaction.

DELETE FROM redo;

CREATE TABLE rollup_hourly (
    pid     INTEGER NOT NULL,
    hour    INTEGER NOT NULL,
    action  TEXT NOT NULL,
    count   INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    PRIMARY KEY (pid, hour, action)
) WITHOUT ROWID;

INSERT INTO rollup_hourly
SELECT key >> 40, created_at / 3600000000, action, count(*), max(created_at)
FROM events
WHERE deleted = 0
GROUP BY 1, 2, 3;

-- Raised with every erasure; part of whatever is cached about the segment.
CREATE TABLE mutation (epoch INTEGER NOT NULL);
INSERT INTO mutation VALUES (0);
