"""What the first stage starts from: published weights, those that come with the package, or small foundation
models put together.

Belongs here: one untrained GoT pipeline. Not here: training the small models (``got_core.foundation``).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from got_core.digests import digest
from got_core.model.build import build_scheduler, pipeline_settings
from got_core.model.config import ModelConfig
from got_core.model.formats.configs import ConfigFolders
from got_core.model.formats.foundation_folder import FoundationFolder
from got_core.model.formats.published import load_foundation_folders
from got_core.model.formats.published_checks import check_published
from got_core.model.formats.saved import load_foundation, load_pipeline, pipeline_without_weights
from got_core.model.pipeline import GoTPipeline
from got_core.train.cpu_time import CpuTimer
from got_core.train.run import Reference, TrainingRun, model_reference, weights_hash
from got_core.train.stage import check_predictions
from got_core.train.weights import check_model

PUBLISHED = "published"
"""In place of a stage's name: what was put together of published folders."""


def take_published(run: TrainingRun) -> Reference:
    """Put an untrained GoT pipeline of the run's published folders into storage. Returns its reference.

    Raises OSError, ValueError or CheckpointKeysError where a folder does not hold what it should, or not what
    the recipe is for; also where its pipeline is in storage already.
    """
    assert run.published is not None
    sdxl, qwen = map(Path, run.published)
    return _take(run, sdxl, qwen, lambda pipeline: None)


def take_foundation(run: TrainingRun) -> Reference:
    """The same of the run's folder of foundation weights, which has to be whole and for the recipe's model.

    The scheduler is the recipe's, as of a foundation that is trained here. The reference says what was taken
    (``weights``), what that was trained on (``manifests``), and what its folder says of it (``card``).

    Raises as :func:`take_published`; of a folder that is not as it was written FoundationFolderError.
    """
    assert run.foundation is not None
    folder, recipe = FoundationFolder(Path(run.foundation)), run.recipe
    folder.check()
    folder.check_model(recipe.model, recipe.name)

    def fit(pipeline: GoTPipeline) -> None:
        check_model(pipeline, recipe.model, f"GOT_FOUNDATION={folder.path}", recipe.name)
        pipeline.register_modules(scheduler=build_scheduler(recipe.model.scheduler))

    reference = _take(run, folder.drawing, folder.language, fit)
    card = {name: value for name, value in folder.manifest.items() if name not in ("files", "model")}
    return reference | {"weights": folder.title(), "manifests": folder.manifests(), "card": card}


def _take(run: TrainingRun, drawing: Path, language: Path, fit: Callable[[GoTPipeline], None]) -> Reference:
    """Put the pipeline of two folders, once ``fit`` has looked at it, into storage."""
    started, config, clock = time.monotonic(), run.recipe.model, CpuTimer()
    check_predictions(config.scheduler.prediction, run.recipe.stages[:1])
    folders = ConfigFolders.published(drawing, language)
    check_published(folders, config.scheduler.prediction, run.variant)
    hashes = [weights_hash(folder, run.variant) for folder in (folders.unet, folders.vae)]
    key = digest([config, [*hashes, weights_hash(folders.mllm)]])
    name = f"models/foundation/{key}"
    if not run.storage().exists(f"{name}/model_index.json"):
        run.report(f"foundation: {drawing} and {language}")
        pipeline = load_foundation_folders(
            drawing, language, variant=run.variant, **pipeline_settings(config)
        )
        fit(pipeline)
        with tempfile.TemporaryDirectory() as folder:
            pipeline.save_pretrained(folder, safe_serialization=True)
            run.storage().upload(Path(folder), name)
    reference = model_reference(run, name, PUBLISHED, key, 0, started, {})
    return reference | {"cpu_seconds": clock.seconds()}


def starting_pipeline(
    folder: Path, stage: str, config: ModelConfig, seed: int, *, empty: bool = False
) -> GoTPipeline:
    """The pipeline that a stage starts from: foundation models put together, or an earlier stage's folder.

    Of published weights, which have not learned GoT yet, the settings are the configuration's: runs of the
    ablation start from the same ones, and plan and draw by others. ``empty``: without weights, on the meta
    device; the folder need not hold any then.
    """
    if stage == "foundation":
        return load_foundation(folder, config, seed, empty=empty)
    pipeline = pipeline_without_weights(folder) if empty else load_pipeline(folder)
    if stage == PUBLISHED:
        pipeline.register_to_config(**pipeline_settings(config))
    return pipeline
