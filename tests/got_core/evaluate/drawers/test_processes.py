"""Drawing by several processes of this machine: the same pictures as of one, also where one of them dies."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
import torch

from got_core.evaluate.drawers import processes
from got_core.evaluate.drawers.costs import Costs, costs
from got_core.evaluate.drawers.local import LocalDrawer
from got_core.evaluate.drawers.processes import ProcessDrawer, drawer_here, drawing_together
from got_core.evaluate.samples import Request
from got_core.storage import Storage
from tests.got_core.evaluate.drawers.dying import opened_in
from tests.got_core.tiny_pipeline import tiny_pipeline

KEY = {"sampler": {"num_inference_steps": 1, "max_new_tokens": 4}, "weights_hash": "w"}
REQUESTS = {k: Request(f"run/{k:02d}.png", f"prompt {k % 20}", k) for k in range(50)}
HERE = partial(opened_in, os.getpid())


def drawn(folder: Path, drawer: ProcessDrawer) -> dict[str, bytes]:
    """Bytes of all pictures."""
    storage = Storage(f"file://{folder}")
    seen: list[tuple[int, int]] = []
    threads = torch.get_num_threads()
    assert drawer.draw(REQUESTS, storage, progress=lambda *done: seen.append(done), **KEY) == 50
    assert seen[-1] == (50, 50) and torch.get_num_threads() == threads
    return {one.name: storage.read_bytes(one.name) for one in REQUESTS.values()}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process draws."""
    return drawn(tmp_path_factory.mktemp("plain"), ProcessDrawer(HERE, 1))


@pytest.mark.slow
def test_pictures_do_not_depend_on_the_number_of_processes(
    plain: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "START_SECONDS", 0.0)
    notes = Storage(f"file://{tmp_path / 'notes'}")
    drawer = ProcessDrawer(partial(tiny_pipeline), 2).recording(Costs(notes, "costs"))
    with drawing_together():
        assert drawn(tmp_path / "first", drawer) == plain
        [pool] = processes._TOGETHER
        assert pool.count == 1
        assert drawn(tmp_path / "second", drawer) == plain
    assert not processes._TOGETHER and pool.count == 0
    assert costs(notes, "costs")["pictures"] == 100


def test_where_a_process_dies_this_one_goes_on_alone(
    plain: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "START_SECONDS", 0.0)
    assert drawn(tmp_path, ProcessDrawer(HERE, 2)) == plain


def test_no_process_is_started_for_what_is_soon_done(
    plain: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(pool: object, count: int) -> None:
        raise AssertionError(f"{count} processes for a moment's work")

    monkeypatch.setattr(processes, "START_SECONDS", 1e9)
    monkeypatch.setattr(processes._Pool, "start", refused)
    assert drawn(tmp_path, ProcessDrawer(HERE, 8)) == plain


def test_a_large_model_is_held_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights").write_bytes(b"12345")
    monkeypatch.setattr(processes, "chosen_device", lambda device: "cpu")
    assert isinstance(drawer_here(HERE, tmp_path), ProcessDrawer)
    monkeypatch.setattr(processes, "SMALL", 4)
    one = drawer_here(HERE, tmp_path)
    assert isinstance(one, LocalDrawer) and one.threads == len(os.sched_getaffinity(0))
