"""Which samples a page shows."""

from __future__ import annotations

from typing import Any

import polars as pl

from got_core.evaluate.report.cases import Limits, choose
from got_core.evaluate.report.section import Run

SMALL = Limits(failures=2, changed=2, first=1)


def run(rows: list[dict[str, Any]], **tasks: Any) -> Run:
    return Run(label="m", scores={"tasks": tasks}, samples=pl.DataFrame(rows, infer_schema_length=None))


def verdicts(right: str, task: str = "t") -> list[dict[str, Any]]:
    """`+` right, `-` wrong, `?` unscored."""
    return [
        {
            "sample_id": f"{task}{k}", "task": task, "prompt": f"p{k}",
            "correct": {"+": True, "-": False}.get(one),
            "failure": "drawn_wrong" if one == "-" else None,
            "unscored": "no picture" if one == "?" else None,
        }
        for k, one in enumerate(right)
    ]  # fmt: skip


def test_the_first_the_wrong_and_the_changed() -> None:
    champion, own = run(verdicts("+++--++-?")), run(verdicts("++-+--+-?"))
    chosen = choose((champion, own), SMALL)
    shown = {one.sample: one.change for one in chosen.cases}
    assert shown == {"t0": "", "t2": "broken", "t3": "fixed", "t4": ""}
    assert chosen.left_out == {"t": (2, 5)}, "of five that are wrong or unscored two are shown"
    sides = {one.sample: one.sides[1] for one in chosen.cases}
    assert sides["t2"].cause == "drawn wrong" and sides["t2"].verdict == "wrong"  # type: ignore[union-attr]
    assert sides["t0"].cause == "" and sides["t0"].verdict == "right"  # type: ignore[union-attr]


def test_of_figures_the_lowest() -> None:
    rows = [
        {"sample": f"s{k}", "task": "add", "kind": kind, "clip_dir": value}
        for kind in ("edited", "copied")
        for k, value in enumerate((0.3, 0.1, None, 0.5, 0.2, 0.4, 0.6, 0.7, 0.8))
    ]
    chosen = choose((run(rows, clip_dir={}),), SMALL)
    assert [(one.sample, one.sides[0].value) for one in chosen.cases] == [  # type: ignore[union-attr]
        ("s0", 0.3), ("s1", 0.1), ("s2", None),
    ]  # fmt: skip
    assert chosen.cases[2].sides[0].cause == "unscored"  # type: ignore[union-attr]


def test_figures_rise_and_fall_and_states_are_causes() -> None:
    def judged(values: list[Any]) -> Run:
        state = {None: "refused"}
        rows = [
            {"sample_id": f"s{k}", "value": one, "state": state.get(one, "scored"), "reply": "<b>"}
            for k, one in enumerate(values)
        ]
        return run(rows)

    chosen = choose((judged([0.5, 0.5, 0.5, 0.5]), judged([0.5, 0.7, 0.1, None])), Limits())
    assert [one.change for one in chosen.cases] == ["", "higher", "lower", ""]
    assert chosen.cases[3].sides[1].cause == "refused"  # type: ignore[union-attr]
    assert chosen.cases[0].task == "all"


def test_samples_of_one_model_alone() -> None:
    chosen = choose((run(verdicts("+")), run(verdicts("--"))), Limits())
    assert [(one.sample, one.sides[0] is None, one.change) for one in chosen.cases] == [
        ("t0", False, "broken"), ("t1", True, ""),
    ]  # fmt: skip
    assert choose((Run(label="m", scores={"tasks": {}}),), Limits()).cases == ()


def test_scenes_with_plans_and_without_are_paired_by_their_number() -> None:
    """Their ids hold the protocol's digest, which says whether there was a plan."""

    def scenes(digest: str, right: list[bool]) -> Run:
        rows = [
            {"sample_id": f"{digest}{k}", "index": k, "task": "t", "correct": one}
            for k, one in enumerate(right)
        ]
        return Run(label="m", scores={"tasks": {}, "protocol_digest": digest}, samples=pl.DataFrame(rows))

    chosen = choose((scenes("a", [False, True]), scenes("b", [True, True])), Limits())
    assert [(one.sample, one.change) for one in chosen.cases] == [("0", "fixed"), ("1", "")]
    same = choose((scenes("a", [False]), scenes("a", [True])), Limits())
    assert [one.sample for one in same.cases] == ["a0"]
