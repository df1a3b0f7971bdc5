"""The plans of an opened benchmark's pictures.

Belongs here: where each benchmark's pictures and prompts are found. Not here: the file (`evaluate.plans`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from got_core.evaluate.plans import plans_of_pictures, plans_of_rows
from got_core.evaluate.published.edits import OpenedEdits
from got_core.evaluate.published.scenes import OpenedScenes

if TYPE_CHECKING:
    import polars as pl

    from got_core.storage import Storage


def published_plans(opened: Any, folder: Storage, frame: pl.DataFrame) -> bytes:
    """The lines of `plans.jsonl` for judged pictures that the project drew; empty for other programs'.

    `frame`: what `opened.judge` gave for the folder.
    """
    if isinstance(opened, OpenedScenes):
        return plans_of_rows(frame)
    if isinstance(opened, OpenedEdits):
        samples = opened.samples.samples
        return plans_of_pictures(
            frame,
            folder,
            places={one.key: f"{opened.benchmark.place(one.key)}.png" for one in samples},
            prompts={one.key: one.instruction for one in samples},
        )
    return plans_of_pictures(frame, folder)
