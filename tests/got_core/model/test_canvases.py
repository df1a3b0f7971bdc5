"""Canvases as tensors: pixel for pixel those that the chain's layout paints."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from got_core.chain.boxes import Box
from got_core.chain.grammar import Boxed, Chain, parse
from got_core.chain.layout import canvases
from got_core.chain.palette import PALETTE
from got_core.model.canvases import BLACK, canvases_of, different, painted, to_tensor

SIDES = st.integers(1, 1100)
PLACES = st.integers(0, 999)


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    """One to four boxes of any size and colour."""
    boxes = []
    for _ in range(draw(st.integers(1, 4))):
        (x1, x2), (y1, y2) = (sorted((draw(PLACES), draw(PLACES))) for _ in range(2))
        boxes.append(Boxed(Box(x1, y1, x2, y2), draw(st.sampled_from(PALETTE))))
    return Chain(tuple(boxes))


@settings(max_examples=50, deadline=None)
@given(chains(), SIDES, SIDES)
def test_rectangles_are_filled_as_the_layout_paints_them(chain: Chain, height: int, width: int) -> None:
    found = painted(canvases_of(chain, height, width), height, width, "cpu")
    assert torch.equal(found, to_tensor(canvases(chain, height, width)))


def test_the_canvas_of_a_chain_without_boxes_is_black() -> None:
    assert canvases_of(parse("nothing here"), 8, 8) == []
    assert torch.equal(painted([BLACK], 8, 16, "cpu"), torch.full((1, 3, 8, 16), -1.0))
    with pytest.raises(ValueError, match="canvas size must be positive"):
        canvases_of(parse("a cat (1,2),(3,4)"), 0, 8)


def test_equal_canvases_occur_once() -> None:
    texts = ("a (0,0),(99,99) b (0,0),(99,99)", "none", "c (0,0),(99,99)", "d (0,0),(98,99)")
    layers = [canvases_of(parse(text), 64, 64) for text in texts]
    found, numbers = different(layers)
    # The second box has another colour; at 64 pixels 98 and 99 are the same column.
    assert len(found) == 2 and numbers == [[0, 1], [], [0], [0]]
    assert [[found[k] for k in own] for own in numbers] == layers


def test_bytes_become_minus_one_to_one() -> None:
    pixels = np.array([0, 127, 255], dtype=np.uint8).reshape(1, 1, 1, 3)
    assert to_tensor(pixels).flatten().tolist() == pytest.approx([-1.0, -1 / 255, 1.0])
