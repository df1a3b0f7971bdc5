"""Figures of a window: the mean over steps and workers, without what was skipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from got_core.train.run import TrainingRun
from tests.got_core.ranks import side_by_side
from tests.got_core.train import two_windows

pytestmark = pytest.mark.slow


def test_a_window_is_the_mean_of_all_workers(training_run: TrainingRun, tmp_path: Path) -> None:
    side_by_side(two_windows.train, (training_run, tmp_path), count=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    losses, figures = first["taken"]
    assert losses == second["taken"][0]
    taught = [one for seen in (first, second) for k, one in enumerate(seen["losses"]) if k != 1]
    assert losses["diffusion"] == pytest.approx(sum(one["diffusion"] for one in taught) / len(taught))
    assert losses["loss"] == pytest.approx(sum(one["loss"] for one in taught) / len(taught))
    assert figures["skipped_steps"] == 1
    assert figures["substituted_pictures"] == 2 + 1 + 5, "of both workers, and before the interruption"
    assert 0 < figures["data_wait_share"] < 1
    assert figures["gradient_norm"] > 0
    assert figures["rate/drawing"] == pytest.approx(1e-3)
    assert figures["rate/language"] == pytest.approx(5e-4)
    assert figures["memory_gb"] == pytest.approx(second["taken"][1]["memory_gb"])
    assert figures["memory_gb"] > 0.1
    assert figures["samples_per_second"] > 0
    assert figures["cpu_seconds"] > first["own_cpu_seconds"]
    assert "gpu_seconds" not in figures
