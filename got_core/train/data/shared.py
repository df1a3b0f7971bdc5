"""Arrays that a process and its decoder processes share.

Belongs here: the array. Not here: what is shared (``samples``, ``passes``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


class SharedArray(np.ndarray):
    """An array in shared memory: sent to another process it is no copy, and what one process writes the
    others have. Parts of it, and what is computed from it, are plain arrays to pickle."""

    tensor: Tensor | None = None

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.tensor is None:
            return self.view(np.ndarray).__reduce_ex__(protocol)
        return _of, (self.tensor,)


def shared(array: np.ndarray) -> np.ndarray:
    """A copy of an array in shared memory; itself where it is there already, or empty."""
    if not array.size or getattr(array, "tensor", None) is not None:
        return array
    return _of(torch.from_numpy(np.array(array)).share_memory_())


def _of(tensor: Tensor) -> SharedArray:
    array = tensor.numpy().view(SharedArray)
    array.tensor = tensor
    return array
