"""Scores of rows with known verdicts."""

from __future__ import annotations

import polars as pl
import pytest

from got_core.evaluate.scores import IncompleteRunError, score_seeds, score_tasks
from got_core.planning.geneval import TASKS


def every(correct: list[bool]) -> dict[str, list[bool]]:
    """The same outcomes for each task."""
    return {task: list(correct) for task in TASKS}


class TestScores:
    def frame(self, **correct: list[bool]) -> pl.DataFrame:
        rows = [(t, f"{t} {k // 2}", c) for t, all_of in correct.items() for k, c in enumerate(all_of)]
        return pl.DataFrame(rows, schema=["task", "prompt", "correct"], orient="row")

    def test_overall_is_the_mean_of_tasks_not_of_images(self) -> None:
        values = every([True] * 4) | {"position": [False] * 40}
        scores = score_tasks(self.frame(**values))
        assert scores["overall"] == pytest.approx(5 / 6)
        assert scores["tasks"]["position"]["n"] == 40
        assert scores["complete"]

    def test_share_of_prompts_with_any_correct_image(self) -> None:
        values = every([True, False, False, False])
        scores = score_tasks(self.frame(**values))
        assert scores["prompts_any_correct"] == pytest.approx(0.5)
        assert scores["tasks"]["colors"]["prompts"] == 2

    def test_interval_covers_the_mean_and_narrows_with_more_images(self) -> None:
        few, many = (
            score_tasks(self.frame(**every([True, False] * n)).with_row_index("own"), cluster="own")["tasks"][
                "colors"
            ]
            for n in (10, 500)
        )
        assert few["low"] < 0.5 < few["high"]
        # Standard error of a share of one half: sqrt(.25 / 1000) = .0158
        assert many["high"] - many["low"] == pytest.approx(2 * 1.96 * 0.0158, rel=0.15)
        assert many["high"] - many["low"] < few["high"] - few["low"]

    def test_pictures_of_one_prompt_stand_or_fall_together(self) -> None:
        """40 prompts of 5 pictures each, all right or all wrong: as uncertain as 40 pictures, not as 200."""
        rows = [(t, f"{k // 5}", k // 5 % 2 == 0) for t in TASKS for k in range(200)]
        frame = pl.DataFrame(rows, schema=["task", "prompt", "correct"], orient="row")
        task = score_tasks(frame, bootstrap=4000)["tasks"]["colors"]
        assert (task["n"], task["prompts"]) == (200, 40)
        # Standard error of a share of one half: sqrt(.25 / 40) = .079
        assert task["high"] - task["low"] == pytest.approx(2 * 1.96 * 0.079, rel=0.15)

    def test_seeds_are_scored_apart(self) -> None:
        rows = [
            (t, seed, seed == 1 or k == 0) for t in ("colors", "position") for seed in (0, 1) for k in (0, 1)
        ]
        frame = pl.DataFrame(rows, schema=["task", "sampling_seed", "correct"], orient="row")
        scores = score_seeds(frame)
        assert {k: v["overall"] for k, v in scores["by_seed"].items()} == {"0": 0.5, "1": 1.0}
        assert scores["mean"] == 0.75
        assert scores["spread"] == pytest.approx(0.125**0.5)
        assert scores["tasks"]["colors"]["mean"] == 0.75
        assert score_seeds(frame.filter(sampling_seed=0))["spread"] is None

    def test_same_seed_same_interval(self) -> None:
        frame = self.frame(**every([True, False, True]))
        assert score_tasks(frame, seed=4) == score_tasks(frame, seed=4)

    def test_a_missing_image_is_an_error_unless_partial(self) -> None:
        frame = self.frame(**every([True, True]))[:-1]
        expected = dict.fromkeys(TASKS, 2)
        with pytest.raises(IncompleteRunError, match="color_attr lacks 1"):
            score_tasks(frame, expected=expected)
        partial = score_tasks(frame, expected=expected, partial=True)
        assert (partial["complete"], partial["found"], partial["expected"]) == (False, 11, 12)

    def test_a_missing_task_is_an_error(self) -> None:
        with pytest.raises(IncompleteRunError, match="position lacks 1"):
            score_tasks(self.frame(**{t: [True] for t in TASKS if t != "position"}))
