"""What each of two processes does in the test of windows; a module, so that it can be spawned."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from got_core.train.config import StageConfig
from got_core.train.run import TrainingRun
from got_core.train.trainer import Trainer
from got_core.train.window import Window
from tests.got_core.ranks import join_group, leave_group
from tests.got_core.tiny_pipeline import tiny_pipeline
from tests.got_core.train.spoilt import spoilt_data

CONFIG = StageConfig(
    steps=3,
    batch_size=2,
    global_batch=4,
    lora_rank=4,
    mixture={"t2i": 1.0},
    bf16=False,
    peak_rate=1e-3,
    language_rate=5e-4,
    final_rate=1.0,
)


def train(rank: int, run: TrainingRun, folder: Path) -> None:
    """Three steps, the second spoilt on rank 1, as one window."""
    torch.set_num_threads(1)
    join_group(folder / "rendezvous", rank, 2)
    data = spoilt_data(run)
    trainer = Trainer(tiny_pipeline(), data, CONFIG, rank, 2)
    window, seen = Window(trainer, 5), []

    def on_step(step: int, losses: dict[str, float]) -> None:
        seen.append(losses)
        window.add(losses)
        assert window.is_full() == (step == CONFIG.steps)

    for step in (1, 2, 3):
        data.everything = rank == 1 and step == 2
        trainer.run(step, on_step)
    data.faults.substituted = 2 - rank
    report = {"losses": seen, "own_cpu_seconds": trainer._clock.seconds(), "taken": window.take()}
    (folder / f"{rank}.json").write_text(json.dumps(report))
    leave_group()
