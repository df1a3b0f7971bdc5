"""Nodes of a Ray cluster that are not there yet: waited for, before too few of them are an error.

Belongs here: the waiting. Not here: how many something needs (`train.ray.workers`, `evaluate.ray_workers`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

Decision = TypeVar("Decision")

NODES_SECONDS = 180.0
"""How long nodes are waited for: after a restart of their head they come back one after another, each up to a
minute later, for that long they hold on to the old one (ray 2.60)."""
_POLL = 2.0
_log = logging.getLogger(__name__)


class TooFewError(ValueError):
    """A cluster has too little for something: what it has, what is needed, and what to do."""


def once_there(decide: Callable[[], Decision], address: str | None) -> Decision:
    """What ``decide`` returns, asked again for NODES_SECONDS where it raises TooFewError and more nodes may
    come: on a cluster with an ``address``. Ray that was started here has what it has. Raises what it raises
    last."""
    until = time.monotonic() + (0.0 if address is None else NODES_SECONDS)
    said = False
    while True:
        try:
            return decide()
        except TooFewError as error:
            if time.monotonic() >= until:
                raise
            if not said:
                _log.warning("%s; waiting for more nodes, up to %.0f s", error, NODES_SECONDS)
                said = True
        time.sleep(_POLL)
