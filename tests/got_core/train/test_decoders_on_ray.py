"""A stage on Ray whose worker reads from tars through decoder processes, one of which is killed."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from got_core.train.run import TrainingRun
from got_core.train.stages import train_stage
from tests.got_core.train.kills import held
from tests.got_core.train.tar_runs import nowhere, with_tars
from tests.got_core.train.test_ray import STAGE, _complete, _starts, _wait, prepared, recipe, train_here

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_kept")]


def _decoders(worker: int) -> list[int]:
    children = psutil.Process(worker).children()
    servers = [one for one in children if "forkserver" in " ".join(one.cmdline())]
    return [child.pid for server in servers for child in server.children()]


def test_tars_decoders_and_the_loss_of_one_change_no_weight(
    training_run: TrainingRun, tmp_path: Path
) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "ahead").mkdir()
    plain, start = prepared(training_run, tmp_path / "plain")
    expected = train_here(plain, start)

    said: list[str] = []
    stage = replace(STAGE, decoders=2, prefetch=2)
    run, start = prepared(training_run, tmp_path / "ahead", recipe=recipe(stage), progress=said.append)
    run = nowhere(with_tars(run, run.storage_url), tmp_path)
    run = held(run, tmp_path / "gate", STAGE.checkpoint_every)
    killed: list[int] = []

    def kill_a_decoder() -> None:
        try:
            _wait(lambda: _complete(run.storage()) and _starts(said), 900)
            killed.extend(_decoders(_starts(said)[0][0])[:1])
            os.kill(killed[0], signal.SIGKILL)
        finally:
            run.gate.touch()

    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill_a_decoder)
        reference = train_stage(run, run.recipe.stages[-1], start)
        killing.result()
    assert killed
    (_, first), (_, second) = _starts(said)
    assert (first, second % STAGE.checkpoint_every) == (0, 0) and second > 0
    assert reference["weights_hash"] == expected["weights_hash"]
    assert reference["cpu_seconds"] > 0
    assert not any("in no training tar" in line for line in said)
    assert not run.storage().list(f"models/finetune/{reference['config_digest']}/places/")
