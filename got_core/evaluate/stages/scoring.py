"""The models of a training's stages on the same requests.

    rows = stage_rows(models, [GENEVAL, SCENE_EDITS], world, config, storage, per_task={"geneval/scenes": 20})

Belongs here: drawing what is missing, and a table of outcomes. Not here: what the table says (`figures`).

Each model draws from plans of its own; for what drawing alone adds, all of them also draw from the last
model's plans, where these are right. A plan that is the same word for word gives the same picture, which is
not drawn again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import polars as pl

from got_core.evaluate.benchmarks import Benchmark
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.drawers.drawer import Drawer
from got_core.evaluate.drawers.local import as_drawer
from got_core.evaluate.runner import judge_stored
from got_core.evaluate.samples import Drawn, Request, read_samples, sample_name
from got_core.evaluate.scores import IncompleteRunError
from got_core.evaluate.stages.models import StageModel
from got_core.evaluate.suite import Suite, sampler_arguments
from got_core.scenes.world import World
from got_core.storage import Storage

ROWS: dict[str, pl.DataType] = {
    "benchmark": pl.String(),
    "stage": pl.String(),
    "index": pl.Int32(),
    "task": pl.String(),
    "cluster": pl.String(),
    "sampling_seed": pl.Int64(),
    "picture": pl.Boolean(),
    "plan": pl.Boolean(),
    "drawing": pl.Boolean(),
    "trace": pl.Float64(),
}
"""`index`: of the benchmark's request; `cluster`: rows that share it are not independent; `picture`: whether
the picture from the model's own plan is right, `plan`: whether that plan is, `drawing`: whether its picture
from the last model's plan is, null where that plan is wrong; `trace`: of edits (`evaluate.traces`)."""

Progress = Callable[[str], None]


class FirstOfEach:
    """A suite with the first requests of each task alone."""

    def __init__(self, suite: Suite, per_task: int | None) -> None:
        self._suite, self._per_task = suite, per_task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._suite, name)

    @cached_property
    def _chosen(self) -> frozenset[int] | None:
        """None: all."""
        if self._per_task is None:
            return None
        left = dict.fromkeys(self._suite.expected, self._per_task)
        chosen = []
        for index in self._suite.requests("x"):
            task = task_of(self._suite, index)
            if left[task]:
                left[task] -= 1
                chosen.append(index)
        return frozenset(chosen)

    def requests(self, prefix: str) -> dict[int, Request]:
        """With the numbers that they have in the whole suite."""
        every = self._suite.requests(prefix)
        return every if self._chosen is None else {k: one for k, one in every.items() if k in self._chosen}


def task_of(suite: Any, index: int) -> str:
    """The task of a request of `geneval/scenes` or `edits/scenes`."""
    if hasattr(suite, "rows"):
        return suite.rows[index]["tag"]  # type: ignore[no-any-return]
    return suite.cases[index % len(suite.cases)].kind  # type: ignore[no-any-return]


def stage_rows(
    models: Sequence[StageModel],
    benchmarks: Sequence[Benchmark],
    world: World,
    config: EvaluateConfig,
    storage: Storage,
    *,
    per_task: Mapping[str, int] | None = None,
    progress: Progress = lambda line: None,
) -> pl.DataFrame:
    """Draw, judge and compare: a row (ROWS) for each model and request.

    `models`: in the order of training, the last one's plans are those that all draw from. `per_task`:
    requests of each task by the benchmark's name; None: all. Pictures are kept where the benchmark keeps
    those of a model (`Benchmark.prefix`), so those that are there are not drawn again. Raises ValueError
    where two models are called the same, and as the benchmarks.
    """
    titles = [one.title for one in models]
    if len(set(titles)) < len(titles) or not titles:
        raise ValueError(f"stages need one title each, got {titles}")
    suites = {
        one: FirstOfEach(one.suite(world, config), (per_task or {}).get(one.name)) for one in benchmarks
    }
    frames: dict[str, list[pl.DataFrame]] = {}
    last: dict[str, tuple[pl.DataFrame, dict[int, Drawn]]] = {}
    for model in reversed(models):  # the last one's plans are needed first
        work = _Work(model, storage, progress)
        frames[model.title] = [
            work.rows(one, suite, last.setdefault(one.name, work.own(one, suite)))
            for one, suite in suites.items()
        ]
    return pl.concat([frame for title in titles for frame in frames[title]])


class _Work:
    """What one model has to draw; it is opened for the first picture that is missing."""

    def __init__(self, model: StageModel, storage: Storage, progress: Progress) -> None:
        self.model, self.storage, self.progress = model, storage, progress
        self._own: dict[str, tuple[pl.DataFrame, dict[int, Drawn]]] = {}

    @cached_property
    def drawer(self) -> Drawer:
        return as_drawer(self.model.open())

    def own(self, benchmark: Benchmark, suite: Any) -> tuple[pl.DataFrame, dict[int, Drawn]]:
        """Judged pictures from the model's own plans."""
        if benchmark.name not in self._own:
            prefix = self._prefix(benchmark)
            self._drawn(benchmark, suite, suite.requests(prefix), "own plans")
            self._own[benchmark.name] = judge_stored(
                suite, self.storage, prefix, weights_hash=self.model.weights_hash
            )
        return self._own[benchmark.name]

    def rows(
        self, benchmark: Benchmark, suite: Any, last: tuple[pl.DataFrame, dict[int, Drawn]]
    ) -> pl.DataFrame:
        frame, drawn = self.own(benchmark, suite)
        right = dict(zip(frame["index"], frame["correct"], strict=True))
        given = self._given(benchmark, suite, drawn, last)
        return frame.select(
            pl.lit(benchmark.name).alias("benchmark"),
            pl.lit(self.model.title).alias("stage"),
            "index",
            "task",
            pl.col(benchmark.cluster).cast(pl.String).alias("cluster"),
            "sampling_seed",
            pl.col("correct").alias("picture"),
            pl.col("plan_correct").alias("plan"),
            pl.Series("drawing", [given.get(k, right[k]) for k in frame["index"]], pl.Boolean()),
            (pl.col("trace") if "trace" in frame.columns else pl.lit(None, pl.Float64())).alias("trace"),
        ).cast(ROWS)  # type: ignore[arg-type]

    def _given(
        self,
        benchmark: Benchmark,
        suite: Any,
        drawn: Mapping[int, Drawn],
        last: tuple[pl.DataFrame, dict[int, Drawn]],
    ) -> dict[int, bool | None]:
        """Verdicts on pictures from the last model's plans: None where the plan is wrong; left out where the
        model's own plan is the same."""
        plans, others = last
        wrong = plans.filter(~pl.col("plan_correct"))["index"]
        found: dict[int, bool | None] = dict.fromkeys(wrong)
        prefix = self._prefix(benchmark)
        requests = {
            index: dataclasses.replace(
                request,
                name=sample_name(f"{prefix}/given", index),
                chain=others[index].chain,
                dropped=others[index].dropped,
            )
            for index, request in suite.requests(prefix).items()
            if index not in found and others[index].chain != drawn[index].chain
        }
        pictures = self._drawn(benchmark, suite, requests, "plans of the last model")
        return found | {index: suite.judge(index, one)["correct"] for index, one in pictures.items()}

    def _prefix(self, benchmark: Benchmark) -> str:
        return f"{benchmark.pictures_of}/{self.model.weights_hash[:12]}"

    def _drawn(
        self, benchmark: Benchmark, suite: Any, requests: Mapping[int, Request], what: str
    ) -> dict[int, Drawn]:
        """Pictures of the requests, those that are missing drawn first."""
        options: dict[str, Any] = {
            "sampler": sampler_arguments(suite.config),
            "weights_hash": self.model.weights_hash,
        }
        found = read_samples(self.storage, requests, **options)
        if len(found) == len(requests):
            return found
        self.drawer.draw(
            requests,
            self.storage,
            batch_size=suite.config.batch_size,
            progress=lambda done, total: self.progress(
                f"{self.model.title}, {benchmark.name}, {what}: {done} of {total}"
            ),
            **options,
        )
        found = read_samples(self.storage, requests, **options)
        if missing := len(requests) - len(found):
            raise IncompleteRunError(f"{missing} of {len(requests)} pictures of {benchmark.name} are missing")
        return found
