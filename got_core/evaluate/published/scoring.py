"""Scoring a model by a published benchmark: drawn, judged, and written beside its pictures.

Belongs here: that order, and what is written. Not here: the benchmarks (`registry`), where pictures are drawn
(`evaluate.drawers`), and comparing models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from got_core.evaluate.protocol import digest_of
from got_core.evaluate.published.apart import TABLE, pictures_of, with_apart
from got_core.evaluate.published.outside import outside_of
from got_core.evaluate.published.plans import published_plans
from got_core.evaluate.samples import DRAWING
from got_core.evaluate.score_folder import write_scores
from got_core.storage import Storage

if TYPE_CHECKING:
    from got_core.evaluate.protocol import Protocol
    from got_core.evaluate.published.benchmark import Opened, PublishedBenchmark

Report = Callable[[str], None]

OUTCOMES_TABLE = "outcomes"
"""Name, below a benchmark's results, of the table that promotion reads."""


@dataclass(frozen=True, kw_only=True)
class PublishedScores:
    """A model's result by one published benchmark."""

    scores: dict[str, Any]
    """See `benchmark.Opened.scores`."""

    samples: pl.DataFrame
    """One row a picture, columns of the benchmark."""

    outcomes: pl.DataFrame
    """See `benchmark.OUTCOMES`."""


def score_published(
    benchmark: PublishedBenchmark,
    opened: Opened,
    drawer: Any,
    storage: Storage,
    weights_hash: str,
    *,
    sampler: Mapping[str, Any],
    batch_size: int | None = None,
    report: Report = lambda line: None,
) -> PublishedScores:
    """Score a model that draws from plans of its own; what an interrupted run drew and judged is kept.

    `drawer`: a pipeline, or whatever draws with these weights (`evaluate.drawers`); `sampler`: what is forced
    on it; `batch_size`: most pictures drawn in one call, if fewer than the benchmark's own. Pictures of
    another list or sampler lie in a folder of their own. Written below `benchmark.results(weights_hash)`:
    `outcomes.parquet`, `apart.parquet` (pictures against their plans), `outside.parquet` (of edits, see
    `outside.table`) and what `score_folder` writes. Raises what the benchmark raises: IncompleteRunError
    where a picture is missing or has no verdict, DetectorError, before anything is drawn, where what judges
    cannot be trusted.
    """
    run = Scoring.begin(benchmark, opened, storage, weights_hash, sampler=sampler, report=report)
    run.draw(opened, drawer, batch_size)
    return run.judge(opened)


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """A model on its way through a benchmark, whose judge need not be open while pictures are drawn."""

    benchmark: PublishedBenchmark
    protocol: Protocol
    storage: Storage
    weights_hash: str
    report: Report

    @classmethod
    def begin(
        cls,
        benchmark: PublishedBenchmark,
        opened: Opened,
        storage: Storage,
        weights_hash: str,
        *,
        sampler: Mapping[str, Any],
        report: Report,
    ) -> Scoring:
        """Try what judges, and settle the protocol."""
        opened.check()
        protocol = opened.protocol(plan=True, sampler=sampler)
        return cls(
            benchmark=benchmark, protocol=protocol, storage=storage, weights_hash=weights_hash, report=report
        )

    @property
    def folder(self) -> Storage:
        """The pictures."""
        return pictures_folder(self.benchmark, self.protocol, self.storage, self.weights_hash)

    def draw(self, opened: Opened, drawer: Any, batch_size: int | None = None) -> None:
        """Draw what is missing."""
        opened.generate(
            drawer,
            self.folder,
            batch_size=batch_size,
            plan=True,
            sampler=self.protocol.sampler,
            weights_hash=self.weights_hash,
            progress=self._saying("drawn"),
        )

    def judge(self, opened: Opened) -> PublishedScores:
        """Judge what is not judged yet, and write the result."""
        folder, judged = self.folder, self.benchmark.judged
        frame = opened.judge(folder, store=self.storage, prefix=judged, progress=self._saying("judged"))
        apart, outside = pictures_of(opened, folder, frame), outside_of(opened, folder, frame)
        scores = with_apart(opened.scores(frame, protocol=self.protocol), apart)
        result = PublishedScores(
            scores=outside.joined(scores) if outside else scores,
            samples=frame,
            outcomes=opened.outcomes(frame),
        )
        place = self.benchmark.results(self.weights_hash)
        self.storage.write_table(f"{place}/{OUTCOMES_TABLE}", result.outcomes)
        if apart:
            self.storage.write_table(f"{place}/{TABLE}", apart.rows)
        if outside:
            outside.write(self.storage, place)
        write_scores(
            _below(self.storage, place),
            result.scores,
            frame,
            opened.grid(folder, frame),
            plans=published_plans(opened, folder, frame),
        )
        return result

    def _saying(self, what: str) -> Callable[[int, int], None]:
        name, unit = self.benchmark.name, self.benchmark.unit
        return lambda done, total: self.report(f"{name}: {done} of {total} {unit} {what}")


def pictures_folder(
    benchmark: PublishedBenchmark, protocol: Protocol, storage: Storage, weights_hash: str
) -> Storage:
    """Where pictures of these weights, of this list and with this sampler are kept."""
    return _below(storage, pictures_name(benchmark, protocol.record(), weights_hash))


def pictures_name(benchmark: PublishedBenchmark, record: Mapping[str, Any], weights_hash: str) -> str:
    """The same by the record of a protocol that is stored with scores."""
    parts = [record.get("samples") or {}, record.get("sampler") or {}, record.get("plan")]
    return f"{benchmark.pictures(weights_hash)}-{digest_of([DRAWING, *parts])}"


def _below(storage: Storage, name: str) -> Storage:
    return Storage(storage.url_of(name), **storage.fs_options)
