"""A whole rehearsal: inputs, annotator and weights on the spot, `got run`, a killed worker, a prediction.

Belongs here: the order of a rehearsal, and starting and ending its processes. Not here: what is found
afterwards (``findings``), what it works on (``pictures``, ``server``, ``weights``).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.rehearsal.benchmarks import Judged, write_benchmarks
from deployments.rehearsal.findings import Mismatch, check_run
from deployments.rehearsal.pictures import Inputs, write_inputs
from deployments.rehearsal.run_log import RunLog
from deployments.rehearsal.scores import check_scores
from deployments.rehearsal.server import MODEL, Annotator
from got_core.recipes import rehearsal
from got_core.recipes.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
KILLED = "pretrain"
"""The stage in which a worker is killed."""
TAIL = 40
"""Last lines of a run that failed, shown with the message."""
FOREIGN = ("GOT_", "MLFLOW_", "DAGSTER_HOME", "RAY_ADDRESS", "HF_")
"""Beginnings of variables that a rehearsal does not take over."""


@dataclass
class Walked:
    """What a rehearsal did."""

    seconds: dict[str, float]
    """By part, in order."""
    found: list[tuple[str, str]]
    """What was looked at, and what was there."""


def walk(folder: Path, say: Callable[[str], None] = print) -> Walked:
    """Rehearse below an empty folder; everything that is written is there afterwards.

    Raises Mismatch, whose message names what was seen and what was expected, and ModuleNotFoundError where a
    package is missing.
    """
    started, recipe = time.monotonic(), rehearsal()
    say(f"rehearsal in {folder}")
    inputs = write_inputs(folder / "inputs")
    weights = _weights(folder / "weights", recipe)
    judged = write_benchmarks(folder / "benchmarks", inputs.edits)
    seconds = {"pictures and weights": time.monotonic() - started}
    with Annotator() as annotator, _scratch() as scratch:
        environment = _environment(folder, inputs, annotator.url, weights, judged, scratch)
        log = _run(folder, environment, say)
        found = check_run(folder / "home", recipe, inputs, log, annotator)
        found += check_scores(folder / "home", recipe, judged)
        began = time.monotonic()
        found += _predicted(folder, environment, recipe, inputs)
    return Walked(seconds | log.seconds | {"prediction": time.monotonic() - began}, found)


def _weights(folder: Path, recipe: Recipe) -> tuple[Path, Path]:
    from deployments.rehearsal.weights import write_weights

    return write_weights(folder, recipe.model)


@contextmanager
def _scratch() -> Iterator[str]:
    """Where programs leave what nobody needs. Short, for sockets of Ray have a path of 107 bytes at most."""
    folder = tempfile.mkdtemp(prefix="got-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _environment(
    folder: Path, inputs: Inputs, url: str, weights: tuple[Path, Path], judged: Judged, scratch: str
) -> dict[str, str]:
    """Of `got run`: the settings of a rehearsal and nothing of the user's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
    return kept | {
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        **dict.fromkeys(("TMPDIR", "RAY_TMPDIR", "HF_HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME"), scratch),
        "HF_HUB_OFFLINE": "1",
        "GOT_HOME": str(folder / "home"),
        "GOT_RECIPE": "rehearsal",
        "GOT_RAW": str(inputs.raw),
        "GOT_EDITS": str(inputs.edits),
        "GOT_MIXTURE": str(inputs.mixture),
        "GOT_ANNOTATOR": "openai",
        "GOT_ANNOTATOR_URL": url,
        "GOT_ANNOTATOR_VISION_MODEL": MODEL,
        "GOT_SDXL": str(weights[0]),
        "GOT_QWEN": str(weights[1]),
        "GOT_BENCHMARKS": str(judged.place),
    }


def _run(folder: Path, environment: dict[str, str], say: Callable[[str], None]) -> RunLog:
    """`got run` to its end, with a worker killed on the way."""
    log, path = RunLog(), folder / "run.log"
    process = subprocess.Popen(
        [sys.executable, "-m", "got_assets.cli", "run"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    over = threading.Event()
    killer = threading.Thread(target=_kill_a_worker, args=(folder / "home", log, over, say), daemon=True)
    killer.start()
    try:
        with path.open("w") as file:
            for line in process.stdout or ():
                file.write(line)
                log.add(line)
                say(line.rstrip("\n"))
    finally:
        over.set()
        killer.join()
        _end(process)
    log.end()
    if process.returncode:
        tail = "\n".join(log.lines[-TAIL:])
        raise Mismatch(f"`got run` ended with status {process.returncode}; its output is in {path}:\n{tail}")
    return log


def _end(process: subprocess.Popen[str]) -> None:
    """Let the run finish; one that is still at work has been interrupted."""
    if process.poll() is None:
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait()


def _kill_a_worker(home: Path, log: RunLog, over: threading.Event, say: Callable[[str], None]) -> None:
    """Kill a worker of a stage once the stage has its second checkpoint: the first is whole by then."""
    while not over.wait(0.1):
        workers = log.of(KILLED)
        if workers and checkpoints(home, KILLED) >= 2:
            os.kill(workers[-1].pid, signal.SIGKILL)
            log.killed = workers[-1].pid
            say(f"  killed process {workers[-1].pid}, a worker of stage {KILLED}")
            return


def checkpoints(home: Path, stage: str) -> int:
    """How many checkpoints a stage has begun to write."""
    storage = home / "storage"
    patterns = (f"ray/{stage}-*/checkpoint_*", f"models/{stage}/*/checkpoints/step-*")
    return sum(len(list(storage.glob(pattern))) for pattern in patterns)


def _predicted(
    folder: Path, environment: dict[str, str], recipe: Recipe, inputs: Inputs
) -> list[tuple[str, str]]:
    """What a fresh process draws with the registered model."""
    model = "models:/got@champion"
    uri = f"sqlite:///{folder / 'home' / 'mlflow' / 'mlflow.db'}"
    source = inputs.edits.parent / "001-source.jpg"
    done = subprocess.run(
        [sys.executable, "-m", "deployments.rehearsal.predict", uri, model, str(source)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise Mismatch(f"no prediction from {model}:\n{done.stderr[-4000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    side = recipe.model.resolution
    if answer["errors"] or not answer["sizes"] or answer["sizes"][0] != [side, side]:
        raise Mismatch(f"predictions of {model} are {answer}, expected a picture of {side} x {side} pixels")
    return [(f"pictures drawn and edited by {model}", str(answer["sizes"]))]
