from __future__ import annotations

import numpy as np
import pytest

from got_core.scenes.shapes import coverage
from got_core.scenes.world import PLURALS


@pytest.mark.parametrize("shape", list(PLURALS))
@pytest.mark.parametrize("size", [(14, 14), (21, 26)])
def test_every_shape_touches_the_four_sides_of_its_box(shape: str, size: tuple[int, int]) -> None:
    alpha = coverage(shape, *size)
    assert alpha.shape == (size[1], size[0])
    assert min(alpha[0].max(), alpha[-1].max(), alpha[:, 0].max(), alpha[:, -1].max()) > 0
    assert alpha.min() >= 0 and alpha.max() == 1


def test_areas_are_those_of_geometry() -> None:
    share = {shape: float(coverage(shape, 24, 24).mean()) for shape in PLURALS}
    expected = {"circle": np.pi / 4, "square": 1.0, "triangle": 0.5, "cross": 5 / 9, "diamond": 0.5}
    assert share == pytest.approx(expected | {"star": share["star"]}, abs=0.02)
    assert 0.25 < share["star"] < 0.45
