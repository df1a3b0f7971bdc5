"""What two real workers exchange in a step, beside what is planned."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from got_core.budget.config import Accelerator, Assumptions, BudgetConfig
from got_core.budget.hours import Clock, Facts
from got_core.budget.measure import Counted, Gathered, sampling_step
from got_core.recipes import tiny
from got_core.train.run import TrainingRun
from got_core.train.sizes import empty_pipeline
from got_core.train.stage import pretraining
from tests.got_core.budget import two_exchanging
from tests.got_core.ranks import side_by_side

pytestmark = pytest.mark.slow


def planned(way: str, sizes: dict[str, Any]) -> float:
    """Bytes that a worker sends in the step, for a model of these sizes."""
    model, stage = tiny().model, replace(two_exchanging.CONFIG, **two_exchanging.WAYS[way])
    pipeline, config = empty_pipeline(model), BudgetConfig()
    facts = Facts(
        stage=stage,
        model=model,
        edits=0.5,
        parameters=0,
        drawing=sampling_step(pipeline, config, edit=False),
        counted=Counted.of(pipeline, model, pretraining(stage), config),
        chain_tokens=1,
        rows=None,
    )
    gathered = Gathered(**sizes["gathered frozen-whole" if stage.replicate_frozen else "gathered"])
    known = {name: sizes[name] for name in ("total", "trained", "frozen_autoencoder")}
    facts = replace(facts, counted=replace(facts.counted, **known, gathered=gathered))
    clock = Clock(facts, Assumptions(link_gb=1.0, overlap=0.0), Accelerator())
    return clock.lines()["communication"].seconds * 1e9


def test_workers_exchange_what_is_planned(training_run: TrainingRun, tmp_path: Path) -> None:
    side_by_side(two_exchanging.train, (training_run, tmp_path), count=2)
    found, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert found == other
    # Of two workers, each sends a half of what is gathered or scattered; what is reduced for all, twice.
    summed = found["ddp t2i"]["c10d::allreduce_"]
    assert planned("ddp", found["sizes"]) == pytest.approx(summed, rel=1e-3)
    sent = {
        kind: (one["c10d::_allgather_base_"] + one["c10d::_reduce_scatter_base_"]) / 2
        for kind, one in ((kind, found[f"fsdp {kind}"]) for kind in ("t2i", "edit"))
    }
    # Layers of the vision tower, which only edits go through, are planned for all.
    assert sent["t2i"] < sent["edit"] <= planned("fsdp", found["sizes"]) < 1.05 * sent["t2i"]
    whole = found["fsdp frozen-whole t2i"]
    sent_whole = (whole["c10d::_allgather_base_"] + whole["c10d::_reduce_scatter_base_"]) / 2
    assert sent_whole < sent["t2i"]
    assert planned("fsdp frozen-whole", found["sizes"]) == pytest.approx(sent_whole, rel=1e-2)
    # Groups of one worker each: nothing to gather, and gradients are summed as DDP does.
    summed = found["fsdp alone t2i"]["c10d::allreduce_"]
    assert planned("fsdp alone", found["sizes"]) == pytest.approx(summed, rel=1e-2)
