-- What orders the events: written in the same transaction as they are, only ever inserted on the way of an append.

-- One row for each commit of a project. Its key is the fence: two writers at one head collide here.
-- Times are microseconds since 1970.
CREATE TABLE event_batches (
    project_id  text COLLATE "C" NOT NULL,
    first_seq   bigint NOT NULL,
    last_seq    bigint NOT NULL,
    last_at     bigint NOT NULL,
    digest      bytea NOT NULL,
    prev_digest bytea NOT NULL,
    PRIMARY KEY (project_id, first_seq)
);
CREATE INDEX event_batches_time ON event_batches (project_id, last_at);

-- One row for each commit without events, which has no batch to show for it: whoever got no answer to such a commit looks
-- here. Kept for minutes.
CREATE TABLE commit_marks (
    project_id text COLLATE "C" NOT NULL,
    mark       uuid NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (project_id, mark)
);

-- The lowest readable seq of a log of which something has been dropped.
CREATE TABLE project_log (
    project_id text COLLATE "C" NOT NULL PRIMARY KEY,
    first_seq  bigint NOT NULL
);

-- Where each month of a log begins. epoch rises with every erasure; whatever is cached about the month carries it.
CREATE TABLE project_months (
    project_id text COLLATE "C" NOT NULL,
    month      date NOT NULL,
    first_seq  bigint NOT NULL,
    epoch      bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (project_id, month)
);

-- Which actions a month of a log holds: what `ns.*` stands for.
CREATE TABLE project_actions (
    project_id text COLLATE "C" NOT NULL,
    month      date NOT NULL,
    action     text COLLATE "C" NOT NULL,
    PRIMARY KEY (project_id, month, action)
);

CREATE TABLE tombstones (
    project_id text COLLATE "C" NOT NULL,
    seq        bigint NOT NULL,
    PRIMARY KEY (project_id, seq)
);

-- Months that hold or held events, of whatever project. state: open; closed (takes no more events); sealed (and has all of
-- its indexes); dropped.
CREATE TABLE event_months (
    month date PRIMARY KEY,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed', 'sealed', 'dropped'))
);

-- Counts of sealed months that somebody asked for.
CREATE TABLE month_counts (
    project_id text COLLATE "C" NOT NULL,
    month      date NOT NULL,
    filter     bytea NOT NULL,
    epoch      bigint NOT NULL,
    count      bigint NOT NULL,
    PRIMARY KEY (project_id, month, filter)
);

-- Idempotency keys, a partition a month. name says kind, project and key; receipts are 24 bytes each.
CREATE TABLE idempotency_keys (
    project_id text COLLATE "C" NOT NULL,
    month      date NOT NULL,
    name       bytea NOT NULL,
    content    bytea NOT NULL,
    receipts   bytea NOT NULL,
    PRIMARY KEY (project_id, month, name)
) PARTITION BY RANGE (month);
