"""PSNR and SSIM against scikit-image and against the published formula written out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from got_core.evaluate.outside.likeness import K1, K2, psnr, ssim, ssim_map


def pair(seed: int, shape: tuple[int, int, int] = (64, 48, 3)) -> tuple[np.ndarray, np.ndarray]:
    """A smooth picture and a noisy one like it, with black parts, levels in [0, 1]."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    waves = [0.5 + 0.4 * np.sin(rows / (3 + c) + columns / (5 + seed)) for c in range(shape[2])]
    left = np.stack(waves, axis=-1)
    right = np.clip(left + rng.normal(0, 0.02 + 0.05 * seed, shape), 0, 1)
    black = np.s_[5 : 20 + seed, 8:30]
    left[black] = right[black] = 0
    return left, right


def written_out(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. (2004), equations 13 to 16: every window by itself, sums with its weights."""
    offsets = np.arange(11) - 5
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    found = []
    for c in range(x.shape[2]):
        a, b = (sliding_window_view(one[..., c], (11, 11)) for one in (x, y))
        mean_a, mean_b = (np.einsum("ijkl,kl", one, weights) for one in (a, b))
        from_a, from_b = a - mean_a[..., None, None], b - mean_b[..., None, None]
        var_a, var_b = (np.einsum("ijkl,kl", one**2, weights) for one in (from_a, from_b))
        both = np.einsum("ijkl,kl", from_a * from_b, weights)
        luminance = (2 * mean_a * mean_b + K1**2) / (mean_a**2 + mean_b**2 + K1**2)
        structure = (2 * both + K2**2) / (var_a + var_b + K2**2)
        found.append(luminance * structure)
    return float(np.mean(found))


@pytest.mark.parametrize("seed", range(4))
def test_ssim_is_the_published_formula(seed: int) -> None:
    left, right = pair(seed)
    assert ssim(left, right) == pytest.approx(written_out(left, right), abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_both_agree_with_scikit_image(seed: int) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    left, right = pair(seed, (256, 256, 3))
    theirs = metrics.structural_similarity(
        left,
        right,
        channel_axis=2,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim(left, right) == pytest.approx(theirs, abs=1e-7)
    ours = psnr(float(np.square(left - right).mean()))
    assert ours == pytest.approx(metrics.peak_signal_noise_ratio(left, right, data_range=1.0), abs=1e-9)


def test_equal_pictures_and_small_ones() -> None:
    left, _ = pair(0)
    assert ssim(left, left) == pytest.approx(1) and psnr(0.0) is None
    assert ssim_map(left, left).shape == (54, 38)
    assert ssim(left[:10], left[:10]) is None and ssim_map(left[:10], left[:10]).size == 0
    with pytest.raises(ValueError, match=r"of one shape, got \(64, 48, 3\) and \(63, 48, 3\)"):
        ssim(left, left[1:])
