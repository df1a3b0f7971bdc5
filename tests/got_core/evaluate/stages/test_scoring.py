"""Several models on the same requests, drawn by painters with known faults."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pytest

from got_core.evaluate.benchmarks import GENEVAL, SCENE_EDITS
from got_core.evaluate.stages.models import StageModel
from got_core.evaluate.stages.scoring import ROWS, FirstOfEach, stage_rows
from got_core.scenes.world import NARROW
from got_core.storage import Storage
from tests.got_core.evaluate.report.painted import CONFIG, EDITS, Painter


class Editor(Painter):
    """Plans some edits wrongly; draws some wrongly whatever the plan."""

    def __init__(self, *, planned: Sequence[int] = (), drawn: Sequence[int] = ()) -> None:
        super().__init__(EDITS, wrong=drawn)
        self.planned, self.asked = planned, []

    def write_chains(self, prompts, sources=None, **options):
        texts = super().write_chains(prompts, sources)
        wrong = [number in self.planned for number in self._numbers(prompts, None)]
        return ["nothing at all" if bad else text for bad, text in zip(wrong, texts, strict=True)]

    def draw(self, chains, prompts, sources, *, generator, **options):
        self.asked += self._numbers(prompts, [one.initial_seed() for one in generator])
        images = super().draw(chains, prompts, sources, generator=generator)
        return [
            image if len(chain.parts) > 1 else source
            for image, chain, source in zip(images, chains, sources, strict=True)
        ]


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage(f"file://{tmp_path}")


def model(title: str, editor: Editor | None) -> StageModel:
    def opened():
        assert editor is not None, "all of its pictures are there"
        return editor

    return StageModel(title=title, weights_hash=title[0] * 64, open=opened)


def column(rows: pl.DataFrame, stage: str, name: str) -> list:
    return rows.filter(pl.col("stage") == stage)[name].to_list()


def test_planning_and_drawing_are_told_apart(storage) -> None:
    """The first model plans nothing and draws 0 wrongly, the last one plans 3 wrongly and draws 1 wrongly."""
    first, last = Editor(planned=range(5), drawn=[0]), Editor(planned=[3], drawn=[1])
    lines: list[str] = []
    rows = stage_rows(
        [model("first", first), model("last", last)],
        [SCENE_EDITS],
        NARROW,
        CONFIG,
        storage,
        progress=lines.append,
    )
    assert rows.schema == pl.Schema(ROWS) and rows["stage"].unique(maintain_order=True).to_list() == [
        "first",
        "last",
    ]
    assert column(rows, "first", "plan") == [False] * 5 == column(rows, "first", "picture")
    assert column(rows, "last", "plan") == [True, True, True, False, True]
    assert column(rows, "last", "picture") == [True, False, True, False, True]
    assert column(rows, "last", "drawing") == [True, False, True, None, True]
    assert column(rows, "first", "drawing") == [False, True, True, None, True]
    assert sorted(first.asked) == [0, 0, 1, 1, 2, 2, 3, 4, 4] and sorted(last.asked) == [0, 1, 2, 3, 4]
    assert any("first, edits/scenes, plans of the last model: 4 of 4" in line for line in lines)


def test_what_is_there_is_not_drawn_again_and_the_same_plan_is_the_same_picture(storage) -> None:
    editor = Editor(drawn=[2])
    again = Editor()
    rows = stage_rows([model("a", editor), model("b", again)], [SCENE_EDITS], NARROW, CONFIG, storage)
    assert sorted(editor.asked) == [0, 1, 2, 3, 4], "its plans are those of the last model"
    assert column(rows, "a", "drawing") == column(rows, "a", "picture") == [True, True, False, True, True]
    same = stage_rows([model("a", None), model("b", None)], [SCENE_EDITS], NARROW, CONFIG, storage)
    assert same.equals(rows)


def test_the_first_requests_of_each_task_keep_their_numbers() -> None:
    suite = GENEVAL.suite(NARROW, CONFIG)
    few = FirstOfEach(suite, 2)
    every = suite.requests("p")
    assert list(few.requests("p")) == [k for k in every if k % CONFIG.images_per_task < 2]
    assert few.requests("p")[3] == every[3]
    assert FirstOfEach(suite, None).requests("p") == every
    assert list(FirstOfEach(EDITS, 1).requests("p")) == [0, 1, 2, 3, 4]
    assert len(FirstOfEach(EDITS, 99).requests("p")) == 5


def test_stages_of_one_name_are_refused(storage) -> None:
    with pytest.raises(ValueError, match="one title each"):
        stage_rows([model("a", None), model("a", None)], [SCENE_EDITS], NARROW, CONFIG, storage)
