"""Blocks of a model as compiled code (``torch.compile``), where a stage wants that.

Belongs here: which blocks, and going without for a while. Not here: what is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from got_core.model.backbones.registry import drawer_of, planner_of
from got_core.model.got import GoTModel

SIZES = 256
"""Sizes for which a kind of block is compiled at most: text grows in steps of 16 tokens, with and without a
picture, and pictures have their buckets. What comes beyond is computed without."""
BACKEND = "inductor"


def compiled_blocks(model: GoTModel) -> list[nn.Module]:
    """The innermost blocks of the drawing network, and those of the language model in which something is
    trained: the frozen vision tower has loops over its windows."""
    planner = [
        layer
        for layer in planner_of(model.mllm).indivisible_layers()
        if any(p.requires_grad for p in layer.parameters())
    ]
    layers = [*planner, *drawer_of(model.unet).indivisible_layers()]
    known = set(map(id, layers))
    inner = [not any(id(part) in known for part in [*layer.modules()][1:]) for layer in layers]
    return [layer for layer, chosen in zip(layers, inner, strict=True) if chosen]


def compile_blocks(model: GoTModel) -> None:
    """Compile the blocks in place, each when it is first called with a size. Names of weights stay.

    Only what a block computes is compiled, not its hooks, so that it may be spread over workers.
    """
    dynamo = torch._dynamo.config
    dynamo.recompile_limit = max(dynamo.recompile_limit, SIZES)
    dynamo.accumulated_recompile_limit = max(dynamo.accumulated_recompile_limit, 8 * SIZES)
    for block in compiled_blocks(model):
        block.forward = torch.compile(block.forward, backend=BACKEND, dynamic=False)  # type: ignore[method-assign]


@contextmanager
def not_compiled(model: nn.Module) -> Iterator[None]:
    """Inside, nothing of the model is compiled: sizes that are met once are not worth it."""
    taken = [(part, part.__dict__.pop("forward")) for part in model.modules() if "forward" in part.__dict__]
    try:
        yield
    finally:
        for part, forward in taken:
            part.forward = forward


def drop_compiled(model: nn.Module) -> None:
    """Make the blocks plain again, in place."""
    for part in model.modules():
        part.__dict__.pop("forward", None)
