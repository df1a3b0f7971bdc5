"""The benchmark page of a candidate with the champion beside it, and where it is kept in MLflow.

    maker = ReportMaker(storage=storage, world=world, config=config)
    sections = maker.sections(weights, ["geneval/scenes"], standing_at("got", "champion", tracking_uri))
    html = benchmark_report(sections)
    log_report(tracking_uri, weights, {"benchmark_report.html": html.encode()})

Belongs here: finding both models' results. Not here: what the page looks like (`got_core.evaluate.report`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_core.evaluate.benchmarks import BENCHMARKS, Benchmark
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.plans import PLANS
from got_core.evaluate.published.benchmark import PublishedBenchmark
from got_core.evaluate.published.downloads import benchmarks_place
from got_core.evaluate.published.registry import published_benchmark
from got_core.evaluate.report.loading import published_run, scenes_run
from got_core.evaluate.report.section import Run, Section
from got_core.evaluate.score_folder import GRID
from got_core.evaluate.trace_scores import FILE as TRACES
from got_core.registry.log import CHALLENGER
from got_core.registry.results import EXPERIMENT
from got_core.registry.standing import CHAMPION, Standing
from got_core.registry.tracking import connect, ensure_experiment
from got_core.scenes.world import World

if TYPE_CHECKING:
    from got_core.storage import Storage

_REPORT_TAG = "report_of"


@dataclass(frozen=True, kw_only=True)
class ReportMaker:
    """Finds results as the graph stores them."""

    storage: Storage
    world: World
    config: EvaluateConfig
    downloads: Path | None = None
    """Data of published benchmarks (GOT_BENCHMARKS): the pictures that were to be edited."""

    def sections(self, weights: str, benchmarks: Sequence[str], champion: Standing | None) -> list[Section]:
        """Of each benchmark the candidate's result, with the champion's beside it where that lies in the
        storage. What of it does not is said in the section's notes."""
        return [self._section(name, weights, champion) for name in benchmarks]

    def _section(self, name: str, weights: str, champion: Standing | None) -> Section:
        benchmark, context = self._opened(name)
        own = self._run(benchmark, context, weights, label=CHALLENGER)
        if own is None:
            raise FileNotFoundError(f"{self.storage.url} holds no result of {name} for the weights {weights}")
        beside, notes = self._beside(name, benchmark, context, weights, champion)
        folder = _prefix(benchmark, weights)
        pictures = self.storage.read_many([f"{folder}/{GRID}", f"{folder}/{TRACES}"])
        return Section(
            own.scores,
            pictures.get(f"{folder}/{GRID}"),
            own.samples,
            label=own.label,
            pictures=own.pictures,
            sources=own.sources,
            heats=own.heats,
            traces_png=pictures.get(f"{folder}/{TRACES}"),
            outcomes=own.outcomes,
            model=own.model,
            beside=beside,
            notes=notes,
        )

    def _opened(self, name: str) -> tuple[Benchmark | PublishedBenchmark, Any]:
        """The benchmark, and what knows its sources: a suite, or the opened benchmark."""
        scene = next((one for one in BENCHMARKS if one.name == name), None)
        if scene is not None:
            return scene, scene.suite(self.world, self.config)
        benchmark = published_benchmark(name, self.downloads)
        try:
            return benchmark, benchmark.open(
                benchmarks_place(self.downloads), device="cpu", networks=False, partial=True
            )
        except (OSError, ValueError):  # its pictures and scores are there without its data
            return benchmark, None

    def _run(self, benchmark: Any, context: Any, weights: str, *, label: str) -> Run | None:
        # By its weights, since aliases move on.
        named = {"label": label, "model": weights[:12]}
        if isinstance(benchmark, Benchmark):
            return scenes_run(self.storage, benchmark, weights, suite=context, **named)
        return published_run(self.storage, benchmark, weights, opened=context, **named)

    def _beside(
        self, name: str, benchmark: Any, context: Any, weights: str, champion: Standing | None
    ) -> tuple[tuple[Run, ...], tuple[str, ...]]:
        if champion is None:
            return (), ("There is no champion yet to compare with.",)
        label = f"{CHAMPION}, version {champion.version}"
        if champion.weights_hash == weights:
            return (), (f"This model is the {label} itself.",)
        known = champion.weights_hash
        run = self._run(benchmark, context, known, label=label) if known else None
        if run is not None:
            return (run,), ()
        gone = f"Pictures, plans and verdicts of the {label} are not in this storage"
        kept = champion.results.get(name)
        if kept is None:
            return (), (f"{gone}, and the registry has no score of it by {name}.",)
        registered = Run(label=label, scores=kept.scores, outcomes=kept.outcomes)
        return (registered,), (f"{gone}: its figures are those of the registry.",)


def plans_of(
    storage: Storage, benchmarks: Sequence[str], weights: str, downloads: Path | None = None
) -> dict[str, bytes]:
    """The published plans of a model by benchmark (`evaluate.plans`), of those that have any. `downloads`:
    where a user's own benchmarks are (GOT_BENCHMARKS)."""
    names = {one: f"{_prefix(_named(one, downloads), weights)}/{PLANS}" for one in benchmarks}
    files = storage.read_many(names.values())
    return {one: files[name] for one, name in names.items() if name in files}


def _named(name: str, downloads: Path | None) -> Benchmark | PublishedBenchmark:
    scene = next((one for one in BENCHMARKS if one.name == name), None)
    return scene or published_benchmark(name, downloads)


def _prefix(benchmark: Benchmark | PublishedBenchmark, weights: str) -> str:
    if isinstance(benchmark, Benchmark):
        return benchmark.prefix(weights)
    return benchmark.results(weights)


def log_report(tracking_uri: str, weights: str, files: Mapping[str, bytes], *, name: str = "got") -> str:
    """Keep a page and what belongs to it with a run of its own, found by its tag and used again; its id."""
    client = connect(tracking_uri)
    experiment = ensure_experiment(tracking_uri, EXPERIMENT)
    quoted = weights.replace("'", "")
    found = client.search_runs([experiment], f"tags.{_REPORT_TAG} = '{quoted}'", max_results=1)
    if found:
        run_id = found[0].info.run_id
    else:
        tags = {_REPORT_TAG: weights, "weights_hash": weights}
        run = client.create_run(experiment, tags=tags, run_name=f"report {name} {weights[:12]}")
        run_id = run.info.run_id
    status = "FAILED"
    try:
        with tempfile.TemporaryDirectory() as folder:
            for file, data in files.items():
                (Path(folder) / file).write_bytes(data)
            client.log_artifacts(run_id, folder)
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status)
    return run_id
