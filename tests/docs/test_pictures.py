"""The pictures of the documentation are made from a finished run."""

from __future__ import annotations

import importlib.util
import io
import shutil
import sys
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest
from PIL import Image

from got_core.evaluate.report import benchmark_report
from got_core.registry.reporting import ReportMaker
from got_core.registry.standing import Standing
from got_core.scenes.world import NARROW
from got_core.storage import Storage
from tests.docs.pages import ROOT
from tests.got_core.evaluate.report.painted import CONFIG, GENEVAL, painted_run


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_pictures", ROOT / "docs" / "make_pictures.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def run_of(storage: Storage, tasks: tuple[str, ...], pictures: int) -> None:
    """What a benchmark leaves behind: samples by task, each with its picture."""
    rows = []
    for index, task in enumerate(tasks * pictures):
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), (index, 0, 0)).save(buffer, format="PNG")
        storage.write_bytes(f"geneval/a/{index:05d}.png", buffer.getvalue())
        chain = "a red circle (100,100),(400,400)"
        wrong = "drawn_wrong" if index % 2 else None
        rows.append((index, task, f"a photo {index}", chain, f"geneval/a/{index:05d}.png", wrong))
    columns = ["index", "task", "prompt", "chain", "image", "failure"]
    storage.write_table("geneval/a/samples", pl.DataFrame(rows, columns, orient="row"))
    storage.write_json("geneval.json", {"prefix": "geneval/a"})


def test_the_first_pictures_of_each_task(script: ModuleType, storage: Storage) -> None:
    run_of(storage, ("counting", "position", "colors"), pictures=4)
    found = script.benchmark_pictures(storage, 2)
    assert [one.prompt for one in found] == [f"a photo {index}" for index in (0, 3, 1, 4, 2, 5)]
    assert [one.failure for one in found] == [None, "drawn_wrong", "drawn_wrong", None, None, "drawn_wrong"]
    sheet = script.sheet(found)
    cell = script.cell(found[0]).size
    assert sheet.size == (3 * cell[0], 2 * cell[1])
    assert len(script.small_png(sheet)) < script.MAX_BYTES


def test_edits_are_shown_with_their_sources(script: ModuleType, storage: Storage) -> None:
    run_of(storage, ("add", "remove"), pictures=2)
    storage.write_json("scene_edits.json", {"prefix": "geneval/a"})
    sources = {index: Image.new("RGB", (64, 64), (0, 200, index)) for index in range(4)}
    found = script.benchmark_pictures(storage, 1, "scene_edits", sources)
    assert [one.source for one in found] == [sources[0], sources[1]]
    with_source, without = script.cell(found[0]), script.cell(script.benchmark_pictures(storage, 1)[0])
    assert with_source.width - without.width == script.SIDE + script.GAP
    assert with_source.getpixel((script.SIDE // 2, script.SIDE // 2)) == (0, 200, 0)
    assert script.sheet(found).size == (2 * with_source.width, with_source.height)


def test_without_a_run_it_says_what_to_do(script: ModuleType, storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="do `make run` first"):
        script.benchmark_pictures(storage, 2)


@pytest.mark.slow
def test_a_report_is_opened_at_a_sample_that_changed(script: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("playwright.sync_api")
    if shutil.which("chromium") is None:
        pytest.skip("needs a browser")
    with pytest.raises(FileNotFoundError, match="is not there"):
        script.report_picture(tmp_path / "report.html")
    storage = Storage(f"file://{tmp_path}")
    for weights, wrong in (("a" * 64, (0,)), ("b" * 64, (1,))):
        painted_run(GENEVAL, storage, f"geneval/{weights[:12]}", weights, wrong=wrong)
    champion = Standing(version="1", weights_hash="a" * 64, results={})
    maker = ReportMaker(storage=storage, world=NARROW, config=CONFIG)
    page = benchmark_report(maker.sections("b" * 64, ["geneval/scenes"], champion))
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    picture = script.report_picture(tmp_path / "report.html", width=1000)
    assert 900 < picture.width <= 1000 and picture.height > 300
    assert len(script.small_png(picture)) < script.MAX_BYTES
    (tmp_path / "empty.html").write_text(benchmark_report([]), encoding="utf-8")
    with pytest.raises(ValueError, match="shows no sample"):
        script.report_picture(tmp_path / "empty.html")
