"""Benchmark results made for tests: score dicts and outcomes that belong together."""

from __future__ import annotations

from typing import Any

import polars as pl

from got_core.evaluate.scores import score_tasks
from got_core.planning.geneval import TASKS
from got_core.registry.results import BenchmarkResult


def result(
    wrong: dict[str, int] | int = 0,
    *,
    benchmark: str = "geneval/scenes",
    tasks: tuple[str, ...] = TASKS,
    n: int = 100,
    digest: str = "p1",
    samples_a_prompt: int = 1,
) -> BenchmarkResult:
    """`n` samples a task, of which the first `wrong` ones are wrong."""
    wrong_by_task = wrong if isinstance(wrong, dict) else dict.fromkeys(tasks, wrong)
    rows = [
        (f"{digest}-{task}-{k}", task, f"{task} {k // samples_a_prompt}", k >= wrong_by_task.get(task, 0))
        for task in tasks
        for k in range(n)
    ]
    outcomes = pl.DataFrame(rows, ["sample_id", "task", "cluster", "correct"], orient="row")
    figures = score_tasks(outcomes, expected=dict.fromkeys(tasks, n), bootstrap=50, cluster="cluster")
    protocol: dict[str, Any] = {"protocol": benchmark, "protocol_digest": digest}
    return BenchmarkResult(protocol | {"protocol_record": {"name": benchmark}} | figures, outcomes)
