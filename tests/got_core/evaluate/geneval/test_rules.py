"""The library's rules against another implementation of their description."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bench.geneval_reference import is_right, random_case
from got_core.planning.geneval import evaluate_image


def test_no_disagreement_on_random_pictures() -> None:
    rng = np.random.default_rng(3)
    cases = [random_case(rng) for _ in range(3000)]
    verdicts = [evaluate_image(found, row).correct for found, row in cases]
    assert verdicts == [is_right(found, row) for found, row in cases]
    assert 100 < sum(verdicts) < 2000, "both happen"


def test_the_random_pictures_tell_rules_apart() -> None:
    """Each limit decides some of them: with another one, verdicts change."""
    rng = np.random.default_rng(4)
    cases = [random_case(rng) for _ in range(2000)]
    plain = [is_right(found, row) for found, row in cases]
    for change in ({"cls": "cup"}, {"color": "red"}, {"score": 0.9}, {"box": (0.0, 0.0, 10.0, 10.0)}):
        changed = [is_right([replace(one, **change) for one in found], row) for found, row in cases]
        assert changed != plain, change
