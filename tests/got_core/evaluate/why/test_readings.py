"""Rows of every kind of table in one form, and rows that somebody has broken."""

from __future__ import annotations

import polars as pl
import pytest

from got_core.evaluate.edits import EDITS
from got_core.evaluate.emu_edit.judging import ROWS
from got_core.evaluate.geneval.judging import COLUMNS
from got_core.evaluate.geneval2.judging import COLUMNS as QUESTIONS
from got_core.evaluate.scenes import SAMPLES
from got_core.evaluate.why.readings import (
    ADAPTERS,
    MEASURED,
    RIGHT,
    UNSCORED,
    WRONG,
    adapter_of,
    reading_of,
    with_outside,
    with_plan,
)
from got_core.evaluate.why.values import objects_of

JUDGED = {
    "sample_id": pl.String(), "task": pl.String(), "prompt": pl.String(), "state": pl.String(),
    "reason": pl.String(), "value": pl.Float64(), "correct": pl.Boolean(),
    "score_names": pl.List(pl.String()), "scores": pl.List(pl.Float64()), "reply": pl.String(),
    "judge": pl.String(), "asked": pl.String(), "image": pl.String(), "source_image": pl.String(),
}  # fmt: skip


def read(row, schema=None):
    """The row as its table gives it back."""
    frame = pl.DataFrame([row], schema=schema)
    return reading_of(frame.row(0, named=True), adapter_of(frame.columns))


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        (SAMPLES, "scenes"), (EDITS, "scenes"), (COLUMNS, "detections"), (QUESTIONS, "answers"),
        (ROWS, "figures"), (JUDGED, "replies"), ({"sample_id": pl.String()}, "rows"), ({}, "rows"),
    ],
)  # fmt: skip
def test_every_kind_of_table_has_its_adapter(columns, kind: str) -> None:
    assert adapter_of(columns).kind == kind
    assert read({}, columns).kind == kind, "a row of nothing but nulls is read too"


def test_a_detector_s_row() -> None:
    found = '[["cat", 0.9, [1, 2, 30, 40], "red"]]'
    row = {"sample_id": "00007-00002", "task": "colors", "prompt": "a red cat", "correct": False,
           "failed": ["color"], "reason": "expected red cat", "found": found, "image": "a.png",
           "image_sha256": "ab"}  # fmt: skip
    one = read(row, COLUMNS)
    assert (one.name, one.prompt, one.image_sha256) == ("00007-00002", "a red cat", "ab")
    assert (one.verdict.state, one.verdict.reason) == (WRONG, "expected red cat")
    assert one.verdict.figures == {"failed": "color"}
    assert one.found and (one.found[0].name, one.found[0].box) == ("cat", (1.0, 2.0, 30.0, 40.0))
    unscored = read({"sample_id": "1", "found": None, "unscored": "the picture is missing"}, COLUMNS)
    assert (unscored.verdict.state, unscored.verdict.reason) == (UNSCORED, "the picture is missing")


def test_the_plan_comes_from_the_table_beside_where_the_row_has_none() -> None:
    one = read({"sample_id": "1", "correct": False, "found": "[]", "failed": []}, COLUMNS)
    apart = {"chain": "a cat (1,2),(3,4)", "plan_correct": False, "plan_failed": ["count"], "iou": 0.5,
             "plan_reason": "one cat", "failure": "planned_wrong"}  # fmt: skip
    joined = with_plan(one, apart)
    assert (joined.verdict.cause, joined.plan.chain) == ("planned_wrong", "a cat (1,2),(3,4)")
    assert joined.plan.faults == ("count",) and joined.plan.figures == {"iou": 0.5}
    assert with_plan(one, {"chain": None, "left_out": "another program drew it"}) == one
    scene = read({"index": 1, "found": "[]", "plan_correct": True, "chain": ""}, SAMPLES)
    assert scene.plan.correct and scene.plan.chain is None


def test_answers_to_questions() -> None:
    atoms = [{"question": "Is it red?", "expected": "Yes", "skill": "color", "probability": 0.25,
              "bound": 0.0, "reply": "No", "unscored": None}]  # fmt: skip
    one = read({"sample_id": "00003", "task": "3 atoms", "gm": 25.0, "am": 25.0, "answers": atoms}, QUESTIONS)
    assert (one.verdict.state, one.verdict.value) == (MEASURED, 25.0)
    assert one.judged and one.judged.answers[0].reply == "No" and one.judged.answers[0].value == 0.25
    gone = read({"sample_id": "3", "gm": None, "unscored": "refused", "answers": []}, QUESTIONS)
    assert (gone.verdict.state, gone.verdict.reason) == (UNSCORED, "refused")


def test_a_judge_s_words() -> None:
    row = {"sample_id": "k1", "state": "scored", "reason": "too much changed", "value": 0.3,
           "score_names": ["success", "over"], "scores": [3.0, 8.0], "reply": '{"score": [3, 8]}',
           "judge": "vlm", "asked": "2026-01-01T00:00:00+00:00", "source_image": "s.png"}  # fmt: skip
    one = read(row, JUDGED)
    assert (one.verdict.state, one.verdict.figures) == (MEASURED, {"success": 3.0, "over": 8.0})
    assert one.judged and one.judged.judge == "vlm" and one.judged.answers[0].reply == '{"score": [3, 8]}'
    assert one.source == "s.png"
    refused = read({**row, "state": "refused", "value": None, "scores": None, "reason": "I cannot"}, JUDGED)
    assert (refused.verdict.state, refused.verdict.reason) == (UNSCORED, "refused: I cannot")
    right = read({**row, "correct": True}, JUDGED)
    assert right.verdict.state == RIGHT


def test_figures_of_an_edit() -> None:
    row = {"sample": "12_ab", "kind": "edited", "state": "judged", "clip_t": 0.25, "dino": float("nan"),
           "unchanged": True, "bad": "placeholder caption", "edited_sha256": "ab",
           "source_sha256": "cd"}  # fmt: skip
    one = read(row, ROWS)
    assert (one.name, one.sample_id, one.image_sha256, one.source_sha256) == ("12_ab", "12_ab", "ab", "cd")
    assert (one.verdict.state, one.verdict.figures) == (MEASURED, {"clip_t": 0.25})
    assert "byte by byte" in (one.verdict.reason or "") and "placeholder" in (one.verdict.reason or "")
    missing = read({**row, "state": "missing", "reason": None, "clip_t": None}, ROWS)
    assert missing.verdict.state == UNSCORED and (missing.verdict.reason or "").startswith("missing")
    adapter = adapter_of(ROWS)
    assert adapter.wanted(row) and not adapter.wanted({**row, "kind": "copied"})


def test_what_changed_outside_joins_the_figures() -> None:
    one = read({"sample": "k", "kind": "edited", "state": "judged", "clip_t": 0.5}, ROWS)
    joined = with_outside(one, {"sample_id": "k", "region": "mask", "change_outside": 2.5, "heat": None})
    assert joined.verdict.figures == {
        "clip_t": 0.5,
        "outside: region": "mask",
        "outside: change_outside": 2.5,
    }


BROKEN = [
    None,
    "",
    "[",
    "{}",
    "[1, 2]",
    '["cat"]',
    '[["cat", 1, 2]]',
    '[{"cls": 1}]',
    '[{"cls": "a", "box": [1, 2, 3]}]',
    "[" * 5000,
    7,
]


@pytest.mark.parametrize("value", BROKEN)
def test_broken_detections_are_left_out(value) -> None:
    assert objects_of(value) == ()


@pytest.mark.parametrize(
    "value", [None, "text", 1, 1.5, True, [], ["a", None], {"a": 1}, float("inf"), b"\xff"]
)
def test_no_adapter_fails_on_values_of_another_type(value) -> None:
    names = {*SAMPLES, *COLUMNS, *QUESTIONS, *ROWS, *JUDGED, "metadata", "instruction"}
    for adapter in ADAPTERS:
        row = dict.fromkeys(names, value)
        reading = reading_of(row, adapter)
        assert reading.verdict.state in (RIGHT, WRONG, MEASURED, UNSCORED)


def test_what_a_prompt_asks_for_in_words() -> None:
    metadata = (
        '{"include": [{"class": "cat", "count": 2, "color": "red"}, '
        '{"class": "dog", "count": 1, "position": ["left of", 0]}], '
        '"exclude": [{"class": "cat", "count": 3}]}'
    )
    one = read({"index": 0, "metadata": metadata, "found": "[]", "plan_correct": False}, SAMPLES)
    assert one.asks == "2 cat (red); 1 dog, left of object 1; fewer than 3 cat"
