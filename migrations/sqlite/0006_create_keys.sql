-- Idempotency keys of one month. hash names (kind, project, key); receipts are 24 bytes each: seq, created_at, random.

CREATE TABLE keys (
    hash     BLOB PRIMARY KEY,
    digest   BLOB NOT NULL,
    receipts BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE applied (
    segment INTEGER PRIMARY KEY,
    redo    INTEGER NOT NULL
);
