"""One model over several data-parallel workers: replicated (DDP) or spread (FSDP2), by recipe.

Belongs here: what differs between the two. Not here: the loop (``trainer``) and the processes (``ray``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from got_core.model.got import GoTModel
from got_core.train.prepare import sharded_layers


def replicate(model: GoTModel) -> nn.Module:
    """The model with its gradients averaged over all workers.

    Gradients lie in the buffers that are exchanged; only between passes of one step there are two copies.
    """
    return DistributedDataParallel(model, gradient_as_bucket_view=True)


def shard(
    model: GoTModel, device: torch.device, bf16: bool, *, within: int = 0, replicate_frozen: bool = False
) -> nn.Module:
    """Spread the model's parameters over the workers, in place, layer by layer; the VAE stays whole.

    An empty model (of the meta device) stays empty: ``emptied.fill`` gives it memory and values.
    With ``bf16`` on a GPU, layers are gathered in bfloat16; gradients are summed in float32 all the same.
    ``within`` and ``replicate_frozen`` as ``shard_within`` and ``replicate_frozen`` of ``StageConfig``.

    Raises ValueError where the number of workers is no multiple of ``within``.
    """
    mesh = _mesh(device.type, dist.get_world_size(), within)
    whole = {p for p in model.parameters() if replicate_frozen and not p.requires_grad}
    whole |= set(model.vae.parameters())
    for parameter in whole:
        if not parameter.is_meta:
            parameter.data = parameter.data.to(device)
    policy = MixedPrecisionPolicy()
    if bf16 and device.type == "cuda":
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    layers = [layer for layer in sharded_layers(model) if not whole.issuperset(layer.parameters())]
    for layer in (*layers, model):
        fully_shard(layer, mesh=mesh, mp_policy=policy, ignored_params=whole)
    return model


def _mesh(device_type: str, workers: int, within: int) -> DeviceMesh:
    """All workers in a row; or in rows of ``within``, each row holding everything."""
    if within in (0, workers):
        return init_device_mesh(device_type, (workers,))
    if workers % within:
        raise ValueError(
            f"shard_within {within} does not divide the {workers} workers: set it to 0 or to one of their "
            "divisors"
        )
    names = ("replicate", "shard")
    return init_device_mesh(device_type, (workers // within, within), mesh_dim_names=names)


@contextmanager
def one_pass(model: nn.Module, last: bool) -> Iterator[None]:
    """Forward and backward of one pass of a step; workers exchange gradients in the last one only."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
        yield
    elif isinstance(model, DistributedDataParallel) and not last:
        with model.no_sync():
            yield
    else:
        yield


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor. Of a spread one, every worker has to ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that lies on this worker, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def sum_over_workers(value: float, ranks: int, device: torch.device) -> float:
    """Sum of a number over all workers."""
    return sums_over_workers([value], ranks, device)[0]


def sums_over_workers(values: list[float], ranks: int, device: torch.device) -> list[float]:
    """Sum of each number over all workers; all hand in as many, in the same order."""
    if ranks == 1:
        return values
    totals = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(totals)
    return totals.tolist()


def smallest(value: int, ranks: int, device: torch.device) -> int:
    """The smallest of a number over all workers."""
    if ranks == 1:
        return value
    least = torch.tensor(value, dtype=torch.int64, device=device)
    dist.all_reduce(least, dist.ReduceOp.MIN)
    return int(least)


def agreed(value: int, ranks: int, device: torch.device) -> int:
    """Rank 0's number, on all workers."""
    if ranks == 1:
        return value
    shared = torch.tensor(value, dtype=torch.int64, device=device)
    dist.broadcast(shared, 0)
    return int(shared)


def gathered(value: Any, ranks: int) -> list[Any]:
    """A small object of every worker, by rank, on all of them."""
    if ranks == 1:
        return [value]
    found: list[Any] = [None] * ranks
    dist.all_gather_object(found, value)
    return found
