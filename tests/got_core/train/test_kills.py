"""Two workers on Ray, killed at random moments, also while they upload: what comes out is bit-identical.

``KILLS=20 pytest tests/got_core/train/test_kills.py -s`` kills as many times and says when.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from got_core.train.run import TrainingRun
from got_core.train.stages import train_stage
from tests.got_core.train.kills import Killer, held, train_while_killing
from tests.got_core.train.test_ray import STAGE, _checkpoints, _starts, prepared, recipe

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_kept")]

KILLS = int(os.environ.get("KILLS", "2"))
SPAN = 3.0
CONFIG = replace(
    STAGE,
    steps=20 + 8 * KILLS,
    workers=2,
    batch_size=1,
    bf16=False,
    checkpoint_every=3,
    max_failures=KILLS + 2,
)


def test_workers_killed_at_random_moments_change_nothing(training_run: TrainingRun, tmp_path: Path) -> None:
    (tmp_path / "undisturbed").mkdir()
    (tmp_path / "killed").mkdir()
    quiet, start = prepared(training_run, tmp_path / "undisturbed", recipe=recipe(CONFIG))
    expected = train_stage(quiet, quiet.recipe.stages[-1], start)
    lines: list[str] = []
    run, start = prepared(training_run, tmp_path / "killed", recipe=recipe(CONFIG), progress=lines.append)
    storage = run.storage()
    killer = Killer(
        starts=lambda: _starts(lines),
        uploading=lambda: any(not found.is_complete() for found in _checkpoints(storage)),
        reached=lambda: max((one.step for one in _checkpoints(storage) if one.is_complete()), default=0),
        gate=tmp_path / "gate",
        kills=KILLS,
        span=SPAN,
    )
    reference = train_while_killing(held(run, killer.gate, CONFIG.steps - 8, 6e6), start, killer)
    for entry in killer.log:
        print(entry)
    assert len(killer.log) == KILLS
    assert any(entry["during_upload"] for entry in killer.log)
    assert len({step for _, step in _starts(lines)}) > 1, "no life went on where another had ended"
    assert reference["weights_hash"] == expected["weights_hash"]
    assert not _checkpoints(storage)
