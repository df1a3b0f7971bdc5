"""The benchmarks on rendered scenes behind the interface of published ones.

Belongs here: drawing and judging them apart, in a folder of pictures. Not here: the benchmarks
(`evaluate.scenes`, `evaluate.edits`), or their run in the graph (`evaluate.runner`). Pictures are judged
together with their plans, so only such as the project drew are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import polars as pl

from got_core.chain.grammar import Chain
from got_core.evaluate.benchmarks import BENCHMARKS, Benchmark
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.drawers.local import as_drawer
from got_core.evaluate.outside.table import suite_cases
from got_core.evaluate.picture_record import read_record
from got_core.evaluate.published.benchmark import OUTCOMES
from got_core.evaluate.runner import judge_stored, suite_scores
from got_core.evaluate.samples import Request
from got_core.evaluate.scores import IncompleteRunError
from got_core.evaluate.suite import AS_WRITTEN, Suite, Variant, sampler_arguments
from got_core.scenes.world import World

if TYPE_CHECKING:
    from got_core.evaluate.drawers.drawer import PipelineOrDrawer
    from got_core.evaluate.outside.rows import Case
    from got_core.evaluate.protocol import Protocol
    from got_core.evaluate.samples import Drawn, Progress
    from got_core.storage import Storage

PICTURES = "pictures"
"""Folder of the pictures."""

_SHOWN = 5


class _WithoutPlans:
    """A suite whose pictures are drawn from prompts alone."""

    def __init__(self, suite: Suite) -> None:
        self._suite = suite

    def __getattr__(self, name: str) -> Any:
        return getattr(self._suite, name)

    def protocol(self, variant: Variant = AS_WRITTEN) -> Protocol:
        """Says that there was no plan."""
        return dataclasses.replace(self._suite.protocol(variant), plan=False)

    def requests(self, prefix: str) -> dict[int, Request]:
        """With empty plans."""
        requests = self._suite.requests(prefix)
        return {number: dataclasses.replace(one, chain=Chain(())) for number, one in requests.items()}


class OpenedScenes:
    """A benchmark on scenes in a world and at a size (see `benchmark.Opened`)."""

    notes: tuple[str, ...] = ()

    def __init__(self, benchmark: Benchmark, world: World, config: EvaluateConfig) -> None:
        self.name, self._benchmark, self._world = benchmark.name, benchmark, world
        self._config = dataclasses.replace(config, repair="off", keep_outside="off")

    @property
    def samples(self) -> Suite:
        """Its cases."""
        return self._suite(plan=True, sampler=None)

    def _suite(self, *, plan: bool | None, sampler: Mapping[str, Any] | None) -> Suite:
        suite = self._benchmark.suite(self._world, self._sampled(sampler or {}))
        return _WithoutPlans(suite) if plan is False else suite  # type: ignore[return-value]  # as a suite

    def _sampled(self, sampler: Mapping[str, Any]) -> EvaluateConfig:
        known = {field.name for field in dataclasses.fields(self._config)}
        if strange := sorted(set(sampler) - known):
            raise ValueError(f"{self.name} takes no {', '.join(strange)}")
        return dataclasses.replace(self._config, **sampler)

    def figures(self, pipeline: PipelineOrDrawer) -> dict[str, Any]:
        """What perfect pictures would score through this model's autoencoder. Raises DetectorError."""
        return as_drawer(pipeline).ask(self.samples.ceilings)

    def check(self) -> None:
        """The scene reader is tried when a model's ceilings are measured (`figures`)."""

    def generate(
        self,
        drawer: Any,
        folder: Storage,
        *,
        plan: bool = True,
        sampler: Mapping[str, Any] | None = None,
        weights_hash: str | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Draw what is missing."""
        suite = self._suite(plan=plan, sampler=sampler)
        return as_drawer(drawer).draw(
            suite.requests(PICTURES),
            folder,
            sampler=sampler_arguments(suite.config),
            weights_hash=weights_hash,
            batch_size=min(suite.config.batch_size, batch_size or suite.config.batch_size),
            progress=progress,
        )

    def judge(
        self,
        folder: Storage | None,
        *,
        store: Storage,
        prefix: str,
        partial: bool = False,
        progress: Progress | None = None,
    ) -> pl.DataFrame:
        """Verdicts on pictures and plans; reading scenes is quick, so nothing is kept."""
        frame, suite, drawn = self._judged(folder)
        if progress:
            progress(len(drawn), sum(suite.expected.values()))
        if not partial:
            self._check_whole(folder, suite, drawn)
        return frame

    def _check_whole(self, folder: Storage | None, suite: Suite, drawn: Mapping[int, Drawn]) -> None:
        names = {number: one.name for number, one in suite.requests(PICTURES).items()}
        missing = [name for number, name in names.items() if number not in drawn]
        extra = sorted(self._of_nobody({*folder.list(f"{PICTURES}/")} - {*names.values()})) if folder else []
        faults = [
            *_named("missing, or of something else than its record says", missing),
            *_named("asked for by nobody", extra),
        ]
        if faults:
            place = folder.url if folder else "no folder"
            raise IncompleteRunError(
                f"{place} has {len(drawn)} / {len(names)} pictures of {self.name}; {'; '.join(faults)}; put "
                "that right, or ask for a partial score"
            )

    def _of_nobody(self, names: set[str]) -> set[str]:
        """Those that no other benchmark on the same pictures asks for either."""
        for other in BENCHMARKS if names else ():
            if other is not self._benchmark and other.pictures_of == self._benchmark.pictures_of:
                asked = other.suite(self._world, self._config).requests(PICTURES)
                names = names - {one.name for one in asked.values()}
        return names

    def _judged(self, folder: Storage | None) -> tuple[pl.DataFrame, Suite, dict[int, Drawn]]:
        record = read_record(folder) if folder else None
        if folder is None or record is None:
            raise ValueError(
                f"{self.name} judges plans too, so only pictures that `got score generate` drew: "
                f"{folder.url if folder else 'no folder'} has no record of its drawing"
            )
        suite = self._suite(plan=record.plan, sampler=self._read_sampler(record.sampler))
        frame, drawn = judge_stored(suite, folder, PICTURES, weights_hash=record.weights_hash)
        return frame, suite, drawn

    @staticmethod
    def _read_sampler(sampler: Mapping[str, Any]) -> dict[str, Any]:
        from got_core.model.config import GuidanceReuse

        reuse = sampler.get("guidance_reuse")
        return {**sampler, **({"guidance_reuse": GuidanceReuse(**reuse)} if reuse else {})}

    def protocol(self, *, plan: bool | None = None, sampler: Mapping[str, Any] | None = None) -> Protocol:
        """The suite's; with plans it is the graph's own."""
        return self._suite(plan=plan, sampler=self._read_sampler(sampler or {})).protocol()

    def scores(self, frame: pl.DataFrame, *, protocol: Protocol, partial: bool = False) -> dict[str, Any]:
        """See `scores.score_tasks`, with plan figures."""
        suite = self._suite(plan=protocol.plan, sampler=self._read_sampler(protocol.sampler))
        scores = suite_scores(suite, frame, protocol, partial)
        tasks = {
            name: one | {"of": f"{one['n']} / {suite.expected[name]}"}
            for name, one in scores["tasks"].items()
        }
        return {
            "benchmark": self.name,
            **scores,
            "tasks": tasks,
            "partial": not scores["complete"],
            "of": f"{scores['found']} / {scores['expected']}",
            "notes": scores.get("notes", []),
        }

    def outcomes(self, frame: pl.DataFrame) -> pl.DataFrame:
        """One row a picture; its number is the same with plans and without."""
        found = self._benchmark.outcomes(frame)
        return found.with_columns(
            frame["index"].cast(pl.String).alias("sample_id"),
            pl.col("value" if "value" in found.columns else "correct").cast(pl.Float64).alias("value"),
        ).select(OUTCOMES)

    def outside_cases(self, folder: Storage, frame: pl.DataFrame) -> Iterator[Case] | None:
        """Sources and edits with exact boxes, for what changed outside (`published.outside`); None for a
        benchmark of no edits."""
        judged, suite, drawn = self._judged(folder)
        return suite_cases(suite, judged, drawn) if hasattr(suite, "may_change") else None

    def grid(self, folder: Storage | None, frame: pl.DataFrame) -> bytes:
        """The first pictures of each task with their planned boxes."""
        _, suite, drawn = self._judged(folder)
        return suite.grid(frame, drawn)


def _named(what: str, names: list[str]) -> list[str]:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"{what}: {', '.join(names[:_SHOWN])}{more}"] if names else []
