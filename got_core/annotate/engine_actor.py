"""The process of an engine that stays between pipelines, and the way to it.

Belongs here: the actor and what sends batches to it, with nothing but the standard library: both are sent as
they are to environments that do not have this project. Not here: starting and ending it (`ray_engines`).
"""

from __future__ import annotations

import itertools
from typing import Any


class EngineActor:
    """Holds one stage of a Ray Data pipeline, such as vLLM's engine, and runs batches through it."""

    def __init__(self, stage: type, arguments: dict[str, Any]) -> None:
        self._stage = stage(**arguments)

    async def ready(self) -> bool:
        """Returns when the engine is up."""
        return True

    async def answer(self, batch: dict[str, Any]) -> dict[str, Any]:
        """What the stage makes of a batch. Several are under way at once."""
        async for result in self._stage(batch):
            return result
        return {}


class Forward:
    """Sends batches to engines in turn."""

    def __init__(self, engines: list[Any]) -> None:
        self._turns = itertools.cycle(engines)

    async def __call__(self, batch: dict[str, Any]) -> Any:
        """What an engine makes of a batch."""
        yield await next(self._turns).answer.remote(batch)
