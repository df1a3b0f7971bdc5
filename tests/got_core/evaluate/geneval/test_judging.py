"""Judging and drawing that go on after a kill, nothing done twice, and verdicts on real pictures."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from got_core.chain.grammar import Chain
from got_core.evaluate.detector import DetectorError, known_scenes
from got_core.evaluate.geneval.benchmark import GenEval
from got_core.evaluate.geneval.layout import LayoutError, drawing_record, read_layout
from got_core.evaluate.geneval.saved import SavedDetections
from got_core.evaluate.protocol import why_unlike
from got_core.evaluate.samples import _encode
from got_core.planning.geneval import GenEvalRules
from got_core.scenes.render import render
from got_core.scenes.world import NARROW
from got_core.storage import Storage
from tests.got_core.evaluate.geneval.killed import BENCHMARK, Logged, draw, judge
from tests.got_core.evaluate.geneval.lists import png, write_folder, write_list
from tests.got_core.tiny_pipeline import tiny_pipeline


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A list about six scenes and a folder with each scene's picture and, second, its neighbour's."""
    known = list(known_scenes(NARROW, 6, seed=1))
    rows = [row for _, row in known]
    samples = BENCHMARK.read(write_list(tmp_path / "list.jsonl", rows))
    pictures = {}
    for number, (scene, _) in enumerate(known):
        for sample, shown in ((f"{number:05d}-00000", scene), (f"{number:05d}-00001", known[number - 1][0])):
            buffer = io.BytesIO()
            render(shown).save(buffer, format="PNG")
            pictures[sample] = buffer.getvalue()
    write_folder(Storage(f"file://{tmp_path / 'pictures'}"), samples, pictures)
    return tmp_path


def killed(what: str, home: Path, most: int) -> None:
    command = [sys.executable, "-m", "tests.got_core.evaluate.geneval.killed", what, str(home), str(most)]
    assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode == -9


def kept(home: Path) -> set[str]:
    return {Path(name).stem for name in Storage(f"file://{home / 'store'}").list("detections/")}


def test_judging_goes_on_where_it_was_killed(home: Path) -> None:
    log = home / "judged.log"
    log.touch()
    for most in (2, 3, 10_000):
        before, asked = kept(home), len(log.read_text().split())
        if most < 12:
            killed("judge", home, most)
            assert kept(home) == before | set(log.read_text().split()[asked:-2]), "the last two were not kept"
        else:
            frame = judge(home)
        assert before.isdisjoint(log.read_text().split()[asked:]), "what was kept is not judged again"
    assert len(before) == 4 and len(kept(home)) == 12
    other = home / "other"
    other.mkdir()
    for name in ("list.jsonl", "pictures"):
        (other / name).symlink_to(home / name)
    assert judge(other).equals(frame), "the same verdicts as without any kill"
    assert frame["correct"].to_list()[::2] == [True] * 6 and not all(frame["correct"].to_list()[1::2])


def test_what_is_kept_is_of_this_picture_this_prompt_and_this_detector(home: Path) -> None:
    log, store = home / "judged.log", Storage(f"file://{home / 'store'}")
    judge(home)
    first = len(log.read_text().split())
    judge(home)
    assert len(log.read_text().split()) == first == 12
    pictures = Storage(f"file://{home / 'pictures'}")
    pictures.write_bytes("00001/samples/00000.png", pictures.read_bytes("00002/samples/00000.png"))
    (name,) = [one for one in store.list("detections/") if one.endswith("00004-00001.json")]
    store.write_bytes(name, b'{"about"')
    judge(home)
    assert log.read_text().split()[12:] == ["00001-00000", "00004-00001"], "another picture, and damage"
    samples = BENCHMARK.read(home / "list.jsonl")
    found = BENCHMARK.read_layout(samples, pictures)
    stricter = replace(BENCHMARK, rules=GenEvalRules(threshold=0.5))
    stricter.judge(samples, found, Logged(log), store=store)
    assert len(log.read_text().split()) == 26


def test_what_was_found_is_scored_from_a_file_elsewhere(home: Path) -> None:
    samples, store = BENCHMARK.read(home / "list.jsonl"), Storage(f"file://{home / 'store'}")
    pictures = BENCHMARK.read_layout(samples, Storage(f"file://{home / 'pictures'}"))
    detector = Logged(home / "log")
    frame = judge(home)
    for name in ("found.parquet", "found.jsonl"):
        assert BENCHMARK.save_detections(samples, pictures, detector, home / name, store) == 12
        saved = SavedDetections(home / name)
        again = BENCHMARK.judge(samples, None, saved)
        columns = ["sample_id", "correct", "failed", "reason", "found"]
        assert again.select(columns).equals(frame.select(columns))
        assert why_unlike(BENCHMARK.protocol(samples, detector), BENCHMARK.protocol(samples, saved)) == []
    assert not (home / "log").exists(), "nothing was found again"


def test_missing_pictures_have_no_verdict_and_say_why(home: Path) -> None:
    pictures = Storage(f"file://{home / 'pictures'}")
    pictures.write_bytes("00001/samples/00000.png", b"x")
    samples, reports = BENCHMARK.read(home / "list.jsonl"), []
    found = BENCHMARK.read_layout(samples, pictures, partial=True)
    frame = BENCHMARK.judge(samples, found, Logged(home / "log"), lambda *done: reports.append(done))
    assert reports[0] == (0, 11) and reports[-1] == (11, 11)
    (row,) = frame.filter(frame["correct"].is_null()).iter_rows(named=True)
    assert row["sample_id"] == "00001-00000" and "00001/samples/00000.png: cannot be read" in row["unscored"]
    assert BENCHMARK.scores(frame, partial=True)["of"] == "11 / 12"


def test_a_class_that_the_reader_does_not_know_is_refused(tmp_path: Path) -> None:
    samples = BENCHMARK.read(write_list(tmp_path / "list.jsonl"))
    storage = Storage(f"file://{tmp_path / 'pictures'}")
    write_folder(storage, samples)
    with pytest.raises(DetectorError, match="does not know bench, clock, cup, dog, tv remote"):
        BENCHMARK.judge(samples, read_layout(samples, storage), Logged(tmp_path / "log"))


def test_the_protocol_of_the_scene_reader_has_a_name_of_its_own(home: Path) -> None:
    samples = BENCHMARK.read(home / "list.jsonl")
    protocol = BENCHMARK.protocol(samples, Logged(home / "log"), plan=False, sampler={"text_scale": 2.0})
    assert protocol.name == f"geneval/scene-reader/prompts-{samples.sha256[:12]}"
    assert protocol.record()["plan"] is False and protocol.samples["images_per_prompt"] == 2
    more = GenEval(rules=GenEvalRules(threshold=0.4), config=replace(BENCHMARK.config, batch_size=99))
    assert more.protocol(samples, Logged(home / "log")).digest() != protocol.digest()
    same = replace(BENCHMARK, config=replace(BENCHMARK.config, batch_size=99))
    again = same.protocol(samples, Logged(home / "log"), plan=False, sampler={"text_scale": 2.0})
    assert again.digest() == protocol.digest(), "how many at a time is not part of it"


# ---------------------------------------------------------------- drawing


@pytest.mark.slow
def test_drawing_goes_on_where_it_was_killed(home: Path) -> None:
    storage = Storage(f"file://{home / 'drawn'}")
    killed("draw", home, 3)
    early = {name: storage.read_bytes(name) for name in storage.list("") if name.endswith(".png")}
    assert len(early) == 4
    samples, drawn = draw(home)
    assert drawn == len(samples) - 4 == 8
    assert all(storage.read_bytes(name) == data for name, data in early.items()), "not drawn again"
    pictures = read_layout(samples, storage)
    assert len(pictures.found) == 12
    assert draw(home)[1] == 0


def test_drawing_in_the_official_layout(tmp_path: Path) -> None:
    samples = BENCHMARK.read(write_list(tmp_path / "list.jsonl"))
    storage, pipeline = Storage(f"file://{tmp_path / 'drawn'}"), tiny_pipeline()
    options = {"sampler": {"num_inference_steps": 1, "max_new_tokens": 4}, "weights_hash": "w"}
    reports: list[tuple[int, int]] = []
    progress = lambda *done: reports.append(done)  # noqa: E731
    assert BENCHMARK.write_layout(samples, pipeline, storage, progress=progress, **options) == 12
    assert reports == [(done, 12) for done in range(0, 13, 2)]
    for number, row in enumerate(samples.rows):
        assert json.loads(storage.read_bytes(f"{number:05d}/metadata.jsonl")) == row
    found = read_layout(samples, storage)
    assert found.image("00000-00000").size == (pipeline.config.resolution,) * 2
    same = [np.array_equal(found.image("00000-00000"), found.image(f"00000-0000{n}")) for n in (0, 1)]
    assert same == [True, False], "each picture has noise of its own"

    storage.write_bytes("00002/samples/00001.png", storage.read_bytes("00002/samples/00001.png")[:-30])
    assert BENCHMARK.write_layout(samples, pipeline, storage, **options) == 1, "a damaged one is drawn again"
    with pytest.raises(
        LayoutError, match=r"00000\.png: is there already, of another model(.|\n)*take an empty"
    ):
        BENCHMARK.write_layout(samples, pipeline, storage, **(options | {"weights_hash": "other"}))
    storage.write_bytes("00002/samples/00001.png", png(1))
    with pytest.raises(LayoutError, match=r"00002/samples/00001\.png: is there already, of another"):
        BENCHMARK.write_layout(samples, pipeline, storage, **options)
    assert storage.read_bytes("00002/samples/00001.png") == png(1), "nothing of others is overwritten"
    storage.write_bytes("00002/metadata.jsonl", b'{"prompt": "a cat"}')
    with pytest.raises(LayoutError, match=r"00002/metadata\.jsonl: is there already and does not ask for"):
        BENCHMARK.write_layout(samples, pipeline, storage, **options)


def test_without_plans_the_prompt_alone_is_drawn(tmp_path: Path) -> None:
    samples = BENCHMARK.read(write_list(tmp_path / "list.jsonl"))
    storage, pipeline = Storage(f"file://{tmp_path / 'drawn'}"), tiny_pipeline()
    pipeline.write_chains = lambda *_, **__: pytest.fail("no plan was asked for")
    assert BENCHMARK.write_layout(samples, pipeline, storage, plan=False, sampler={"num_inference_steps": 1})
    record = drawing_record(storage.read_bytes("00000/samples/00000.png"))
    assert record and record["chain"] == Chain(()).to_model() == ""


def test_a_picture_of_nan_is_no_picture(home: Path) -> None:
    storage, samples = Storage(f"file://{home / 'pictures'}"), BENCHMARK.read(home / "list.jsonl")
    black = Image.new("RGB", read_layout(samples, storage).image("00000-00000").size)
    storage.write_bytes("00000/samples/00000.png", _encode(black, {"fault": "NaN in the latents"}))
    with pytest.raises(
        LayoutError, match=r"00000/samples/00000\.png: is an empty picture: NaN in the latents"
    ):
        read_layout(samples, storage)
