"""Which figures stand in one table, and how they are marked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from got_core.evaluate.protocol import Protocol, protocol_figures
from got_core.evaluate.published.figures import GENEVAL, MARK, TABLES
from got_core.evaluate.report import Run, Section, benchmark_report, report_markdown
from got_core.evaluate.report.beside import beside, published_of
from got_core.evaluate.report.plots import interval_plot


def scores(name: str, overall: float, *, threshold: float = 0.3, **more: Any) -> dict[str, Any]:
    protocol = Protocol(name=name, version=1, rules={"threshold": threshold}, aggregation={"overall": "mean"})
    task = {"mean": overall, "low": overall - 0.1, "high": overall + 0.1, "n": 4}
    return {
        "benchmark": name, **protocol_figures(protocol), "overall": overall, "low": 0.1, "high": 0.9,
        "tasks": {"counting": task, "position": task}, "complete": True, "found": 4, "expected": 4, **more,
    }  # fmt: skip


def outcomes(right: list[bool]) -> pl.DataFrame:
    rows = [
        {"sample_id": f"{task}{k}", "task": task, "cluster": str(k), "correct": one}
        for task in ("counting", "position")
        for k, one in enumerate(right)
    ]
    return pl.DataFrame(rows)


CHAMPION = Run(
    label="champion, version 3", scores=scores("geneval", 0.5), outcomes=outcomes([True, False] * 2)
)


def test_champion_challenger_difference_and_published_rows() -> None:
    section = Section(
        scores("geneval", 0.75), beside=(CHAMPION,), outcomes=outcomes([True, True, True, False])
    )
    table = beside(section)
    assert table.columns == ("overall", "counting", "position")
    lines = {line.label: line for line in table.lines}
    assert lines["champion, version 3"].cells[0] == "0.500 (0.100 to 0.900)"
    assert lines["challenger"].cells[1].startswith("0.750 (0.650")
    gain = lines["challenger minus champion, version 3"].cells
    assert gain[0].startswith("+0.250 (") and len(gain) == 3
    assert lines["GoT"].cells == ("0.64", "0.67", "0.34") and lines["GoT"].foreign
    assert lines["SD3.5-M + Flow-GRPO"].note.startswith("trained on a GenEval reward; arXiv 2505.05470")
    labels = [line.label for line in table.lines]
    over = next(k for k, label in enumerate(labels) if label.startswith(MARK))
    assert "Mask2Former" in labels[over] and not table.lines[over].cells
    assert all(line.foreign for line in table.lines[over + 1 :]), "all published rows are marked"
    assert not any(line.foreign for line in table.lines[:over])


def test_another_protocol_shares_no_column_unmarked() -> None:
    other = replace(CHAMPION, scores=scores("geneval", 0.99, threshold=0.5))
    section = Section(scores("geneval", 0.75), beside=(other,), outcomes=outcomes([True] * 4))
    lines = beside(section).lines
    labels = [line.label for line in lines]
    assert (
        labels[1] == "another protocol, not to be compared with the rows above: rules.threshold: 0.3 and 0.5"
    )
    assert lines[2].foreign and not any("minus" in label for label in labels)
    assert section.comparable == ()
    compact = {k: v for k, v in other.scores.items() if k != "protocol_record"}
    section = Section(scores("geneval", 0.75), beside=(replace(other, scores=compact),))
    assert other.scores["protocol_digest"] in beside(section).lines[1].label
    assert "0.990" not in interval_plot((*section.comparable, section.run), ["counting"])


@pytest.mark.parametrize(
    "name",
    ["geneval/scenes", "imagenhub/scenes", "emu_edit/scenes", "edits/scenes", "imagenhub/viescore",
     "reason_edit/masked/published"],
)  # fmt: skip
def test_no_published_row_stands_beside_scenes_and_other_measures(name: str) -> None:
    assert published_of(name) is None
    table = beside(Section(scores(name, 0.5)))
    assert [line.label for line in table.lines] == ["challenger"]
    page = benchmark_report([Section(scores(name, 0.5))])
    assert "must not be compared with them" in page.replace("\n", " ") and "<td>GoT</td>" in page


def test_figures_of_another_scale_say_so() -> None:
    line = beside(Section(scores("imgedit", 0.5))).lines[2]
    assert line.cells[0] == "4.56 of 5" and "its own table" in line.note
    gedit = beside(Section(scores("gedit/cn/published", 0.5))).lines[2]
    assert gedit.cells == ("7.887 of 10", "", "") and "en 7.943" in gedit.note
    emu = beside(
        Section(scores("emu_edit/base", 0.5) | {"tasks": {"clip_t": CHAMPION.scores["tasks"]["counting"]}})
    )
    got = emu.lines[2]
    assert got.cells == ("", "0.276") and "clip-i 0.864" in got.note and "imagenhub" not in got.note


def test_every_published_row_has_source_judge_and_date() -> None:
    for table in TABLES:
        assert table.judge and table.rows
        for row in table.rows:
            assert row.source and row.date.startswith("202") and row.figures
            assert set(row.figures) <= set(table.columns)
    got = GENEVAL.rows[0].figures
    assert sum(v for k, v in got.items() if k != "overall") / 6 == pytest.approx(got["overall"], abs=0.006)


def test_markdown_is_a_table_with_escaped_texts() -> None:
    section = Section(scores("geneval/scenes", 0.75), label="challenger | <b>", beside=())
    text = report_markdown([section])
    assert "| challenger \\| \\<b\\> | 0.750 (0.100 to 0.900) |" in text
    tasks = {"a | <i>": {"mean": 0.5, "low": None, "high": None, "n": 4}}
    hostile = Section({**scores("geneval/scenes", 0.75), "tasks": tasks}, label="x", beside=())
    assert "| a \\| \\<i\\> |" in report_markdown([hostile]), "names of tasks come from data, too"
    assert report_markdown([]).startswith("The recipe names no benchmark")


def test_the_plot_has_a_mark_and_an_interval_for_each_figure() -> None:
    drawn = interval_plot(
        (CHAMPION, Run(label="<b>", scores=scores("geneval", 0.7))), ["counting", "position"]
    )
    assert drawn.count("<circle") == 6 and "&lt;b&gt;: 0.700 (0.600 to 0.800)" in drawn and "<b>" not in drawn
    none = scores("x", 0.5) | {"overall": None, "tasks": {}}
    assert interval_plot((Run(label="m", scores=none),), []) == ""
    low = scores("x", -0.2) | {"low": -0.4, "high": -0.1}
    assert "text-anchor='middle' fill='#555'>-0.4</text>" in interval_plot((Run(label="m", scores=low),), [])
