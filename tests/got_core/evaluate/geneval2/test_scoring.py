"""Soft-TIFA against an independent calculation, and what stands beside a figure."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import polars as pl
import pytest

from got_core.evaluate.geneval2.benchmark import GenEval2
from got_core.evaluate.geneval2.judging import COLUMNS
from got_core.evaluate.geneval2.prompts import SKILLS
from got_core.evaluate.scores import IncompleteRunError
from tests.got_core.evaluate.geneval2.lists import SMALL

BENCHMARK = GenEval2(config=SMALL)


Prompt = list[tuple[str, float, float]]


def frame_of(prompts: list[Prompt], atoms: list[int], **changes: dict) -> pl.DataFrame:
    """Rows as `judge` makes them, of skill, probability and bound of each question."""
    rows = []
    for number, (values, atom_count) in enumerate(zip(prompts, atoms, strict=True)):
        answers = [
            {"question": "?", "expected": "Yes", "skill": skill, "probability": p, "bound": bound}
            for skill, p, bound in values
        ]
        row = {
            "sample_id": f"{number:05d}",
            "prompt_index": number,
            "task": f"{atom_count} atoms",
            "atoms": atom_count,
            "prompt": f"prompt {number}",
            "gm": 0.0,
            "am": 0.0,
            "answers": answers,
        }
        rows.append({**row, **changes.get(f"row{number}", {})})
    return pl.DataFrame(rows, schema=COLUMNS)


def mean(values: list[float]) -> float:
    return float(sum(map(Fraction, values)) / len(values))


def root(values: list[float]) -> float:
    """Geometric mean by a product, which is exact where no value is tiny."""
    return 0.0 if 0.0 in values else float(math.prod(map(Fraction, values))) ** (1 / len(values))


def test_scores_equal_those_of_an_independent_calculation() -> None:
    rng = random.Random(1)
    for _ in range(60):
        count = rng.randint(1, 40)
        atoms = [rng.randint(3, 10) for _ in range(count)]
        prompts = [
            [
                (
                    rng.choice(SKILLS),
                    rng.choice([0.0, 1.0, rng.random(), 0.3 + rng.random()]),
                    rng.random() / 9,
                )
                for _ in range(rng.randint(1, 12))
            ]
            for _ in range(count)
        ]
        scores = BENCHMARK.scores(frame_of(prompts, atoms))
        found = [[p for _, p, _ in one] for one in prompts]
        most = [[p + bound for _, p, bound in one] for one in prompts]
        close = lambda value: pytest.approx(100 * value, abs=1e-9)  # noqa: E731
        assert scores["overall"] == scores["soft_tifa_gm"]["mean"] == close(mean(list(map(root, found))))
        assert scores["soft_tifa_am"]["mean"] == close(mean(list(map(mean, found))))
        assert scores["cut"] == [scores["overall"], close(mean(list(map(root, most))))]
        for atom_count in set(atoms):
            chosen = [root(one) for one, own in zip(found, atoms, strict=True) if own == atom_count]
            task = scores["tasks"][f"{atom_count} atoms"]
            assert task["mean"] == close(mean(chosen)) and task["n"] == len(chosen)
        for skill in SKILLS:
            values = [(p, bound) for one in prompts for own, p, bound in one if own == skill]
            task = scores["skills"].get(skill)
            assert (task is None) == (not values)
            if task:
                assert task["mean"] == close(mean([p for p, _ in values])) and task["n"] == len(values)
                assert task["cut"][1] == close(mean([p + bound for p, bound in values]))
        assert scores["questions"] == sum(map(len, prompts))
        assert scores["above_one"] == sum(p > 1 for one in found for p in one)
        assert scores["low"] - 1e-9 <= scores["overall"] <= scores["high"] + 1e-9 or count < 4


def test_intervals_are_over_prompts_each_with_its_questions() -> None:
    rng = random.Random(2)
    values = [0.0 if rng.random() < 0.4 else 1.0 for _ in range(200)]
    prompts = [[("object", value, 0.0)] * 10 for value in values]
    scores = GenEval2().scores(frame_of(prompts, [3] * 200))
    spread = 100 * math.sqrt(mean(values) * (1 - mean(values)) / 200)
    for figure in (scores, scores["skills"]["object"], scores["tasks"]["3 atoms"], scores["soft_tifa_am"]):
        assert figure["high"] - figure["low"] == pytest.approx(2 * 1.96 * spread, rel=0.1), (
            "ten questions of a prompt are no ten prompts"
        )
    assert scores["skills"]["object"]["n"] == 2000 and scores["skills"]["object"]["prompts"] == 200


def test_nothing_is_a_total_while_a_prompt_is_not_judged() -> None:
    prompts = [[("object", 0.5, 0.0), ("count", 0.5, 0.1)], [("verb", 1.0, 0.0)], [("object", 0.1, 0.0)]]
    unscored = {"gm": None, "am": None, "unscored": "the judge refused: no"}
    missing = {"gm": None, "am": None, "unscored": "missing", "answers": []}
    frame = frame_of(prompts, [3, 4, 4], row1=unscored, row2=missing)
    with pytest.raises(IncompleteRunError) as caught:
        BENCHMARK.scores(frame)
    assert "1 / 3 prompts are judged" in str(caught.value)
    assert "00001 'prompt 1' (the judge refused: no), 00002 'prompt 2' (missing)" in str(caught.value)
    scores = BENCHMARK.scores(frame, partial=True)
    assert scores["overall"] == pytest.approx(50) and scores["cut"][1] == pytest.approx(100 * math.sqrt(0.3))
    assert (scores["of"], scores["partial"], scores["complete"]) == ("1 / 3", True, False)
    assert scores["tasks"]["4 atoms"]["mean"] is None and scores["tasks"]["4 atoms"]["of"] == "0 / 2"
    assert scores["skills"]["verb"]["mean"] is None and scores["skills"]["object"]["partial"] is True
    assert scores["unscored"] == {"missing": 1, "the judge refused: no": 1}
    nothing = frame_of(prompts[:1], [3], row0=missing)
    assert BENCHMARK.scores(nothing, partial=True)["overall"] is None
