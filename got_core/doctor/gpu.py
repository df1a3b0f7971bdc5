"""Whether the GPUs of a cluster do what the training plan takes them to do.

Belongs here: workers as a training would have them, and findings. Not here: what they measure (`gpu_work`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any
from uuid import uuid4

from got_core.budget.config import Accelerator, Assumptions, BudgetConfig
from got_core.doctor.finding import Finding, fail, ok, warn
from got_core.doctor.gpu_work import Measured, Sizes, measure
from got_core.storage import Storage
from got_core.train import parallel
from got_core.train.ray import jobs
from got_core.train.ray.workers import Resources
from got_core.train.run import TrainingRun
from got_core.train.stage import Stage

NAME = "gpu work"
ALIKE = 1.2
"""By how much workers may differ before the slowest is named: all wait for it."""
NO_GPU = "no worker has a GPU, so nothing was measured"


def check_gpus(run: TrainingRun, sizes: Sizes | None = None) -> list[Finding]:
    """Findings of the workers of the run's first stage; one line where they have no GPU.

    Leaves nothing behind. A worker that fails ends all of them, with its error as the finding.
    """
    stage = run.recipe.stages[0]
    try:
        if not found_gpus(run, stage):
            return [ok(NAME, NO_GPU)]
        measured = measured_by_workers(run, stage, sizes)
    except Exception as error:  # whatever keeps workers from starting or computing
        return [
            fail(NAME, f"{type(error).__name__}: {error}", "see `got doctor --training`, then look again")
        ]
    return [*findings(measured, assumed_in(run.storage()))]


def found_gpus(run: TrainingRun, stage: Stage) -> int:
    """GPUs that trainings of this run could have."""
    if run.device == "cpu":
        return 0
    import torch

    if run.in_process:
        return torch.cuda.device_count()
    with jobs.session(run, stage.config):
        return Resources.of_cluster().gpus


def measured_by_workers(run: TrainingRun, stage: Stage, sizes: Sizes | None = None) -> list[Measured]:
    """What each worker of the stage measures, all at the same time, by rank. Raises as ``jobs.fit``."""
    name = f"doctor-{uuid4().hex[:12]}"
    arguments = {"model": run.recipe.model, "sizes": sizes}
    try:
        metrics = jobs.fit(run, name, stage, _worker, arguments)
    finally:
        run.storage().delete(f"ray/{name}")
    return [Measured(**one) for one in json.loads(metrics["measured"])]


def _worker(arguments: dict[str, Any]) -> None:
    import ray.train

    context = ray.train.get_context()
    rank, ranks = context.get_world_rank(), context.get_world_size()
    device = jobs.worker_device(arguments["gpu"])
    own = measure(arguments["model"], device, sizes=arguments["sizes"], rank=rank, ranks=ranks)
    ray.train.report({"measured": json.dumps([asdict(one) for one in parallel.gathered(own, ranks)])})


def assumed_in(storage: Storage) -> BudgetConfig:
    """GPU and rates of the stored plan; the usual ones where there is none, or one of an older form."""
    with suppress(FileNotFoundError, KeyError, TypeError, ValueError):
        stored = storage.read_json("training_plan.json")["assumptions"]
        expected = Assumptions(
            utilisation=stored["expected"]["utilisation"], link_gb=stored["expected"]["link_gb"]
        )
        return BudgetConfig(gpu=Accelerator(**stored["gpu"]), expected=expected)
    return BudgetConfig()


def findings(measured: list[Measured], plan: BudgetConfig) -> Iterator[Finding]:
    """The figures of all workers beside what the plan takes them to be."""
    gpu, expected = plan.gpu, plan.expected
    yield _cards(measured, gpu)
    peak = gpu.peak_tflops
    yield _compared(
        "matrix product",
        {one: one.matmul_tflops for one in measured},
        peak * expected.utilisation,
        "TFLOP/s",
        f"{{share:.0%}} of the {peak:g} of a {gpu.name}",
        peak,
    )
    if exchanged := {one: one.exchange_gb for one in measured if one.exchange_gb is not None}:
        yield _compared("exchange", exchanged, expected.link_gb, "GB/s", "the plan takes {needed:g}", 1.0)
    step = max(one.step_seconds for one in measured)
    memory = max(one.step_memory_gb for one in measured)
    yield _compared(
        "U-Net step",
        {one: one.step_tflops for one in measured},
        peak * expected.utilisation,
        "TFLOP/s",
        f"{step * 1000:.0f} ms, {memory:.1f} GB, {{share:.0%}} of the peak, the plan takes "
        f"{expected.utilisation:.0%}",
        peak,
    )


def _cards(measured: list[Measured], gpu: Accelerator) -> Finding:
    found = sorted({f"{one.device}, {one.memory_gb:.0f} GB" for one in measured})
    text = f"{len(measured)} workers: {'; '.join(found)}; the plan is for {gpu.name}, {gpu.memory_gb:g} GB"
    if min(one.memory_gb for one in measured) < 0.9 * gpu.memory_gb:
        return warn(
            f"{NAME}: cards", text, "make the plan for them: `got estimate --name NAME --memory-gb GB`"
        )
    return ok(f"{NAME}: cards", text)


def _compared(
    what: str, values: dict[Measured, float], needed: float, unit: str, beside: str, whole: float
) -> Finding:
    """One figure of all workers. The slowest counts, for all wait for it."""
    name, (slow, least) = f"{NAME}: {what}", min(values.items(), key=lambda pair: pair[1])
    most = max(values.values())
    spread = f"{least:.1f}" if most == least else f"{least:.1f} to {most:.1f}"
    text = f"{spread} {unit}, {slow.dtype}; {beside.format(share=least / whole, needed=needed)}"
    if most > ALIKE * least:
        return warn(name, text, f"{slow.host} is slower than others: see its clocks, heat and links")
    if least < needed:
        return warn(name, text, f"trainings take longer than planned: below {needed:.4g} {unit}")
    return ok(name, text)
