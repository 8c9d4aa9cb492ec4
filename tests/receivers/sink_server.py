"""A real server with one sink that delivers to a receiver on this machine."""

import json
import site
import sys
import time

from annal_server import MANIFESTS, SOURCE, event, wait_until

PROJECT = "acme"


def use_installed_receivers():
    """Makes what install.sh has put into build/receivers importable."""
    folder = SOURCE / "build" / "receivers" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    assert folder.is_dir(), "run tests/install.sh tests/receivers/requirements.txt build/receivers first"
    site.addsitedir(str(folder))


class SinkServer:
    """`library` is the sink's; `config` may name secrets, which `secrets` has by their name. `port` is all that it may reach."""

    def __init__(self, make_server, library, config, port, secrets, timeout="10s", batch=None):
        self.server = make_server(env={"ANNAL_BOOTSTRAP_PROJECT": PROJECT})
        self.instance = "to-" + library.replace("_", "-")
        manifest = {
            "apiVersion": "annal.dev/v1", "kind": "Plugin", "metadata": {"name": self.instance},
            "spec": {
                "library": {"name": library}, "config": config, "limits": {"timeout": timeout},
                "triggers": [{"name": "all", "events": {"project": PROJECT, "batch": batch or {"maxEvents": 100}}}],
                "permissions": {"http": [f"127.0.0.1:{port}"], "secrets": list(secrets)},
            },
        }
        path = self.server.folder / "sink.yaml"
        path.write_text(json.dumps(manifest))  # JSON is YAML
        self.server.env["ANNAL_MANIFESTS"] = f"{MANIFESTS}:{path}"
        self._secrets = self.server.data_dir / "secrets"
        for name, value in secrets.items():
            self.set_secret(name, value)

    def set_secret(self, name, value):
        """What the server reads at its next start."""
        path = self._secrets / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)
        path.chmod(0o600)

    def start(self):
        self.server.start()
        self.client = self.server.client(project=PROJECT)
        return self

    def ingest(self, count, first=0, **more):
        """Events whose metadata say which they are; the log's new end."""
        receipts = []
        for begin in range(first, first + count, 500):
            batch = range(begin, min(begin + 500, first + count))
            receipts += self.client.ingest(*(event("acme.happened", **({"metadata": {"i": i}} | more)) for i in batch))
        return receipts[-1]["seq"]

    def stream(self):
        """What the server says of the sink's stream."""
        (stream,) = self.client.get("/v1/plugins").json()["streams"]
        return stream

    def wait_state(self, *states, seconds=30):
        return wait_until(lambda: (lambda s: s if s["state"] in states else None)(self.stream()), seconds, f"the state {states}")

    def wait_cursor(self, seq, seconds=60):
        wait_until(lambda: self.stream()["cursor_seq"] >= seq, seconds, f"the cursor at {seq}: {self.stream()}")

    def exported(self):
        """The canonical events, as the server itself hands them out, oldest first."""
        return [json.loads(line) for line in self.client.export_lines()[::-1]]

    def everything_it_says(self):
        """Logs, metrics and the state of the stream."""
        return self.server.stderr() + self.client.get("/metrics", key=False).text + self.client.get("/v1/plugins").text

    def stays(self, condition, seconds=2):
        """That `condition` holds all the time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert condition()
            time.sleep(0.05)


def all_options_on(name):
    """The text of an example manifest with every option switched on."""
    lines = (MANIFESTS / "examples" / name).read_text().splitlines()
    assert any("#| " in line for line in lines)
    # The placeholder of a digest is no digest.
    return "\n".join(line.replace("#| ", "") for line in lines if "sha256" not in line) + "\n"
