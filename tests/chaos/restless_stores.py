"""Stores whose commits take their time, and some of which are rolled back when all was written."""

import postgres_cluster
from test_disk_faults import FailingDisk


class RestlessDatabase:
    """PostgreSQL takes up to 50 ms more for every second commit, refuses some, and ends the connection of others instead of an
    answer. That goes for appends, for what delivery keeps, and for leases."""

    CHAOS = """
CREATE OR REPLACE FUNCTION chaos() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE fate float := random();
BEGIN
    PERFORM pg_sleep(greatest(0, 0.1 * random() - 0.05));
    IF fate < 0.08 THEN RAISE 'this commit is refused' USING ERRCODE = '53100'; END IF;
    IF fate < 0.10 THEN RAISE 'this commit is refused' USING ERRCODE = '53200'; END IF;
    IF fate < 0.12 THEN RAISE 'this commit may be tried again' USING ERRCODE = '40001'; END IF;
    IF fate < 0.14 THEN PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(1); END IF;
    RETURN NULL;
END $$;
"""
    # Every append writes one of the first two: the batches of events, and the marks of commits that have none. Cursors are leases'.
    TRIGGERS = "".join(
        f"CREATE CONSTRAINT TRIGGER chaos AFTER INSERT OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION chaos();\n" for table in ("event_batches", "commit_marks", "leases"))
    CALM = """
CREATE OR REPLACE FUNCTION chaos() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
"""

    def __init__(self, url):
        self.url = url

    def begin(self):
        postgres_cluster.shared().sql(self.url, self.CHAOS + self.TRIGGERS)

    def end(self):
        postgres_cluster.shared().sql(self.url, self.CALM)


class RestlessDisk:
    """A disk that takes up to 50 ms more for every second sync, and has no room for one write in a hundred: SQLite rolls back what
    that was part of."""

    def __init__(self, server):
        self.disk = FailingDisk(server)

    def begin(self):
        self.disk.fail("write ENOSPC data/ 1", "sync 50 data/ 50")

    def end(self):
        self.disk.free()
