"""Benchmark results made for tests: score dicts and outcomes that belong together."""

from __future__ import annotations

from typing import Any

import numpy as np
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


def measured(
    shift: float = 0.0,
    *,
    benchmark: str = "emu_edit/base",
    n: int = 40,
    left_out: int = 4,
    overall: bool = True,
    pairs: int = 1,
) -> BenchmarkResult:
    """Figures of `n` samples, clip_t and clip_dir of each; of the first `left_out` there is no clip_dir.

    `shift` is added to clip_dir; `pairs` samples share a picture.
    """
    values = np.random.default_rng(5).random((2, n)).round(3)
    values[1] += shift
    rows = [
        (f"s{k}", task, f"c{k // pairs}", None if task == "clip_dir" and k < left_out else float(one[k]))
        for task, one in zip(("clip_t", "clip_dir"), values, strict=True)
        for k in range(n)
    ]
    outcomes = pl.DataFrame(rows, ["sample_id", "task", "cluster", "value"], orient="row")
    tasks = {
        str(task): {"mean": mean, "low": mean - 0.05, "high": mean + 0.05, "n": count}
        for task, mean, count in outcomes.group_by("task", maintain_order=True)
        .agg(pl.col("value").mean(), n=pl.col("value").count())
        .iter_rows()
    }
    main = {"mean": None, "low": None, "high": None} if not overall else tasks["clip_dir"]
    scores = {
        "benchmark": benchmark,
        "protocol": f"{benchmark}/prompts-0123456789ab",
        "protocol_digest": "q1",
        "complete": True,
        "overall": main["mean"],
        "low": main["low"],
        "high": main["high"],
        "tasks": tasks,
    }
    return BenchmarkResult(scores, outcomes)
