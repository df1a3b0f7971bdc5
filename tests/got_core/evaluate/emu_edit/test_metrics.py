"""The formulas against independent ones, on random inputs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import cosine as scipy_distance

from got_core.evaluate.emu_edit.metrics import cosine, direction_cosine, level_distances, same_size


def features(rng: np.random.Generator, count: int = 200, width: int = 512) -> np.ndarray:
    rows = rng.normal(size=(count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_cosine_is_scipys() -> None:
    rng = np.random.default_rng(0)
    left, right = features(rng), features(rng)
    expected = [
        1 - scipy_distance(a, b) for a, b in zip(left.astype(float), right.astype(float), strict=True)
    ]
    np.testing.assert_allclose(cosine(left, right), expected, atol=1e-9)
    assert cosine(left, left) == pytest.approx(1) and cosine(left, left).max() <= 1


def test_direction_is_the_cosine_of_the_two_changes() -> None:
    rng = np.random.default_rng(1)
    edited, source, output, given = (features(rng) for _ in range(4))
    expected = []
    for e, s, o, g in zip(*(one.astype(float) for one in (edited, source, output, given)), strict=True):
        dot = math.fsum((a - b) * (c - d) for a, b, c, d in zip(e, s, o, g, strict=True))
        expected.append(dot / (math.dist(e, s) * math.dist(o, g)))
    np.testing.assert_allclose(direction_cosine(edited, source, output, given), expected, atol=1e-9)


def test_direction_without_one() -> None:
    rng = np.random.default_rng(2)
    edited, source, output, given = (features(rng, 4) for _ in range(4))
    edited[1], given[2], edited[3], given[3] = source[1], output[2], source[3], output[3]
    found = direction_cosine(edited, source, output, given)
    assert np.isfinite(found[0]) and found[1] == 0, "a picture that stays does not change as its captions do"
    assert np.isnan(found[2]) and np.isnan(found[3]), "equal captions say of no change"


def test_level_distances_pixel_by_pixel() -> None:
    rng = np.random.default_rng(3)
    one, other = (rng.integers(0, 256, (17, 23, 3), dtype=np.uint8) for _ in range(2))
    l1, l2 = level_distances(Image.fromarray(one), Image.fromarray(other))
    differences = [abs(int(a) - int(b)) / 255 for a, b in zip(one.flat, other.flat, strict=True)]
    assert l1 == pytest.approx(math.fsum(differences) / len(differences), abs=1e-12)
    assert l2 == pytest.approx(math.fsum(d * d for d in differences) / len(differences), abs=1e-12)
    black, white = Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4), "white")
    assert level_distances(black, white) == (1, 1) and level_distances(black, black) == (0, 0)


def test_sizes_are_made_the_references() -> None:
    picture = Image.fromarray(np.random.default_rng(4).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    found = same_size(picture, Image.new("RGB", (30, 50)))
    assert np.array_equal(np.asarray(found), np.asarray(picture.resize((30, 50), Image.Resampling.BICUBIC)))
    assert same_size(picture, Image.new("RGB", (60, 40))) is picture
