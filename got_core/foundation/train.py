"""Training of the small foundation models: language model and drawing parts side by side on Ray.

Belongs here: the order of the parts, their folders and figures. Not here: how a part learns
(``language_model``, ``drawing``).
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from got_core.digests import digest
from got_core.foundation.drawing import fit_autoencoder, train_unet
from got_core.foundation.language_model import fit_tokenizer, train_language_model
from got_core.foundation.progress import PartProgress, steps_of
from got_core.foundation.questions import question_words
from got_core.foundation.stage_checkpoints import StageCheckpoints
from got_core.foundation.text_encoder import PhraseEncoder
from got_core.model.build import (
    build_autoencoder,
    build_image_processor,
    build_language_model,
    build_projector,
    build_sequences,
    build_unet,
)
from got_core.model.config import ModelConfig
from got_core.registry.tracking import ensure_experiment
from got_core.train.data.manifest_file import MANIFESTS, in_file
from got_core.train.data.samples import training_data
from got_core.train.ray.session import run_apart
from got_core.train.run import VERSION, Reference, TrainingRun, model_reference
from got_core.train.tracking import EXPERIMENT, Tracker


def train_foundation(run: TrainingRun) -> Reference:
    """Train language model and drawing parts side by side on Ray. Returns the reference of their folder.

    Raises ValueError for a recipe whose parts are not trained here.
    """
    recipe = run.recipe
    if recipe.model.autoencoder.kind != "patch":
        raise ValueError(
            f"recipe {recipe.name!r} starts from published weights: set GOT_SDXL and GOT_QWEN to folders, "
            "or GOT_WEIGHTS to a GoT model"
        )
    held_out = recipe.stages[0].config.held_out
    key = digest(
        [VERSION, recipe.model, recipe.foundation, run.manifest_hash, *([held_out] if held_out else [])]
    )
    name = f"models/foundation/{key}"
    started = time.monotonic()
    ensure_experiment(run.tracking_uri, EXPERIMENT)
    # Not below the model, whose folder is hashed and fetched whole.
    filed = in_file(run, f"{MANIFESTS}/foundation-{run.manifest_hash}")
    parts = run_apart(
        filed,
        {
            "language": partial(_language_part, name=f"{name}/language"),
            "drawing": partial(_drawing_part, name=f"{name}/drawing"),
        },
    )
    run.storage().delete(f"{MANIFESTS}/foundation-{run.manifest_hash}")
    metrics = parts["language"] | parts["drawing"]
    spent = sum(part[f"{which}_cpu_seconds"] for which, part in parts.items())
    reference = model_reference(run, name, "foundation", key, recipe.foundation.unet_steps, started, metrics)
    identity = digest([VERSION, recipe.model, recipe.foundation])
    return reference | {"cpu_seconds": spent, "identity": identity}


def _language_part(run: TrainingRun, name: str) -> dict[str, float]:
    """Tokenizer and language model. Skipped where the folder is already there; one that was cut off goes on
    after the last stage that it finished."""
    storage, config = run.storage(), run.recipe.foundation
    if storage.exists(f"{name}/metrics.json"):
        return storage.read_json(f"{name}/metrics.json")
    checkpoints = StageCheckpoints(storage, name)
    if checkpoints.names:
        run.report(f"foundation: language model, after {', '.join(checkpoints.names)}")
    data, model_config = training_data(run), run.recipe.model
    tokenizer = fit_tokenizer(data, model_config.image_tokens, question_words(config))
    image_processor = build_image_processor(model_config.language_model)
    torch.manual_seed(config.seed)
    model = build_language_model(model_config.language_model, tokenizer)
    projector = build_projector(model_config)
    encoder = build_text_encoder(model_config)
    sequences = build_sequences(model_config, tokenizer, image_processor)
    with Tracker.start(run, "foundation: language model") as tracker:
        log = PartProgress(tracker, steps_of(config))
        metrics = train_language_model(model, projector, encoder, sequences, data, config, log, checkpoints)
    metrics["language_cpu_seconds"] = checkpoints.cpu_seconds()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(f"{folder}/mllm")
        projector.save_pretrained(f"{folder}/projector")
        tokenizer.save_pretrained(f"{folder}/tokenizer")
        image_processor.save_pretrained(f"{folder}/image_processor")
        storage.upload(Path(folder), name)
    storage.write_json(f"{name}/metrics.json", metrics)
    return metrics


def build_text_encoder(config: ModelConfig) -> PhraseEncoder:
    """The text encoder that both parts of the foundation share."""
    return PhraseEncoder(config.image_tokens, config.unet.cross_attention_dim, config.unet.pooled_dim)


def _drawing_part(run: TrainingRun, name: str) -> dict[str, float]:
    """Autoencoder and U-Net. Skipped where the folder is already there; one that was cut off goes on."""
    storage, config = run.storage(), run.recipe.foundation
    if storage.exists(f"{name}/metrics.json"):
        return storage.read_json(f"{name}/metrics.json")
    checkpoints = StageCheckpoints(storage, name)
    data, model_config = training_data(run), run.recipe.model
    torch.manual_seed(config.seed)
    vae, unet = build_autoencoder(model_config), build_unet(model_config)
    encoder = build_text_encoder(model_config)
    with Tracker.start(run, "foundation: drawing") as tracker:
        balance, log = model_config.autoencoder.balance, PartProgress(tracker, steps_of(config))
        fit = partial(fit_autoencoder, vae, data, balance, config, log)
        metrics = checkpoints.run("autoencoder", {"vae": vae}, fit)
        metrics |= train_unet(unet, vae, encoder, data, model_config, config, log, checkpoints)
    metrics["drawing_cpu_seconds"] = checkpoints.cpu_seconds()
    with tempfile.TemporaryDirectory() as folder:
        vae.save_pretrained(f"{folder}/vae")
        unet.save_pretrained(f"{folder}/unet")
        storage.upload(Path(folder), name)
    storage.write_json(f"{name}/metrics.json", metrics)
    return metrics
