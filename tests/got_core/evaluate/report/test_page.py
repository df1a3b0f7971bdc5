"""The benchmark page."""

from __future__ import annotations

import io
from html.parser import HTMLParser

import polars as pl
import pytest
from PIL import Image

from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.edits import EditScenes
from got_core.evaluate.protocol import Protocol, UnlikeProtocolsError, require_same
from got_core.evaluate.report import Section, benchmark_report
from got_core.evaluate.report.stages import StagePart
from got_core.evaluate.scenes import GenEvalScenes
from got_core.evaluate.scores import score_tasks, with_plan_figures
from got_core.evaluate.stages.figures import stage_figures
from got_core.evaluate.stages.scoring import ROWS
from got_core.evaluate.suite import VARIANTS
from got_core.figures.grids import png_bytes
from got_core.planning.geneval import TASKS
from got_core.scenes.world import FULL, NARROW


class Page(HTMLParser):
    """Collects text and checks that tags close in order and nothing is loaded from elsewhere."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs) -> None:
        for name, value in attrs:
            assert name not in ("src", "href") or value.startswith("data:"), value
        if tag not in ("meta", "img", "!doctype"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.words.append(data)


def scored(protocol: Protocol) -> dict:
    rows = [(task, "p", k % 4 > 0) for task in TASKS for k in range(8)]
    frame = pl.DataFrame(rows, schema=["task", "prompt", "correct"], orient="row")
    record = {"protocol": protocol.name, "protocol_digest": protocol.digest()}
    return {**record, "protocol_record": protocol.to_dict(), **score_tasks(frame)}


def test_page_is_complete_and_self_contained() -> None:
    scores = scored(GenEvalScenes(NARROW, EvaluateConfig()).protocol())
    grid = png_bytes(Image.new("RGB", (8, 8)))
    lineage = {"manifest": "<b>abc</b>", "git commit": None}
    samples = pl.DataFrame(
        {
            name: [f"{name} &"]
            for name in ("index", "task", "prompt", "seed", "failure", "reason", "plan_reason", "chain")
        }
    ).with_columns(correct=pl.lit(False))
    page = Page(benchmark_report([Section(scores, grid, samples)], lineage=lineage))
    text = " ".join(page.words)
    for part in (*TASKS, "0.750", "geneval/scenes", scores["protocol_digest"], "GoT-R1-7B", "must not be"):
        assert part in text
    assert "<b>abc</b>" in text, "values are text, not markup"
    assert Image.open(io.BytesIO(grid)).size == (8, 8)


def test_a_model_without_a_benchmark_has_a_page_that_says_so() -> None:
    text = " ".join(Page(benchmark_report([], lineage={"weights": "abc"})).words)
    assert "names no benchmark: this model was not scored" in text and "abc" in text
    assert "GoT-R1-7B" not in text, "published figures say nothing where there are none to set beside them"


def test_an_interval_without_width_is_explained() -> None:
    scores = scored(GenEvalScenes(NARROW, EvaluateConfig()).protocol())
    perfect = scores["tasks"]["colors"] | {
        "mean": 1.0,
        "low": 1.0,
        "high": 1.0,
        "n": 300,
        "prompts": 100,
        "correct": 300,
    }
    tasks = scores["tasks"] | {"colors": perfect}
    text = " ".join(Page(benchmark_report([Section(scores | {"tasks": tasks})])).words)
    assert text.count("rule of three") == 1
    assert "1.000 to 1.000 (rule of three: above 0.970)" in text


def test_a_partial_score_says_so() -> None:
    scores = scored(GenEvalScenes(NARROW, EvaluateConfig()).protocol()) | {"complete": False, "expected": 90}
    assert "partial: 48 of 90 images" in " ".join(Page(benchmark_report([Section(scores)])).words)


def with_plans(scores: dict) -> dict:
    """Every fourth image is wrong: the odd ones of these were planned wrong, and the first was not drawn."""
    rows = [
        (
            t,
            k // 8,
            k % 4 > 0,
            None if k % 4 else "planned_wrong" if k % 8 else "drawn_wrong" if k else "not_drawn",
            k % 8 != 4,
            ["position"] * (k % 8 == 4),
            0.5,
            0.75,
        )
        for t in TASKS
        for k in range(16)
    ]
    names = [
        "task",
        "sampling_seed",
        "correct",
        "failure",
        "plan_correct",
        "plan_faults",
        "plan_iou",
        "place_iou",
    ]
    frame = pl.DataFrame(
        rows, schema=names, orient="row", schema_overrides={"plan_faults": pl.List(pl.String)}
    )
    return scores | with_plan_figures(frame, scores | score_tasks(frame, cluster="sampling_seed"))


def test_failures_are_split_and_seeds_and_repair_stand_side_by_side() -> None:
    scores = with_plans(scored(GenEvalScenes(NARROW, EvaluateConfig()).protocol()))
    repaired = scores | {"overall": 0.875, "plan_overall": 1.0, "changed": 12}
    html = benchmark_report([Section(scores | {"repaired": repaired})])
    text = " ".join(Page(html).words)
    for outcome in ("drawn wrong: 1", "planned wrong: 2", "not drawn: 1"):
        assert html.count(f"title='{outcome}'") == len(TASKS)
    assert f"{len(TASKS)} could not be drawn at all" in text
    assert html.count("class='right' style='width:75.00%'") == len(TASKS)
    assert "12 were planned wrong and 6 drawn wrong" in text
    assert "position 2" in text
    assert "0.750 whatever is found there, 0.500 counting only" in text
    for part in ("seed 0", "seed 1", "standard deviation", "12 of 48 images drawn again", "0.875"):
        assert part in text


def test_edits_and_grounding() -> None:
    scores = with_plans(scored(EditScenes(NARROW, EvaluateConfig(edit_images=5)).protocol()))
    scores |= {
        "change_found": 0.9,
        "others_kept": 0.8,
        "change_outside": 1.25,
        "unchanged": 0.0,
        "reconstruction_change": {"mean": 0.5, "max": 2.0},
        "grounding": {"mean": 0.7, "low": 0.6, "high": 0.8, "n": 4, "kinds": {"move": {"mean": 0.7, "n": 4}}},
    }
    kept = scores | {"overall": 0.875, "change_outside": 0.75}
    both = {"kept_outside": kept, "repaired_kept_outside": scores | {"overall": 0.925}}
    sections = [Section(scores), Section(scores | both)]
    text = " ".join(Page(benchmark_report(sections)).words)
    assert text.count("edits/scenes") >= 2
    assert "repaired and kept" in text and "0.925" in text
    assert text.count("1.2 and 0.8 levels of change outside") == 1 and "0.875" in text
    for part in ("0.900", "limit is 7.0", "0.5 (at most 2.0)", "0.600 to 0.800", "move"):
        assert part in text


def test_traces_stand_in_a_table_and_the_largest_ones_are_shown() -> None:
    protocol = EditScenes(NARROW, EvaluateConfig(edit_images=5, max_trace=12.5)).protocol()
    some = {"mean": 3.25, "median": 2.75, "n": 4}
    kinds = {"remove": {"trace": some, "rest": some, "edges": some}, "add": {"trace": None, "rest": some}}
    kinds["add"]["edges"] = None
    figures = {**kinds["remove"], "kinds": kinds}
    scores = with_plans(scored(protocol)) | {"trace_left": 3}
    tasks = {name: one | {"trace_left": 0} for name, one in scores["tasks"].items()}
    scores |= {"tasks": tasks, "traces": figures, "trace_ceilings": {"unchanged": figures}}
    shown = png_bytes(Image.new("RGB", (9, 9)))
    page = Page(benchmark_report([Section(scores, traces_png=shown)]))
    text = " ".join(page.words)
    for part in ("2.8 3.2", "above 12.5 is not right", "trace left", "unchanged sources", "largest traces"):
        assert part in text
    assert "3 show nothing wrong but a trace" in text
    plain = " ".join(Page(benchmark_report([Section(with_plans(scored(protocol)))])).words)
    assert "trace left" not in plain and "largest traces" not in plain


def test_what_each_stage_added_is_a_part_of_the_page() -> None:
    rows = [
        {"benchmark": "edits/scenes", "stage": stage, "index": k, "task": "add", "cluster": str(k),
         "sampling_seed": 0, "picture": k < right, "plan": True, "drawing": k < right, "trace": 2.25}
        for stage, right in (("foundation", 1), ("<tuned>", 6))
        for k in range(8)
    ]  # fmt: skip
    document = stage_figures(pl.DataFrame(rows, schema=ROWS))
    part = StagePart(document=document, plot_png=png_bytes(Image.new("RGB", (9, 9))))
    html = benchmark_report([Section(scored(EditScenes(NARROW, EvaluateConfig()).protocol()))], stages=part)
    text = " ".join(Page(html).words)
    for one in (
        "What each stage added",
        "0.125 (",
        "0.750 (",
        "+0.625",
        "2.2",
        "<tuned>",
        "Stages as a plot",
    ):
        assert one in text
    assert "The same requests" not in text and "<tuned>" not in html


def test_protocols_of_other_worlds_and_sizes_are_unlike() -> None:
    base = GenEvalScenes(NARROW, EvaluateConfig()).protocol()
    assert base.digest() == GenEvalScenes(NARROW, EvaluateConfig(batch_size=3)).protocol().digest()
    others = [
        GenEvalScenes(FULL, EvaluateConfig()).protocol(),
        GenEvalScenes(NARROW, EvaluateConfig(images_per_task=101)).protocol(),
        GenEvalScenes(NARROW, EvaluateConfig(seed=1)).protocol(),
        GenEvalScenes(NARROW, EvaluateConfig(text_scale=2.0)).protocol(),
        GenEvalScenes(NARROW, EvaluateConfig(sampling_seeds=(0, 1))).protocol(),
        GenEvalScenes(NARROW, EvaluateConfig()).protocol(VARIANTS[0]),
        EditScenes(NARROW, EvaluateConfig()).protocol(),
        EditScenes(NARROW, EvaluateConfig(max_change_outside=9)).protocol(),
        *(EditScenes(NARROW, EvaluateConfig()).protocol(variant) for variant in VARIANTS),
    ]
    assert (base.world["name"], others[0].world["name"]) == ("narrow", "full")
    assert len({p.digest() for p in [base, *others]}) == 12
    require_same(scored(base), scored(base))
    with pytest.raises(UnlikeProtocolsError, match=others[0].digest()):
        require_same(scored(base), scored(others[0]))


def test_figures_of_edits_have_a_table_and_no_shares() -> None:
    """Scores of a published benchmark: no plans, no shares, perhaps no overall score."""
    figure = {"mean": -0.0123, "low": -0.05, "high": 0.02, "n": 7, "of": 8, "undefined": 1}
    part = {"n": 7, "of": 8, "clip_dir": figure, "left_out": {"placeholder caption": 1}}
    scores = {
        "benchmark": "emu_edit/base",
        "protocol": "emu_edit/base",
        "protocol_digest": "0123456789ab",
        "protocol_record": {"name": "emu_edit/base"},
        "overall": None,
        "low": None,
        "high": None,
        "tasks": {"clip_dir": figure},
        "settings": {"all": {"edited": {"raw": part, "filtered": part, "tasks": {}}}},
        "complete": True,
        "found": 8,
        "expected": 8,
        "notes": ["8 samples; <b>the published split has 3589</b>"],
    }
    verdicts = pl.DataFrame({"sample": ["a"], "clip_dir": [0.1]})
    html = benchmark_report([Section(scores, None, verdicts)])
    text = " ".join(Page(html).words)
    assert "No overall score" in text and "8 of 8 images" in text and "prompts have" not in text
    assert "-0.012" in text and "-0.050 to 0.020" in text and "rule of three" not in text
    assert "All figures" in text and "-0.0123" in text and "clip-dir" in text
    assert "&lt;b&gt;the published split" in html and "width:0.0%" in html
    percents = {**scores, "scale": 100, "tasks": {"atomicity_3": {**figure, "mean": 42.0, "high": 50.0}}}
    assert "width:42.0%" in benchmark_report([Section(percents)])
