"""A GoT model that training starts from: a saved pipeline, a released checkpoint, or a registered version.

Belongs here: finding it, what it has to be for a recipe, its copy in the storage. Not here: plain SDXL and
Qwen2.5-VL (``start``), reading files (``got_core.model.formats``).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from got_core.digests import digest
from got_core.filesystems import local_path
from got_core.model.build import fresh_pipeline, pipeline_settings
from got_core.model.config import ModelConfig
from got_core.model.formats.configs import ConfigFolders, read_config
from got_core.model.formats.files import weight_files
from got_core.model.formats.released import load_got_checkpoint
from got_core.model.formats.saved import load_pipeline
from got_core.model.pipeline import GoTPipeline
from got_core.redacted import redacted_url
from got_core.registry.reference import INDEX, SCHEME, model_folder, version_manifests
from got_core.storage import Storage
from got_core.train.cpu_time import CpuTimer
from got_core.train.run import Reference, TrainingRun, model_reference, weights_hash
from got_core.train.stage import check_predictions

LEARNED = ("image_tokens", "source_size", "prediction", "reasoning", "spatial_guidance")
"""Settings of a pipeline that its weights were trained with; the others may change."""


def take_weights(run: TrainingRun) -> Reference:
    """Put the run's GoT model into storage, with the recipe's settings. Returns its reference, whose
    ``weights`` names what was taken (of an alias: the version) and ``manifests`` what that was trained on, as
    far as the registry knows.

    Raises OSError or ValueError for what is no GoT model, or one of other sizes than the recipe's, and as
    `model_folder` for a registered one.
    """
    started, config, clock = time.monotonic(), run.recipe.model, CpuTimer()
    check_predictions(config.scheduler.prediction, run.recipe.stages)
    with _found(run) as (folder, name):
        released = _is_released(folder, name, run.published is not None)
        key = digest(["weights", config, weights_hash(folder)])
        target = f"models/foundation/{key}"
        if not run.storage().exists(f"{target}/{INDEX}"):
            run.report(f"weights: {name}")
            pipeline = _released(run, folder, name) if released else load_pipeline(folder)
            check_model(pipeline, config, f"GOT_WEIGHTS={name}", run.recipe.name)
            _store(run, pipeline, target)
    known = version_manifests(name, run.tracking_uri) if name.startswith(SCHEME) else []
    reference = model_reference(run, target, "weights", key, 0, started, {})
    return reference | {"weights": name, "manifests": known, "cpu_seconds": clock.seconds()}


def _store(run: TrainingRun, pipeline: GoTPipeline, name: str) -> None:
    pipeline.register_to_config(**pipeline_settings(run.recipe.model))
    with tempfile.TemporaryDirectory() as folder:
        pipeline.save_pretrained(folder, safe_serialization=True)
        run.storage().upload(Path(folder), name)


# -- finding it ---------------------------------------------------------------------------------------


@contextmanager
def _found(run: TrainingRun) -> Iterator[tuple[Path, str]]:
    """A local folder with the weights, and their full name."""
    assert run.weights is not None
    if run.weights.startswith(SCHEME):
        with model_folder(run.weights, run.tracking_uri) as found:
            yield found
    elif folder := local_path(run.weights):
        yield folder, str(folder)
    else:
        parent, _, last = run.weights.rpartition("/")
        yield Storage(parent, **run.weights_options).download(last), redacted_url(run.weights)


def _is_released(folder: Path, name: str, configured: bool) -> bool:
    """Whether a folder holds a checkpoint in the released layout; else it holds a saved pipeline."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"GOT_WEIGHTS={name} is not there: name the folder of a saved pipeline or of a checkpoint in the "
            "released layout, or a registered model such as models:/got@champion"
        )
    if weight_files(folder):
        return True
    if not (folder / INDEX).is_file():
        raise ValueError(
            f"GOT_WEIGHTS={name} is no saved pipeline (it has no {INDEX}) and no checkpoint in the released "
            "layout (it has no model.safetensors and no index of shards)"
        )
    kind = read_config(folder, INDEX).get("_class_name")
    if kind != GoTPipeline.__name__:
        raise ValueError(
            f"GOT_WEIGHTS={name} is a {kind}, not a {GoTPipeline.__name__}: plain SDXL goes into GOT_SDXL, "
            "with GOT_QWEN beside it"
        )
    if configured:
        raise ValueError(
            f"GOT_WEIGHTS={name} is a saved pipeline, a whole model: unset GOT_SDXL and GOT_QWEN, which name "
            "published weights to start from instead"
        )
    return False


def _released(run: TrainingRun, folder: Path, name: str) -> GoTPipeline:
    try:
        if run.published is not None:
            configs = ConfigFolders.published(*map(Path, run.published))
        else:
            configs = ConfigFolders.of(folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"GOT_WEIGHTS={name}: {error}; set GOT_SDXL and GOT_QWEN to the published folders, which have "
            "them"
        ) from error
    with tempfile.TemporaryDirectory() as cache:
        return load_got_checkpoint(folder, configs, cache=Path(cache), **pipeline_settings(run.recipe.model))


# -- what it has to be --------------------------------------------------------------------------------


def check_model(pipeline: GoTPipeline, config: ModelConfig, name: str, recipe: str) -> None:
    """Raise ValueError where a model's sizes, or settings that its weights were trained with, are not those
    of a configuration; the message gives both. ``name``: the setting that names the model, with its value."""
    wanted = pipeline_settings(config)
    unlike = [
        f"{key} is {pipeline.config[key]}, not {wanted[key]}"
        for key in LEARNED
        if pipeline.config[key] != wanted[key]
    ]
    unlike = unlike or _unlike_shapes(pipeline, config)
    if unlike:
        more = f" (and {len(unlike) - 3} more)" if len(unlike) > 3 else ""
        raise ValueError(
            f"{name} is another model than recipe {recipe!r} is for: {'; '.join(unlike[:3])}"
            f"{more}; take weights of its sizes, or a recipe of theirs (`finetune_own` in got_core.recipes "
            "takes a ModelConfig)"
        )


def _unlike_shapes(pipeline: GoTPipeline, config: ModelConfig) -> list[str]:
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        empty = fresh_pipeline(config, pipeline.tokenizer)
    found = []
    for part in ("mllm", "projector", "unet", "vae"):
        ours, theirs = _shapes(getattr(pipeline, part)), _shapes(getattr(empty, part))
        found += [
            f"{part}.{key} is {ours.get(key, 'not there')}, not {theirs.get(key, 'there')}"
            for key in dict.fromkeys((*ours, *theirs))
            if ours.get(key) != theirs.get(key)
        ]
    return found


def _shapes(module: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}
