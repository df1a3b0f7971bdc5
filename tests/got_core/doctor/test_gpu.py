"""What `got doctor --gpu` measures and says: the real work at tiny sizes, on processors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from got_core.budget.config import Accelerator, Assumptions, BudgetConfig
from got_core.budget.plan import make_plan
from got_core.doctor import gpu
from got_core.doctor.gpu_work import Measured, Sizes, measure
from got_core.recipes import tiny
from got_core.storage import Storage
from got_core.train.run import TrainingRun
from tests.got_core.ranks import join_group, leave_group, side_by_side

SMALL = Sizes(side=32, exchanged=1000, batch=2, repeats=2)
CPU = torch.device("cpu")
FAST = Measured(
    host="node-1", device="A card", memory_gb=80.0, dtype="bfloat16", matmul_tflops=250.0, exchange_gb=60.0,
    step_seconds=0.2, step_tflops=140.0, step_memory_gb=20.0,
)  # fmt: skip


def alone(training_run: TrainingRun) -> TrainingRun:
    return replace(training_run, workers=0, device="cpu")


def test_workers_of_a_training_measure_and_leave_nothing(training_run: TrainingRun) -> None:
    run = alone(training_run)
    before = run.storage().list()
    (found,) = gpu.measured_by_workers(run, run.recipe.stages[0], SMALL)
    assert (found.device, found.dtype, found.exchange_gb) == ("processor", "float32", None)
    assert all(value > 0 for value in (found.matmul_tflops, found.step_seconds, found.step_tflops))
    assert run.storage().list() == before


def test_a_wider_network_takes_more_operations() -> None:
    def flops(channels: tuple[int, ...]) -> float:
        model = tiny().model
        model = replace(model, unet=replace(model.unet, block_out_channels=channels))
        found = measure(model, CPU, sizes=SMALL)
        return found.step_tflops * found.step_seconds

    assert flops((32, 64)) > 2 * flops((16, 32))


def _two_ranks(rank: int, folder: Path) -> None:
    join_group(folder / "meeting", rank, 2)
    found = measure(tiny().model, CPU, sizes=SMALL, rank=rank, ranks=2)
    leave_group()
    assert found.exchange_gb is not None and found.exchange_gb > 0
    (folder / str(rank)).touch()


def test_workers_exchange_numbers_and_check_the_sum(tmp_path: Path) -> None:
    side_by_side(_two_ranks, (tmp_path,), count=2)
    assert (tmp_path / "0").exists() and (tmp_path / "1").exists()


def test_without_a_gpu_there_is_one_line(training_run: TrainingRun) -> None:
    (line,) = gpu.check_gpus(alone(training_run), SMALL)
    assert (line.state, line.found) == ("ok", gpu.NO_GPU)


def test_what_keeps_workers_from_computing_is_a_finding(
    training_run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "found_gpus", lambda run, stage: 1)
    (line,) = gpu.check_gpus(alone(training_run), replace(SMALL, side=-1))
    assert line.state == "fail" and "negative" in line.found


def test_figures_stand_beside_those_of_the_stored_plan(storage: Storage) -> None:
    plan = BudgetConfig(gpu=Accelerator(name="A card", peak_tflops=500.0)).knowing(
        {"utilisation": 0.25, "link_gb": 70.0}
    )
    assert gpu.assumed_in(storage) == BudgetConfig()
    storage.write_json("training_plan.json", make_plan(tiny(), plan).to_dict())
    assumed = gpu.assumed_in(storage)
    assert (assumed.gpu, assumed.expected.link_gb) == (plan.gpu, 70.0)
    cards, product, exchange, step = gpu.findings([FAST, FAST], assumed)
    assert [one.state for one in (cards, product, exchange, step)] == ["ok", "ok", "warn", "ok"]
    assert "2 workers: A card, 80 GB" in cards.found
    assert "50% of the 500 of a A card" in product.found
    assert "60.0 GB/s" in exchange.found and "the plan takes 70" in exchange.found
    assert "below 70 GB/s" in exchange.advice
    assert "200 ms" in step.found and "28% of the peak" in step.found


def test_the_slowest_worker_is_named() -> None:
    slow = replace(FAST, host="node-2", step_tflops=90.0)
    *_, step = gpu.findings([FAST, slow, FAST], BudgetConfig(expected=Assumptions(utilisation=0.1)))
    assert step.state == "warn" and step.advice.startswith("node-2") and "90.0 to 140.0" in step.found


def test_a_smaller_card_than_the_plans_is_told() -> None:
    cards, *_ = gpu.findings([replace(FAST, memory_gb=24.0)], BudgetConfig())
    assert cards.state == "warn" and "got estimate" in cards.advice
