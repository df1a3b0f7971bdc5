"""The benchmarks that a model is scored by.

Belongs here: which there are, and scoring a model by one. Not here: their cases and rules (`scenes`,
`edits`), what a benchmark has to bring (`suite`), or the run (`runner`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from got_core.evaluate.config import DEFAULT_BENCHMARKS, EvaluateConfig
from got_core.evaluate.drawers.drawer import PipelineOrDrawer
from got_core.evaluate.drawers.opening import opened
from got_core.evaluate.edits import EditScenes
from got_core.evaluate.exact.emu_edit import EmuEditScenes
from got_core.evaluate.exact.imagenhub import ImagenHubScenes
from got_core.evaluate.exact.reason_edit import ReasonEditScenes
from got_core.evaluate.exact.suite import ExactSuite
from got_core.evaluate.protocol import Protocol
from got_core.evaluate.runner import RunResult, run_benchmark
from got_core.evaluate.samples import Progress
from got_core.evaluate.scenes import GenEvalScenes
from got_core.evaluate.suite import Suite
from got_core.scenes.world import World

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline
    from got_core.storage import Storage


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark of the graph."""

    name: str
    """Of its protocol."""

    folder: str
    """Of its pictures and results in the storage."""

    cluster: str
    """Column of its samples of which equal values are not independent."""

    unit: str
    """What its progress counts."""

    suite: Callable[[World, EvaluateConfig], Suite]
    """Its cases and rules in a world and at a size."""

    drawn_as: str = ""
    """Folder of its pictures, if they are those of another benchmark."""

    measures: bool = False
    """Whether its samples have a column `value`, of which the scores are means."""

    @property
    def pictures_of(self) -> str:
        """Folder of its pictures: the same for benchmarks that judge the same pictures."""
        return self.drawn_as or self.folder

    def prefix(self, weights_hash: str) -> str:
        """Where the results of these weights are kept, and the pictures unless they are another's."""
        return f"{self.folder}/{weights_hash[:12]}"

    def protocol(self, world: World, config: EvaluateConfig) -> Protocol:
        """Its protocol in a world and at a size."""
        return self.suite(world, config).protocol()

    def score(
        self,
        pipeline: PipelineOrDrawer,
        world: World,
        config: EvaluateConfig,
        storage: Storage,
        weights_hash: str,
        progress: Progress | None = None,
    ) -> RunResult:
        """Score a model, which draws in this process or where a drawer has it.

        Pictures of it that are in storage already are not drawn again. Raises as `runner.run_benchmark`.
        """
        suite, prefix = self.suite(world, config), self.prefix(weights_hash)
        pictures = f"{self.pictures_of}/{weights_hash[:12]}"
        return run_benchmark(
            suite, pipeline, storage, prefix, progress, weights_hash=weights_hash, pictures=pictures
        )

    def outcomes(self, samples: pl.DataFrame) -> pl.DataFrame:
        """What became of each sample of a run: sample_id, task, cluster, correct; of a benchmark that
        measures also its value."""
        return samples.select(
            "sample_id",
            "task",
            pl.col(self.cluster).cast(pl.String).alias("cluster"),
            "correct",
            *(["value"] if self.measures else []),
        )


GENEVAL = Benchmark(
    name=GenEvalScenes.name,
    folder="geneval",
    cluster=GenEvalScenes.cluster,
    unit="pictures drawn",
    suite=GenEvalScenes,
)
SCENE_EDITS = Benchmark(
    name=EditScenes.name,
    folder="edits",
    cluster=EditScenes.cluster,
    unit="scenes edited",
    suite=EditScenes,
)


def _exact(suite: type[ExactSuite], folder: str, drawn_as: str = "") -> Benchmark:
    return Benchmark(
        name=suite.name,
        folder=folder,
        cluster=suite.cluster,
        unit="scenes edited",
        suite=suite,
        drawn_as=drawn_as,
        measures=True,
    )


BENCHMARKS = (
    GENEVAL,
    SCENE_EDITS,
    _exact(ImagenHubScenes, "imagenhub_scenes", SCENE_EDITS.folder),
    _exact(EmuEditScenes, "emu_edit_scenes", SCENE_EDITS.folder),
    _exact(ReasonEditScenes, "reason_edit_scenes"),
)


def benchmarks_named(names: Sequence[str]) -> tuple[Benchmark, ...]:
    """The benchmarks of these names; for none, those that score a model by default. Raises ValueError, which
    lists the names."""
    known = [one.name for one in BENCHMARKS]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    return tuple(one for one in BENCHMARKS if one.name in (names or DEFAULT_BENCHMARKS))


def open_pipeline(folder: Path, *, device: str = "auto", dtype: str | None = None) -> GoTPipeline:
    """A saved pipeline for a benchmark run: quiet, and with all cores, since nothing else computes then (see
    `drawers.opening.opened`)."""
    return opened(folder, device=device, dtype=dtype, threads=os.cpu_count())
