"""Running a benchmark: plan and draw what is missing, judge all of it, score, and write the result.

    suite = GenEvalScenes(world, config)
    result = run_benchmark(suite, pipeline, storage, "geneval/0123456789ab", weights_hash="0123456789ab...")

Belongs here: that order, and what is written. Not here: what a benchmark has to bring (`suite`), its cases
and rules (`scenes`, `edits`), storing pictures (`samples`), scores (`scores`), or any page about the result
(`report`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from got_core.evaluate.drawers.drawer import Drawer, PipelineOrDrawer
from got_core.evaluate.drawers.local import as_drawer
from got_core.evaluate.outside.table import suite_table
from got_core.evaluate.plans import PLANS, plans_of_rows
from got_core.evaluate.protocol import Protocol, digest_of, protocol_figures
from got_core.evaluate.samples import Drawn, Progress, Request, read_samples, sample_name
from got_core.evaluate.scores import failure_of, score_tasks, with_plan_figures
from got_core.evaluate.suite import AS_WRITTEN, Suite, Variant, sampler_arguments
from got_core.evaluate.trace_scores import FILE as TRACES
from got_core.evaluate.trace_scores import worst_traces

if TYPE_CHECKING:
    from got_core.chain.grammar import Chain
    from got_core.storage import Storage


@dataclass(frozen=True)
class RunResult:
    """A finished run."""

    samples: pl.DataFrame
    """One row a picture, columns of the suite, in the order of the requests."""

    scores: dict[str, Any]
    """Plain JSON: overall, tasks, intervals, counts, plan figures, seeds, protocol with its digest, the
    suite's own figures and ceilings; under each variant's key a score dict of its own."""

    grid_png: bytes
    """The first pictures of each task, as PNG."""

    protocol: Protocol

    traces_png: bytes = b""
    """Edits with the largest traces, as PNG; empty for other suites."""


def run_benchmark(
    suite: Suite,
    pipeline: PipelineOrDrawer,
    storage: Storage,
    prefix: str,
    progress: Progress | None = None,
    *,
    weights_hash: str | None = None,
    pictures: str | None = None,
) -> RunResult:
    """Draw what is missing under `prefix`, judge all of it, and write the result beside the pictures.

    `pipeline`: a pipeline, which draws in this process, or a drawer, such as `drawers.cluster.RayDrawer`.
    Pictures come from chains that the model wrote itself; each variant draws once more those that it changes.
    Written under `prefix`: `NNNNN.png`, `<variant's folder>/NNNNN.png`, `samples.parquet`,
    `samples_<variant's folder>.parquet`, `outside.parquet` and `traces.png` (of edits), `scores.json`,
    `protocol.json`, `plans.jsonl`, `grid.png`. Give `weights_hash` (or a prefix of its own for each model) so
    that pictures of other weights are not taken for this model's. `pictures`: where the pictures are kept if
    not under `prefix`, such as those of another benchmark. Raises DetectorError, before anything is drawn, if
    the judge cannot be trusted; IncompleteRunError if pictures are missing in the end.
    """
    drawer = as_drawer(pipeline)
    ceilings = drawer.ask(suite.ceilings)
    run = _StoredRun(suite, storage, prefix, weights_hash, pictures)
    run.draw(drawer, run.requests, AS_WRITTEN, progress)
    drawn = run.read(run.requests, AS_WRITTEN) if suite.variants else {}
    for variant in suite.variants:
        run.draw(drawer, run.requests_of(variant, drawn), variant, progress)
    return run.score(extra=ceilings)


def score_stored(
    suite: Suite,
    storage: Storage,
    prefix: str,
    *,
    weights_hash: str | None = None,
    partial: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> RunResult:
    """Judge the pictures that are in storage; needs no model. `extra` joins the scores.

    Raises IncompleteRunError if any is missing, unless `partial`: the scores then hold `complete: false`.
    """
    return _StoredRun(suite, storage, prefix, weights_hash).score(partial=partial, extra=extra)


def judge_stored(
    suite: Suite, storage: Storage, prefix: str, *, weights_hash: str | None = None
) -> tuple[pl.DataFrame, dict[int, Drawn]]:
    """Rows and pictures of those that are in storage, without variants; nothing is written."""
    run = _StoredRun(suite, storage, prefix, weights_hash)
    drawn = run.read(run.requests, AS_WRITTEN)
    return run.judge(drawn, suite.protocol()), drawn


class _StoredRun:
    """The pictures of one model under one prefix."""

    def __init__(
        self,
        suite: Suite,
        storage: Storage,
        prefix: str,
        weights_hash: str | None,
        pictures: str | None = None,
    ) -> None:
        self.suite, self.storage, self.weights_hash = suite, storage, weights_hash
        self.folder = prefix.rstrip("/")
        self.pictures = (pictures or prefix).rstrip("/")
        self.requests = suite.requests(self.pictures)
        self.repaired: dict[tuple[str, str], Chain] = {}
        """By prompt and plan: requests that differ in their noise alone share the repaired plan."""

    def read(self, requests: Mapping[int, Request], variant: Variant) -> dict[int, Drawn]:
        return read_samples(
            self.storage, requests, sampler=self._sampler(variant), weights_hash=self.weights_hash
        )

    def draw(
        self,
        drawer: Drawer,
        requests: Mapping[int, Request],
        variant: Variant,
        progress: Progress | None,
    ) -> None:
        drawer.draw(
            requests,
            self.storage,
            sampler=self._sampler(variant),
            weights_hash=self.weights_hash,
            batch_size=self.suite.config.batch_size,
            progress=progress,
        )

    def _sampler(self, variant: Variant) -> dict[str, Any]:
        return sampler_arguments(self.suite.config) | variant.sampler

    def requests_of(self, variant: Variant, drawn: Mapping[int, Drawn]) -> dict[int, Request]:
        """The pictures that the variant makes different: from plans that are written already, under other
        names."""
        requests = {}
        for index, one in drawn.items():
            chain = self._repair(index, one.chain) if variant.repaired else one.chain
            if chain != one.chain or not variant.repaired:
                name = sample_name(f"{self.pictures}/{variant.folder}", index)
                requests[index] = dataclasses.replace(
                    self.requests[index], name=name, chain=chain, dropped=one.dropped
                )
        return requests

    def _repair(self, index: int, chain: Chain) -> Chain:
        key = (self.requests[index].prompt, chain.to_model())
        if key not in self.repaired:
            self.repaired[key] = self.suite.repair(index, chain)
        return self.repaired[key]

    def score(self, *, partial: bool = False, extra: Mapping[str, Any] | None = None) -> RunResult:
        drawn, protocol = self.read(self.requests, AS_WRITTEN), self.suite.protocol()
        samples = self.judge(drawn, protocol)
        scores = {**suite_scores(self.suite, samples, protocol, partial), **(extra or {})}
        for variant, pictures, changed in self._variants(drawn):
            own = self.suite.protocol(variant)
            judged = self.judge(pictures, own)
            scores[variant.key] = suite_scores(self.suite, judged, own, partial) | {"changed": changed}
            if outside := suite_table(self.suite, judged, pictures):
                scores[variant.key] = outside.joined(scores[variant.key])
            self.storage.write_table(f"{self.folder}/samples_{variant.folder}", judged)
        if outside := suite_table(self.suite, samples, drawn):
            scores = outside.joined(scores)
            outside.write(self.storage, self.folder)
        grid, traces = self.suite.grid(samples, drawn), worst_traces(self.suite, samples, drawn)
        result = RunResult(samples, scores, grid, protocol, traces)
        self._write(result)
        return result

    def _variants(self, drawn: dict[int, Drawn]) -> Iterator[tuple[Variant, dict[int, Drawn], int]]:
        """Each variant with its pictures, and how many of them it changes; the others are those of the plans
        as written."""
        as_written = {False: drawn}
        """By whether the source is kept outside the boxes."""
        for variant in self.suite.variants:
            requests = self.requests_of(variant, drawn)
            pictures = self.read(requests, variant)
            if variant.repaired:
                unchanged = as_written[variant.keep_outside].items()
                pictures |= {index: one for index, one in unchanged if index not in requests}
            else:
                as_written[variant.keep_outside] = pictures
            yield variant, pictures, len(requests)

    def judge(self, drawn: Mapping[int, Drawn], protocol: Protocol) -> pl.DataFrame:
        digest = protocol.digest()
        rows = [
            {"sample_id": digest_of([digest, index]), **self._row(index, drawn[index])}
            for index in sorted(drawn)
        ]
        return pl.DataFrame(rows, schema=self.suite.columns)

    def _row(self, index: int, drawn: Drawn) -> dict[str, Any]:
        request, verdict = self.requests[index], self.suite.judge(index, drawn)
        return {
            "index": index,
            "prompt": request.prompt,
            "seed": request.seed,
            "chain": drawn.chain.to_data(),
            "image": drawn.name,
            "image_id": drawn.image_id,
            "failure": failure_of(
                drawn=drawn.fault is None, correct=verdict["correct"], plan_correct=verdict["plan_correct"]
            ),
            **verdict,
        }

    def _write(self, result: RunResult) -> None:
        """Store the result beside its pictures; the scores come last and mark it as complete."""
        self.storage.write_table(f"{self.folder}/samples", result.samples)
        self.storage.write_json(f"{self.folder}/protocol.json", result.protocol.to_dict())
        self.storage.write_bytes(f"{self.folder}/grid.png", result.grid_png)
        if result.traces_png:
            self.storage.write_bytes(f"{self.folder}/{TRACES}", result.traces_png)
        self.storage.write_bytes(f"{self.folder}/{PLANS}", plans_of_rows(result.samples))
        self.storage.write_json(f"{self.folder}/scores.json", result.scores)


def suite_scores(suite: Suite, samples: pl.DataFrame, protocol: Protocol, partial: bool) -> dict[str, Any]:
    """Scores of judged pictures. Raises IncompleteRunError unless `partial`."""
    scores = score_tasks(
        samples,
        expected=suite.expected,
        partial=partial,
        bootstrap=suite.config.bootstrap,
        seed=suite.config.seed,
        cluster=suite.cluster,
        value=suite.value,
        mean_of=suite.mean_of,
    )
    return {
        **protocol_figures(protocol),
        **scores,
        **with_plan_figures(samples, scores, suite.value, suite.mean_of),
        **suite.figures(samples),
    }
