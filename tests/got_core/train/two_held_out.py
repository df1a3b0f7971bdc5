"""What each of two processes does in the test of the held-out loss; a module, so that it can be spawned."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from got_core.train.config import StageConfig
from got_core.train.data.samples import training_data
from got_core.train.held_out import HeldOut
from got_core.train.parallel import local
from got_core.train.run import TrainingRun
from got_core.train.trainer import Trainer
from tests.got_core.ranks import join_group, leave_group
from tests.got_core.tiny_pipeline import tiny_pipeline

CONFIG = StageConfig(
    steps=6,
    batch_size=2,
    global_batch=4,
    lora_rank=4,
    mixture={"t2i": 0.5, "edit": 0.5},
    bf16=False,
    held_out=0.3,
)


def measure(rank: int, run: TrainingRun, folder: Path) -> None:
    """Three steps of either sharding, measured between steps and not."""
    torch.set_num_threads(1)
    join_group(folder / "rendezvous", rank, 2)
    for sharding in ("ddp", "fsdp"):
        config = replace(CONFIG, sharding=sharding, ema_decay=0.9)
        measured, plain = (
            Trainer(tiny_pipeline(), training_data(run, config), config, rank, 2) for _ in range(2)
        )
        held_out = HeldOut(measured, print)
        report: dict[str, object] = {"start": held_out.losses()}
        for step in (1, 2, 3):
            measured.run(step, lambda step, losses: None)
            report["end"] = held_out.losses()
        plain.run(3, lambda step, losses: None)
        pairs = zip(measured.trained().values(), plain.trained().values(), strict=True)
        report["same_weights"] = all(torch.equal(local(a), local(b)) for a, b in pairs)
        (folder / f"{sharding}-{rank}.json").write_text(json.dumps(report))
    leave_group()
