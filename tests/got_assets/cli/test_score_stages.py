"""`got score stages` in a home whose run has models of every stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from got_core.inference.stages import Size
from got_core.storage import Storage
from tests.got_core.evaluate.stages.stored_models import put_models

from .conftest import Result

Got = Callable[..., Result]
SMALL = ("--images-per-task", "1", "--edits", "2", "--seeds", "1", "--out", "kept")


def test_stages_are_compared_and_pictures_kept(got: Got, home: Path) -> None:
    hashes = put_models(Storage(f"file://{home / 'storage'}"))
    done = got("score", "stages", *SMALL, "--json")
    assert done.status == 0, done.err
    found, kept = done.json, Storage(f"file://{Path('kept').absolute()}")
    assert found == kept.read_json("stages.json")
    assert found["stages"] == ["foundation", "pretraining", "finetuning"]
    assert set(found["models"].values()) == set(hashes.values())
    sizes = [one["stages"][0]["picture"]["n"] for one in found["benchmarks"].values()]
    assert sizes == [6, 2] and kept.read_table("stages").height == 24
    assert {"from", "to", "picture", "plan", "drawing"} == set(
        found["benchmarks"]["edits/scenes"]["steps"][0]
    )
    assert kept.exists("stages.png") and kept.exists("stages-pictures.png")
    assert "foundation, geneval/scenes, own plans: 6 of 6" in done.err
    again = got("score", "stages", *SMALL)
    assert "own plans" not in again.err, "what is there is not drawn again"
    for part in ("right plans", "p over scenes", "pretraining", "stages.png"):
        assert part in again.out


def test_a_home_without_models_says_what_is_missing(got: Got, home: Path) -> None:
    done = got("score", "--stages")
    assert done.status == 1
    assert "has no foundation_models and no pretrained_model" in done.err and "`got run`" in done.err
    assert got("score", "--stages", "run").status == 2
    assert "got score run" in got("score").out + got("score").err, "help without arguments"


def test_sizes_are_whole() -> None:
    with pytest.raises(ValueError, match="edits must be at least 1, got 0"):
        Size(edits=0)
