"""The promotion rule on score dicts."""

from __future__ import annotations

import pytest

from got_core.evaluate.geneval import TASKS
from got_core.registry.promote import compare


def scores(
    overall: float | None = None, digest: str = "p1", complete: bool = True, width: float = 0.05, **means
):
    tasks = {
        task: {"mean": m, "low": max(m - width, 0), "high": min(m + width, 1), "n": 100}
        for task, m in (dict.fromkeys(TASKS, 0.8) | means).items()
    }
    mean = sum(t["mean"] for t in tasks.values()) / len(tasks)
    return {
        "protocol": "geneval/scenes",
        "protocol_digest": digest,
        "complete": complete,
        "overall": mean if overall is None else overall,
        "tasks": tasks,
    }


def test_better_everywhere_is_promoted() -> None:
    promoted, reason, table = compare(scores(), scores(**dict.fromkeys(TASKS, 0.85)))
    assert promoted
    assert "better overall (+0.050)" in reason
    assert [row["task"] for row in table] == [*TASKS, "overall"]


def test_a_loss_within_the_interval_is_allowed() -> None:
    challenger = scores(position=0.75, counting=0.99)
    promoted, _, table = compare(scores(), challenger)
    assert promoted
    assert next(row for row in table if row["task"] == "position")["verdict"] == "no worse"


def test_a_loss_beyond_the_interval_is_not() -> None:
    # Half widths of .05 each give sqrt(.05**2 + .05**2) = .0707 for the difference.
    promoted, reason, _ = compare(scores(), scores(position=0.72, counting=0.99, colors=0.99))
    assert not promoted
    assert "position" in reason
    assert compare(scores(), scores(position=0.74, counting=0.99, colors=0.99))[0]


def test_equal_is_not_better() -> None:
    promoted, reason, _ = compare(scores(), scores())
    assert not promoted
    assert "not better overall" in reason


def test_a_perfect_champion_does_not_make_a_tie_a_loss() -> None:
    perfect = scores(width=0.0, colors=1.0)
    challenger = scores(colors=0.99, counting=0.95)
    assert compare(perfect, challenger)[0]


@pytest.mark.parametrize(
    ("challenger", "says"),
    [
        (scores(digest="p2", position=0.9), "not comparable"),
        (scores(complete=False, position=0.9), "partial"),
        ({**scores(position=0.9), "tasks": {"position": scores()["tasks"]["position"]}}, "different tasks"),
    ],
)
def test_what_cannot_be_compared_is_not_promoted(challenger: dict, says: str) -> None:
    promoted, reason, table = compare(scores(), challenger)
    assert not promoted
    assert says in reason
    assert table == []
