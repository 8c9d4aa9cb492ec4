"""A server with one stream to one sink, and what is looked at in every sink's test."""

import json

from annal_server import MANIFESTS, PROJECT, wait_until

BACKOFF_S = 60  # the longest pause of a stream between two attempts, and some more


class StreamServer:
    """A server whose one stream delivers PROJECT's events, all and from the first, through one sink.

    `config` is the sink's, `places` the host:ports that it may reach. Not started yet; `configure` may be called again between two
    starts. `format` is the stream's, if it has one. Everything else is the server's, at `.server`.
    """

    def __init__(self, make_server, library, config, places, batch_events=50, timeout="5s", format=None):
        self.server = make_server(env={"ANNAL_ALLOW_CIDRS": "127.0.0.0/8"})
        self.server.folder.mkdir(parents=True, exist_ok=True)
        self.manifest = self.server.folder / "sink.yaml"
        self.library, self.places, self.batch_events, self.timeout = library, list(places), batch_events, timeout
        self.format = {"format": format} if format else {}
        self.configure(config)
        self.server.env["ANNAL_MANIFESTS"] = f"{MANIFESTS}:{self.manifest}"

    def configure(self, config):
        """YAML reads JSON."""
        self.manifest.write_text(json.dumps({
            "apiVersion": "annal.dev/v1", "kind": "Plugin", "metadata": {"name": "sink"},
            "spec": {
                "library": {"name": self.library}, "config": config,
                "triggers": [{"name": "all", "events": {
                    "project": PROJECT, "from": "earliest", "batch": {"maxEvents": self.batch_events}} | self.format}],
                "limits": {"timeout": self.timeout},
                "permissions": {"http": self.places}}}))

    def start(self):
        self.server.start()
        return self

    def client(self):
        return self.server.client()

    def stream(self):
        """The stream as GET /v1/plugins shows it."""
        return self.client().get("/v1/plugins").json()["streams"][0]

    def wait_for_state(self, state, seconds=30):
        """The stream, as soon as it is in that state."""
        return wait_until(lambda: (s := self.stream())["state"] == state and s, seconds, f"the state {state}")

    def wait_for_end(self, seconds=BACKOFF_S):
        """Waits until the cursor stands at the log's end; the export's lines, oldest first."""
        client = self.client()
        count = client.count()
        assert count > 0, "nothing to deliver"
        wait_until(lambda: client.metric("annal_stream_cursor_seq", project=PROJECT) == count - 1, seconds, "the stream's end")
        return client.export_lines()[::-1]
