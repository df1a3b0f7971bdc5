"""Training a stage of a recipe on Ray: from a model reference to a model reference.

A stage that has already been trained from the same inputs is found, not repeated. Belongs here: keys, folders
and the order of work of any stage. Not here: what a stage minimises (``objective``), its loop (``trainer``).
"""

from __future__ import annotations

import io
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray.train
import torch
from PIL import Image

from got_core.train import parallel
from got_core.train.checkpoints.folders import remove_finished
from got_core.train.checkpoints.record import run_record, worker_record
from got_core.train.checkpoints.saving import Checkpoints
from got_core.train.data.batches import JointBatches
from got_core.train.data.samples import training_data
from got_core.train.data.sources.latents import with_latents
from got_core.train.data.sources.places import with_places
from got_core.train.data_watch import DataWatch
from got_core.train.encoding.autoencoder import autoencoder_hash, load_autoencoder
from got_core.train.held_out import HeldOut
from got_core.train.latents.key import latent_key
from got_core.train.optim import allow_fast_matmul
from got_core.train.ray import jobs, preflight
from got_core.train.ray.workers import stage_workers
from got_core.train.run import Reference, TrainingRun, model_reference
from got_core.train.sample_pictures import sample_grid
from got_core.train.schedule import is_checkpoint_step, is_held_out_step, is_sample_step, next_stop
from got_core.train.skipping import NotFiniteStepsError, not_finite
from got_core.train.stage import Stage, check_predictions
from got_core.train.start import starting_pipeline
from got_core.train.tracking import Tracker
from got_core.train.trainer import Trainer
from got_core.train.unfinished import begin_or_go_on, finish
from got_core.train.window import Window

CHECKPOINTS = "checkpoints"
"""Folder of a stage's checkpoints, beside its model."""
WEIGHTS = (".safetensors", ".bin")
"""Ends of names of files that hold weights."""
PLACES = "places"
"""Folder, beside the model, of where samples lie in training tars (see ``data.sources.places``)."""


def train_stage(run: TrainingRun, stage: Stage, start: Reference) -> Reference:
    """Train one of the recipe's stages from ``start``, the model of the stage before or foundation models.

    A training of the stage that has begun and not ended goes on with the manifest and the start that it began
    with, where nothing but data has changed since; the reference says so (``pinned``).

    Raises ValueError where any stage of the recipe does not predict what its model draws with, so that
    nothing is trained for a stage that cannot follow, and PreflightError where a node cannot train.
    """
    recipe, config = run.recipe, stage.config
    check_predictions(recipe.model.scheduler.prediction, recipe.stages)
    training = begin_or_go_on(run, stage, start)
    run, start, key = training.run, training.start, training.key
    name = f"models/{stage.name}/{key}"
    started = time.monotonic()
    # Written last: where it is, the stage is finished.
    if not run.storage().exists(f"{name}/metrics.json"):
        arguments = {"stage": stage, "name": name, "start": start["folder"], "start_stage": start["stage"]}
        arguments |= {"command": sys.argv}
        with jobs.session(run, config):
            stage_workers(run, stage)  # refuses too few GPUs before anything is read
            run = _with_places(run, stage, start, f"{name}/{PLACES}")
            preflight.check_stage(run, stage.name, start)
            jobs.fit(run, f"{stage.name}-{key}", stage, _stage_worker, arguments)
    remove_finished(run.storage(), f"{name}/{CHECKPOINTS}")
    run.storage().delete(f"{name}/{PLACES}")
    finish(training, stage)
    metrics = run.storage().read_json(f"{name}/metrics.json")
    folder = f"{name}/pipeline"
    reference = model_reference(run, folder, stage.name, key, config.steps, started, metrics["last"])
    return reference | {
        "mlflow_run_id": metrics["mlflow_run_id"],
        "cpu_seconds": metrics["cpu_seconds"],
        "samples": f"{name}/samples.png",
        "plot": f"{name}/losses.png",
        "identity": training.identity,
        "start_weights_hash": start["weights_hash"],
        "pinned": training.pinned,
        **({"held_out_rows": metrics["held_out_rows"]} if "held_out_rows" in metrics else {}),
        **metrics["data"],
    }


def _with_places(run: TrainingRun, stage: Stage, start: Reference, name: str) -> TrainingRun:
    """The run with the places of what its rows are read from: latents of the start's autoencoder, or tars."""
    if stage.config.latents is None:
        return with_places(run, name)
    autoencoder = load_autoencoder(run.storage().download(start["folder"]), start["stage"])
    key = latent_key(run.recipe.model, stage.config, autoencoder_hash(autoencoder))
    return with_latents(run, stage.config, key, name, stage.name)


def _stage_worker(arguments: dict[str, Any]) -> str | None:
    """One Ray Train worker of a stage. Returns why the training cannot go on; None when it is finished."""
    try:
        _train(arguments)
    except NotFiniteStepsError as error:
        return f"{arguments['stage'].name}: {error}"
    return None


def _train(arguments: dict[str, Any]) -> None:
    """One Ray Train worker of a stage."""
    device = jobs.worker_device(arguments["gpu"])
    if device.type == "cpu" and not arguments["run"].in_process:
        torch.set_num_threads(1)
    allow_fast_matmul(device.type)
    run, stage, name = arguments["run"], arguments["stage"], arguments["name"]
    trainer = _trainer(run, stage, arguments["start"], arguments["start_stage"], device)
    checkpoints = _checkpoints(trainer, run, arguments)
    trainer.resume(checkpoints)
    host = f"process {os.getpid()} on {platform.node()} ({device.type})"
    worker = f"worker {trainer.rank + 1} of {trainer.ranks}"
    run.report(f"{stage.name}: {worker} is {host}, from step {trainer.step}")
    active = trainer.rank == 0
    with checkpoints, Tracker.start(run, stage.name, resume_key=name, active=active) as tracker:
        watch = DataWatch(trainer, run, name)
        try:
            _train_with_checkpoints(trainer, tracker, run, watch, checkpoints, name)
        finally:
            if isinstance(trainer.batches, JointBatches):
                trainer.batches.close()
        _leave_model(trainer, run, name, tracker, watch)
    # The other ranks wait here until the model is saved.
    ray.train.report({"step": trainer.step})


def _checkpoints(trainer: Trainer, run: TrainingRun, arguments: dict[str, Any]) -> Checkpoints:
    """Those of this training, in a folder beside its model to be."""
    rank, ranks, name = trainer.rank, trainer.ranks, arguments["name"]
    workers = parallel.gathered(worker_record(rank, trainer.device), ranks)
    inputs = {key: arguments[key] for key in ("name", "start", "start_stage")}
    record = run_record(
        run, arguments["stage"], arguments=inputs, command=arguments["command"], workers=workers
    )
    root = f"{name}/{CHECKPOINTS}"
    return Checkpoints(run.storage(), root, rank=rank, ranks=ranks, device=trainer.device, record=record)


def _trainer(run: TrainingRun, stage: Stage, start: str, start_stage: str, device: torch.device) -> Trainer:
    context, config = ray.train.get_context(), stage.config
    rank, ranks = context.get_world_rank(), context.get_world_size()
    # Weights of a spread model are sent by rank 0.
    empty = config.sharding == "fsdp" and rank > 0
    folder = run.storage().download(start, without=WEIGHTS if empty else ())
    pipeline = starting_pipeline(folder, start_stage, run.recipe.model, config.seed, empty=empty)
    data = training_data(run, config)
    return Trainer(pipeline, data, config, rank, ranks, device, objective=stage.objective)


def _train_with_checkpoints(
    trainer: Trainer,
    tracker: Tracker,
    run: TrainingRun,
    watch: DataWatch,
    checkpoints: Checkpoints,
    name: str,
) -> None:
    config, held_out = trainer.config, HeldOut(trainer, run.report)
    window, worker = Window(trainer, watch.before), f"worker {trainer.rank + 1} of {trainer.ranks}"

    def on_step(step: int, losses: dict[str, float]) -> None:
        if trainer.skips.skipped(step) and (wrong := not_finite(losses)):
            run.report(f"{tracker.title}: step {step} is skipped: {', '.join(wrong)} not finite on {worker}")
        window.add(losses)
        if window.is_full():
            count = window.steps
            tracker.log_steps(step, config.steps, count, *window.take())

    watch.look()
    if trainer.step == 0:
        _log_start(trainer, held_out, tracker)
    while trainer.step < config.steps:
        trainer.run(next_stop(trainer.step, config), on_step)
        if is_sample_step(trainer.step, config) and (samples := sample_grid(trainer, run.report)) is not None:
            _show(samples, tracker, run, f"{name}/samples", trainer.step)
        if not is_checkpoint_step(trainer.step, config):
            continue
        watch.look()
        if is_held_out_step(trainer.step, config):
            tracker.log_losses(trainer.step, held_out.losses())
        trainer.save(checkpoints)


def _show(samples: Image.Image, tracker: Tracker, run: TrainingRun, folder: str, step: int) -> None:
    """Sample pictures on the way: in MLflow, and a file whose place is told."""
    storage, file = run.storage(), f"{step:06d}.png"
    tracker.log_image(f"samples/{file}", samples)
    storage.write_bytes(f"{folder}/{file}", _png(samples))
    run.report(f"{tracker.title}: pictures after {step} steps: {storage.url_of(f'{folder}/{file}')}")


def _log_start(trainer: Trainer, held_out: HeldOut, tracker: Tracker) -> None:
    """Measure what the stage starts from."""
    losses = held_out.losses()
    trainer.start_loss = losses.get("held_out/loss")
    tracker.log_losses(0, losses)


def _leave_model(trainer: Trainer, run: TrainingRun, name: str, tracker: Tracker, watch: DataWatch) -> None:
    """Write samples, loss plot, the pipeline folder and, last, the metrics that mark it as complete.

    All ranks call it; rank 0 writes.
    """
    storage = run.storage()
    samples, spent, pipeline = sample_grid(trainer, run.report), trainer.cpu_seconds(), trainer.finish()
    if samples is None or pipeline is None:
        return
    storage.write_bytes(f"{name}/samples.png", _png(samples))
    tracker.log_image("samples/final.png", samples)
    storage.write_bytes(f"{name}/losses.png", tracker.plot())
    with tempfile.TemporaryDirectory() as folder:
        pipeline.save_pretrained(folder, safe_serialization=True)
        storage.upload(Path(folder), f"{name}/pipeline")
    metrics = {"last": tracker.last(), "mlflow_run_id": tracker.run_id, "cpu_seconds": spent}
    metrics |= {"data": watch.found(), "skipped_steps": len(trainer.skips.steps)}
    if trainer.start_loss is not None:
        metrics["last"] = {**tracker.last(), "held_out/start_loss": trainer.start_loss}
        metrics["held_out_rows"] = HeldOut(trainer, run.report).rows
    storage.write_json(f"{name}/metrics.json", metrics)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
