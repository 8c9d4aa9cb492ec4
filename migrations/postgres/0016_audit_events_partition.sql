-- The events, range-partitioned by created_at, a month a partition. There is no default partition: an event without a
-- month of its own is an error, and the append path makes the month.

-- For the text indexes of sealed months. It is trusted: who owns the database may create it.
CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE TABLE audit_events (
    seq             bigint NOT NULL,
    created_at      timestamptz NOT NULL,
    occurred_at     bigint,               -- microseconds since 1970: any claim is kept
    id              uuid NOT NULL,        -- UUIDv7 of created_at
    version         smallint NOT NULL,    -- of the canonical bytes
    deleted         boolean NOT NULL DEFAULT false,
    project_id      text COLLATE "C" NOT NULL,
    leaf            bytea NOT NULL,
    salt            bytea,
    external_id     text COLLATE "C",
    action          text COLLATE "C",
    actor_type      text COLLATE "C",
    actor_id        text COLLATE "C",
    actor_email     text COLLATE "C",
    auth_type       text COLLATE "C",
    user_id         text COLLATE "C",
    organization_id text COLLATE "C",
    client_id       text COLLATE "C",
    issuer_id       text COLLATE "C",
    agent_id        text COLLATE "C",
    target_type     text COLLATE "C",
    target_id       text COLLATE "C",
    ip              text COLLATE "C",
    user_agent      text COLLATE "C",
    description     text COLLATE "C",
    metadata        text COLLATE "C",
    PRIMARY KEY (project_id, seq, created_at)
) PARTITION BY RANGE (created_at);

-- What a month has while it is open. Each index costs every append; the others come when the month is sealed.
CREATE INDEX audit_events_action ON audit_events (project_id, action, seq) WHERE action IS NOT NULL;
CREATE INDEX audit_events_actor_id ON audit_events (project_id, actor_id, seq) WHERE actor_id IS NOT NULL;
CREATE INDEX audit_events_user_id ON audit_events (project_id, user_id, seq) WHERE user_id IS NOT NULL;
CREATE INDEX audit_events_organization_id ON audit_events (project_id, organization_id, seq) WHERE organization_id IS NOT NULL;
CREATE INDEX audit_events_target_id ON audit_events (project_id, target_id, seq) WHERE target_id IS NOT NULL;
