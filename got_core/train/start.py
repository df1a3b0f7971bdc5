"""What the first stage starts from: published weights, or small foundation models put together.

Belongs here: one untrained GoT pipeline. Not here: training the small models (``got_core.foundation``).
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from got_core.digests import digest
from got_core.model.build import pipeline_settings
from got_core.model.config import ModelConfig
from got_core.model.formats.configs import ConfigFolders
from got_core.model.formats.published import load_foundation_folders
from got_core.model.formats.published_checks import check_published
from got_core.model.formats.saved import load_foundation, load_pipeline, pipeline_without_weights
from got_core.model.pipeline import GoTPipeline
from got_core.train.cpu_time import CpuTimer
from got_core.train.run import Reference, TrainingRun, model_reference, weights_hash
from got_core.train.stage import check_predictions


def take_published(run: TrainingRun) -> Reference:
    """Put an untrained GoT pipeline of the run's published folders into storage. Returns its reference.

    Raises OSError, ValueError or CheckpointKeysError where a folder does not hold what it should, or not what
    the recipe is for; also where its pipeline is in storage already.
    """
    assert run.published is not None
    started, config, clock = time.monotonic(), run.recipe.model, CpuTimer()
    sdxl, qwen = (Path(folder) for folder in run.published)
    check_predictions(config.scheduler.prediction, run.recipe.stages[:1])
    folders = ConfigFolders.published(sdxl, qwen)
    check_published(folders, config.scheduler.prediction, run.variant)
    drawing = [weights_hash(folder, run.variant) for folder in (folders.unet, folders.vae)]
    key = digest([config, [*drawing, weights_hash(folders.mllm)]])
    name = f"models/foundation/{key}"
    if not run.storage().exists(f"{name}/model_index.json"):
        run.report(f"foundation: {sdxl} and {qwen}")
        pipeline = load_foundation_folders(sdxl, qwen, variant=run.variant, **pipeline_settings(config))
        with tempfile.TemporaryDirectory() as folder:
            pipeline.save_pretrained(folder, safe_serialization=True)
            run.storage().upload(Path(folder), name)
    reference = model_reference(run, name, "published", key, 0, started, {})
    return reference | {"cpu_seconds": clock.seconds()}


def starting_pipeline(
    folder: Path, stage: str, config: ModelConfig, seed: int, *, empty: bool = False
) -> GoTPipeline:
    """The pipeline that a stage starts from: foundation models put together, or an earlier stage's folder.

    ``empty``: without weights, on the meta device; the folder need not hold any then.
    """
    if stage == "foundation":
        return load_foundation(folder, config, seed, empty=empty)
    return pipeline_without_weights(folder) if empty else load_pipeline(folder)
