"""Which scores stand side by side, and what the table and the page say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from got_core.evaluate.comparison import compare
from got_core.evaluate.comparison_page import comparison_page
from got_core.evaluate.protocol import Protocol, protocol_figures
from got_core.evaluate.score_folder import StoredScores


def scores(
    url: str,
    overall: float | None,
    *,
    plan: bool | None = None,
    weights: str | None = "w",
    threshold: float = 0.3,
    seconds: float | None = None,
    **more: Any,
) -> StoredScores:
    protocol = Protocol(
        name="geneval", version=1, rules={"threshold": threshold}, aggregation={"overall": "mean"}, plan=plan
    )
    task = {"mean": overall, "low": 0.1, "high": 0.9, "n": 6, "of": "6 / 8"}
    found = {
        "benchmark": "geneval",
        **protocol_figures(protocol),
        "overall": overall,
        "low": 0.2,
        "high": 0.8,
        "tasks": {"counting": task},
        "complete": True,
        "partial": False,
        "of": "6 / 8",
        "found": 6,
        "expected": 8,
        "drawn": {
            "model": f"<{url}>", "weights_hash": weights, "plan": plan,
            "costs": None if seconds is None else {"seconds": seconds},
        },
    }  # fmt: skip
    return StoredScores(url=url, scores={**found, **more})


def test_one_protocol_one_table() -> None:
    (one,) = compare([scores("a", 0.5), scores("b", 0.6, weights="v")])["benchmarks"]
    (table,) = one["tables"]
    assert [row["url"] for row in table["rows"]] == ["a", "b"] and not one["unlike"]
    assert not table["plans_compared"] and not table["differences"]
    assert table["rows"][0]["figures"] == {
        "overall": {"mean": 0.5, "low": 0.2, "high": 0.8, "n": 6, "of": "6 / 8"},
        "counting": {"mean": 0.5, "low": 0.1, "high": 0.9, "n": 6, "of": "6 / 8"},
    }


def test_other_protocols_never_share_one() -> None:
    (one,) = compare([scores("a", 0.5), scores("b", 0.6, threshold=0.5, plan=True)])["benchmarks"]
    assert len(one["tables"]) == 2
    assert one["unlike"] == [{"left": "a", "right": "b", "why": ["rules.threshold: 0.3 and 0.5"]}]


def test_plans_on_off_and_a_base_model() -> None:
    found = [
        scores("on", 0.7, plan=True, seconds=36.0),
        scores("off", 0.4, plan=False),
        scores("base", 0.5, weights=None),
        scores("other", 0.9, plan=True, weights="v"),
    ]
    (one,) = compare(found, base=["base"], price_per_hour=2.0)["benchmarks"]
    (table,) = one["tables"]
    assert table["plans_compared"] and "drew from plans" in table["notes"][0]
    plans = [one for one in table["differences"] if one["of"] == "plan"]
    assert [(one["model"], one["figures"]["overall"]) for one in plans] == [
        ("<on>, with plans", pytest.approx(0.3))
    ]
    bases = {one["model"]: one["figures"]["overall"] for one in table["differences"] if one["of"] == "base"}
    assert bases == {
        "<on>, with plans": pytest.approx(0.2),
        "<off>, without plans": pytest.approx(-0.1),
        "<other>, with plans": pytest.approx(0.4),
    }
    assert [row["money"] for row in table["rows"]] == [pytest.approx(0.02), None, None, None]


def test_what_is_partial_or_nothing_says_so() -> None:
    found = [scores("a", None, partial=True, complete=False, low=None, high=None)]
    compared = compare(found)
    row = compared["benchmarks"][0]["tables"][0]["rows"][0]
    assert row["partial"] and row["figures"]["overall"]["mean"] is None
    page = comparison_page(compared)
    assert "partial: 6 / 8" in page and "none, 6 / 8" in page


def test_a_difference_says_which_side_lacks_pictures() -> None:
    found = [scores("some", 0.7, partial=True, complete=False), scores("base", 0.5, weights=None)]
    (one,) = compare(found, base=["base"])["benchmarks"]
    (difference,) = one["tables"][0]["differences"]
    assert difference["model"] == "<some> (partial: 6 / 8)" and difference["minus"] == "<base> (base)"


def test_scores_of_the_graph_and_older_ones_are_read() -> None:
    older = scores("a", 0.5)
    plain = {k: v for k, v in older.scores.items() if k not in ("benchmark", "drawn", "of", "partial", "low")}
    (one,) = compare([StoredScores(url="a", scores=plain)])["benchmarks"]
    row = one["tables"][0]["rows"][0]
    assert (one["name"], row["model"], row["of"], row["partial"]) == ("geneval", "a", "6 / 8", False)


def test_rows_of_edits() -> None:
    def figures(mean: float) -> dict[str, Any]:
        one = {"mean": mean, "low": mean, "high": mean, "n": 3, "of": 4, "undefined": 1}
        return {"n": 3, "of": 4, "clip_i": one, "clip_dir": one}

    kinds = {
        kind: {"raw": figures(mean), "filtered": figures(mean + 0.01)}
        for kind, mean in (("edited", 0.5), ("copied", 0.9))
    }
    protocol = Protocol(
        name="emu_edit/x", version=1, rules={"compared_with": "source"}, aggregation={"score": "mean"}
    )
    found = scores("a", 0.5, benchmark="emu_edit/base", **protocol_figures(protocol), setting="all",
                   settings={"all": kinds}, notes=["3 samples of 4"])  # fmt: skip
    (one,) = compare([found])["benchmarks"]
    (table,) = one["tables"]
    assert [(row["row"], row["figures"]["clip_dir"]["mean"]) for row in table["rows"]] == [
        ("model", 0.51), ("all samples", 0.5), ("copied", 0.91),
    ]  # fmt: skip
    assert table["rows"][0]["figures"]["clip_i"]["of"] == "3 / 4"
    assert "copied source" in table["notes"][0] and table["notes"][1] == "3 samples of 4"
    assert one["published"] == []


def test_the_page_holds_all_of_it_and_no_markup_of_others() -> None:
    compared = compare([scores("a", 0.5), scores("b", 0.6, threshold=0.5)])
    page = comparison_page(compared)
    assert "&lt;a&gt;" in page and "<a>" not in page
    assert "Not side by side" in page and "rules.threshold: 0.3 and 0.5" in page
    assert "0.500 (0.200 to 0.800), 6 / 8" in page
    published = compared["benchmarks"][0]["published"]
    assert {one["note"] for one in published if "Flow-GRPO" in one["model"]} == {
        "published, not measured here, trained on a GenEval reward"
    }
    assert page.count("published, not measured here") == len(published)


def outcomes(right: list[bool]) -> pl.DataFrame:
    rows = [
        {"sample_id": str(k), "task": "counting", "cluster": str(k), "correct": one, "value": float(one)}
        for k, one in enumerate(right)
    ]
    return pl.DataFrame(rows)


def test_differences_are_paired_where_outcomes_are_at_hand() -> None:
    on, off = scores("a", 1.0, plan=True), scores("b", 0.5, plan=False)
    one, other = (
        replace(given, outcomes=outcomes(right))
        for given, right in ((on, [True] * 6), (off, [True, False] * 3))
    )
    ((difference,),) = (
        table["differences"] for made in compare([one, other])["benchmarks"] for table in made["tables"]
    )
    paired = difference["paired"]["overall"]
    assert paired["mean"] == 0.5 and paired["n"] == paired["of"] == 6 and paired["low"] < 0.5 < paired["high"]
    page = comparison_page(compare([one, other]))
    assert "overall +0.500 (paired +" in page and ", 6 / 6)" in page
    (table,) = compare([on, other])["benchmarks"][0]["tables"]
    assert table["differences"][0]["paired"] is None
    strange = replace(other, outcomes=outcomes([True]).with_columns(sample_id=pl.lit("x")))
    (table,) = compare([one, strange])["benchmarks"][0]["tables"]
    assert table["differences"][0]["paired"] is None, "no sample in common"


def test_pictures_against_plans_are_told() -> None:
    share = {"mean": 0.25, "low": 0.1, "high": 0.4, "n": 4}
    figures = {
        "pictures": "4 / 6", "plan_right": share, "right_of_right_plans": {**share, "mean": None},
        "in_place": share, "planned_wrong": 3, "drawn_wrong": 1,
    }  # fmt: skip
    made = compare([scores("a", 0.5, plan=True, apart=figures), scores("b", 0.5, plan=False)])
    assert [one["model"] for one in made["benchmarks"][0]["tables"][0]["apart"]] == ["<a>, with plans"]
    page = comparison_page(made)
    assert "4 / 6 pictures against their plans: right plans 0.250" in page
    assert "right pictures of right plans none" in page and "3 planned wrong, 1 drawn wrong" in page
