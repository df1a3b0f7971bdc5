"""The state of a training as tensors by name: parameters, averages, optimizer moments.

Belongs here: names, whether all is finite, and whether a checkpoint fits. Not here: files (``parts``).
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import torch
from torch import Tensor

from got_core.train import parallel
from got_core.train.checkpoints.folders import Checkpoint
from got_core.train.checkpoints.parts import CheckpointError, Index, Saved
from got_core.train.optim import MovingAverage, Optimizers

_OPTIMIZER = "optimizer."


def training_tensors(
    trained: Mapping[str, Tensor], average: MovingAverage, optimizer: Optimizers
) -> dict[str, Tensor]:
    """All tensors of the training by name, in the same order on every rank."""
    state = _weights(trained, average)
    for name, parameter in trained.items():
        parts = optimizer.state(parameter).items()
        state |= {f"{_OPTIMIZER}{name}.{part}": value for part, value in parts}
    return state


def _weights(trained: Mapping[str, Tensor], average: MovingAverage) -> dict[str, Tensor]:
    averages = zip(trained, average.values, strict=False)  # none where none is kept
    return {f"parameter.{name}": value for name, value in trained.items()} | {
        f"average.{name}": value for name, value in averages
    }


@torch.no_grad()
def check_finite(state: Mapping[str, Tensor], step: int, ranks: int, device: torch.device) -> None:
    """Raise FloatingPointError on all ranks where any rank's part of any tensor has NaN or infinity.

    All ranks call it, with the same names. It names the step and the first such tensor.
    """
    names = [name for name, value in state.items() if value.is_floating_point()]
    flags = [parallel.local(state[name]).isfinite().all().to(device) for name in names]
    broken = [k for k, finite in enumerate(torch.stack(flags).tolist() if flags else []) if not finite]
    first = parallel.smallest(min(broken, default=len(names)), ranks, device)
    if first < len(names):
        raise FloatingPointError(
            f"step {step}: {names[first]} holds NaN or infinity, so no checkpoint was written and the one "
            "before stays the last; lower the rate, or look for the batch that did it"
        )


def targets(
    index: Index, where: str, trained: Mapping[str, Tensor], average: MovingAverage, optimizer: Optimizers
) -> dict[str, Tensor]:
    """Tensors for a checkpoint to be read into: the training's own, and moments that the optimizer now has.

    All are checked before: by name, shape and dtype, for reading would cast without a word. Raises
    CheckpointError naming the checkpoint (``where``) and the tensor; nothing has changed then.
    """
    wanted = _weights(trained, average)
    _check_names({name for name in index if not name.startswith(_OPTIMIZER)}, wanted.keys(), where)
    for name, value in wanted.items():
        _check_like(name, index[name], value, where)
    moments: dict[str, dict[str, Tensor]] = {}
    for key, saved in index.items():
        if key.startswith(_OPTIMIZER):
            name, _, part = key.removeprefix(_OPTIMIZER).rpartition(".")
            _check_names({f"parameter.{name}"}, wanted.keys(), where, lacking=False)
            moments.setdefault(name, {})[part] = wanted[key] = _like(saved, trained[name])
    for name, parts in moments.items():
        optimizer.restore(trained[name], parts)
    return {name: value.detach() for name, value in wanted.items()}


def _check_names(found: Set[str], wanted: Set[str], where: str, *, lacking: bool = True) -> None:
    for names, what in ((wanted - found if lacking else set(), "lacks"), (found - wanted, "has")):
        if names:
            raise CheckpointError(
                f"{where} is of another model: it {what} {min(names)!r} (of {len(names)} tensors that "
                "differ); start the stage under another key, or from the recipe that wrote it"
            )


def _check_like(name: str, saved: Saved, value: Tensor, where: str) -> None:
    if saved.shape != tuple(value.shape) or saved.dtype != value.dtype:
        raise CheckpointError(
            f"{where}: {name!r} is {saved.dtype} of shape {saved.shape}, the training needs {value.dtype} of "
            f"shape {tuple(value.shape)}; it is the checkpoint of another model or precision"
        )


def _like(saved: Saved, parameter: Tensor) -> Tensor:
    """An empty tensor for a moment: spread as its parameter is, if it has its shape."""
    if saved.shape == tuple(parameter.shape) and len(saved.shape):
        return torch.zeros_like(parameter.detach(), dtype=saved.dtype)
    return torch.zeros(saved.shape, dtype=saved.dtype, device=parameter.device)


def read_whole(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """All tensors of a checkpoint, in this process alone, on the CPU."""
    files = checkpoint.files()
    index = checkpoint.index(files)
    tensors = {name: torch.zeros(saved.shape, dtype=saved.dtype) for name, saved in index.items()}
    checkpoint.read(tensors, files, index)
    return tensors
