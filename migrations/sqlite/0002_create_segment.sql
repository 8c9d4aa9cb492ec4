-- One segment: consecutive events of every project, all of one month. key = pid << 40 | seq.

CREATE TABLE projects (
    pid       INTEGER PRIMARY KEY,
    project   TEXT NOT NULL UNIQUE,
    first_seq INTEGER NOT NULL
);

-- In the order they came: the batches of one commit share a page, whatever their projects.
CREATE TABLE event_batches (
    n           INTEGER PRIMARY KEY,
    key         INTEGER NOT NULL,
    last_seq    INTEGER NOT NULL,
    last_at     INTEGER NOT NULL,
    digest      BLOB NOT NULL,
    prev_digest BLOB NOT NULL
);

-- An id is made again from created_at and random. A tombstone keeps key, created_at, random, version and leaf.
CREATE TABLE events (
    key             INTEGER PRIMARY KEY,
    created_at      INTEGER NOT NULL,
    occurred_at     INTEGER,
    random          INTEGER NOT NULL,
    version         INTEGER NOT NULL,
    deleted         INTEGER NOT NULL,
    external_id     TEXT,
    action          TEXT,
    actor_type      TEXT,
    actor_id        TEXT,
    actor_email     TEXT,
    auth_type       TEXT,
    user_id         TEXT,
    organization_id TEXT,
    client_id       TEXT,
    issuer_id       TEXT,
    agent_id        TEXT,
    target_type     TEXT,
    target_id       TEXT,
    ip              TEXT,
    user_agent      TEXT,
    description     TEXT,
    metadata        TEXT,
    salt            BLOB,
    leaf            BLOB NOT NULL
);

-- What the same commit does to other files. target: 0 control.db, 1 idempotency keys.
CREATE TABLE redo (
    n      INTEGER NOT NULL,
    target INTEGER NOT NULL,
    body   BLOB NOT NULL,
    PRIMARY KEY (n, target)
) WITHOUT ROWID;
