"""What each of two processes does in the tests of a changing number of workers; a module to be spawned."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from got_core.model import got, noising
from got_core.model.config import LossConfig
from got_core.train.config import StageConfig
from got_core.train.data.passes import PassOrder, PassReader, ReadPass
from got_core.train.data.samples import training_data
from got_core.train.parallel import sum_over_workers
from got_core.train.run import TrainingRun
from got_core.train.trainer import Trainer
from tests.got_core.ranks import join_group, leave_group
from tests.got_core.tiny_pipeline import tiny_pipeline

CONFIG = StageConfig(
    steps=24,
    workers=2,
    batch_size=4,
    global_batch=8,
    draws_per_step=2,
    lora_rank=2,
    bf16=False,
    geometry="crop",
    mixture={"t2i": 0.5, "edit": 0.5},
    peak_rate=3e-4,
    warmup_steps=2,
    loss=LossConfig(language_share=0.4, drop=0.1, noise_offset=0.1),
)
UNDISTURBED = ((2, 24),)
CHANGING = ((2, 4), (1, 8), (2, 24))
"""Numbers of workers, one after the other, and the step that each trains up to."""


def train(rank: int, run: TrainingRun, folder: Path) -> None:
    """Either sharding, undisturbed and with a changing number of workers.

    Leaves what every step learned from in ``folder``, a line for each, by rank.
    """
    torch.set_num_threads(1)
    for sharding in ("ddp", "fsdp"):
        for name, phases in (("undisturbed", UNDISTURBED), ("changing", CHANGING)):
            place = folder / f"{sharding}-{name}"
            place.mkdir(exist_ok=True)
            for number, (workers, until) in enumerate(phases):
                if rank < workers:
                    config = replace(CONFIG, sharding=sharding)
                    _train_phase(rank, workers, until, number, config, run, place)


def _train_phase(
    rank: int, workers: int, until: int, number: int, config: StageConfig, run: TrainingRun, place: Path
) -> None:
    # Whoever had no part in the phase before waits here for the others.
    join_group(place / f"meet-{number}", rank, workers)
    trainer = Trainer(tiny_pipeline(), training_data(run, config), config, rank, workers)
    if number:
        trainer.load(place / f"{number - 1}")
    with _noted() as notes, (place / f"steps-{number}-{rank}.jsonl").open("w") as file:

        def on_step(step: int, losses: dict[str, float]) -> None:
            loss = sum_over_workers(losses["loss"], workers, trainer.device) / workers
            file.write(json.dumps({"step": step, "loss": loss, "samples": notes.take()}) + "\n")

        trainer.run(until, on_step)
    (place / f"{number}").mkdir(exist_ok=True)
    trainer.save(place / f"{number}")
    dist.barrier()
    leave_group()


class _Notes:
    """What a step learned from: of each sample its row, wording, cut and all its random numbers."""

    def __init__(self) -> None:
        self.samples: dict[int, list[Any]] = {}
        self.order: list[int] = []
        """Numbers of the samples in the pass."""

    def take(self) -> dict[int, list[Any]]:
        found, self.samples = self.samples, {}
        return found


@contextmanager
def _noted() -> Iterator[_Notes]:
    """Note what the real functions give while the block runs."""
    notes = _Notes()
    read, draw, forward = PassReader.read, noising.draw_samples, got.GoTModel.forward

    def read_pass(self: PassReader, order: PassOrder) -> ReadPass:
        found = read(self, order)
        for index, sample in zip(order.indices, found.samples, strict=True):
            picture = _hash(torch.from_numpy(sample.target.copy()))
            notes.samples[index] = [sample.sample_id, sample.prompts[0], picture]
        return found

    def run_forward(self: got.GoTModel, batch: dict[str, Any], rng: Any) -> dict[str, Tensor]:
        notes.order = batch["index"].tolist()
        for position, index in enumerate(notes.order):
            notes.samples[index].append(position < batch["learning"])
        try:
            return forward(self, batch, rng)
        finally:
            notes.order = []

    def draw_samples(*given: Any) -> Tensor:
        drawn = draw(*given)
        for index, one in zip(notes.order, drawn, strict=bool(notes.order)):  # not what is drawn for encoding
            notes.samples[index].append(_hash(one))
        return drawn

    PassReader.read, got.GoTModel.forward = read_pass, run_forward  # type: ignore[method-assign, assignment]
    noising.draw_samples = got.draw_samples = draw_samples  # type: ignore[assignment, attr-defined]
    try:
        yield notes
    finally:
        PassReader.read, got.GoTModel.forward = read, forward  # type: ignore[method-assign]
        noising.draw_samples = got.draw_samples = draw  # type: ignore[attr-defined]


def _hash(value: Tensor) -> str:
    return sha256(value.detach().contiguous().numpy().tobytes()).hexdigest()[:16]


def dropout_masks(rank: int, run: TrainingRun, folder: Path) -> None:
    """Which values dropout leaves on each rank in a real step, at the last tokens: they are no padding."""
    torch.set_num_threads(1)
    join_group(folder / "rendezvous", rank, 2)
    config = replace(CONFIG, lora_dropout=0.5, draws_per_step=1, global_batch=4)
    trainer = Trainer(tiny_pipeline(), training_data(run, config), config, rank, 2)
    masks: list[Tensor] = []
    for name, module in trainer.model.named_modules():
        if name.endswith("0.self_attn.q_proj.lora_dropout.default"):
            module.register_forward_hook(lambda part, given, answer: masks.append((answer != 0).float()))
    trainer.run(1, lambda step, losses: None)
    (folder / f"mask-{rank}.json").write_text(json.dumps(masks[0][:, -4:].flatten().tolist()))
    leave_group()
