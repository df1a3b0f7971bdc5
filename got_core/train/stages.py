"""The training assets: foundation models, pretraining, finetuning.

Each takes a ``TrainingRun`` and returns a model reference: where the folder is, its hash, what it was made
from, and how it went. A stage that has already been trained from the same inputs is found, not repeated.
"""

from __future__ import annotations

import io
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray.train
import torch
from PIL import Image
from ray.train.torch import get_device

from got_core.figures.grids import GridItem, picture_grid
from got_core.model.finite import NotFiniteError
from got_core.model.pipeline import GoTPipeline
from got_core.recipes import digest
from got_core.train.config import SAMPLE_PICTURES, StageConfig, check_predictions
from got_core.train.data.samples import step_generator, training_data
from got_core.train.ray import jobs
from got_core.train.run import VERSION, Reference, TrainingRun, model_reference
from got_core.train.start import starting_pipeline
from got_core.train.tracking import Tracker
from got_core.train.trainer import Trainer


def pretrain(run: TrainingRun, foundation: Reference) -> Reference:
    """GoT pretraining from foundation models."""
    return _joint_stage(run, "pretrain", run.recipe.pretrain, foundation)


def finetune(run: TrainingRun, pretrained: Reference) -> Reference:
    """GoT finetuning from the pretrained model."""
    return _joint_stage(run, "finetune", run.recipe.finetune, pretrained)


def _joint_stage(run: TrainingRun, stage: str, config: StageConfig, start: Reference) -> Reference:
    recipe = run.recipe
    # Of both stages, so that nothing is pretrained for a finetuning that cannot follow.
    check_predictions(recipe.model.scheduler.prediction, pretrain=recipe.pretrain, finetune=recipe.finetune)
    key = digest([VERSION, recipe.model, config.identity(), run.manifest_hash, start["weights_hash"]])
    name = f"models/{stage}/{key}"
    started = time.monotonic()
    # Written last: where it is, the stage is finished.
    if not run.storage().exists(f"{name}/metrics.json"):
        arguments = {"stage": stage, "name": name, "start": start["folder"], "start_stage": start["stage"]}
        jobs.fit(run, f"{stage}-{key}", config, _joint_worker, arguments)
    metrics = run.storage().read_json(f"{name}/metrics.json")
    reference = model_reference(run, f"{name}/pipeline", stage, key, config.steps, started, metrics["last"])
    return reference | {
        "mlflow_run_id": metrics["mlflow_run_id"],
        "cpu_seconds": metrics["cpu_seconds"],
        "samples": f"{name}/samples.png",
        "plot": f"{name}/losses.png",
    }


def _joint_worker(arguments: dict[str, Any]) -> None:
    """One Ray Train worker of a joint stage."""
    device = get_device()
    if device.type == "cpu":
        torch.set_num_threads(1)
    run, config, name = arguments["run"], arguments["config"], arguments["name"]
    context = ray.train.get_context()
    rank, ranks = context.get_world_rank(), context.get_world_size()
    folder = run.storage().download(arguments["start"])
    pipeline = starting_pipeline(folder, arguments["start_stage"], run.recipe.model, config.seed)
    trainer = Trainer(pipeline, training_data(run, config), config, rank, ranks, device)
    with jobs.last_checkpoint() as checkpoint:
        if checkpoint is not None:
            trainer.load(checkpoint)
    host = f"process {os.getpid()} on {platform.node()} ({device.type})"
    run.report(f"{arguments['stage']}: worker {rank + 1} of {ranks} is {host}, from step {trainer.step}")
    with Tracker.start(run, arguments["stage"], resume_key=name, active=rank == 0) as tracker:
        _train_with_checkpoints(trainer, config, tracker, run, name)
        _leave_model(trainer, run, name, tracker)
    # The other ranks wait here until the model is saved.
    jobs.report({"step": trainer.step}, None, rank)


def _train_with_checkpoints(
    trainer: Trainer, config: StageConfig, tracker: Tracker, run: TrainingRun, name: str
) -> None:
    def on_step(step: int, losses: dict[str, float]) -> None:
        tracker.log_step(step, config.steps, losses)

    while trainer.step < config.steps:
        until = min(config.steps, (trainer.step // config.checkpoint_every + 1) * config.checkpoint_every)
        trainer.run(until, on_step)
        if _is_sample_step(trainer.step, config) and (samples := _samples(trainer, run.report)) is not None:
            tracker.log_image(f"samples/{trainer.step:06d}.png", samples)
        jobs.report({"step": trainer.step}, trainer.save, trainer.rank)


def _is_sample_step(step: int, config: StageConfig) -> bool:
    """Samples are drawn at the first checkpoint at or after each multiple of ``sample_every``."""
    if not config.sample_every or step >= config.steps:
        return False
    return step % config.sample_every < config.checkpoint_every and step >= config.sample_every


def _samples(trainer: Trainer, report: Callable[[str], None]) -> Image.Image | None:
    """A grid of text-to-image samples for fixed prompts of the manifest, planned boxes drawn on.

    Pictures that hold NaN or infinity are marked in it and counted to ``say``. All ranks call it; rank 0
    draws, the others get None.
    """
    with trainer.averaged() as pipeline:
        if pipeline is None:
            return None
        data = trainer.batches.data
        rng = step_generator(trainer.config.seed, 9)
        prompts = [sample.prompts[0] for sample in data.draw(rng, "t2i", min(SAMPLE_PICTURES, len(data)))]
        generator = torch.Generator().manual_seed(trainer.config.seed)
        at_once = trainer.config.samples_at_once
        batches = [prompts[start : start + at_once] for start in range(0, len(prompts), at_once)]
        items = [item for batch in batches for item in _drawn(pipeline, batch, generator)]
    failed = sum(bool(item.note) for item in items)
    if failed:
        report(f"{failed} of {len(items)} sample pictures hold NaN or infinity: the weights or the data do")
    return picture_grid(items)


def _drawn(pipeline: GoTPipeline, prompts: list[str], generator: torch.Generator) -> list[GridItem]:
    """A picture of each prompt with its planned boxes; an empty one, marked as wrong, where it failed."""
    chains = pipeline.plan(prompts)
    try:
        images = list(pipeline.draw(chains, prompts, generator=generator))
    except NotFiniteError as error:
        images = error.images
    empty = Image.new("RGB", (pipeline.config.resolution,) * 2)
    items = []
    for prompt, image, chain in zip(prompts, images, chains, strict=True):
        boxes = tuple((placed.box.to_pixels(1, 1), placed.color) for placed in chain.boxes)
        item = GridItem(image or empty, prompt, boxes)
        items.append(item if image else replace(item, correct=False, note="not drawn: NaN or infinity"))
    return items


def _leave_model(trainer: Trainer, run: TrainingRun, name: str, tracker: Tracker) -> None:
    """Write samples, loss plot, the pipeline folder and, last, the metrics that mark it as complete.

    All ranks call it; rank 0 writes.
    """
    storage = run.storage()
    samples, spent, pipeline = _samples(trainer, run.report), trainer.cpu_seconds(), trainer.finish()
    if samples is None or pipeline is None:
        return
    storage.write_bytes(f"{name}/samples.png", _png(samples))
    tracker.log_image("samples/final.png", samples)
    storage.write_bytes(f"{name}/losses.png", tracker.plot())
    with tempfile.TemporaryDirectory() as folder:
        pipeline.save_pretrained(folder, safe_serialization=True)
        storage.upload(Path(folder), f"{name}/pipeline")
    metrics = {"last": tracker.last(), "mlflow_run_id": tracker.run_id, "cpu_seconds": spent}
    storage.write_json(f"{name}/metrics.json", metrics)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
