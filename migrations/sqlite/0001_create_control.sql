-- control.db: state beside the events. Applied from the redo records of the segments, never on its own.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE kv (
    space   TEXT NOT NULL,
    project TEXT NOT NULL,
    key     TEXT NOT NULL,
    value   BLOB NOT NULL,
    PRIMARY KEY (space, project, key)
) WITHOUT ROWID;

CREATE TABLE cursors (
    subscription TEXT PRIMARY KEY,
    seq          INTEGER NOT NULL
) WITHOUT ROWID;

-- Highest redo record of each segment that this file contains.
CREATE TABLE applied (
    segment INTEGER PRIMARY KEY,
    redo    INTEGER NOT NULL
);

-- The end of each log, written before its events are dropped.
CREATE TABLE project_log (
    project     TEXT PRIMARY KEY,
    first_seq   INTEGER NOT NULL,
    head_seq    INTEGER NOT NULL,
    head_at     INTEGER NOT NULL,
    head_digest BLOB NOT NULL
) WITHOUT ROWID;

-- Segments that take no more events. state: 0 closed, 1 settled (its redo is not needed any more), 2 indexed.
CREATE TABLE segments (
    segment INTEGER PRIMARY KEY,
    month   INTEGER NOT NULL,
    events  INTEGER NOT NULL,
    state   INTEGER NOT NULL
);

-- What each of them holds of each project.
CREATE TABLE spans (
    segment    INTEGER NOT NULL,
    pid        INTEGER NOT NULL,
    project    TEXT NOT NULL,
    first_seq  INTEGER NOT NULL,
    last_seq   INTEGER NOT NULL,
    first_at   INTEGER NOT NULL,
    last_at    INTEGER NOT NULL,
    digest     BLOB NOT NULL,
    tombstones INTEGER NOT NULL,
    PRIMARY KEY (segment, pid)
) WITHOUT ROWID;

-- Erasures in closed segments, hidden already, whose content has still to go.
CREATE TABLE erasures (
    segment INTEGER NOT NULL,
    key     INTEGER NOT NULL,
    PRIMARY KEY (segment, key)
) WITHOUT ROWID;
