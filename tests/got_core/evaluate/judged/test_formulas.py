"""Formulas, intervals, prompts and replies, against values that were worked out by hand or by other code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import polars as pl
import pytest

from got_core.evaluate.judged.aggregation import figures, mean_scores, sample_value
from got_core.evaluate.judged.prompts import WordingError, prompts_of
from got_core.evaluate.judged.readers import read_lines, reader_of
from got_core.evaluate.judged.shape import Scoring
from got_core.evaluate.judges.replies import UnreadableReply
from got_core.evaluate.published.registry import published_benchmark
from tests.got_core.evaluate.judged import made

TOP = {"a": 10.0, "b": 10.0, "c": 10.0, "d": 10.0}


@pytest.mark.parametrize(
    ("scoring", "scores", "value"),
    [
        (Scoring(sample="min", factor=0.1), {"a": 7, "b": 4}, 0.4),
        (Scoring(sample="mean"), {"a": 5, "b": 4, "c": 3}, 4.0),
        (
            Scoring(sample="root_of_product", parts=(("a", "b"), ("c", "d"))),
            {"a": 9, "b": 4, "c": 9, "d": 10},
            6.0,
        ),
        (Scoring(sample="root_of_product", parts=(("a",), ("b",))), {"a": 0, "b": 10}, 0.0),
        (Scoring(sample="accuracy", factor=100), {"a": 10, "b": 10}, 100.0),
        (Scoring(sample="accuracy", factor=100), {"a": 10, "b": 9}, 0.0),
        (Scoring(sample="weighted", weights={"a": 0.7, "b": 0.2, "c": 0.1}), {"a": 2, "b": 1, "c": 0}, 1.6),
        (Scoring(sample="weighted", weights={"a": 0.8, "b": 0.2, "c": 0.1}), {"a": 5, "b": 10}, 6.0),
    ],
)
def test_a_sample_s_value(scoring: Scoring, scores: dict[str, float], value: float) -> None:
    assert sample_value(scoring, scores, TOP) == pytest.approx(value)


def rows() -> pl.DataFrame:
    rng = np.random.default_rng(3)
    return pl.DataFrame(
        {
            "task": [("x", "y", "y")[k % 3] for k in range(60)],
            "cluster": [f"c{k // 4}" for k in range(60)],
            "value": rng.uniform(0, 10, 60),
        }
    )


@pytest.mark.parametrize("overall", ["samples", "tasks"])
def test_means_and_intervals_against_a_plain_bootstrap(overall: str) -> None:
    """Sources are drawn with replacement, each with all its samples; written out with lists."""
    frame, rng = rows(), np.random.default_rng(8)
    definition = published_benchmark("imagenhub").opener.definition
    definition = replace(definition, scoring=replace(definition.scoring, overall=overall))
    found = figures(frame, definition, 1)

    def total(chosen: list[dict]) -> float:
        if overall == "samples":
            return fmean(one["value"] for one in chosen)
        return fmean(fmean(one["value"] for one in chosen if one["task"] == task) for task in ("x", "y"))

    everything = frame.to_dicts()
    assert found["overall"] == pytest.approx(total(everything))
    clusters = [[one for one in everything if one["cluster"] == f"c{k}"] for k in range(15)]
    drawn = [total([one for k in rng.integers(0, 15, 15) for one in clusters[k]]) for _ in range(3000)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert found["low"] == pytest.approx(low, abs=0.12) and found["high"] == pytest.approx(high, abs=0.12)
    assert found["tasks"]["x"]["mean"] == pytest.approx(fmean(one["value"] for one in everything[::3]))
    assert found["tasks"]["x"]["of"] == "20 / 20"


def test_a_task_without_a_value_has_no_mean_of_tasks() -> None:
    frame = rows().with_columns(value=pl.when(pl.col("task") == "x").then(None).otherwise(pl.col("value")))
    definition = published_benchmark("imgedit").opener.definition
    assert figures(frame, definition, 1)["overall"] is None
    assert figures(frame, definition, 1)["tasks"]["x"]["of"] == "0 / 20"
    assert figures(frame, published_benchmark("imagenhub").opener.definition, 1)["overall"] is not None


def test_means_of_single_scores() -> None:
    frame = pl.DataFrame(
        {"score_names": [["a", "b"], ["a"], []], "scores": [[1.0, 4.0], [3.0], []]},
        schema={"score_names": pl.List(pl.String), "scores": pl.List(pl.Float64)},
    )
    assert mean_scores(frame, ("a", "b", "c")) == {"a": {"mean": 2, "n": 2}, "b": {"mean": 4, "n": 1}}


# -- prompts -----------------------------------------------------------------------------------------


def test_a_published_wording_is_read_from_the_checkout_and_never_run(downloads: Path) -> None:
    definition = published_benchmark("imagenhub/published").opener.definition
    prompt = prompts_of(definition, downloads)["edit"]
    template, text = prompt.text_for({"instruction": "add <instruction> and {x}"})
    assert (
        template.startswith("Look at the pictures. {")
        and "Two pictures.\n\nHow well was <instruction>" in template
    )
    assert "How well was add <instruction> and {x} done" in text, "filled in once"
    assert prompt.published is False, "it is not the text of the published hash"


def test_a_text_for_each_kind_of_edit(downloads: Path) -> None:
    definition = published_benchmark("imgedit/published").opener.definition
    prompt = prompts_of(definition, downloads)["edit"]
    assert prompt.text_for({"task": "style", "instruction": "grey"})[1] == "Rate the style of: grey."
    with pytest.raises(WordingError, match="no text for 'extract', only for adjust, style, add"):
        prompt.text_for({"task": "extract", "instruction": "grey"})


def test_a_checkout_that_is_not_the_published_one_is_named(tmp_path: Path) -> None:
    definition = published_benchmark("imagenhub/published").opener.definition
    with pytest.raises(WordingError, match=r"vie_prompts.py cannot be read .*got score fetch-list"):
        prompts_of(definition, tmp_path)
    path = made.write(tmp_path / "VIEScore/viescore/vie_prompts.py", "_context_no_delimit = 'a'")
    with pytest.raises(WordingError, match="has no text _prompts_0shot_two_image_edit_rule"):
        prompts_of(definition, tmp_path)
    path.write_text(made.VIE.replace("<instruction>", "it"))
    with pytest.raises(WordingError, match="has no '<instruction>' to fill in"):
        prompts_of(definition, tmp_path)
    path.write_text("def (")
    with pytest.raises(WordingError, match="is no Python file"):
        prompts_of(definition, tmp_path)


def test_own_prompts_say_what_is_asked_and_fill_in_the_instruction(downloads: Path) -> None:
    for name in ("imagenhub/viescore", "reason_edit", "gedit/en", "imgedit", "risebench"):
        definition = published_benchmark(name).opener.definition
        prompts = prompts_of(definition, downloads)
        for ask in definition.asks:
            fields = {"instruction": "Paint it.", "task": "add", "reference": "R1.", "reference_txt": "R2."}
            template, text = prompts[ask.name].text_for(fields)
            assert '{"score": [' in text and prompts[ask.name].published is None
            assert "{instruction}" not in text and ("Paint it." in text) == ("{instruction}" in template)
            for score in ask.scores:
                assert score in made.words(text), "its scores are named as the definition names them"


# -- replies -----------------------------------------------------------------------------------------


def test_lines_with_labels() -> None:
    text = (
        "Brief reasoning: 3 dogs: all grey.\n**Prompt Compliance**: 4\n- Visual Seamlessness: 3/5\n"
        "Detail & Physics: **5**."
    )
    assert read_lines(text, 3, 1, 5).values == (4, 3, 5)
    for wrong in (
        "A: 4\nB: 3",
        "A: 4\nB: 3\nC: 6",
        "A: 4\nB: 3\nC: 5\nD: 2",
        "nothing",
        "A: 4\nB: 3\nC: five",
    ):
        with pytest.raises(UnreadableReply):
            read_lines(wrong, 3, 1, 5)


def test_a_final_score_and_a_choice() -> None:
    definition = published_benchmark("risebench/published").opener.definition
    asks = {one.name: one for one in definition.asks}
    read = reader_of(asks["consistency"])
    assert read("Step 1: 3 things.\n\n**Final Score:** **5**").values == (5,)
    with pytest.raises(UnreadableReply):
        read("**Final Score:** **6**")
    logical = reader_of(asks["reasoning_logical"])
    assert logical("Final Score: 1").values == (1,)
    with pytest.raises(UnreadableReply):
        logical("Final Score: 1, 0")
    choice = replace(asks["consistency"], reply="choice", choices=("no", "partly", "yes"), low=0, high=1)
    assert reader_of(choice)("Partly.").values == (0.5,)
    assert reader_of(choice)('{"answer": "yes"}').values == (1,)
