"""A studio that draws with a `got serve` elsewhere, at a real port."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from got_core.chain.grammar import parse
from got_core.studio.desk import EDIT, NEW, Desk, Studio
from got_core.studio.painter import Order, Painted, PaintingError, RemotePainter, Step
from got_core.studio.run import packaged_folder
from tests.got_core.serving.served import served

TOKEN = "a token of the server"
PROMPT = "a photo of a red circle"
PLAN = parse("a red circle (100,100),(400,400)")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = packaged_folder(tmp_path_factory.mktemp("served") / "packaged-weights")
    with served(str(folder), token=TOKEN) as one:
        yield one.url


@pytest.fixture
def remote(url: str) -> Iterator[RemotePainter]:
    painter = RemotePainter(url, TOKEN)
    yield painter
    painter.close()


def test_it_plans_draws_and_edits_as_a_model_here(
    remote: RemotePainter, studio: Studio, tmp_path: Path
) -> None:
    order = Order(prompt=PROMPT, chain=PLAN, seed=3)
    *steps, drawn = remote.draw(order)
    *_, here = studio.painter.draw(order)
    assert isinstance(drawn, Painted) and isinstance(here, Painted)
    assert [step.done for step in steps if isinstance(step, Step)] == list(range(1, len(steps) + 1))
    assert drawn == here, "the same file from the same weights"
    away = Studio(remote, tmp_path)
    plans = [one.plan(Desk(), NEW, PROMPT).chain.to_data() for one in (away, studio)]
    assert plans[0] == plans[1]
    *_, desk = away.draw(Desk(), PLAN, PROMPT, 3, {})
    assert isinstance(desk, Desk)
    edit = away.plan(desk, EDIT, "Make the red circle green.")
    *_, changed = away.draw(edit.desk, edit.chain, "Make the red circle green.", 0, {"keep_outside": True})
    assert isinstance(changed, Desk) and changed.shown and changed.shown.source == 1


def test_what_the_server_refuses_is_said_in_its_words(remote: RemotePainter, url: str) -> None:
    with pytest.raises(PaintingError, match="num_inference_steps"):
        list(remote.draw(Order(prompt=PROMPT, chain=PLAN, settings={"num_inference_steps": 10**9})))
    with pytest.raises(PaintingError, match="token"):
        RemotePainter(url)


def test_no_server_is_one_sentence() -> None:
    with pytest.raises(PaintingError, match="no server answers"):
        RemotePainter("http://127.0.0.1:9")
