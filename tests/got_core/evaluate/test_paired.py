"""Differences paired by sample: what both have, with intervals over clusters."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from got_core.evaluate.paired import SAMPLES, TASKS, overall_of, paired_difference
from got_core.evaluate.scores import IncompleteRunError, score_tasks


def outcomes(right: dict[str, list[bool | None]], each: int = 2) -> pl.DataFrame:
    rows = [
        {"sample_id": f"{task}-{k}", "task": task, "cluster": f"{task}-{k // each}", "correct": one}
        for task, values in right.items()
        for k, one in enumerate(values)
    ]
    return pl.DataFrame(rows)


ON = outcomes({"a": [True] * 8, "b": [True, True, False, False]})
OFF = outcomes({"a": [True, True, False, False] * 2, "b": [True, False, False, False]})


def test_the_difference_is_paired_and_has_an_interval() -> None:
    gain = paired_difference(ON, OFF)
    assert gain["tasks"]["a"]["mean"] == 0.5 and gain["tasks"]["b"]["mean"] == 0.25
    assert gain["overall"]["mean"] == pytest.approx(0.375) and gain["overall"]["n"] == 12
    assert 0 <= gain["overall"]["low"] < 0.375 < gain["overall"]["high"] <= 0.75
    same = paired_difference(ON, ON)["overall"]
    assert (same["mean"], same["low"], same["high"]) == (0, 0, 0)
    assert paired_difference(OFF, ON)["overall"]["mean"] == pytest.approx(-0.375)
    assert paired_difference(ON, OFF, overall=SAMPLES)["overall"]["mean"] == pytest.approx(5 / 12)
    assert paired_difference(ON, OFF, overall="b")["overall"]["mean"] == 0.25
    assert paired_difference(ON, OFF, overall=None)["overall"] is None
    with pytest.raises(ValueError, match="no task 'c' among a, b"):
        paired_difference(ON, OFF, overall="c")


def test_the_order_of_samples_does_not_count() -> None:
    assert paired_difference(ON, OFF.reverse())["overall"]["mean"] == pytest.approx(0.375)


def test_pairing_is_tighter_than_a_score_alone() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(200) < 0.5
    better = base.copy()
    better[rng.choice(np.flatnonzero(~base), 10, replace=False)] = True
    left, right = (outcomes({"a": list(map(bool, one))}) for one in (better, base))
    gain = paired_difference(left, right)["overall"]
    alone = score_tasks(left, expected={"a": 1}, cluster="cluster")
    assert gain["low"] > 0 and gain["high"] - gain["low"] < (alone["high"] - alone["low"]) / 2


def test_a_cluster_is_resampled_with_all_its_samples() -> None:
    together = outcomes({"a": [True] * 50 + [False] * 50}, each=50)
    nothing = together.with_columns(correct=pl.lit(False))
    wide = paired_difference(together, nothing)["overall"]
    apart = paired_difference(*(one.with_columns(cluster="sample_id") for one in (together, nothing)))
    assert (wide["low"], wide["high"]) == (0, 1)
    assert apart["overall"]["high"] - apart["overall"]["low"] < 0.25


def test_figures_that_are_no_verdicts() -> None:
    frames = [
        ON.with_columns(correct=pl.lit(None, pl.Boolean), value=pl.int_range(pl.len()) * 0.01 + plus)
        for plus in (0.1, 0.0)
    ]
    gain = paired_difference(*frames)["overall"]
    assert gain["mean"] == pytest.approx(0.1) and gain["low"] == pytest.approx(0.1)


def test_samples_that_one_side_lacks_are_refused_or_counted() -> None:
    part = outcomes({"a": OFF["correct"][:8].to_list(), "b": [True, None, False, None]})
    with pytest.raises(IncompleteRunError, match=r"2 of 12 samples have no outcome on both .*\(b-1, b-3\)"):
        paired_difference(ON, part)
    gain = paired_difference(ON, part, partial=True)
    assert (gain["tasks"]["b"]["n"], gain["tasks"]["b"]["of"]) == (2, 4)
    gone = paired_difference(ON, part.filter(pl.col("correct").is_not_null()), partial=True)
    assert gone == gain
    nothing = part.with_columns(correct=pl.when(pl.col("task") == "a").then("correct"))
    gain = paired_difference(ON, nothing, partial=True)
    assert gain["overall"]["mean"] is None and gain["tasks"]["b"]["low"] is None
    with pytest.raises(ValueError, match="24 outcomes are of a sample and task that stand there twice"):
        paired_difference(ON, pl.concat([OFF, OFF]))


def test_how_an_overall_score_is_made() -> None:
    scores = score_tasks(ON, expected={"a": 8, "b": 4}, cluster="cluster")
    assert overall_of(scores, ON) == TASKS
    assert overall_of({"overall": 10 / 12}, ON) == SAMPLES
    assert overall_of({"overall": 0.5}, ON) == "b"
    assert overall_of({"overall": 0.123}, ON) is None and overall_of({"overall": None}, ON) is None
