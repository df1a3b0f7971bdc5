"""Results from where they lie."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

from got_core.evaluate.comparison import compare
from got_core.evaluate.comparison_page import comparison_page
from got_core.evaluate.plans import plans_of_rows
from got_core.evaluate.protocol import Protocol, digest_of, protocol_figures
from got_core.evaluate.published.registry import published_benchmark
from got_core.evaluate.published.scoring import OUTCOMES_TABLE, pictures_folder
from got_core.evaluate.report.loading import StoredPictures, folder_run, published_run
from got_core.evaluate.samples import DRAWING
from got_core.evaluate.score_folder import StoredScores, read_scores, write_scores
from got_core.figures.grids import png_bytes
from got_core.storage import Storage
from tests.got_core.evaluate.report.test_gallery import data_of

PROTOCOL = Protocol(
    name="geneval",
    version=1,
    aggregation={"overall": "mean"},
    samples={"count": 2},
    sampler={"steps": 2},
    plan=True,
)
SCORES = {
    "benchmark": "geneval", **protocol_figures(PROTOCOL), "overall": 0.5, "low": 0.0, "high": 1.0,
    "tasks": {}, "complete": True, "found": 2, "expected": 2,
}  # fmt: skip
ROWS = pl.DataFrame(
    {
        "sample_id": ["one", "two"], "task": ["counting"] * 2, "prompt": ["p", "q"], "correct": [True, False],
        "image": ["00000/samples/00000.png", "00001/samples/00000.png"], "cluster": ["0", "1"],
    }
)  # fmt: skip
PLANS = plans_of_rows(ROWS.with_columns(chain=pl.lit("a cat (1,2),(30,40)"), seed=pl.lit(7)))


def write_pictures(folder: Storage) -> None:
    for name in ROWS["image"]:
        folder.write_bytes(name, png_bytes(Image.new("RGB", (8, 8), "red")))


def test_a_published_result_with_plans_and_causes(storage: Storage) -> None:
    benchmark, weights = published_benchmark("geneval"), "c" * 64
    assert published_run(storage, benchmark, weights, label="m") is None
    folder = pictures_folder(benchmark, PROTOCOL, storage, weights)
    drawn = digest_of([DRAWING, PROTOCOL.samples, PROTOCOL.sampler, PROTOCOL.plan])
    assert folder.url.endswith(f"published/geneval/{weights[:12]}/pictures-{drawn}"), "as ever"
    write_pictures(folder)
    place = Storage(storage.url_of(benchmark.results(weights)), **storage.fs_options)
    write_scores(place, SCORES, ROWS, b"", plans=PLANS)
    place.write_table(OUTCOMES_TABLE, ROWS.select("sample_id", "task", "cluster", "correct"))
    place.write_table("apart", pl.DataFrame({"sample_id": ["two"], "failure": ["planned_wrong"]}))
    run = published_run(storage, benchmark, weights, label="m")
    assert run is not None and run.samples is not None and run.pictures is not None
    assert run.samples["chain"].to_list() == ["a cat (1,2),(30,40)"] * 2
    assert run.samples["failure"].to_list() == [None, "planned_wrong"]
    assert run.samples["seed"].to_list() == [7, 7]
    assert set(run.pictures(list(run.samples.iter_rows(named=True)))) == {0, 1}
    assert run.outcomes is not None and run.outcomes.height == 2


def judged(place: Path, pictures: str | None) -> StoredScores:
    scores = SCORES | {"drawn": {"pictures": pictures, "model": "<b>"}}
    write_scores(Storage(str(place)), scores, ROWS, b"", plans=PLANS)
    return read_scores(str(place))


@pytest.mark.parametrize("inside", [False, True])
def test_pictures_of_a_folder_are_where_its_scores_say(tmp_path: Path, inside: bool) -> None:
    write_pictures(Storage(str(tmp_path / "pictures")))
    url = str(tmp_path / "pictures") if inside else f"file://{tmp_path / 'pictures'}"
    run = folder_run(judged(tmp_path / "scores", url), "m")
    assert run.pictures is not None and run.samples is not None
    assert len(run.pictures(list(run.samples.iter_rows(named=True)))) == 2
    assert run.model == str(tmp_path / "scores")


@pytest.mark.parametrize("place", ["https://example.invalid/a", "s3://bucket/a", 7, None])
def test_pictures_on_other_machines_are_not_asked_for(tmp_path: Path, place: Any) -> None:
    run = folder_run(judged(tmp_path / "scores", place), "m")
    assert run.pictures is None and run.samples is not None


def test_no_name_leads_out_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"x")
    folder = Storage(str(tmp_path / "pictures"))
    folder.write_bytes("a.png", b"a")
    names = [
        "../secret.png",
        str(tmp_path / "secret.png"),
        "file:///etc/passwd",
        "b/../a.png",
        None,
        "",
        "a.png",
    ]
    opener = StoredPictures(folder, lambda row: row["image"])
    assert opener([{"image": name} for name in names]) == {6: b"a"}


def test_a_page_of_folders_shows_pictures_side_by_side(two_models: Storage, tmp_path: Path) -> None:
    places = [two_models.url_of(f"geneval/{one * 12}") for one in "ab"]
    found = [read_scores(one) for one in places]
    runs = {one.url: folder_run(one, f"model {k}") for k, one in enumerate(found)}
    page = comparison_page(compare(found), runs=runs)
    (section,) = data_of(page)["sections"]
    assert section["models"] == ["model 0", "model 1"]
    assert {one["name"]: one["change"] for one in section["cases"] if one["change"]} == {
        "00004": "fixed", "00007": "broken",
    }  # fmt: skip
    # With a base model, that is what stands first.
    page = comparison_page(compare(found, base=[found[1].url]), runs=runs)
    assert data_of(page)["sections"][0]["models"] == ["model 1", "model 0"]
    gone = tmp_path / "gone"
    shutil.copytree(places[0].removeprefix("file://"), gone, ignore=shutil.ignore_patterns("*.parquet"))
    one = read_scores(str(gone))
    page = comparison_page(compare([one]), runs={one.url: folder_run(one, "<b>")})
    assert "&lt;b&gt;: its pictures or verdicts are not there" in page and "gallery-data'>" not in page
    json.dumps(compare([one]))
