"""Rows side by side: only alike protocols, differences paired by sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from got_core.evaluate.apart.comparison import BASE, PLAN_OFF, PLAN_ON, SAMPLES, Row, compare, spelled
from got_core.evaluate.protocol import Protocol, UnlikeProtocolsError, protocol_figures
from got_core.evaluate.scores import IncompleteRunError, score_tasks


def outcomes(right: dict[str, list[bool | None]], each: int = 2) -> pl.DataFrame:
    rows = [
        {"sample_id": f"{task}-{k}", "task": task, "cluster": f"{task}-{k // each}", "correct": one}
        for task, values in right.items()
        for k, one in enumerate(values)
    ]
    return pl.DataFrame(rows)


def row(name: str, right: dict[str, list[bool | None]], plan: bool | None, **changes: Any) -> Row:
    protocol = Protocol(name="geneval", version=1, aggregation={"a": 1}, plan=plan, **changes)
    frame = outcomes(right)
    judged = frame.filter(pl.col("correct").is_not_null())
    scores = score_tasks(judged, expected={"a": 1, "b": 1}, cluster="cluster", partial=True)
    of = f"{frame['correct'].count()} / {frame.height}"
    return Row(name=name, scores=scores | protocol_figures(protocol) | {"of": of}, outcomes=frame)


ON = {"a": [True] * 8, "b": [True, True, False, False]}
OFF = {"a": [True, True, False, False] * 2, "b": [True, False, False, False]}


def test_the_difference_is_paired_and_has_an_interval() -> None:
    found = compare([row(PLAN_ON, ON, True), row(PLAN_OFF, OFF, False), row(BASE, ON, None)])
    gain = found.differences[PLAN_OFF]
    assert gain["tasks"]["a"]["mean"] == 0.5 and gain["tasks"]["b"]["mean"] == 0.25
    assert gain["overall"]["mean"] == pytest.approx(0.375) and gain["overall"]["n"] == 12
    assert 0 <= gain["overall"]["low"] < 0.375 < gain["overall"]["high"] <= 0.75
    same = found.differences[BASE]["overall"]
    assert (same["mean"], same["low"], same["high"]) == (0, 0, 0)
    over_samples = compare([row(PLAN_ON, ON, True), row(PLAN_OFF, OFF, False)], overall=SAMPLES)
    assert over_samples.differences[PLAN_OFF]["overall"]["mean"] == pytest.approx(5 / 12)
    only = compare([row(PLAN_ON, ON, True), row(PLAN_OFF, OFF, False)], overall="b")
    assert only.differences[PLAN_OFF]["overall"]["mean"] == 0.25
    with pytest.raises(ValueError, match="no task 'c' among a, b"):
        compare([row(PLAN_ON, ON, True), row(PLAN_OFF, OFF, False)], overall="c")


def test_pairing_is_tighter_than_two_scores_apart() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(200) < 0.5
    better = base.copy()
    better[rng.choice(np.flatnonzero(~base), 10, replace=False)] = True
    parts = [{"a": list(map(bool, one)), "b": list(map(bool, one))} for one in (better, base)]
    gain = compare([row(PLAN_ON, parts[0], True), row(PLAN_OFF, parts[1], False)]).differences[PLAN_OFF]
    width = gain["overall"]["high"] - gain["overall"]["low"]
    alone = row(PLAN_ON, parts[0], True).scores
    assert gain["overall"]["low"] > 0 and width < (alone["high"] - alone["low"])


def test_figures_that_are_no_verdicts() -> None:
    rows = []
    for name, plus, plan in ((PLAN_ON, 0.1, True), (PLAN_OFF, 0.0, False)):
        one = row(name, ON, plan)
        frame = one.outcomes.with_columns(
            correct=pl.lit(None, pl.Boolean), value=pl.int_range(pl.len()) * 0.01 + plus
        )
        rows.append(Row(name=name, scores=one.scores, outcomes=frame))
    gain = compare(rows).differences[PLAN_OFF]["overall"]
    assert gain["mean"] == pytest.approx(0.1) and gain["low"] == pytest.approx(0.1)


def test_unlike_protocols_are_refused_with_the_fields() -> None:
    other = row(PLAN_OFF, OFF, False, rules={"threshold": 0.5}, sampler={"num_inference_steps": 5})
    with pytest.raises(
        UnlikeProtocolsError, match=r"plan on and plan off .*\(rules\.threshold: not stated and"
    ):
        compare([row(PLAN_ON, ON, True), other])


def test_samples_that_one_row_lacks_are_refused_or_counted() -> None:
    part = {"a": OFF["a"], "b": [True, None, False, None]}
    rows = [row(PLAN_ON, ON, True), row(PLAN_OFF, part, False)]
    with pytest.raises(IncompleteRunError, match=r"2 of 12 samples have no outcome in both .*\(b-1, b-3\)"):
        compare(rows)
    gain = compare(rows, partial=True).differences[PLAN_OFF]
    assert (gain["tasks"]["b"]["n"], gain["tasks"]["b"]["of"]) == (2, 4)
    nothing = {"a": OFF["a"], "b": [None] * 4}
    gain = compare([rows[0], row(PLAN_OFF, nothing, False)], partial=True).differences[PLAN_OFF]
    assert gain["overall"]["mean"] is None and gain["tasks"]["b"]["low"] is None
    twice = Row(name=PLAN_OFF, scores=rows[1].scores, outcomes=pl.concat([rows[1].outcomes] * 2))
    with pytest.raises(ValueError, match="24 outcomes are of a sample and task that stand there twice"):
        compare([rows[0], twice])


def test_rows_need_names_of_their_own() -> None:
    for bad in ([], [row(PLAN_ON, ON, True)] * 2):
        with pytest.raises(ValueError, match="one or more rows of unlike names"):
            compare(bad)


def test_the_table_has_each_row_with_its_protocol() -> None:
    rows = [row(PLAN_ON, ON, True), row(PLAN_OFF, OFF, False), row(BASE, OFF, None)]
    header, lines = spelled(compare(rows))
    assert header[-2:] == ("a", "b") and all(len(line) == len(header) for line in lines)
    assert [line[2] for line in lines] == ["on", "off", "not stated", "", ""]
    assert len({line[1] for line in lines[:3]}) == 3
    assert lines[0][3] == "0.750" and lines[3][0] == "plan on - plan off" and lines[3][3] == "+0.375"
    assert lines[3][5] == "12 / 12" and lines[0][5] == "12 / 12"
