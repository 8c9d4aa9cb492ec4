"""Servers whose clock is off, by libfaketime."""

import os
from pathlib import Path

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


def shifted(offset):
    """The environment of a server whose wall clock is off by `offset`: "+1h", "-31d"."""
    assert LIBRARY, "the package libfaketime is missing: ./dev setup"
    options = os.environ.get("ASAN_OPTIONS", "detect_leaks=1") + ":verify_asan_link_order=0"
    return {"LD_PRELOAD": str(LIBRARY), "FAKETIME": offset, "DONT_FAKE_MONOTONIC": "1", "ASAN_OPTIONS": options}
