"""Plans without pictures, and a guidance grid, as a person sees them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from tests.got_core.evaluate.published.downloads import write_data, write_networks

from .conftest import Result

Got = Callable[..., Result]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """GOT_BENCHMARKS with all data and no network."""
    folder = write_data(tmp_path / "place")
    monkeypatch.setenv("GOT_BENCHMARKS", str(folder))
    return folder


def test_plans_are_judged_without_networks_and_pictures(
    got: Got, place: Path, model: Path, tmp_path: Path
) -> None:
    call = ("score", "plan", "--model", model, "--max-new-tokens", 4, "--out")
    found = got(*call, tmp_path / "plans", "-b", "geneval")
    assert found.status == 0, found.err
    assert "geneval/plans/prompts-" in found.out and "overall" in found.out and "6 / 6" in found.out
    assert pl.read_parquet(tmp_path / "plans/plans.parquet").height == 6
    figures = json.loads((tmp_path / "plans/plans.json").read_text())
    assert figures["of"] == "6 / 6" and figures["weights_hash"]
    kept = {one: one.stat().st_mtime_ns for one in (tmp_path / "plans/kept").rglob("*.json")}
    again = got(*call, tmp_path / "plans", "-b", "geneval", "--json")
    assert again.json == figures and len(kept) == 1
    assert {one: one.stat().st_mtime_ns for one in kept} == kept, "nothing is written again"
    other = got(*call, tmp_path / "plans", "-b", "emu_edit/base")
    assert other.status == 1 and "not of this model for this benchmark: give --out another" in other.err
    assert json.loads((tmp_path / "plans/plans.json").read_text()) == figures
    edits = got(*call, tmp_path / "edits", "-b", "emu_edit/base")
    assert edits.status == 0 and "emu_edit/base: 4 / 4 plans" in edits.out and "has_boxes" in edits.out


def test_benchmarks_without_plans_and_wrong_names(got: Got, place: Path, model: Path, tmp_path: Path) -> None:
    scenes = got("score", "plan", "-b", "geneval/scenes", "--model", model, "--out", tmp_path / "out")
    assert scenes.status == 1 and "does not say what a plan has to show" in scenes.err
    wrong = got("score", "plan", "-b", "genevl", "--model", model, "--out", tmp_path / "out")
    assert wrong.status == 2 and "there is no benchmark genevl" in wrong.err
    assert not (tmp_path / "out").exists()


def test_a_guidance_grid(got: Got, model: Path, tmp_path: Path) -> None:
    few = ("--text", "1,4", "--spatial", "2", "--prompts", 2, "--steps", 1)
    call = ("score", "guidance", "--model", model, *few)
    found = got(*call, "--out", tmp_path / "grids")
    assert found.status == 0, found.err
    assert "geneval/scenes, share of right pictures" in found.out and "text 4" in found.out
    assert len(list((tmp_path / "grids").rglob("sheets/*.png"))) == 2
    assert len(list((tmp_path / "grids").rglob("scores.png"))) == 1
    again = got(*call, "--out", tmp_path / "grids", "--json")
    assert [one["n"] for one in again.json["cells"]] == [2, 2] and again.json["varied"][0] == "text_scale"


@pytest.mark.parametrize(
    ("option", "value", "what"),
    [
        ("--text", "1,x", "--text '1,x': give numbers with commas between them"),
        ("--text", "1,1", "GuidanceGridConfig.text_scales must be one or more unlike finite numbers"),
        ("--spatial", "nan", "GuidanceGridConfig.spatial_scales must be"),
    ],
)
def test_numbers_that_cannot_be_used(
    got: Got, model: Path, tmp_path: Path, option: str, value: str, what: str
) -> None:
    found = got("score", "guidance", "--model", model, "--out", tmp_path / "grids", option, value)
    assert found.status == 2 and what in found.err


@pytest.mark.parametrize("name", ["emu_edit/base", "geneval/scenes"])
def test_with_plans_and_without_are_compared_in_pairs(
    got: Got, place: Path, model: Path, tmp_path: Path, name: str
) -> None:
    write_networks(place)
    for plan in ("--plan", "--no-plan"):
        pictures = tmp_path / f"pictures{plan}"
        few = ("--steps", 1, "--max-new-tokens", 4)
        drawn = got("score", "generate", "-b", name, "--model", model, "--pictures", pictures, plan, *few)
        assert drawn.status == 0, drawn.err
        judged = got("score", "judge", "-b", name, "--pictures", pictures, "--out", tmp_path / plan, "--json")
        assert judged.status == 0, judged.err
        apart = name == "emu_edit/base" and plan == "--plan"
        assert ("apart" in judged.json) == apart == (tmp_path / plan / "apart.parquet").exists()
    report = ("score", "report", tmp_path / "--plan", tmp_path / "--no-plan")
    (table,) = got(*report, "--json").json["benchmarks"][0]["tables"]
    (difference,) = table["differences"]
    assert difference["of"] == "plan" and difference["paired"]["overall"]["n"] > 0
    for figure in [difference["paired"]["overall"], *difference["paired"]["tasks"].values()]:
        assert figure["low"] <= figure["mean"] <= figure["high"]
    text = got(*report).out
    assert "(paired " in text
    assert ("pictures against their plans" in text) == (name == "emu_edit/base")
