"""PSNR and SSIM of two pictures.

Belongs here: the formulas over arrays. Not here: which pixels count (`changes`), or masks (`masked`).

SSIM is that of Wang et al. (2004): a Gaussian window of 11 x 11 pixels with sigma 1.5, K1 .01, K2 .03,
population variances, of each channel by itself. Only places whose window lies inside the picture have one, as
in the authors' code, scikit-image (`gaussian_weights`, `use_sample_covariance=False`) and torchmetrics up to
1.4; later torchmetrics reflects the picture at its border and counts that, too, which gives other figures.
"""

from __future__ import annotations

from typing import Any

import numpy as np

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03
REACH = WINDOW // 2
"""Pixels at each border that have no SSIM."""

RECORD: dict[str, Any] = {
    "window": "gaussian",
    "size": WINDOW,
    "sigma": SIGMA,
    "k1": K1,
    "k2": K2,
    "data_range": 1.0,
    "channels": "each of RGB by itself, then their mean",
    "border": "windows inside the picture only",
}
"""As a protocol holds it."""

_OFFSETS = np.arange(WINDOW) - REACH
_KERNEL = np.exp(-(_OFFSETS**2) / (2 * SIGMA**2))
_KERNEL /= _KERNEL.sum()


def psnr(squared_error: float) -> float | None:
    """10 log10(1 / error) in dB, of a mean squared error of levels in [0, 1]; None where it is 0: the PSNR of
    equal pictures is no number."""
    return None if squared_error <= 0 else float(-10 * np.log10(squared_error))


def ssim_map(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """SSIM at each pixel, mean of the channels: (h, w, c) levels in [0, 1] twice to (h - 10, w - 10) float64.

    Empty where a side is shorter than the window. ValueError for unlike shapes.
    """
    if left.shape != right.shape:
        raise ValueError(f"pictures to compare must be of one shape, got {left.shape} and {right.shape}")
    height, width = left.shape[:2]
    if min(height, width) < WINDOW:
        return np.empty((max(height - 2 * REACH, 0), max(width - 2 * REACH, 0)))
    planes = [_plane(left[..., c], right[..., c]) for c in range(left.shape[2])]
    return np.mean(planes, axis=0)


def _plane(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    x, y = left.astype(np.float64), right.astype(np.float64)
    mean_x, mean_y = _blurred(x), _blurred(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance = _blurred(x * y) - product
    variances = np.maximum(_blurred(x * x + y * y) - squares, 0)  # of both together
    top = (2 * product + K1**2) * (2 * covariance + K2**2)
    return top / ((squares + K1**2) * (variances + K2**2))


def _blurred(plane: np.ndarray) -> np.ndarray:
    """Window means where the window lies inside."""
    from scipy import ndimage  # slow to load, and lists of benchmarks need none of it

    rows = ndimage.correlate1d(plane, _KERNEL, axis=0, mode="constant")[REACH:-REACH]
    return ndimage.correlate1d(rows, _KERNEL, axis=1, mode="constant")[:, REACH:-REACH]


def ssim(left: np.ndarray, right: np.ndarray) -> float | None:
    """Mean SSIM of two pictures (`ssim_map`); None for pictures smaller than the window."""
    found = ssim_map(left, right)
    return float(found.mean()) if found.size else None
