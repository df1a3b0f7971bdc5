"""What each of two processes does in the test of skipped steps; a module, so that it can be spawned."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from got_core.train.config import StageConfig
from got_core.train.parallel import whole
from got_core.train.run import TrainingRun
from got_core.train.skipping import NotFiniteStepsError
from got_core.train.trainer import Trainer
from tests.got_core.ranks import join_group, leave_group
from tests.got_core.tiny_pipeline import tiny_pipeline
from tests.got_core.train.spoilt import spoilt_data

CONFIG = StageConfig(
    steps=6, workers=2, batch_size=2, lora_rank=4, mixture={"t2i": 1.0}, bf16=False, max_skipped_steps=2
)


def train(rank: int, run: TrainingRun, folder: Path) -> None:
    """Three steps, the second spoilt on rank 1; then spoilt ones until the training gives up."""
    torch.set_num_threads(1)
    join_group(folder / "rendezvous", rank, 2)
    for sharding in ("ddp", "fsdp"):
        data = spoilt_data(run)
        trainer = Trainer(tiny_pipeline(), data, replace(CONFIG, sharding=sharding), rank, 2)
        norms: list[str] = []
        for step in (1, 2, 3):
            data.everything = rank == 1 and step == 2
            trainer.run(step, lambda step, losses: None)
            norms.append(f"{trainer.gradient_norm:.9g}")
        report: dict[str, Any] = {"skipped": list(trainer.skips.steps), "norms": norms}
        save_file(
            {name: whole(value.detach()).contiguous().clone() for name, value in trainer.trained().items()},
            folder / f"{sharding}-{rank}.safetensors",
        )
        data.everything = rank == 1
        try:
            # The row begins anew: the third step was a good one.
            trainer.run(6, lambda step, losses: None)
        except NotFiniteStepsError as error:
            report["error"] = str(error)
        (folder / f"{sharding}-{rank}.json").write_text(json.dumps(report))
    leave_group()
