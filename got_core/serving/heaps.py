"""How many heaps the server's threads share.

Belongs here: this one setting, of which nothing else is imported. Not here: giving memory back
(`got_core.registry.loading`), limits on what comes in (`gate`).
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

_ARENA_MAX = -8
"""`M_ARENA_MAX` of glibc's `mallopt`."""


def share_heaps(most: int = 2) -> None:
    """At most so many for all threads, where glibc has up to eight a core: each keeps what large requests
    leave in it. To be called before there are threads; with another C library nothing changes."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, most)
