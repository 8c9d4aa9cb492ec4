"""Servers whose wall clock is off (../shifted_clock)."""

import os
import shutil
from datetime import timedelta

from annal_server import BUILD

LIBRARY = BUILD / "libshifted_clock.so"


def shifted(into=None, **offset):
    """The environment of a server whose wall clock is off by `offset`, as of a timedelta: shifted(hours=1), shifted(days=-31).

    `into` is a folder for a copy of the library: who runs as another user may not see the build's.
    """
    library = shutil.copy(LIBRARY, into) if into else LIBRARY
    # The layer comes before the sanitizer's library, which minds.
    options = os.environ.get("ASAN_OPTIONS", "detect_leaks=1") + ":verify_asan_link_order=0"
    return {"ASAN_OPTIONS": options, "LD_PRELOAD": str(library),
            "SHIFTED_CLOCK_S": str(round(timedelta(**offset).total_seconds()))}
