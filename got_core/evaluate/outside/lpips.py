"""LPIPS with SqueezeNet 1.1, from weights that a user has converted to safetensors.

    lpips = load_lpips("lpips/squeeze.safetensors")
    lpips.distances(sources, edits)

Belongs here: the network and its distance (Zhang et al. 2018, version 0.1). Not here: which pictures are
compared. The file holds SqueezeNet's `features.*` under torchvision's names and the `lin*.model.1.weight` of
the authors' weights; nothing else is read, and nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from got_core.evaluate.network_folders import DTYPES, NetworkError, file_hashes
from got_core.evaluate.protocol import Network

if TYPE_CHECKING:
    import torch

NAME = "lpips/squeeze"
LAST = 12
_POOLS = (2, 5, 8)
_SQUEEZED = {3: 16, 4: 16, 6: 32, 7: 32, 9: 48, 10: 48, 11: 64, 12: 64}
"""Channels of each fire module's narrow part; each half of its wide part has four times as many."""

_TAPS = (1, 4, 7, 9, 10, 11, 12)
"""Layers behind which features are compared, as torchvision numbers them."""

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_TINY = 1e-10
_SHOWN = 5


def shapes() -> dict[str, tuple[int, ...]]:
    """Of every weight, by its name."""
    found: dict[str, tuple[int, ...]] = {"features.0.weight": (64, 3, 3, 3), "features.0.bias": (64,)}
    channels = 64
    for layer, narrow in _SQUEEZED.items():
        wide = 4 * narrow
        for part, size in (
            ("squeeze", (narrow, channels, 1, 1)),
            ("expand1x1", (wide, narrow, 1, 1)),
            ("expand3x3", (wide, narrow, 3, 3)),
        ):
            found[f"features.{layer}.{part}.weight"] = size
            found[f"features.{layer}.{part}.bias"] = size[:1]
        channels = 2 * wide
    tapped = [64, *(8 * _SQUEEZED[layer] for layer in _TAPS[1:])]
    return found | {f"lin{k}.model.1.weight": (1, size, 1, 1) for k, size in enumerate(tapped)}


class Lpips:
    """The network on its device."""

    def __init__(self, weights: Mapping[str, torch.Tensor], record: Network, batch_size: int = 16) -> None:
        self._weights, self.record, self.batch_size = dict(weights), record, batch_size

    def distances(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Of pairs of pictures, (n, h, w, 3) levels in [0, 1] twice to (n,) float64; 0 for equal ones."""
        import torch

        found = []
        for start in range(0, len(left), self.batch_size):
            part = slice(start, start + self.batch_size)
            with torch.inference_mode():
                found.append(self._distances(self._input(left[part]), self._input(right[part])))
        return np.concatenate(found) if found else np.zeros(0)

    def _input(self, pictures: np.ndarray) -> torch.Tensor:
        import torch

        first = self._weights["features.0.weight"]
        shift, scale = (torch.tensor(one).reshape(1, 3, 1, 1) for one in (_SHIFT, _SCALE))
        levels = torch.from_numpy(np.ascontiguousarray(pictures, np.float32)).permute(0, 3, 1, 2)
        return ((2 * levels - 1 - shift) / scale).to(first.device, first.dtype)

    def _distances(self, left: torch.Tensor, right: torch.Tensor) -> np.ndarray:
        total: Any = 0
        for k, (one, other) in enumerate(zip(self._features(left), self._features(right), strict=True)):
            squares = (_normalised(one) - _normalised(other)) ** 2
            weights = self._weights[f"lin{k}.model.1.weight"].float()
            total = total + (squares * weights).sum(dim=1).mean(dim=(1, 2))
        return total.double().cpu().numpy()

    def _features(self, picture: torch.Tensor) -> Iterator[torch.Tensor]:
        from torch.nn import functional as f

        x = f.relu(self._convolved(picture, "features.0", stride=2))
        yield x
        for layer in range(2, LAST + 1):
            x = f.max_pool2d(x, 3, 2, ceil_mode=True) if layer in _POOLS else self._fire(x, layer)
            if layer in _TAPS:
                yield x

    def _fire(self, x: torch.Tensor, layer: int) -> torch.Tensor:
        import torch

        narrow = self._convolved(x, f"features.{layer}.squeeze").relu()
        one = self._convolved(narrow, f"features.{layer}.expand1x1")
        three = self._convolved(narrow, f"features.{layer}.expand3x3", padding=1)
        return torch.cat([one, three], dim=1).relu()

    def _convolved(self, x: torch.Tensor, name: str, **how: int) -> torch.Tensor:
        from torch.nn import functional as f

        return f.conv2d(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"], **how)


def _normalised(features: torch.Tensor) -> torch.Tensor:
    features = features.float()
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + _TINY)


def load_lpips(file: Path | str, *, device: str = "cpu", dtype: str = "float32") -> Lpips:
    """The network from its file. Raises NetworkError for a file that is no such weights."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(file)
    if dtype not in DTYPES:
        raise NetworkError(f"the dtype of {NAME} must be one of {', '.join(DTYPES)}, got {dtype!r}")
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise NetworkError(f"{path} cannot be read as safetensors: {error}; convert it again") from error
    wanted = shapes()
    kept = {name: one for name, one in found.items() if not name.startswith("classifier.")}
    faults = [f"{name} is missing" for name in wanted if name not in kept]
    faults += [f"{name} is not expected" for name in kept if name not in wanted]
    faults += [
        f"{name} is {tuple(one.shape)}, wanted {wanted[name]}"
        for name, one in kept.items()
        if name in wanted and tuple(one.shape) != wanted[name]
    ]
    faults += [f"{name} is not finite" for name, one in kept.items() if not one.float().isfinite().all()]
    if faults:
        more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise NetworkError(
            f"{path} does not hold the weights of {NAME}: {'; '.join(faults[:_SHOWN])}{more}; convert them "
            "again"
        )
    record = Network(name=NAME, files=file_hashes([path]), settings={"dtype": dtype})
    try:
        weights = {name: one.to(device, getattr(torch, dtype)) for name, one in kept.items()}
    except (RuntimeError, AssertionError) as error:
        raise NetworkError(f"{NAME} cannot be put on the device {device!r}: {error}") from error
    return Lpips(weights, record)
