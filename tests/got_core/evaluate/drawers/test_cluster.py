"""Drawing by workers on Ray: the same pictures, once each, whatever dies."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from PIL import Image

from got_core.evaluate.drawers.cluster import RayDrawer
from got_core.evaluate.drawers.costs import Costs, costs
from got_core.evaluate.drawers.local import LocalDrawer
from got_core.evaluate.emu_edit.emu import EmuEdit
from got_core.evaluate.emu_edit.magicbrush import MagicBrush
from got_core.evaluate.ray_workers import LostWorkersError, Place, RayWorkers
from got_core.evaluate.samples import Request
from got_core.storage import Storage
from tests.got_core.evaluate.drawers.counting import counting
from tests.got_core.evaluate.emu_edit.made import emu_set, unpacked_magicbrush
from tests.got_core.tiny_pipeline import sees_its_conditions, tiny_pipeline

pytestmark = pytest.mark.slow

SAMPLER = {"num_inference_steps": 1, "max_new_tokens": 4}


@pytest.fixture(scope="module")
def pipeline():
    return sees_its_conditions(tiny_pipeline())


@pytest.fixture
def model(pipeline, tmp_path: Path) -> Path:
    pipeline.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(f"file://{tmp_path / 'storage'}")


def wanted(count: int, folder: str = "run") -> dict[int, Request]:
    return {k: Request(f"{folder}/{k}.png", f"prompt {k // 4}", k) for k in range(count)}


def lines(model: Path) -> list[list[str]]:
    return [line.split("\t") for line in (model.parent / "drawn.log").read_text().splitlines()]


def levels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int)


def text_of(data: bytes) -> dict[str, str]:
    return dict(Image.open(io.BytesIO(data)).text)  # type: ignore[attr-defined]


def test_two_workers_draw_what_one_process_draws(pipeline, model, storage) -> None:
    reports: list[tuple[int, int]] = []
    with RayDrawer(model, workers=2, open_with=counting, costs=Costs(storage, "costs")) as drawer:
        assert drawer.workers == 2
        assert (
            drawer.draw(wanted(24), storage, sampler=SAMPLER, progress=lambda *one: reports.append(one)) == 24
        )
        assert drawer.draw(wanted(24), storage, sampler=SAMPLER) == 0
        assert drawer.ask(lambda pipeline: int(pipeline.config.resolution)) == pipeline.config.resolution
        assert drawer.recording(None).draw(wanted(4, "more"), storage, sampler=SAMPLER) == 4
    assert reports[0] == (0, 24) and reports[-1] == (24, 24) and len(reports) > 4
    assert len({process for _, _, process in lines(model)}) == 2
    assert len(lines(model)) == 28
    found = costs(storage, "costs")
    assert found["pictures"] == 24 and found["plans"] == 6, "a prompt's pictures are planned together"
    LocalDrawer(pipeline).draw(wanted(24, "here"), storage, sampler=SAMPLER)
    for k in range(24):
        there, here = (storage.read_bytes(f"{folder}/{k}.png") for folder in ("run", "here"))
        assert np.abs(levels(there) - levels(here)).max() <= 2
    with pytest.raises(RuntimeError, match="inside of a `with` block only"):
        drawer.draw(wanted(1, "late"), storage, sampler=SAMPLER)
    assert not ray.is_initialized()


def test_model_pictures_and_costs_in_a_bucket(model, s3_server, tmp_path) -> None:
    """Workers open the store by themselves; the model is fetched once for both."""
    options = {"endpoint_url": s3_server.url, "cache_dir": tmp_path / "cache"}
    storage = Storage(f"s3://{s3_server.bucket}/got", **options)
    storage.upload(model, "models/tiny")
    spent = Costs(storage, "costs")
    with RayDrawer("models/tiny", storage=storage, workers=2, costs=spent) as drawer:
        assert drawer.draw(wanted(20), storage, sampler=SAMPLER) == 20
        assert drawer.draw(wanted(20), storage, sampler=SAMPLER) == 0
    assert costs(storage, "costs")["pictures"] == 20
    assert len(list((tmp_path / "cache").rglob("model_index.json"))) == 1


def test_too_few_places_are_an_error_before_anything_starts(model) -> None:
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(num_cpus=2, num_gpus=0, **quiet)
    try:
        refused(r"3 workers need a processor core each, and the cluster has 2; set GOT_WO", model, workers=3)
        refused(r"GOT_DEVICE=cuda needs 2 GPUs, found 0; connect", model, workers=2, device="cuda")
        with RayDrawer(model, workers=2):
            refused(r"beside the 2 workers that this process has already", model, workers=1)
    finally:
        ray.shutdown()
    ray.init(num_cpus=8, num_gpus=1, **quiet)
    try:
        refused(r"2 workers need a GPU each, and the cluster has 1; set GOT_WORKERS to 1", model, workers=2)
        with RayDrawer(model) as drawer:
            assert drawer.workers == 1 and drawer._pool._place.device == "cuda"
    finally:
        ray.shutdown()
    refused(r"drawing: GOT_WORKERS must be at least 1, got 0", model, workers=0)
    refused(r"drawing: the device must be auto, cpu or cuda, got 'tpu'", model, device="tpu")


def refused(match: str, model: Path, **options: Any) -> None:
    with pytest.raises(ValueError, match=match), RayDrawer(model, **options):
        pass


@pytest.fixture(scope="module")
def cluster():
    """Ray, started once: what the tests before this one start themselves takes seconds each time."""
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def test_one_worker_draws_in_the_batches_of_one_process(cluster, pipeline, model, storage) -> None:
    requests = {k: Request(f"run/{k}.png", f"prompt {k % 3}", k) for k in range(7)}
    here = {k: Request(f"here/{k}.png", f"prompt {k % 3}", k) for k in range(7)}
    with RayDrawer(model, workers=1) as drawer:
        drawer.draw(requests, storage, sampler=SAMPLER, batch_size=3)
    LocalDrawer(pipeline).draw(here, storage, sampler=SAMPLER, batch_size=3)
    for k in range(7):
        there, own = (storage.read_bytes(f"{folder}/{k}.png") for folder in ("run", "here"))
        # Another process computes on other threads, so the last bits of its numbers are not promised.
        assert np.abs(levels(there) - levels(own)).max() <= 1
        assert text_of(there) == text_of(own)


def test_edits_of_edits_wait_for_their_sources(cluster, pipeline, model, tmp_path) -> None:
    """On workers, each is drawn from the picture that is in the folder in the end."""
    bench = MagicBrush(batch_size=2)
    samples = bench.read(unpacked_magicbrush(tmp_path / "set"))
    emu_set(tmp_path / "emu", count=7)
    emu = EmuEdit(batch_size=2)
    with RayDrawer(model, workers=2, open_with=counting) as drawer:
        assert bench.write_layout(samples, drawer, tmp_path / "out", sampler=SAMPLER) == 9
        assert bench.write_layout(samples, drawer, tmp_path / "out", sampler=SAMPLER) == 0, "by their keys"
        edits = emu.read(tmp_path / "emu")
        assert emu.write_layout(edits, drawer, tmp_path / "edited", sampler=SAMPLER) == 7
    assert len(lines(model)) == 16
    assert bench.write_layout(samples, pipeline, tmp_path / "out", sampler=SAMPLER) == 0
    assert set(emu.read_layout(edits, tmp_path / "edited").names()) == {one.key for one in edits.samples}


class Slow(Storage):
    """A storage whose pictures take a moment to be written, so that there is something to disturb."""

    def write_bytes(self, name: str, data: bytes) -> None:
        super().write_bytes(name, data)
        if name.endswith(".png"):
            time.sleep(0.15)


def test_a_worker_that_dies_is_started_again_and_its_pictures_are_drawn(cluster, model, tmp_path) -> None:
    storage, ended, finished = Slow(f"file://{tmp_path / 'storage'}"), [], []

    def end_workers() -> None:
        while len(ended) < 3 and not finished:
            time.sleep(0.02)
            if not (model.parent / "drawn.log").exists():
                continue
            known = lines(model)
            process = int(known[-1][2])
            if process not in ended and len(known) > 8 * len(ended):
                os.kill(process, signal.SIGKILL)
                ended.append(process)

    requests = wanted(40)
    with RayDrawer(model, workers=2, open_with=counting) as drawer:
        thread = threading.Thread(target=end_workers)
        thread.start()
        assert drawer.draw(requests, storage, sampler=SAMPLER, batch_size=4) == 40
        finished.append(True)
        thread.join()
    assert len(ended) == 3
    drawn = [(prompt, seed) for prompt, seed, _ in lines(model)]
    assert len(set(drawn)) == 40 and len(drawn) - 40 <= 4 * len(ended), "only what was under way again"
    assert len({process for *_, process in lines(model)} | set(ended)) > 3


def test_workers_that_die_always_are_given_up(cluster) -> None:
    def dies(place: Place) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    given_up = pytest.raises(LostWorkersError, match="drawing: a worker has died 3 times over the same piece")
    with RayWorkers(dies, what="drawing", workers=2) as workers, given_up:
        workers.start()
    given_up = pytest.raises(LostWorkersError, match=r"has died too often, the last time: .*run it again")
    with RayWorkers(dies, what="drawing", workers=2, restarts=1) as workers, given_up:
        list(workers.results(range(1, 9), lambda *_: None))


def _fails(pipeline: Any) -> Any:
    raise KeyError("no such thing")


def test_errors_of_workers_are_raised_as_they_are(cluster, model, storage, tmp_path) -> None:
    with (
        RayDrawer(tmp_path / "none", workers=1) as drawer,
        pytest.raises(FileNotFoundError, match=r"none is no folder on .* all machines of the cluster see"),
    ):
        drawer.draw(wanted(1), storage, sampler=SAMPLER)
    with RayDrawer(model, workers=1) as drawer:
        with pytest.raises(KeyError, match="no such thing") as raised:
            drawer.ask(_fails)
        assert "in a Ray worker" in raised.value.__notes__[0]
        with pytest.raises(TypeError, match="no_such_option"):
            drawer.draw(wanted(1), storage, sampler={"no_such_option": 1})
        assert drawer.draw(wanted(1), storage, sampler=SAMPLER) == 1, "the workers go on"


def test_a_storage_that_workers_do_not_see_is_refused(cluster, model) -> None:
    unseen = pytest.raises(ValueError, match="workers do not see memory://pictures: take a folder or bucket")
    with RayDrawer(model, workers=1) as drawer, unseen:
        drawer.draw(wanted(1), Storage("memory://pictures"), sampler=SAMPLER)


def test_a_model_of_a_storage_is_fetched(cluster, model, storage) -> None:
    storage.upload(model, "models/tiny")
    with RayDrawer("models/tiny", storage=storage, workers=1) as drawer:
        assert drawer.draw(wanted(1), storage, sampler=SAMPLER) == 1
    with RayDrawer(storage.url_of("models/tiny"), workers=1) as drawer:
        assert drawer.draw(wanted(2), storage, sampler=SAMPLER) == 1


def test_a_slow_worker_holds_nobody_up(cluster, tmp_path) -> None:
    """Of twelve pieces the one that takes long keeps one worker, and the other does all others meanwhile."""

    def waits(held: Place, piece: int, again: bool) -> None:
        last = time.monotonic() + 300
        while piece == 1 and len(list(tmp_path.iterdir())) < 11 and time.monotonic() < last:
            time.sleep(0.01)
        (tmp_path / str(piece)).touch()

    with RayWorkers(lambda place: place, what="waiting", workers=2) as workers:
        workers.start()
        done = [piece for piece, _ in workers.results(range(1, 13), waits)]
    # The last two may be ready at once.
    assert done.index(1) >= 10 and [piece for piece in done if piece > 1] == list(range(2, 13))


def test_an_error_comes_after_what_was_under_way(cluster, tmp_path) -> None:
    """Nobody's work is thrown away, and nothing more is begun."""

    def fails(held: Place, piece: int, again: bool) -> int:
        if piece == 2:
            (tmp_path / "failed").touch()
            raise LookupError("the second")
        last = time.monotonic() + 300
        while not (tmp_path / "failed").exists() and time.monotonic() < last:
            time.sleep(0.01)
        time.sleep(1.0)  # the error is on its way
        return 10 * piece

    found = []
    with RayWorkers(lambda place: place, what="trying", workers=2) as workers:
        workers.start()
        with pytest.raises(LookupError, match="the second"):
            for piece, result in workers.results(range(1, 9), fails):
                found.append((piece, result))
        assert workers.ask(lambda place: place.device) == "cpu", "the workers go on"
    assert found == [(1, 10)]
