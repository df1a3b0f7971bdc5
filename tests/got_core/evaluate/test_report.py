"""The benchmark page."""

from __future__ import annotations

import io
from html.parser import HTMLParser

import polars as pl
import pytest
from PIL import Image

from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.geneval import TASKS, score_tasks
from got_core.evaluate.plots import png_bytes
from got_core.evaluate.protocol import Protocol, UnlikeProtocolsError, require_same
from got_core.evaluate.report import benchmark_report
from got_core.evaluate.scenes import scenes_protocol
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
    scores = scored(scenes_protocol(NARROW, EvaluateConfig()))
    grid = png_bytes(Image.new("RGB", (8, 8)))
    lineage = {"manifest": "<b>abc</b>", "git commit": None}
    samples = pl.DataFrame(
        {
            name: [f"{name} &"]
            for name in ("index", "task", "prompt", "seed", "failure", "reason", "plan_reason", "chain")
        }
    ).with_columns(correct=pl.lit(False))
    page = Page(benchmark_report(scores, grid_png=grid, lineage=lineage, samples=samples))
    text = " ".join(page.words)
    for part in (*TASKS, "0.750", "geneval/scenes", scores["protocol_digest"], "GoT-R1-7B", "must not be"):
        assert part in text
    assert "<b>abc</b>" in text, "values are text, not markup"
    assert Image.open(io.BytesIO(grid)).size == (8, 8)


def test_an_interval_without_width_is_explained() -> None:
    scores = scored(scenes_protocol(NARROW, EvaluateConfig()))
    perfect = scores["tasks"]["colors"] | {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 100, "correct": 100}
    tasks = scores["tasks"] | {"colors": perfect}
    text = " ".join(Page(benchmark_report(scores | {"tasks": tasks})).words)
    assert text.count("rule of three") == 1
    assert "1.000 to 1.000 (rule of three: above 0.970)" in text


def test_a_partial_score_says_so() -> None:
    scores = scored(scenes_protocol(NARROW, EvaluateConfig())) | {"complete": False, "expected": 90}
    assert "partial: 48 of 90 images" in " ".join(Page(benchmark_report(scores)).words)


def test_protocols_of_other_worlds_and_sizes_are_unlike() -> None:
    base = scenes_protocol(NARROW, EvaluateConfig())
    assert base.digest() == scenes_protocol(NARROW, EvaluateConfig(batch_size=3)).digest()
    others = [
        scenes_protocol(FULL, EvaluateConfig()),
        scenes_protocol(NARROW, EvaluateConfig(images_per_task=101)),
        scenes_protocol(NARROW, EvaluateConfig(seed=1)),
        scenes_protocol(NARROW, EvaluateConfig(text_scale=2.0)),
    ]
    assert len({p.digest() for p in [base, *others]}) == 5
    require_same(scored(base), scored(base))
    with pytest.raises(UnlikeProtocolsError, match=others[0].digest()):
        require_same(scored(base), scored(others[0]))
