"""A receiver in a process of its own, with the packages of build/receivers or of Debian, which pytest does not see."""

import os
import signal
import subprocess
import sys
from pathlib import Path

RECEIVERS = Path(__file__).resolve().parents[2] / "build" / "receivers"
PYTHON = str(RECEIVERS / "bin" / "python")
START_DEADLINE_S = 60
STOP_DEADLINE_S = 20


def see_installed_packages():
    """Lets this process import what lies in build/receivers. It was made by the same Python, so even what is compiled fits."""
    places = list((RECEIVERS / "lib").glob("python3*/site-packages"))
    assert places, "the receivers are not there: tests/install.sh tests/receivers/requirements.txt build/receivers"
    if str(places[0]) not in sys.path:
        sys.path.append(str(places[0]))


class Program:
    """Runs a command that prints the port that it listens on as its first line and ends with its standard input."""

    def __init__(self, *command, env=None):
        # A group of its own, so that nothing of it stays behind.
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env=dict(os.environ) | {"PYTHONDONTWRITEBYTECODE": "1"} | (env or {}))
        line = self.process.stdout.readline()
        if not line.strip().isdigit():
            self.stop()
            raise AssertionError(f"{command} did not start: {line!r}")
        self.port = int(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process.stdout.close()


def serve_until_stopped(port):
    """What such a program does once it listens."""
    print(port, flush=True)
    sys.stdin.read()
