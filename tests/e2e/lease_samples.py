"""The row of a lease in PostgreSQL, watched while something is done to the nodes that want it."""

import threading

from postgres_cluster import Session

SAMPLE_EVERY_S = 0.02


class LeaseSamples(threading.Thread):
    """Looks at the row in table leases all the time: (fence, cursor) pairs, oldest first, without repetitions."""

    def __init__(self, url, name="stream.%"):
        super().__init__(name="lease_samples")
        self._query = f"SELECT fence || ' ' || coalesce(cursor_seq, -1) FROM leases WHERE name LIKE '{name}'"
        self._session = Session(url)
        self._ended = threading.Event()
        self.count = 0
        self.found = []

    def run(self):
        while not self._ended.wait(SAMPLE_EVERY_S):
            for line in self._session.run(self._query):
                sample = tuple(map(int, line.split()))
                if self.found[-1:] != [sample]:
                    self.found.append(sample)
                self.count += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self.join()
        self._session.__exit__()

    def expect_monotonic(self):
        for earlier, later in zip(self.found, self.found[1:]):
            assert later[0] >= earlier[0] and later[1] >= earlier[1], f"{earlier} became {later}"

    def cursor_at_takeover(self, fence):
        """Where the tenure with this fence found the cursor."""
        return [cursor for known, cursor in self.found if known < fence][-1]

    def latest(self):
        return self.found[-1] if self.found else (0, -1)
