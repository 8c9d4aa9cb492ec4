"""A sink that a third party built against the installed SDK alone works in a real server."""

import subprocess

import pytest
from annal_server import MANIFESTS, PLUGINS, PROJECT, SOURCE, event, wait_until

EXAMPLE = SOURCE / "examples" / "third_party_sink"
