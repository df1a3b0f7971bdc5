"""What a training keeps to go on from: parameters, averages and optimizer moments as one safetensors file.

Belongs here: that file. Not here: when it is written (``stages``), and how tensors are spread (``parallel``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from got_core.train import parallel
from got_core.train.optim import MovingAverage, Optimizers

STATE_FILE = "state.safetensors"


def save_checkpoint(
    folder: Path,
    trained: Mapping[str, Tensor],
    average: MovingAverage,
    optimizer: Optimizers,
    *,
    rank: int,
    note: dict[str, str],
) -> None:
    """Write the state and a note of a training; of a spread one all ranks take part. Rank 0 writes."""
    state: dict[str, Tensor] = {}
    for name, value in training_tensors(trained, average, optimizer).items():
        gathered = parallel.whole(value.detach())
        if rank == 0:
            state[name] = gathered.cpu().contiguous()
    if rank == 0:
        state["average_steps"] = torch.tensor(average.steps)
        save_file(state, folder / STATE_FILE, note)


def training_tensors(
    trained: Mapping[str, Tensor], average: MovingAverage, optimizer: Optimizers
) -> dict[str, Tensor]:
    """All tensors of the training by name, in the same order on every rank."""
    state = {f"parameter.{name}": value for name, value in trained.items()}
    state |= {f"average.{name}": value for name, value in zip(trained, average.values, strict=False)}
    for name, parameter in trained.items():
        state |= {f"optimizer.{name}.{part}": value for part, value in optimizer.state(parameter).items()}
    return state


@torch.no_grad()
def load_checkpoint(
    folder: Path, trained: Mapping[str, Tensor], average: MovingAverage, optimizer: Optimizers
) -> dict[str, str]:
    """Restore what :func:`save_checkpoint` wrote, by any number of ranks. Returns its note.

    Raises KeyError where the checkpoint is of another model.
    """
    state = load_file(folder / STATE_FILE)
    for name, parameter in trained.items():
        parameter.copy_(parallel.spread_like(state[f"parameter.{name}"], parameter))
    _restore_optimizer(state, trained, optimizer)
    for name, value in zip(trained, average.values, strict=False):
        value.copy_(parallel.spread_like(state[f"average.{name}"], value))
    average.steps = int(state["average_steps"])
    with safe_open(folder / STATE_FILE, framework="pt") as file:
        return file.metadata()


def _restore_optimizer(
    state: Mapping[str, Tensor], trained: Mapping[str, Tensor], optimizer: Optimizers
) -> None:
    moments: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        if key.startswith("optimizer."):
            name, _, part = key.removeprefix("optimizer.").rpartition(".")
            moments.setdefault(name, {})[part] = value
    for name, parameter in trained.items():
        spread = {part: parallel.spread_like(value, parameter) for part, value in moments[name].items()}
        optimizer.restore(parameter, spread)
