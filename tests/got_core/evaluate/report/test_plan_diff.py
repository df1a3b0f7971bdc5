"""What differs between two plans."""

from __future__ import annotations

import pytest

from got_core.evaluate.report.plan_diff import plan_diff


def test_objects_come_go_and_move() -> None:
    before = "a red cat (100,100),(300,300) by a dog (500,500),(700,700)"
    after = "a red cat (200,100),(400,320) under a lamp (10,10),(60,60)"
    diff = plan_diff(before, after)
    assert diff is not None and not diff["equal"] and diff["kept"] == 0
    assert diff["removed"] == [{"phrase": "a dog", "box": "(500,500),(700,700)"}]
    assert diff["added"] == [{"phrase": "a lamp", "box": "(10,10),(60,60)"}]
    (moved,) = diff["moved"]
    assert moved["iou"] == pytest.approx(20_000 / (40_000 + 44_000 - 20_000))
    assert moved["shift"] == pytest.approx([10, 1]) and moved["size"] == pytest.approx([0, 2])
    assert (moved["before"], moved["after"]) == ("(100,100),(300,300)", "(200,100),(400,320)")
    old = "".join(one["text"] for one in diff["text"] if one["op"] != "added")
    new = "".join(one["text"] for one in diff["text"] if one["op"] != "removed")
    assert old == before and new == after


def test_equal_phrases_are_paired_by_where_they_are() -> None:
    one, other = "(0,0),(100,100)", "(500,500),(600,600)"
    diff = plan_diff(f"a cat {one} and a cat {other}", f"a cat {other} and a Cat (10,0),(110,100)")
    assert diff is not None and diff["kept"] == 1 and not diff["added"] and not diff["removed"]
    assert [m["before"] for m in diff["moved"]] == [one]


def test_what_is_no_plan() -> None:
    assert plan_diff(None, "a cat (1,2),(3,4)") is None
    same = plan_diff("words alone", "words alone")
    assert same is not None and same["equal"] and same["text"] == [{"op": "same", "text": "words alone"}]
    broken = plan_diff("a cat (1,2),(3,4", "a cat (1,2),(3,4)")
    assert broken is not None and len(broken["added"]) == 1 and not broken["removed"]
    model = "a cat <|box_start|>(1,2),(30,40)<|box_end|> (red)"
    assert plan_diff(model, "a cat (1,2),(30,40)")["kept"] == 1  # type: ignore[index]
