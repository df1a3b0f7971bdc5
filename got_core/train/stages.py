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
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
import torch
from PIL import Image
from ray.train.torch import get_device
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from got_core.evaluate.plots import GridItem, picture_grid
from got_core.model.autoencoder import PatchAutoencoder
from got_core.model.build import (
    assemble_pipeline,
    build_autoencoder,
    build_image_processor,
    build_language_model,
    build_projector,
    build_sequences,
    build_unet,
    pipeline_settings,
    unet_class,
)
from got_core.model.config import ModelConfig
from got_core.model.finite import NotFiniteError
from got_core.model.guidance import GuidanceProjector
from got_core.model.parts import ConfigFolders
from got_core.model.pipeline import GoTPipeline
from got_core.model.published import load_foundation_folders
from got_core.model.published_checks import check_published
from got_core.recipes import digest
from got_core.registry.tracking import ensure_experiment
from got_core.train import cluster
from got_core.train.clock import CpuClock
from got_core.train.config import SAMPLE_PICTURES, StageConfig, check_predictions
from got_core.train.data import TrainingData, step_generator
from got_core.train.finished import FinishedStages
from got_core.train.foundation import fit_autoencoder, train_unet
from got_core.train.joint import JointTrainer
from got_core.train.language import fit_tokenizer, train_language_model
from got_core.train.run import VERSION, TrainingRun, weights_hash
from got_core.train.text_encoder import PhraseEncoder
from got_core.train.tracking import EXPERIMENT, Tracker

Reference = dict[str, Any]


def training_data(run: TrainingRun, config: StageConfig | None = None) -> TrainingData:
    """The samples of the run's manifest, with the geometry of a stage; stretched where none is given."""
    options: dict[str, Any] = {"store_url": run.storage_url, "store_options": run.storage_options}
    if config is not None:
        options |= {"geometry": config.geometry, "bucket_multiple": config.bucket_multiple}
        options["cache_bytes"] = config.cache_megabytes << 20
    return TrainingData(
        run.manifest,
        run.raw_url,
        run.edits_url,
        run.recipe.ingest,
        run.recipe.model.resolution,
        run.raw_options,
        run.edits_options,
        **options,
    )


# -- foundation ---------------------------------------------------------------------------------------


def take_published(run: TrainingRun) -> Reference:
    """Put an untrained GoT pipeline of the run's published folders into storage. Returns its reference.

    Raises OSError, ValueError or CheckpointKeysError where a folder does not hold what it should, or not what
    the recipe is for; also where its pipeline is in storage already.
    """
    assert run.published is not None
    started, config, clock = time.monotonic(), run.recipe.model, CpuClock()
    sdxl, qwen = (Path(folder) for folder in run.published)
    check_predictions(config.scheduler.prediction, pretrain=run.recipe.pretrain)
    folders = ConfigFolders.published(sdxl, qwen)
    check_published(folders, config.scheduler.prediction, run.variant)
    drawing = [weights_hash(folder, run.variant) for folder in (folders.unet, folders.vae)]
    key = digest([config, [*drawing, weights_hash(folders.mllm)]])
    name = f"models/foundation/{key}"
    if not run.storage().exists(f"{name}/model_index.json"):
        run.say(f"foundation: {sdxl} and {qwen}")
        pipeline = load_foundation_folders(sdxl, qwen, variant=run.variant, **pipeline_settings(config))
        with tempfile.TemporaryDirectory() as folder:
            pipeline.save_pretrained(folder, safe_serialization=True)
            run.storage().upload(Path(folder), name)
    reference = _reference(run, name, "published", key, 0, started, {})
    return reference | {"cpu_seconds": clock.seconds()}


def train_foundation(run: TrainingRun) -> Reference:
    """Train language model and drawing parts side by side on Ray. Returns the reference of their folder.

    Raises ValueError for a recipe whose parts are not trained here.
    """
    recipe = run.recipe
    if recipe.model.autoencoder.kind != "patch":
        raise ValueError(
            f"recipe {recipe.name!r} starts from published weights: set GOT_SDXL and GOT_QWEN to folders"
        )
    key = digest([VERSION, recipe.model, recipe.foundation, run.manifest_hash])
    name = f"models/foundation/{key}"
    started = time.monotonic()
    ensure_experiment(run.tracking_uri, EXPERIMENT)
    parts = cluster.run_apart(
        run,
        {
            "language": partial(_language_part, name=f"{name}/language"),
            "drawing": partial(_drawing_part, name=f"{name}/drawing"),
        },
    )
    metrics = parts["language"] | parts["drawing"]
    spent = sum(part[f"{which}_cpu_seconds"] for which, part in parts.items())
    reference = _reference(run, name, "foundation", key, recipe.foundation.unet_steps, started, metrics)
    return reference | {"cpu_seconds": spent}


def _language_part(run: TrainingRun, name: str) -> dict[str, float]:
    """Tokenizer and language model. Skipped where the folder is already there; one that was cut off goes on
    after the last stage that it finished."""
    storage, config = run.storage(), run.recipe.foundation
    if storage.exists(f"{name}/metrics.json"):
        return storage.read_json(f"{name}/metrics.json")
    finished = FinishedStages(storage, name)
    if finished.names:
        run.say(f"foundation: language model, after {', '.join(finished.names)}")
    data, model_config = training_data(run), run.recipe.model
    tokenizer = fit_tokenizer(data, model_config.image_tokens)
    image_processor = build_image_processor(model_config.language_model)
    torch.manual_seed(config.seed)
    model = build_language_model(model_config.language_model, tokenizer)
    projector = build_projector(model_config)
    encoder = build_text_encoder(model_config, tokenizer)
    sequences = build_sequences(model_config, tokenizer, image_processor)
    with Tracker.start(run, "foundation: language model") as tracker:
        metrics = train_language_model(
            model, projector, encoder, sequences, data, config, tracker.log, finished
        )
    metrics["language_cpu_seconds"] = finished.cpu_seconds()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(f"{folder}/mllm")
        projector.save_pretrained(f"{folder}/projector")
        tokenizer.save_pretrained(f"{folder}/tokenizer")
        image_processor.save_pretrained(f"{folder}/image_processor")
        storage.upload(Path(folder), name)
    storage.write_json(f"{name}/metrics.json", metrics)
    return metrics


def build_text_encoder(config: ModelConfig, tokenizer: PreTrainedTokenizerFast) -> PhraseEncoder:
    """The text encoder that both parts of the foundation share: the same for the same vocabulary."""
    return PhraseEncoder(
        tokenizer, config.image_tokens, config.unet.cross_attention_dim, config.unet.pooled_dim
    )


def _drawing_part(run: TrainingRun, name: str) -> dict[str, float]:
    """Autoencoder and U-Net. Skipped where the folder is already there."""
    storage, config = run.storage(), run.recipe.foundation
    if storage.exists(f"{name}/metrics.json"):
        return storage.read_json(f"{name}/metrics.json")
    clock, data, model_config = CpuClock(), training_data(run), run.recipe.model
    torch.manual_seed(config.seed)
    vae, unet = build_autoencoder(model_config), build_unet(model_config)
    encoder = build_text_encoder(model_config, fit_tokenizer(data, model_config.image_tokens))
    with Tracker.start(run, "foundation: drawing") as tracker:
        metrics = fit_autoencoder(vae, data, model_config.autoencoder.balance, config, tracker.log)
        metrics |= train_unet(unet, vae, encoder, data, model_config, config, tracker.log)
    metrics["drawing_cpu_seconds"] = clock.seconds()
    with tempfile.TemporaryDirectory() as folder:
        vae.save_pretrained(f"{folder}/vae")
        unet.save_pretrained(f"{folder}/unet")
        storage.upload(Path(folder), name)
    storage.write_json(f"{name}/metrics.json", metrics)
    return metrics


def load_foundation(folder: Path, config: ModelConfig, seed: int) -> GoTPipeline:
    """A GoT pipeline from a folder of foundation models."""
    torch.manual_seed(seed)
    return assemble_pipeline(
        config,
        mllm=Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "language" / "mllm"),
        tokenizer=PreTrainedTokenizerFast.from_pretrained(folder / "language" / "tokenizer"),
        projector=GuidanceProjector.from_pretrained(folder / "language" / "projector"),
        unet=unet_class(config).from_pretrained(folder / "drawing" / "unet"),
        vae=PatchAutoencoder.from_pretrained(folder / "drawing" / "vae"),
    )


# -- joint stages -------------------------------------------------------------------------------------


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
        cluster.fit(run, f"{stage}-{key}", config, _joint_worker, arguments)
    metrics = run.storage().read_json(f"{name}/metrics.json")
    reference = _reference(run, f"{name}/pipeline", stage, key, config.steps, started, metrics["last"])
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
    pipeline = _starting_pipeline(folder, arguments["start_stage"], run.recipe.model, config.seed)
    trainer = JointTrainer(pipeline, training_data(run, config), config, rank, ranks, device)
    with cluster.last_checkpoint() as checkpoint:
        if checkpoint is not None:
            trainer.load(checkpoint)
    host = f"process {os.getpid()} on {platform.node()} ({device.type})"
    run.say(f"{arguments['stage']}: worker {rank + 1} of {ranks} is {host}, from step {trainer.step}")
    with Tracker.start(run, arguments["stage"], resume_key=name, active=rank == 0) as tracker:
        _train_with_checkpoints(trainer, config, tracker, run, name)
        _leave_model(trainer, run, name, tracker)
    # The other ranks wait here until the model is saved.
    cluster.report({"step": trainer.step}, None, rank)


def _starting_pipeline(folder: Path, stage: str, config: ModelConfig, seed: int) -> GoTPipeline:
    if stage == "foundation":
        return load_foundation(folder, config, seed)
    pipeline = GoTPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _train_with_checkpoints(
    trainer: JointTrainer, config: StageConfig, tracker: Tracker, run: TrainingRun, name: str
) -> None:
    def on_step(step: int, losses: dict[str, float]) -> None:
        tracker.log_step(step, config.steps, losses)

    while trainer.step < config.steps:
        until = min(config.steps, (trainer.step // config.checkpoint_every + 1) * config.checkpoint_every)
        trainer.run(until, on_step)
        if _is_sample_step(trainer.step, config) and (samples := _samples(trainer, run.say)) is not None:
            tracker.log_image(f"samples/{trainer.step:06d}.png", samples)
        cluster.report({"step": trainer.step}, trainer.save, trainer.rank)


def _is_sample_step(step: int, config: StageConfig) -> bool:
    """Samples are drawn at the first checkpoint at or after each multiple of ``sample_every``."""
    if not config.sample_every or step >= config.steps:
        return False
    return step % config.sample_every < config.checkpoint_every and step >= config.sample_every


def _samples(trainer: JointTrainer, say: Callable[[str], None]) -> Image.Image | None:
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
        say(f"{failed} of {len(items)} sample pictures hold NaN or infinity: the weights or the data do")
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


def _leave_model(trainer: JointTrainer, run: TrainingRun, name: str, tracker: Tracker) -> None:
    """Write samples, loss plot, the pipeline folder and, last, the metrics that mark it as complete.

    All ranks call it; rank 0 writes.
    """
    storage = run.storage()
    samples, spent, pipeline = _samples(trainer, run.say), trainer.cpu_seconds(), trainer.finish()
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


def _reference(
    run: TrainingRun,
    name: str,
    stage: str,
    key: str,
    steps: int,
    started: float,
    metrics: dict[str, float],
) -> Reference:
    return {
        "stage": stage,
        "folder": name,
        "weights_hash": weights_hash(run.storage().download(name)),
        "config_digest": key,
        "manifest_hash": run.manifest_hash,
        "steps": steps,
        "seconds": round(time.monotonic() - started, 1),
        "metrics": {key: float(value) for key, value in metrics.items()},
    }
