"""What a file is by its name: pictures of published benchmarks go with their weights, verdicts stay."""

from __future__ import annotations

import pytest

from got_core.evaluate.published.registry import PUBLISHED
from got_core.retention.kinds import KEPT, PICTURES, place_of


@pytest.mark.parametrize("benchmark", PUBLISHED, ids=lambda one: one.name)
def test_pictures_and_scores_of_published_benchmarks_go_with_their_weights(benchmark) -> None:
    weights = "0123456789ab" * 5
    unit = f"{benchmark.folder}/0123456789ab"
    for name in (
        f"{benchmark.pictures(weights)}-aabbccddeeff/00000/samples/00000.png",
        f"{benchmark.results(weights)}/scores.json",
        f"{benchmark.results(weights)}/costs/{'0' * 32}.json",
    ):
        assert place_of(name) == (PICTURES, unit)
    assert place_of(f"{benchmark.judged}/0a1b2c3d4e5f/00000.json").kind == KEPT["published"]
