"""Shares and differences between stages, from tables whose answers are known."""

from __future__ import annotations

import io

import polars as pl
import pytest
from PIL import Image

from got_core.evaluate.stages.figures import (
    MEASURES,
    difference,
    mcnemar,
    spelled,
    spelled_steps,
    stage_figures,
)
from got_core.evaluate.stages.plot import stage_plot
from got_core.evaluate.stages.scoring import ROWS


def table(stage: str, right: str, *, plan: str | None = None, drawing: str | None = None) -> pl.DataFrame:
    """`1`, `0` or `-` (null) for each request; two of them are of one scene, four of one task."""
    rows = []
    for k, one in enumerate(right):
        rows.append(
            {
                "benchmark": "edits/scenes",
                "stage": stage,
                "index": k,
                "task": ("add", "remove")[k // 4 % 2],
                "cluster": str(k // 2),
                "sampling_seed": 0,
                "picture": one == "1",
                "plan": (plan or right)[k] == "1",
                "drawing": {"1": True, "0": False, "-": None}[(drawing or right)[k]],
                "trace": float(k) if k % 2 else None,
            }
        )
    return pl.DataFrame(rows, schema=ROWS)


def test_shares_of_each_stage() -> None:
    rows = pl.concat([table("foundation", "00001000"), table("finetuning", "11110011", drawing="1111--10")])
    found = stage_figures(rows)
    assert found["stages"] == ["foundation", "finetuning"]
    first, last = found["benchmarks"]["edits/scenes"]["stages"]
    assert (first["picture"]["mean"], last["picture"]["mean"]) == (0.125, 0.75)
    assert last["tasks"] == {"add": 1.0, "remove": 0.5}
    assert (last["drawing"]["n"], last["drawing"]["mean"]) == (6, pytest.approx(5 / 6))
    assert last["trace"] == 4.0
    lines = list(spelled(found["benchmarks"]["edits/scenes"]))
    assert lines[1][0] == "finetuning" and lines[1][1].startswith("0.750 (")


def test_a_step_has_its_difference_interval_and_tests() -> None:
    before, after = table("a", "0000" * 4), table("b", "1110" * 4)
    step = difference(before, after, "picture")
    assert (step["mean"], step["n"], step["fixed"], step["broken"]) == (0.75, 16, 12, 0)
    assert step["p"] == pytest.approx(2 * 0.5**12)
    assert (step["better"], step["worse"]) == (8, 0), "two pictures of a scene count once"
    assert step["p_clusters"] == pytest.approx(2 * 0.5**8)
    assert 0.4 < step["low"] < 0.75 < step["high"] <= 1
    back = difference(after, before, "picture")
    assert (back["mean"], back["fixed"], back["broken"]) == (-0.75, 0, 12)


def test_only_requests_with_an_outcome_on_both_sides_are_pairs() -> None:
    step = difference(
        table("a", "00000000", drawing="00--0000"), table("b", "11111111", drawing="11--1111"), "drawing"
    )
    assert (step["n"], step["fixed"]) == (6, 6)
    none = difference(table("a", "0000", drawing="----"), table("b", "1111", drawing="----"), "drawing")
    assert (none["mean"], none["n"], none["p"]) == (None, 0, 1.0)


def test_scenes_whose_pictures_go_both_ways_say_nothing() -> None:
    step = difference(table("a", "01010101"), table("b", "10101010"), "picture")
    assert (step["fixed"], step["broken"], step["p"]) == (4, 4, 1.0)
    assert (step["better"], step["worse"], step["p_clusters"]) == (0, 0, 1.0)


def test_mcnemar_is_the_exact_test() -> None:
    assert mcnemar(0, 0) == mcnemar(5, 5) == 1
    assert mcnemar(1, 9) == mcnemar(9, 1) == pytest.approx(2 * (1 + 10) / 1024)


def test_text_and_plot() -> None:
    found = stage_figures(pl.concat([table("one", "00001111", drawing="--------"), table("two", "11111111")]))
    benchmark = found["benchmarks"]["edits/scenes"]
    assert [line[2] for line in spelled_steps(benchmark)] == [MEASURES["picture"], MEASURES["plan"]]
    image = Image.open(io.BytesIO(stage_plot(found)))
    assert image.width > 300
    with pytest.raises(ValueError, match="empty"):
        stage_figures(pl.DataFrame(schema=ROWS))
