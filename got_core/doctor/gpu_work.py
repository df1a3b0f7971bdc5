"""What a worker measures of its GPU: a matrix product, an exchange between all workers, a step of the U-Net.

Belongs here: the work and its time. Not here: workers, and what is thought of the figures (`gpu`).
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.utils.flop_counter import FlopCounterMode

from got_core.model.backbones.protocols import DrawerConditions
from got_core.model.backbones.registry import drawer_of
from got_core.model.build import build_unet
from got_core.model.config import ModelConfig

TERA, GIGA = 1e12, 1e9
_WARM_UP = 2


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large the work is, and how often it is repeated for its time."""

    side: int = 8192
    """Of the square matrices."""
    exchanged: int = 128 * 1024**2
    """Numbers that are summed over all workers."""
    batch: int = 1
    """Pictures of a step."""
    repeats: int = 10


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one worker found."""

    host: str
    device: str
    """Name of the card."""
    memory_gb: float
    """Of the card, in GB (10^9 bytes); 0 for a processor."""
    dtype: str
    matmul_tflops: float
    """TFLOP/s of the matrix product."""
    exchange_gb: float | None
    """GB a second of each worker's link while all exchange (nccl-tests' bus bandwidth); None for one
    worker."""
    step_seconds: float
    """Of a forward and backward pass of the U-Net."""
    step_tflops: float
    """TFLOP/s of that."""
    step_memory_gb: float
    """Most memory in use meanwhile; 0 for a processor."""


def measure(
    model: ModelConfig, device: torch.device, *, sizes: Sizes | None = None, rank: int = 0, ranks: int = 1
) -> Measured:
    """Do all of it on one device, in bfloat16 on a GPU and float32 on a processor.

    With several ranks the default process group is used, and all call it. Raises torch.OutOfMemoryError
    where a step does not fit, and ArithmeticError where a result is wrong.
    """
    sizes, gpu = sizes or Sizes(), device.type == "cuda"
    dtype = torch.bfloat16 if gpu else torch.float32
    matmul = _matmul(sizes, device, dtype)
    exchange = _exchange(sizes, device, dtype, rank, ranks) if ranks > 1 else None
    seconds, flops, memory = _step(model, sizes, device, dtype)
    return Measured(
        host=platform.node(),
        device=torch.cuda.get_device_name(device) if gpu else "processor",
        memory_gb=torch.cuda.get_device_properties(device).total_memory / GIGA if gpu else 0.0,
        dtype=str(dtype).removeprefix("torch."),
        matmul_tflops=matmul,
        exchange_gb=exchange,
        step_seconds=seconds,
        step_tflops=flops / seconds / TERA,
        step_memory_gb=memory,
    )


def _matmul(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> float:
    """TFLOP/s of a product whose result is known: every element is the side's length."""
    one = torch.ones(sizes.side, sizes.side, device=device, dtype=dtype)
    seconds, product = _timed(lambda: one @ one, device, sizes.repeats)
    # A power of two is exact in bfloat16; for other sides the nearest number is.
    expected = torch.tensor(float(sizes.side), dtype=dtype).item()
    if not bool((product == expected).all()):
        raise ArithmeticError(
            f"a product of ones is {product.min().item()} to {product.max().item()}, not {expected}"
        )
    return 2 * sizes.side**3 / seconds / TERA


def _exchange(sizes: Sizes, device: torch.device, dtype: torch.dtype, rank: int, ranks: int) -> float:
    """GB a second of an all-reduce, as nccl-tests counts its bus bandwidth."""
    ones = torch.full((sizes.exchanged,), float(rank + 1), device=device, dtype=dtype)
    dist.all_reduce(ones)
    if not bool((ones == ranks * (ranks + 1) / 2).all()):
        raise ArithmeticError(
            f"the sum over {ranks} workers is {ones[0].item()}, not {ranks * (ranks + 1) / 2}"
        )
    ones.zero_()  # repeated sums would overflow
    seconds, _ = _timed(lambda: dist.all_reduce(ones), device, sizes.repeats)
    sent = ones.numel() * ones.element_size() * 2 * (ranks - 1) / ranks
    return sent / seconds / GIGA


def _step(
    model: ModelConfig, sizes: Sizes, device: torch.device, dtype: torch.dtype
) -> tuple[float, float, float]:
    """Seconds, operations and GB of a pass of the U-Net of the model's width, forward and backward."""
    with torch.device(device):
        drawer = drawer_of(build_unet(model).to(dtype))
        drawer.widen_input()
        latents, conditions = _inputs(model, drawer, sizes.batch, dtype)
        steps = torch.full((sizes.batch,), 500)

    def train() -> Tensor:
        drawer.network.zero_grad(set_to_none=True)
        loss = drawer.predict(latents, steps, conditions).float().square().mean()
        loss.backward()
        return loss.detach()

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with FlopCounterMode(display=False) as counter:
        train()
    seconds, loss = _timed(train, device, sizes.repeats)
    if not bool(loss.isfinite()):
        raise ArithmeticError(f"the loss of random weights is {loss.item()}")
    memory = torch.cuda.max_memory_allocated(device) / GIGA if device.type == "cuda" else 0.0
    return seconds, float(counter.get_total_flops()), memory


def _inputs(
    model: ModelConfig, drawer: Any, batch: int, dtype: torch.dtype
) -> tuple[Tensor, DrawerConditions]:
    """Noise in the shapes of training at the model's resolution."""
    side = int(drawer.network.config.sample_size)
    latents, reference, spatial = torch.randn(3, batch, drawer.latent_channels, side, side, dtype=dtype)
    return latents, DrawerConditions(
        context=torch.randn(batch, model.image_tokens, drawer.context_dim, dtype=dtype),
        pooled=torch.randn(batch, drawer.pooled_dim, dtype=dtype),
        sizes=torch.tensor(
            [[model.resolution, model.resolution, 0, 0] + [model.resolution] * 2] * batch, dtype=dtype
        ),
        reference=reference,
        spatial=spatial,
    )


def _timed(work: Callable[[], Any], device: torch.device, repeats: int) -> tuple[float, Any]:
    """Seconds of one call on average, and what the last one gave. All workers call it as often."""
    for _ in range(_WARM_UP):
        work()
    _finished(device)
    started, made = time.perf_counter(), None
    for _ in range(repeats):
        made = work()
    _finished(device)
    return (time.perf_counter() - started) / repeats, made


def _finished(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
