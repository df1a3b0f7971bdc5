"""The model of a stage, opened when it is needed.

Belongs here: from a model's folder to something that draws. Not here: which stages there are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_core.model.config import ModelConfig

if TYPE_CHECKING:
    from got_core.evaluate.drawers.drawer import PipelineOrDrawer
    from got_core.model.pipeline import GoTPipeline
    from got_core.storage import Storage


@dataclass(frozen=True, kw_only=True)
class StageModel:
    """A model on the way of a training."""

    title: str
    """Such as `pretraining`; no two of a run share theirs."""

    weights_hash: str
    open: Callable[[], PipelineOrDrawer]
    """What draws with it; called only where pictures are missing."""


def stage_model(
    title: str, reference: Mapping[str, Any], storage: Storage, config: ModelConfig, seed: int
) -> StageModel:
    """Of a model reference as training assets hand it on. `seed`: of what foundation models lack and the
    first stage starts with, such as the new rows of an embedding."""
    return StageModel(
        title=title,
        weights_hash=reference["weights_hash"],
        open=lambda: opened_stage(storage.download(reference["folder"]), config, seed),
    )


def opened_stage(folder: Path, config: ModelConfig, seed: int) -> GoTPipeline:
    """A saved pipeline, or foundation models put together as the first stage does; with all cores, since
    nothing else computes then. Raises OSError or ValueError where the folder holds neither."""
    import torch

    from got_core.evaluate.drawers.opening import opened
    from got_core.model.formats.saved import load_foundation

    if (folder / "model_index.json").exists():
        return opened(folder, threads=os.cpu_count())
    torch.set_num_threads(os.cpu_count() or 1)
    pipeline = load_foundation(folder, config, seed)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
