"""What each of two processes does in the test of what workers exchange; a module, to be spawned."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from got_core.budget.measure import gathered_parameters
from got_core.model.got import GoTModel
from got_core.train.config import StageConfig
from got_core.train.data.samples import training_data
from got_core.train.run import TrainingRun
from got_core.train.sizes import count
from got_core.train.trainer import Trainer
from tests.got_core.ranks import join_group, leave_group
from tests.got_core.tiny_pipeline import tiny_pipeline

CONFIG = StageConfig(
    steps=1, workers=2, batch_size=1, global_batch=4, draws_per_step=2, lora_rank=4, bf16=False
)
WAYS: dict[str, dict[str, Any]] = {
    "ddp": {"sharding": "ddp"},
    "fsdp": {"sharding": "fsdp"},
    "fsdp frozen-whole": {"sharding": "fsdp", "replicate_frozen": True},
    "fsdp alone": {"sharding": "fsdp", "shard_within": 1},
}


class Exchanged(TorchDispatchMode):
    """Counts bytes of the whole tensors that are gathered and summed, by the name of the operation."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.namespace == "c10d":
            leaves = [one for arg in args for one in (arg if isinstance(arg, list | tuple) else [arg])]
            sizes = [one.nbytes for one in leaves if isinstance(one, torch.Tensor)]
            self.bytes[func._schema.name] += max(sizes, default=0)
        return func(*args, **(kwargs or {}))


def train(rank: int, run: TrainingRun, folder: Path) -> None:
    """A step of each way, and the sizes of what is trained."""
    torch.set_num_threads(1)
    join_group(folder / "rendezvous", rank, 2)
    found: dict[str, Any] = {}
    for way, kind in (*((way, "t2i") for way in WAYS), ("fsdp", "edit")):
        config = replace(CONFIG, **WAYS[way], mixture={kind: 1.0})
        trainer = Trainer(tiny_pipeline(), training_data(run), config, rank, 2)
        if way == "ddp":
            found["sizes"] = _sizes(trainer.model)
        with Exchanged() as exchanged:
            trainer.run(1, lambda step, losses: None)
        found[f"{way} {kind}"] = dict(exchanged.bytes)
    (folder / f"{rank}.json").write_text(json.dumps(found))
    leave_group()


def _sizes(model: GoTModel) -> dict[str, Any]:
    return {
        "total": count(model.parameters()),
        "trained": {"all": count(model.parameters(), trained=True)},
        "frozen_autoencoder": count(model.vae.parameters()),
        "gathered": asdict(gathered_parameters(model)),
        "gathered frozen-whole": asdict(gathered_parameters(model, replicate_frozen=True)),
    }
