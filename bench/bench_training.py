"""A training step from pictures and from stored latents: where its time goes, and what a bare loop takes.

Pictures of 256 pixels with four boxes, batches of four, autoencoder and U-Net of SDXL's shape with an eighth
of its width, activation checkpointing. First, turn by turn in this process: training from raw files, opened
when they are due; from tars and from latents through a decoder process that reads ahead. Then the trainer's
step with its batch at hand, without checkpointing, against a loop of plain PyTorch over the same model and
batch, in pairs: CPU seconds, and their ratio with a 95 % interval over the pairs.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from PIL import Image

from bench.bench_ingest import write_image
from bench.bench_reading import manifest_of
from got_core.corpus.reader import ImageReader
from got_core.curate.training_shards import write_training_shards
from got_core.evaluate.config import EvaluateConfig
from got_core.frame_hash import content_hash
from got_core.model.build import fresh_pipeline
from got_core.model.config import LossConfig, ModelConfig
from got_core.model.pipeline import GoTPipeline
from got_core.model.tokens import train_tokenizer
from got_core.recipes import paper, tiny
from got_core.storage import Storage
from got_core.train.config import StageConfig
from got_core.train.cpu_time import Stopwatch
from got_core.train.data.samples import noise_seed, training_data
from got_core.train.data.sources.latents import with_latents
from got_core.train.encoding.autoencoder import autoencoder_hash
from got_core.train.encoding.making import make_latents
from got_core.train.latents.key import latent_key
from got_core.train.run import TrainingRun
from got_core.train.stage import finetuning
from got_core.train.trainer import Trainer

SIDE, IMAGES, BATCH, BOXES = 256, 64, 4, 4
TURNS, STEPS = int(os.environ.get("BENCH_TURNS", "3")), 4
PAIRS = int(os.environ.get("BENCH_PAIRS", "200"))
STAGE = StageConfig(
    steps=1_000_000,
    batch_size=BATCH,
    mixture={"t2i": 1.0},
    random_crop=False,
    lora_dropout=0.05,
    loss=LossConfig(noise_offset=0.1, prediction="epsilon"),
    gradient_checkpointing=True,
    cache_megabytes=0,
)


def model() -> ModelConfig:
    """The published model's shape with small networks."""
    full = paper().model
    language = replace(
        full.language_model,
        **{"hidden_size": 128, "layers": 4, "heads": 4, "key_value_heads": 2, "intermediate_size": 384},
        **{"vision_hidden_size": 64, "vision_layers": 2, "vision_heads": 2, "vision_intermediate_size": 128},
        **{"vision_full_attention": (1,), "vision_window": 56, "image_size": 112},
        mrope_section=(4, 6, 6),
        vocabulary=None,
    )
    unet = replace(
        full.unet,
        **{"block_out_channels": (32, 64, 128), "attention_heads": (1, 2, 4)},
        **{"cross_attention_dim": 128, "pooled_dim": 64, "time_id_dim": 16},
    )
    autoencoder = replace(full.autoencoder, block_out_channels=(32, 64, 128, 128))
    return replace(
        full, resolution=SIDE, language_model=language, unet=unet, autoencoder=autoencoder, max_new_tokens=64
    )


def rows_of(folder: Path) -> pl.DataFrame:
    """The pictures' rows, with four boxes each."""
    rng = np.random.default_rng(0)

    def chain() -> str:
        corners = rng.integers(0, 600, (BOXES, 2)).tolist()
        sides = rng.integers(100, 380, (BOXES, 2)).tolist()
        return " and ".join(
            f"a thing ({x},{y}),({x + w},{y + h})" for (x, y), (w, h) in zip(corners, sides, strict=True)
        )

    return manifest_of(folder).with_columns(chain=pl.Series([chain() for _ in range(IMAGES)]))


def run_of(folder: Path, config: StageConfig) -> TrainingRun:
    """A run over pictures and their tars."""
    raw = folder / "raw"
    if not raw.exists():
        raw.mkdir()
        for index in range(IMAGES):
            write_image(raw, index)
            path = next(raw.glob(f"{index:06d}*"))
            Image.open(path).resize((SIDE, SIDE)).save(path, quality=92)
    unscored = EvaluateConfig(benchmarks=())
    recipe = replace(tiny(), model=model(), evaluate=unscored, stages=(finetuning(config),))
    manifest, storage = rows_of(raw), Storage(f"file://{folder / 'storage'}")
    write_training_shards(storage, "images-00000", manifest, {"t2i": ImageReader(str(raw), recipe.ingest)})
    return TrainingRun(
        storage_url=storage.url,
        raw_url=str(raw),
        edits_url=None,
        manifest=manifest,
        manifest_hash=content_hash(manifest),
        recipe=recipe,
        tracking_uri="",
    )


def pipeline() -> GoTPipeline:
    """Fresh weights, the same every time."""
    config = model()
    words = ["a red circle and a blue cross", "a thing (100,100),(400,400) and a thing (500,500),(900,900)"]
    return fresh_pipeline(config, train_tokenizer(words, config.image_tokens))


class Side:
    """One way of training, with the time of its parts."""

    def __init__(self, run: TrainingRun, config: StageConfig, *, tars: bool) -> None:
        data = training_data(run if tars else replace(run, storage_url=f"{run.storage_url}-none"), config)
        self.trainer = Trainer(pipeline(), data, config)
        self.encoding, self.losses = Stopwatch(), {"loss": 0.0}
        self.figures: list[dict[str, float]] = []
        batches: Any = self.trainer.batches
        to_batch = batches._batch

        def timed(read: Any) -> Any:
            with self.encoding:
                return to_batch(read)

        batches._batch = timed

    def turn(self) -> None:
        """A few steps."""
        trainer = self.trainer
        before = trainer.waiting.seconds, self.encoding.seconds, time.monotonic(), trainer.cpu_seconds()
        trainer.run(trainer.step + STEPS, lambda step, losses: self.losses.update(losses))
        after = trainer.waiting.seconds, self.encoding.seconds, time.monotonic(), trainer.cpu_seconds()
        wait, encode, whole, spent = (b - a for a, b in zip(before, after, strict=True))
        self.figures.append(
            {"wait": wait, "encode": encode, "step": whole - wait - encode, "whole": whole, "cpu": spent}
        )

    def median(self, part: str) -> float:
        """Seconds a step."""
        return statistics.median(one[part] for one in self.figures) / STEPS


@contextmanager
def sides(folder: Path) -> Any:
    """All ways."""
    ahead = replace(STAGE, decoders=1, selective_checkpointing=True)
    stored = replace(ahead, latents="float16")
    run = run_of(folder, stored)
    start = pipeline()
    start.save_pretrained(folder / "storage" / "models" / "start")
    reference = {"folder": "models/start", "stage": "pretrain", "weights_hash": "w"}
    make_latents(run, reference)
    key = latent_key(run.recipe.model, stored, autoencoder_hash(start.vae))
    found = {
        "raw files, read when due": Side(run, STAGE, tars=False),
        "tars, read ahead": Side(run, ahead, tars=True),
        "latents, read ahead": Side(with_latents(run, stored, key, "places", "finetune"), stored, tars=True),
    }
    try:
        yield found
    finally:
        for side in found.values():
            side.trainer.batches.close()  # type: ignore[attr-defined]


def decoding(folder: Path) -> float:
    """Seconds to read, decode, cut and tokenize the pictures of a step."""
    side = Side(run_of(folder, STAGE), STAGE, tars=True)
    batches: Any = side.trainer.batches
    started = time.perf_counter()
    for step in range(8):
        batches._loader.step(step)
    return (time.perf_counter() - started) / 8


def parts(folder: Path) -> dict[str, float | str]:
    """Where the time of each way goes."""
    found: dict[str, float | str] = {"decode, s a step": decoding(folder)}
    with sides(folder) as ways:
        for turn in range(TURNS + 1):
            for side in ways.values():
                side.turn()
                if not turn:
                    side.figures.clear()
        for name, side in ways.items():
            assert np.isfinite(side.losses["loss"])
            found |= {f"{name}: {part}, s a step": side.median(part) for part in side.figures[0]}
            found[f"{name}: samples a second"] = BATCH / side.median("whole")
        first = next(iter(ways.values())).median("whole")
        found |= {f"ratio, {name}": first / side.median("whole") for name, side in ways.items()}
    return found


def bare_steps(trainer: Trainer, batch: dict[str, Any]) -> Callable[[], None]:
    """The trainer's step as one would write it down: one pass, one worker."""
    sources, config = list(trainer.trained().values()), trainer.config

    def step() -> None:
        trainer.optimizer.zero_grad()
        noise = [torch.Generator().manual_seed(noise_seed(0, index)) for index in batch["index"].tolist()]
        losses = trainer.model(batch, noise)
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(sources, config.gradient_clip)
        trainer.optimizer.step(1.0)

    return step


def overhead(folder: Path) -> dict[str, float | str]:
    """The trainer's step against the bare one, in pairs."""
    config = replace(STAGE, gradient_checkpointing=False, bf16=False)
    trainer = Side(run_of(folder, config), config, tars=True).trainer
    batch = trainer.batches.passes(0)[0]
    trainer.batches.passes = lambda step: [batch]  # type: ignore[method-assign]
    trainer.model.train()
    ways = {"trainer": trainer._optimizer_step, "bare": bare_steps(trainer, {**batch, "text_share": 1.0})}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for pair in range(PAIRS + 3):
        for name in sorted(ways, reverse=bool(pair % 2)):
            started = time.process_time()
            ways[name]()
            spent[name].append(time.process_time() - started)
    rng = np.random.default_rng(0)
    mine, other = (np.array(spent[name][3:]) for name in ("trainer", "bare"))
    drawn = rng.integers(0, len(mine), (2000, len(mine)))
    low, high = np.quantile(mine[drawn].sum(axis=1) / other[drawn].sum(axis=1), [0.025, 0.975])
    return {
        "trainer's step, CPU s": float(np.median(mine)),
        "bare step, CPU s": float(np.median(other)),
        "ratio, trainer to bare": f"{mine.sum() / other.sum():.3f} ({low:.3f} to {high:.3f})",
    }


def main() -> dict[str, float | str]:
    """All figures."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        return parts(Path(folder)) | overhead(Path(folder))
