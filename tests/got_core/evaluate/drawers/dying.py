"""A pipeline that opens in one process alone; without torch, so that another one is soon there to die."""

from __future__ import annotations

import os
from typing import Any


def opened_in(process: int) -> Any:
    """The tiny pipeline in the process of that number; any other one ends."""
    if os.getpid() != process:
        os._exit(3)
    from tests.got_core.tiny_pipeline import tiny_pipeline

    return tiny_pipeline()
