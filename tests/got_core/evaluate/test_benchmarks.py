"""What stored scores and pictures depend on is pinned, for both benchmarks."""

from __future__ import annotations

import pytest
from PIL import Image

from got_core.chain.grammar import parse
from got_core.evaluate.benchmarks import BENCHMARKS
from got_core.evaluate.samples import Request, sample_name
from got_core.recipes import get_recipe


@pytest.mark.parametrize(
    ("recipe", "digests"),
    [
        ("embedded", {"geneval/scenes": "58a86aa8b244", "edits/scenes": "34957858d2c5"}),
        ("tiny", {"geneval/scenes": "9930115633d1", "edits/scenes": "6d7e7636d9ad"}),
    ],
)
def test_protocols_are_what_stored_scores_were_made_under(recipe: str, digests: dict[str, str]) -> None:
    world, config = get_recipe(recipe).world, get_recipe(recipe).evaluate
    assert {one.name: one.protocol(world, config).digest() for one in BENCHMARKS} == digests


def test_keys_of_stored_pictures() -> None:
    """A picture under another key is drawn again."""
    name, source = sample_name("geneval/abc/", 7), Image.new("RGB", (4, 4), (1, 2, 3))
    assert name == "geneval/abc/00007.png"
    plain = Request(name, "a photo of a circle", 12)
    edit = Request(name, "remove the circle", 12, source)
    planned = Request(name, "remove the circle", 12, source, parse("a circle (100,100),(300,300)"))
    sampler = {"num_inference_steps": 5, "keep_outside": True}
    keys = [request.key(sampler, "weights") for request in (plain, edit, planned)]
    assert keys == ["6771d110937f", "c53ab096b057", "9df8d0e21ff6"]
