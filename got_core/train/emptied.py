"""Models without memory that get their weights from rank 0, so that only it needs to have read them.

Belongs here: the empty copy, and how it is filled. Not here: how a model is spread (``parallel``), and what
is read of folders (``start``).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.tensor import DTensor, distribute_tensor

from got_core.model.got import GoTModel
from got_core.model.pipeline import GoTPipeline
from got_core.train import parallel
from got_core.train.sizes import META


def emptied(pipeline: GoTPipeline, model: GoTModel) -> tuple[GoTPipeline, GoTModel]:
    """Copies of a pipeline and of the model of its parts, whose weights and buffers take no memory."""
    memo: dict[int, Any] = {id(one): torch.empty_like(one, device=META) for one in model.buffers()}
    for one in model.parameters():
        empty = torch.empty_like(one, device=META)
        memo[id(one)] = nn.Parameter(empty, requires_grad=one.requires_grad)
    return copy.deepcopy((pipeline, model), memo)


@torch.no_grad()
def fill(model: nn.Module, source: nn.Module | None, device: torch.device) -> None:
    """Give an empty model, whole or spread, memory on the device and the values of rank 0's ``source``.

    All ranks call it; ``source`` is None above rank 0. Of a spread weight, each rank gets its part; buffers,
    also those that are never saved, are sent whole.

    Raises ValueError, on all ranks, where the ranks' models differ, or keep a tensor outside both.
    """
    values = None if source is None else _tensors(source)
    _check_alike(_tensors(model) if values is None else values, model)
    shared = _shared(model)
    model.to_empty(device=device)
    for (first, its_name), *others in shared:
        for module, name in others:
            setattr(module, name, getattr(first, its_name))
    for name, tensor in _tensors(model).items():
        _send(None if values is None else values[name], tensor.detach(), device)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _send(value: Tensor | None, target: Tensor, device: torch.device) -> None:
    """Fill a tensor with rank 0's value, which is None on the others."""
    if isinstance(target, DTensor):
        whole = torch.empty(target.shape, dtype=target.dtype, device=device) if value is None else value
        sent = distribute_tensor(whole.to(device), target.device_mesh, target.placements, src_data_rank=0)
        parallel.local(target).copy_(parallel.local(sent))
        return
    if value is not None:
        target.copy_(value)
    dist.broadcast(target, 0)


def _shared(model: nn.Module) -> list[list[tuple[nn.Module, str]]]:
    """Places of each parameter that has several: ``to_empty`` gives every place a tensor of its own."""
    places: dict[Tensor, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            places.setdefault(parameter, []).append((module, name))
    return [found for found in places.values() if len(found) > 1]


def _check_alike(tensors: dict[str, Tensor], model: nn.Module) -> None:
    """Of all ranks, before any waits for what another does not send."""
    own = {name: (tuple(one.shape), str(one.dtype), one.requires_grad) for name, one in tensors.items()}
    first = [own]
    dist.broadcast_object_list(first, 0)
    names = [name for name in {**first[0], **own} if own.get(name) != first[0].get(name)]
    note = f"{names[0]} is {own.get(names[0])}, on worker 1 {first[0].get(names[0])}" if names else ""
    for number, found in enumerate(parallel.gathered(note or _stray(model), dist.get_world_size()), 1):
        if found:
            raise ValueError(
                f"worker {number} cannot take the weights that worker 1 has read: {found} (None: not there); "
                "start the stage from one folder, with the same software on all nodes"
            )


def _stray(model: nn.Module) -> str:
    """The first tensor without memory that is neither parameter nor buffer, for no such is sent."""
    for place, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and value.is_meta:
                return f"{place}.{name} is a tensor but no buffer of {type(module).__name__}"
    return ""
