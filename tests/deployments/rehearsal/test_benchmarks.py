"""What a rehearsal is judged by: lists in the published formats, and a detector that passes its self-test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deployments.rehearsal.benchmarks import EDITS, Judged, write_benchmarks
from got_core.evaluate.geneval.known import rendered
from got_core.evaluate.published.registry import published_benchmark
from got_core.recipes import get_recipe
from got_core.storage import Storage


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    folder = tmp_path_factory.mktemp("rehearsal")
    (folder / "edits").mkdir()
    lines = ["source,target,instruction"]
    for number in range(EDITS + 1):
        levels = np.random.default_rng(number).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(levels).save(folder / "edits" / f"{number}.png")
        lines.append(f"{number}.png,{number}.png,Add thing {number}")
    lines.append("missing.png,0.png,Add nothing")
    (folder / "edits" / "pairs.csv").write_text("\n".join(lines) + "\n")
    yield write_benchmarks(folder / "benchmarks", folder / "edits" / "pairs.csv")


def test_all_that_the_recipe_names_can_be_opened(judged: Judged) -> None:
    names = get_recipe("rehearsal").evaluate.benchmarks
    assert [*judged.pictures] == [*names]
    for name in names:
        opened = published_benchmark(name).open(judged.place, device="cpu")
        opened.check()
        count = len(opened.samples) if name == "geneval" else len(opened.samples.samples)
        assert count == judged.pictures[name]
        assert opened.protocol(plan=True).samples["sha256"]


def test_the_detector_finds_what_the_known_drawings_show(judged: Judged) -> None:
    """The product's own self-test passes with it, and would with these as known pictures of a user's."""
    detector = published_benchmark("geneval").open(judged.place, device="cpu").detector  # type: ignore[attr-defined]
    for known in rendered():
        (found,) = detector.instances([known.image()])
        assert {one.detection.cls for one in found} == {known.cls}
    (nothing,) = detector.instances([Image.new("RGB", (128, 128), (128, 128, 128))])
    assert not nothing


def test_a_picture_of_a_known_thing_is_judged_right(judged: Judged, tmp_path: Path) -> None:
    """Through the official layout: known drawings are right for their prompt, grey ones are not."""
    opened = published_benchmark("geneval").open(judged.place, device="cpu")
    folder = Storage(str(tmp_path / "pictures"))
    sign = next(one.image() for one in rendered() if one.cls == "stop sign")
    grey = Image.new("RGB", (512, 512), (128, 128, 128))
    for sample in opened.samples.all:
        path = tmp_path / "pictures" / sample.name
        path.parent.mkdir(parents=True, exist_ok=True)
        (sign if sample.row["tag"] == "single_object" else grey).save(path)
        folder.write_bytes(f"{sample.prompt_index:05d}/metadata.jsonl", json.dumps(sample.row).encode())
    frame = opened.judge(folder, store=Storage(str(tmp_path)), prefix="judged")
    scores = opened.scores(frame, protocol=opened.protocol())
    assert scores["tasks"]["single_object"]["mean"] == 1
    assert scores["tasks"]["two_object"]["mean"] == scores["tasks"]["position"]["mean"] == 0
