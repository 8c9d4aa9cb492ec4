-- Added when a segment takes no more events. The key is the last column of every index, so one value's events come in order.

DELETE FROM redo;

CREATE INDEX events_external_id ON events (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX events_action ON events (action) WHERE action IS NOT NULL;
CREATE INDEX events_actor_type ON events (actor_type) WHERE actor_type IS NOT NULL;
CREATE INDEX events_actor_id ON events (actor_id) WHERE actor_id IS NOT NULL;
CREATE INDEX events_actor_email ON events (actor_email) WHERE actor_email IS NOT NULL;
CREATE INDEX events_auth_type ON events (auth_type) WHERE auth_type IS NOT NULL;
CREATE INDEX events_user_id ON events (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX events_organization_id ON events (organization_id) WHERE organization_id IS NOT NULL;
CREATE INDEX events_client_id ON events (client_id) WHERE client_id IS NOT NULL;
CREATE INDEX events_issuer_id ON events (issuer_id) WHERE issuer_id IS NOT NULL;
CREATE INDEX events_agent_id ON events (agent_id) WHERE agent_id IS NOT NULL;
CREATE INDEX events_target_type ON events (target_type) WHERE target_type IS NOT NULL;
CREATE INDEX events_target_id ON events (target_id) WHERE target_id IS NOT NULL;
CREATE INDEX events_ip ON events (ip) WHERE ip IS NOT NULL;
CREATE INDEX events_deleted ON events (deleted) WHERE deleted = 1;

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
