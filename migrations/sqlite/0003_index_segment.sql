-- Added when a segment takes no more events, each in a transaction of its own. The key is the last column of every index on
-- events, so one value's events come in order.

CREATE UNIQUE INDEX IF NOT EXISTS event_batches_key ON event_batches (key);
CREATE INDEX IF NOT EXISTS events_external_id ON events (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_action ON events (action) WHERE action IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_actor_type ON events (actor_type) WHERE actor_type IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_actor_id ON events (actor_id) WHERE actor_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_actor_email ON events (actor_email) WHERE actor_email IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_auth_type ON events (auth_type) WHERE auth_type IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_user_id ON events (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_organization_id ON events (organization_id) WHERE organization_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_client_id ON events (client_id) WHERE client_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_issuer_id ON events (issuer_id) WHERE issuer_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_agent_id ON events (agent_id) WHERE agent_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_target_type ON events (target_type) WHERE target_type IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_target_id ON events (target_id) WHERE target_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_ip ON events (ip) WHERE ip IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_deleted ON events (deleted) WHERE deleted = 1;
