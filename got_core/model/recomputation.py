"""Which activations the backward pass computes again, where a network recomputes any.

Belongs here: the choice of operations. Not here: letting a network do so (``backbones``).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, SelectiveCheckpointContext
from torch.utils.checkpoint import create_selective_checkpoint_contexts as contexts

_ATEN = torch.ops.aten
_PRODUCTS = {
    *(_ATEN.mm, _ATEN.addmm, _ATEN.bmm, _ATEN.baddbmm, _ATEN.convolution),
    *(_ATEN._scaled_dot_product_flash_attention, _ATEN._scaled_dot_product_efficient_attention),
    *(_ATEN._scaled_dot_product_cudnn_attention, _ATEN._scaled_dot_product_flash_attention_for_cpu),
}
"""Nearly all operations of a network, and a small part of what it leaves in memory."""


def _policy(
    context: SelectiveCheckpointContext, operation: Any, *args: Any, **kwargs: Any
) -> CheckpointPolicy:
    kept = getattr(operation, "overloadpacket", None) in _PRODUCTS
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


def checkpoint_options(*, selective: bool) -> dict[str, Any]:
    """Options for ``torch.utils.checkpoint.checkpoint``: everything is computed again, or, ``selective``,
    all but matrix products, convolutions and attention."""
    options: dict[str, Any] = {"use_reentrant": False}
    return options | {"context_fn": partial(contexts, _policy)} if selective else options
