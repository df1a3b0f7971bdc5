"""Every published benchmark through one interface: names, downloads, drawing, judging, scores."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from safetensors.torch import load_file, save_file

from got_core.evaluate.detector import DetectorError
from got_core.evaluate.drawers.local import LocalDrawer
from got_core.evaluate.network_folders import NetworkError
from got_core.evaluate.published.benchmark import OUTCOMES, NothingJudgesError
from got_core.evaluate.published.downloads import Download, MissingDownloadError, benchmarks_place
from got_core.evaluate.published.needed import check_needed, try_all
from got_core.evaluate.published.registry import (
    PUBLISHED,
    PUBLISHED_NAMES,
    published_benchmark,
    published_benchmarks,
)
from got_core.evaluate.scores import IncompleteRunError
from got_core.storage import Storage
from tests.got_core.evaluate.published.downloads import write_data
from tests.got_core.tiny_pipeline import sees_its_conditions, tiny_pipeline

JUDGED = ("geneval", "emu_edit/base", "magicbrush/base")
COMMON = {
    *("benchmark", "protocol", "protocol_digest", "protocol_record", "overall", "low", "high", "tasks"),
    *("complete", "partial", "of", "notes"),
}


def test_the_list_needs_no_torch() -> None:
    code = (
        "import sys; import got_core.evaluate.published.registry; "
        "assert not {'torch', 'transformers', 'dagster', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names() -> None:
    assert published_benchmarks() == PUBLISHED
    assert [one.name for one in published_benchmarks(["geneval"])] == ["geneval"]
    with pytest.raises(ValueError, match=r"no published benchmark genevl; there are geneval, emu_edit/base"):
        published_benchmark("genevl")
    places = [one.results("0" * 64) for one in PUBLISHED]
    assert len(set(places)) == len(PUBLISHED_NAMES), "scores of two never lie in one place"


def test_what_is_missing_is_named_with_its_source(tmp_path: Path) -> None:
    benchmark = published_benchmark("emu_edit/base")
    with pytest.raises(MissingDownloadError) as missing:
        benchmark.open(tmp_path)
    told = str(missing.value)
    for part in (f"{tmp_path}/emu_edit_test_set is missing", "CC-BY-NC 4.0", "networks/dino-vits16",
                 "huggingface.co/openai/clip-vit-base-patch32", "got score fetch-list"):  # fmt: skip
        assert part in told
    with pytest.raises(MissingDownloadError, match="emu_edit_test_set") as drawing:
        benchmark.open(tmp_path, networks=False)
    assert "networks/" not in str(drawing.value)
    with pytest.raises(ValueError, match="GOT_BENCHMARKS is not set"):
        benchmarks_place(None)


def test_an_expected_hash_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_bytes(b"prompts")
    sha256 = hashlib.sha256(b"prompts").hexdigest()
    one = Download(what="a list", where="somewhere", licence="MIT", path="list.jsonl", sha256=sha256)
    assert one.state(tmp_path) == "there"
    (tmp_path / "list.jsonl").write_bytes(b"other prompts")
    assert one.state(tmp_path) == "another"
    assert one.state(tmp_path / "elsewhere") == "missing"


@pytest.mark.parametrize("name", PUBLISHED_NAMES)
def test_drawing_needs_no_networks(tmp_path: Path, name: str) -> None:
    opened = published_benchmark(name).open(write_data(tmp_path / "place"), networks=False)
    folder = Storage(f"file://{tmp_path / 'pictures'}")
    with pytest.raises(NothingJudgesError, match="opened without networks"):
        opened.judge(folder, store=folder, prefix="judged")
    with pytest.raises(NothingJudgesError):
        opened.protocol()


@pytest.mark.parametrize("name", JUDGED)
def test_from_drawing_to_scores(tmp_path: Path, place: Path, name: str) -> None:
    opened = published_benchmark(name).open(place)
    folder, store = (Storage(f"file://{tmp_path / part}") for part in ("pictures", "store"))
    options = {"sampler": {"num_inference_steps": 2}, "weights_hash": "0" * 64}
    pipeline = sees_its_conditions(tiny_pipeline())
    steps: list[tuple[int, int]] = []
    drawn = opened.generate(pipeline, folder, progress=lambda *one: steps.append(one), **options)
    assert drawn and steps[-1] == (drawn, drawn)
    assert opened.generate(pipeline, folder, **options) == 0, "what is there is not drawn again"

    frame = opened.judge(folder, store=store, prefix="judged")
    protocol = opened.protocol(plan=True, sampler=options["sampler"])
    scores = opened.scores(frame, protocol=protocol)
    assert scores.keys() >= COMMON and scores["benchmark"] == name
    assert (scores["complete"], scores["partial"]) == (True, False)
    assert all({"mean", "low", "high", "n", "of"} <= task.keys() for task in scores["tasks"].values())
    outcomes = opened.outcomes(frame)
    assert tuple(outcomes.columns) == OUTCOMES and outcomes["sample_id"].is_unique().all()
    means = dict(outcomes.group_by("task").agg(pl.col("value").mean()).iter_rows())
    assert means == pytest.approx({task: one["mean"] for task, one in scores["tasks"].items()})
    assert opened.grid(folder, frame).startswith(b"\x89PNG")

    one = next(name for name in folder.list() if name.endswith(".png") and "grid" not in name)
    folder.delete(one)
    with pytest.raises((ValueError, IncompleteRunError), match="missing"):
        opened.judge(folder, store=store, prefix="judged")
    part = opened.judge(folder, store=store, prefix="judged", partial=True)
    with pytest.raises(IncompleteRunError):
        opened.scores(part, protocol=protocol)
    assert opened.scores(part, protocol=protocol, partial=True)["partial"]


def test_another_network_in_the_place_of_one_is_refused(place: Path) -> None:
    """GenEval's tiny CLIP is of another size than the profile's."""
    with pytest.raises(ValueError, match="clip-vit-large-patch14 takes 224 in patches of 14"):
        published_benchmark("emu_edit/large").open(place)


def test_copying_the_source_does_not_win() -> None:
    for name in ("emu_edit/base", "emu_edit/large"):
        assert "clip_i" not in published_benchmark(name).opener.figures


def test_another_detector_needs_no_networks(tmp_path: Path, place: Path) -> None:
    from got_core.evaluate.geneval.saved import SavedDetections

    rows = ['{"detector": {"name": "another", "version": "1"}}']
    rows += [
        f'{{"prompt_index": {prompt}, "image_index": {image}, "detections": '
        '[{"class": "dog", "score": 0.9, "box": [1, 1, 9, 9], "color": "red"}]}'
        for prompt in range(6)
        for image in range(4)
    ]
    (tmp_path / "found.jsonl").write_text("\n".join(rows))
    data = write_data(tmp_path / "place")
    opened = published_benchmark("geneval").open(data, judge=SavedDetections(tmp_path / "found.jsonl"))
    frame = opened.judge(None, store=Storage(f"file://{tmp_path}"), prefix="judged")
    scores = opened.scores(frame, protocol=opened.protocol())
    assert scores["tasks"]["single_object"]["mean"] == 1 and scores["benchmark"] == "geneval"
    assert scores["protocol"].startswith("geneval/saved/prompts-")
    assert scores["notes"] == list(opened.notes) and "not the published list" in scores["notes"][0]
    assert opened.grid(None, frame) == b""


@pytest.mark.parametrize("name", ["geneval", "emu_edit/base", "magicbrush/base"])
def test_fewer_pictures_may_be_drawn_at_once(place: Path, tmp_path: Path, name: str) -> None:
    """A model of 1024 pixels has no room for as many as a small one; more than usual are never drawn."""
    sizes: list[int] = []

    class Counting(LocalDrawer):
        def draw_batches(self, batches: Any, *given: Any, **named: Any) -> Any:
            for batch in super().draw_batches(batches, *given, **named):
                sizes.append(len(batch))
                yield batch

    opened, drawer = published_benchmark(name).open(place, networks=False), Counting(tiny_pipeline())
    sampler = {"num_inference_steps": 1, "max_new_tokens": 4}
    opened.generate(drawer, Storage(str(tmp_path / "few")), sampler=sampler, batch_size=2)
    few, many = max(sizes), sum(sizes)
    sizes.clear()
    opened.generate(drawer, Storage(str(tmp_path / "many")), sampler=sampler, batch_size=500)
    assert few <= (4 if name == "geneval" else 2) and max(sizes) <= 16 and sum(sizes) == many


def test_what_judges_is_tried_before_a_training(place: Path, tmp_path: Path) -> None:
    """Downloads that are there and do not work cost days if they are found out afterwards."""
    names, who = ("geneval", "emu_edit/base"), "the model"
    try_all(names, place, None, who)
    blind = shutil.copytree(place, tmp_path / "blind")
    weights = blind / "networks/mask2former-swin-small-coco-instance/model.safetensors"
    tensors = {key: value.clone() for key, value in load_file(weights).items()}
    tensors["class_predictor.weight"] *= 0
    tensors["class_predictor.bias"] *= 0
    save_file(tensors, weights, {"format": "pt"})
    check_needed(names, blind, who)
    with pytest.raises(DetectorError, match="finds no object at all in 4 drawings"):
        try_all(names, blind, None, who)
    (blind / "networks/dino-vits16/model.safetensors").unlink()
    with pytest.raises(NetworkError, match=r"the model is to be scored by .*dino-vits16 lacks model\.saf"):
        check_needed(names, blind, who)
    with pytest.raises(ValueError, match="geneval2 is judged by a vision model behind a server: set"):
        check_needed(("geneval2",), blind, who)
