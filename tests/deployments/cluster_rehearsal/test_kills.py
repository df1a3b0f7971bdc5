"""What is seen of a training's processes, and the table of times."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil

from deployments.cluster_rehearsal import alone
from deployments.cluster_rehearsal.kills import Kill, _trains, table
from got_core.recipes import get_recipe

WORKER = "import sys, time; sys.argv; time.sleep(600)"


def test_a_worker_that_trains_is_told_from_others_by_its_name() -> None:
    named = "ray::RayTrainWorker.run"
    process = subprocess.Popen([named, "-c", WORKER], executable=sys.executable)
    try:
        one, until = psutil.Process(process.pid), time.monotonic() + 60
        while one.cmdline()[:1] != [named]:  # of a process that has not begun yet there is none
            assert time.monotonic() < until
        assert _trains([psutil.Process(), one])
        assert not _trains([psutil.Process()])
    finally:
        process.kill()
        process.wait()
    assert not _trains([one]), "it has ended"


def test_the_table_has_a_line_a_kill() -> None:
    *_, line = table([Kill("daemon", "a shard is annotated", 3.4, 21.6, 0)]).splitlines()
    assert line == "| daemon | a shard is annotated | 3 s | 22 s | 0 |"


def test_pictures_come_in_whole_shards_and_later_names(tmp_path: Path) -> None:
    recipe = get_recipe("tiny")
    made = alone.inputs(tmp_path / "inputs", recipe, 2)
    first, second = made.images(0), made.images(1)
    assert len(first) == len(second) == recipe.ingest.image_shard_size
    assert max(first) < min(second) and made.images(2) == []
    assert made.edits[-1].name == "pairs.csv"
