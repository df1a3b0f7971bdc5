"""Drawing and judging on Ray, killed at random moments: the driver with its Ray, or a worker.

``KILLS=10 pytest tests/got_core/evaluate/drawers/test_kills.py -s`` kills as many times and says when. A line
is counted where a picture is drawn, read or measured. What was under way at a kill may be done again, at most
a batch of each worker; what is in storage at a kill never is.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest
from PIL import Image

from tests.got_core.evaluate.drawers.killed import write_known
from tests.got_core.evaluate.emu_edit.made import emu_set, tiny
from tests.got_core.tiny_pipeline import sees_its_conditions, tiny_pipeline

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("KILLS", "2"))
PROMPTS, EDITS = 6 + 2 * KILLS, 6 + KILLS
COUNTS = (2 * PROMPTS + EDITS, 2 * PROMPTS, EDITS)
"""Pictures drawn, read and measured."""
TOTAL = sum(COUNTS)
WORKERS, BATCH = 2, 2
LOGS = ("drawn.log", "judged.log", "measured.log")


@pytest.fixture
def homes(tmp_path: Path) -> tuple[Path, Path]:
    """Twice the same model, list with pictures, edits and networks."""
    home = tmp_path / "quiet"
    home.mkdir()
    sees_its_conditions(tiny_pipeline()).save_pretrained(home / "model")
    write_known(home, PROMPTS)
    emu_set(home / "emu", count=EDITS)
    tiny(home / "networks")
    shutil.copytree(home, tmp_path / "killed")
    return home, tmp_path / "killed"


def lines(home: Path, log: str) -> list[list[str]]:
    path = home / log
    return [line.split("\t") for line in path.read_text().splitlines()] if path.exists() else []


def in_storage(home: Path) -> dict[str, set[str]]:
    """What is drawn and kept by now, by log, as it stands there."""
    drawn = set()
    for folder in ("drawn", "edited"):
        for path in (home / folder).rglob("*.png"):
            record = json.loads(Image.open(path).info["got"])
            drawn.add(f"{record['prompt']}\t{record['seed']}")
    return {"drawn.log": drawn, "judged.log": {path.stem for path in (home / "store").rglob("*-0*.json")}}


def done(home: Path, log: str) -> list[str]:
    """What was done, in order, as `in_storage` has it."""
    return ["\t".join(line[:-1]) for line in lines(home, log)]


def rows_kept(home: Path) -> int:
    return sum(pl.read_parquet(path).height for path in (home / "store").rglob("*.parquet"))


@dataclass
class Killer:
    """Starts the driver, kills it or a worker now and then, from the first picture drawn to the last one
    measured, and starts it again."""

    home: Path
    dice: random.Random = field(default_factory=lambda: random.Random(0))
    log: list[str] = field(default_factory=list)
    drivers: int = 0
    kept: list[tuple[dict[str, set[str]], dict[str, int]]] = field(default_factory=list)
    """What was in storage at each kill, and how many lines there were then."""

    def work(self) -> None:
        driver = self._start()
        for number in range(KILLS):
            reached = TOTAL * (number + self.dice.uniform(0.1, 0.8)) / KILLS
            while self._pictures() < reached and driver.poll() is None:
                time.sleep(0.02)
            if driver.poll() is not None:
                break
            time.sleep(self.dice.uniform(0, 0.3))
            if number % 2 or not (worker := self._worker()):
                self._end(driver)
                self._note("driver")
                driver = self._start()
            else:
                os.kill(worker, signal.SIGKILL)
                self._note("worker")
        assert driver.wait(600) == 0

    def _start(self) -> subprocess.Popen[bytes]:
        self.drivers += 1
        command = [sys.executable, "-m", "tests.got_core.evaluate.drawers.killed", str(self.home)]
        return subprocess.Popen(command, stderr=(self.home / "errors.txt").open("a"))

    def _pictures(self) -> int:
        return sum(len(set(done(self.home, log))) for log in LOGS)

    def _worker(self) -> int | None:
        """One that has worked of late and is alive."""
        found = [int(line[-1]) for log in reversed(LOGS) for line in reversed(lines(self.home, log))]
        return next((one for one in found if psutil.pid_exists(one) and _is_worker(one)), None)

    def _end(self, driver: subprocess.Popen[bytes]) -> None:
        """With all processes of its Ray."""
        family = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
        for one in family:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(family, timeout=20)
        driver.wait()

    def _note(self, what: str) -> None:
        self.kept.append((in_storage(self.home), {log: len(lines(self.home, log)) for log in LOGS}))
        stored = {log: len(names) for log, names in self.kept[-1][0].items()}
        self.log.append(f"{what} killed: {stored} and {rows_kept(self.home)} rows in storage")


def _is_worker(process: int) -> bool:
    try:
        return "ray::" in " ".join(psutil.Process(process).cmdline())
    except psutil.NoSuchProcess:
        return False


def test_what_is_stored_is_never_done_again_and_scores_are_the_same(homes: tuple[Path, Path]) -> None:
    quiet, home = homes
    undisturbed = Killer(quiet)
    assert undisturbed._start().wait(600) == 0
    killer = Killer(home)
    killer.work()
    for entry in killer.log:
        print(entry)
    assert len(killer.log) == KILLS and killer.drivers > 1
    assert json.loads((home / "scores.json").read_text()) == json.loads((quiet / "scores.json").read_text())
    for log, count in (
        ("drawn.log", 2 * PROMPTS + EDITS),
        ("judged.log", 2 * PROMPTS),
        ("measured.log", EDITS),
    ):
        assert len(done(quiet, log)) == len(set(done(quiet, log))) == count
        assert set(done(home, log)) == set(done(quiet, log))
        for stored, before in killer.kept:
            assert stored.get(log, set()).isdisjoint(done(home, log)[before[log] :]), "done again"
    again = sum(sum(Counter(done(home, log)).values()) - len(set(done(home, log))) for log in LOGS)
    print(f"done again, because it was under way: {again}")
    assert again <= KILLS * WORKERS * BATCH
    assert rows_kept(home) == rows_kept(quiet)
    for name in (path.relative_to(quiet) for path in (quiet / "drawn").rglob("*.png")):
        one, other = (np.asarray(Image.open(place / name), int) for place in homes)
        assert np.abs(one - other).max() <= 2
