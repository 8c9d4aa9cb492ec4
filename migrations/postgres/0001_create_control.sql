-- State beside the events. project_id leads every key, so that each table can be distributed by project.

-- Rows of the host (space "host.…") and of plugins (space "plugin.<instance>"). Rows of no project have the project ''.
CREATE TABLE kv (
    project_id text COLLATE "C" NOT NULL,
    space      text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    value      bytea NOT NULL,
    PRIMARY KEY (project_id, space, key)
);
-- Scans over all projects: which keys there are, at start-up.
CREATE INDEX kv_space ON kv (space, project_id, key);

-- Who may work on a subscription or a job alone, until when by this database's clock, and how far it has come.
CREATE TABLE leases (
    project_id  text COLLATE "C" NOT NULL,
    name        text COLLATE "C" NOT NULL,
    owner       text COLLATE "C" NOT NULL DEFAULT '',
    fence       bigint NOT NULL DEFAULT 0,
    lease_until timestamptz NOT NULL DEFAULT '-infinity',
    cursor_seq  bigint,
    PRIMARY KEY (project_id, name)
) WITH (fillfactor = 50);
