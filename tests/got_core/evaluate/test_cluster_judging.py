"""Judging by workers on Ray: the same verdicts and figures as in one process, kept as they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import ray
from PIL import Image
from polars.testing import assert_frame_equal

from got_core.evaluate.benchmarks import GENEVAL as GENEVAL_SCENES
from got_core.evaluate.cluster_networks import RayNetworks
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.detector import DetectorError
from got_core.evaluate.drawers.cluster import RayDrawer
from got_core.evaluate.emu_edit.emu import EmuEdit
from got_core.evaluate.emu_edit.samples import BenchmarkDataError
from got_core.evaluate.geneval.cluster import RayDetector
from got_core.evaluate.geneval.detections import Asked, Found
from got_core.evaluate.geneval.layout import LayoutError
from got_core.evaluate.geneval.scene_reader import SceneReader
from got_core.evaluate.network_folders import NetworkError
from got_core.evaluate.network_profiles import BASE
from got_core.evaluate.networks import load_networks
from got_core.evaluate.runner import run_benchmark
from got_core.planning.geneval import GenEvalRules
from got_core.scenes.world import NARROW
from got_core.storage import Storage
from tests.got_core.evaluate.drawers.killed import GENEVAL, Reader, measuring, reader, write_known
from tests.got_core.evaluate.emu_edit.made import emu_set, picture, png, tiny
from tests.got_core.tiny_pipeline import tiny_pipeline

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Ray, started once."""
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A list about six scenes and a folder of their pictures, of which every second one is another's."""
    write_known(tmp_path, 6)
    return tmp_path


def log(home: Path, name: str) -> list[list[str]]:
    path = home / name
    return [line.split("\t") for line in path.read_text().splitlines()] if path.exists() else []


def test_two_detectors_find_what_one_finds(home: Path) -> None:
    samples, store = GENEVAL.read(home / "list.jsonl"), Storage(f"file://{home / 'store'}")
    pictures = GENEVAL.read_layout(samples, Storage(f"file://{home / 'pictures'}"))
    alone = GENEVAL.judge(samples, pictures, Reader(home / "alone.log"))
    reports: list[tuple[int, int]] = []
    with RayDetector(partial(reader, log=home / "judged.log"), workers=2) as detector:
        detector.start()
        frame = GENEVAL.judge(samples, pictures, detector, lambda *one: reports.append(one), store=store)
        assert frame.equals(alone)
        assert GENEVAL.judge(samples, pictures, detector, store=store).equals(alone)
        there = GENEVAL.protocol(samples, detector).digest()
    assert there == GENEVAL.protocol(samples, Reader(home / "x")).digest()
    assert reports[0] == (0, 12) and reports[-1] == (12, 12)
    assert len(log(home, "judged.log")) == 12, "the second time nothing"
    assert len({process for _, process in log(home, "judged.log")}) == 2


class Weak(SceneReader):
    """A detector whose self-test fails, as on a kind of GPU."""

    def __init__(self) -> None:
        super().__init__(NARROW, EvaluateConfig(self_test=6))

    def check(self, classes: set[str], rules: GenEvalRules) -> None:
        raise DetectorError("finds nothing here")

    def detect(self, pictures: Sequence[Asked], rules: GenEvalRules) -> list[Found]:
        raise AssertionError("it is not trusted")


def weak(device: str) -> Weak:
    return Weak()


def test_a_detector_that_cannot_be_trusted_is_refused_where_it_is(home: Path) -> None:
    samples = GENEVAL.read(home / "list.jsonl")
    pictures = GENEVAL.read_layout(samples, Storage(f"file://{home / 'pictures'}"))
    with RayDetector(weak, workers=1) as detector, pytest.raises(DetectorError, match="finds nothing here"):
        GENEVAL.judge(samples, pictures, detector)


def test_a_picture_that_has_changed_is_named_and_the_others_are_kept(home: Path) -> None:
    samples, store = GENEVAL.read(home / "list.jsonl"), Storage(f"file://{home / 'store'}")
    folder = Storage(f"file://{home / 'pictures'}")
    pictures = GENEVAL.read_layout(samples, folder)
    folder.write_bytes("00005/samples/00001.png", png(1))
    refused = pytest.raises(LayoutError, match=r"00005/samples/00001\.png has changed since the folder was")
    with RayDetector(partial(reader, log=home / "judged.log"), workers=2) as detector, refused:
        GENEVAL.judge(samples, pictures, detector, store=store)
    assert len(store.list("detections/")) == 10


def test_two_workers_measure_what_one_process_measures(tmp_path: Path) -> None:
    emu_set(tmp_path / "emu", count=9)
    here = tiny(tmp_path / "networks")
    bench, store = EmuEdit(networks=here, batch_size=2, bootstrap=20), Storage(f"file://{tmp_path / 'store'}")
    samples = bench.read(tmp_path / "emu")
    bench.write_pictures(tmp_path / "out", ((one.key, picture(k)) for k, one in enumerate(samples.samples)))
    pictures = bench.read_layout(samples, tmp_path / "out")
    alone = bench.judge(samples, pictures)
    with RayNetworks(partial(measuring, home=tmp_path), workers=2) as networks:
        assert networks.start() > 0
        spread = replace(bench, networks=networks)
        reports: list[tuple[int, int]] = []
        frame = spread.judge(samples, pictures, lambda *one: reports.append(one), store=store)
        assert_frame_equal(frame, alone, abs_tol=1e-5)  # batches may move the last bits
        assert_frame_equal(spread.judge(samples, pictures, store=store), frame)
        assert spread.protocol(samples).digest() == bench.protocol(samples).digest()
        broken = samples.samples[3].key
        (tmp_path / "out" / f"{broken}.png").write_bytes(png(3)[:200])
        with pytest.raises(BenchmarkDataError, match=rf"not readable: 1 \({broken}: no readable picture"):
            spread.judge(samples, pictures, store=store)
    assert reports[-1] == (9, 9) and [total for _, total in reports] == [9] * 5
    assert len(log(tmp_path, "measured.log")) == 5
    assert len({process for _, process in log(tmp_path, "measured.log")}) == 2


def test_networks_that_are_not_there_are_named(tmp_path: Path) -> None:
    load = partial(load_networks, BASE, tmp_path / "none", tmp_path / "none")
    with RayNetworks(load, workers=1) as networks, pytest.raises(NetworkError, match="none"):
        networks.records()


def test_scenes_are_drawn_by_workers_and_scored_as_here(tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    pipeline.save_pretrained(tmp_path / "model")
    config = EvaluateConfig(
        images_per_task=2, self_test=12, bootstrap=50, batch_size=3, num_inference_steps=1, max_new_tokens=4
    )
    suite = GENEVAL_SCENES.suite(NARROW, config)
    here = run_benchmark(suite, pipeline, Storage(f"file://{tmp_path / 'here'}"), "run")
    there = Storage(f"file://{tmp_path / 'there'}")
    with RayDrawer(tmp_path / "model", workers=2) as drawer:
        result = run_benchmark(suite, drawer, there, "run")
    assert result.scores == here.scores
    assert result.samples.drop("image_id").equals(here.samples.drop("image_id"))
    grid = Image.open(tmp_path / "there/run/grid.png")
    assert grid.size == Image.open(tmp_path / "here/run/grid.png").size
