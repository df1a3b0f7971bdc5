"""What each of two processes does in the tests of ``parallel``; a module, so that it can be spawned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from got_core.model.config import LossConfig
from got_core.train.config import StageConfig
from got_core.train.data.samples import training_data
from got_core.train.parallel import local
from got_core.train.run import TrainingRun
from got_core.train.trainer import Trainer
from tests.got_core.ranks import join_group, leave_group
from tests.got_core.tiny_pipeline import tiny_pipeline

CONFIG = StageConfig(
    steps=4,
    workers=2,
    batch_size=2,
    global_batch=8,
    draws_per_step=2,
    lora_rank=4,
    bf16=False,
    mixture={"t2i": 0.5, "edit": 0.5},
)
TEXT_CONFIG = replace(
    CONFIG, global_batch=4, draws_per_step=1, loss=LossConfig(diffusion_weight=0.0, language_share=0.5)
)


def train(rank: int, run: TrainingRun, folder: Path) -> None:
    """Two steps of either sharding, saved; then the text loss's gradient of one step, replicated."""
    torch.set_num_threads(1)
    join_group(folder / "rendezvous", rank, 2)
    for sharding in ("ddp", "fsdp"):
        config = replace(CONFIG, sharding=sharding)
        trainer = Trainer(tiny_pipeline(), training_data(run), config, rank, 2)
        held = sum(local(p).numel() for p in trainer.trained().values())
        everything = sum(p.numel() for p in trainer.trained().values())
        assert held == everything if sharding == "ddp" else held < 0.55 * everything, (
            f"{held} of {everything}"
        )
        trainer.run(2, lambda step, losses: None)
        (folder / sharding).mkdir(exist_ok=True)
        trainer.save(folder / sharding)
        with trainer.averaged() as pipeline:
            if pipeline is not None:
                pipeline(["a red circle"], generator=torch.Generator().manual_seed(0)).images[0].save(
                    folder / f"{sharding}.png"
                )
        finished = trainer.finish()
        if finished is not None:
            finished.save_pretrained(folder / f"{sharding}-pipeline")
    resumed = Trainer(tiny_pipeline(), training_data(run), replace(CONFIG, sharding="fsdp"), rank, 2)
    resumed.load(folder / "ddp")
    (folder / "resumed").mkdir(exist_ok=True)
    resumed.save(folder / "resumed")
    _text_gradient(rank, run, folder)
    leave_group()


def _text_gradient(rank: int, run: TrainingRun, folder: Path) -> None:
    trainer = Trainer(tiny_pipeline(), training_data(run), TEXT_CONFIG, rank, 2)
    trainer._backward_passes()
    if rank == 0:
        save_file(
            {n: p.grad for n, p in trainer.trained().items() if p.grad is not None},
            folder / "text.safetensors",
        )
