"""How a rehearsal starts and ends its processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from deployments.rehearsal import walk
from deployments.rehearsal.benchmarks import Judged
from deployments.rehearsal.findings import Mismatch
from deployments.rehearsal.pictures import Inputs
from deployments.rehearsal.run_log import RunLog
from got_core.settings import Settings


def inputs(folder: Path) -> Inputs:
    paths = {name: folder / f"{name}.x" for name in ("raw", "edits", "mixture")}
    counts: dict[str, Any] = {name: {} for name in ("good", "trained")}
    names = ("quarantined", "good_pairs", "quarantined_pairs", "near_copies", "refused", "empty")
    return Inputs(**paths, **counts, **dict.fromkeys(names, 0))


def environment(folder: Path) -> dict[str, str]:
    weights = folder / "sdxl", folder / "qwen"
    judged = Judged(place=folder / "benchmarks", pictures={}, filtered=0)
    url, scratch = "http://127.0.0.1:9/v1", str(folder / "tmp")
    return walk._environment(folder, inputs(folder), url, weights, judged, scratch)


def test_a_run_gets_the_rehearsals_settings_and_none_of_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOT_STORAGE", "s3://somewhere")
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:6379")
    for name in ("GOT_STORAGE", "RAY_ADDRESS", *(given := environment(tmp_path))):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings(_env_file=None)
    assert settings.recipe == "rehearsal" and settings.home == tmp_path / "home"
    assert settings.published == (str(tmp_path / "sdxl"), str(tmp_path / "qwen"))
    assert settings.benchmarks == tmp_path / "benchmarks"
    assert settings.ray_address is None and settings.storage_url == f"file://{tmp_path}/home/storage"
    assert settings.annotator_config is not None and settings.annotator_config.vision.box_unit == "pixels"


def test_a_worker_is_killed_when_the_first_checkpoint_is_whole(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    log, over, said = RunLog(), threading.Event(), []
    log.add(f"  pretrain: worker 1 of 2 is process {process.pid} on here (cpu), from step 0\n")
    killer = threading.Thread(target=walk._kill_a_worker, args=(tmp_path, log, over, said.append))
    killer.start()
    folder = tmp_path / "storage" / "ray" / "pretrain-0123"
    (folder / "checkpoint_1").mkdir(parents=True)
    killer.join(timeout=1)
    assert process.poll() is None
    (folder / "checkpoint_2").mkdir()
    killer.join(timeout=120)
    assert process.wait(timeout=120) == -signal.SIGKILL
    assert log.killed == process.pid and str(process.pid) in said[0]


def test_nobody_is_killed_once_a_run_is_over(tmp_path: Path) -> None:
    over = threading.Event()
    over.set()
    walk._kill_a_worker(tmp_path, log := RunLog(), over, print)
    assert log.killed is None


@pytest.mark.slow
def test_a_run_that_fails_ends_in_one_message(tmp_path: Path) -> None:
    with pytest.raises(Mismatch, match=r"ended with status [1-9](?s:.*)unknown recipe"):
        walk._run(tmp_path, environment(tmp_path) | {"GOT_RECIPE": "unheard-of"}, lambda line: None)
    assert "unknown recipe" in (tmp_path / "run.log").read_text()
