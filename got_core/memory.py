"""Memory of this process that nothing uses any more.

Belongs here: giving it back. Not here: how much a model takes (`model`, `registry.loading`).
"""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress


def give_back_memory() -> None:
    """To the system what nothing refers to any more, also of a GPU, and what malloc keeps of it (glibc)."""
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
