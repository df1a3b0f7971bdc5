"""What each of four processes does in the tests of groups of workers; a module, so that it can be spawned."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from got_core.train.config import StageConfig
from got_core.train.data.samples import training_data
from got_core.train.parallel import local
from got_core.train.run import TrainingRun
from got_core.train.sample_pictures import sample_grid
from got_core.train.trainer import Trainer
from tests.got_core.ranks import join_group, leave_group
from tests.got_core.tiny_pipeline import sees_its_conditions, tiny_pipeline

CONFIG = StageConfig(
    steps=4, workers=4, batch_size=1, global_batch=8, draws_per_step=2, lora_rank=4, bf16=False
)
WAYS = {
    "ddp": CONFIG,
    "groups": replace(CONFIG, sharding="fsdp", shard_within=2),
    "frozen": replace(CONFIG, sharding="fsdp", replicate_frozen=True),
    "both": replace(CONFIG, sharding="fsdp", replicate_frozen=True, shard_within=2, compile=True),
}


def train(rank: int, run: TrainingRun, folder: Path) -> None:
    """Two steps each way, their losses and checkpoint; sample pictures before them, replicated."""
    from got_core.train import compiling

    compiling.BACKEND = "aot_eager"  # spawned: nobody else sees it
    torch.set_num_threads(1)
    join_group(folder / "rendezvous", rank, 4)
    for way, config in WAYS.items():
        trainer = Trainer(sees_its_conditions(tiny_pipeline()), training_data(run), config, rank, 4)
        if way == "ddp":
            grid = sample_grid(trainer, print)
            assert (grid is None) == (rank != 0)
            if grid is not None:
                grid.save(folder / "samples.png")
        losses: list[dict[str, float]] = []
        trainer.run(2, lambda step, found, kept=losses: kept.append(found))
        (folder / way).mkdir(exist_ok=True)
        trainer.save(folder / way)
        again = Trainer(tiny_pipeline(), training_data(run), config, rank, 4)
        again.load(folder / way)
        for mine, other in zip(trainer.trained().values(), again.trained().values(), strict=True):
            assert torch.equal(local(mine), local(other)), way
        held = {"losses": losses, **_held(trainer)}
        (folder / f"{way}-{rank}.json").write_text(json.dumps(held))
    leave_group()


def _held(trainer: Trainer) -> dict[str, float]:
    """Shares of trained and of frozen parameters that lie on this worker."""
    parts: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    for name, parameter in trainer.model.named_parameters():
        if not name.startswith("vae"):
            parts[parameter.requires_grad].append(parameter)
    return {
        name: sum(local(p).numel() for p in parts[trains]) / sum(p.numel() for p in parts[trains])
        for name, trains in (("trained", True), ("frozen", False))
    }
