"""A registered version scored again under today's protocol.

Belongs here: from the registry's own artifacts to a stored result. Not here: benchmarks
(`got_core.evaluate`), and when this is needed (`promote`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from got_core.evaluate.benchmarks import BENCHMARKS, Benchmark, open_pipeline
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.plans import plans_of_rows
from got_core.evaluate.published.cluster import Cluster, score_on
from got_core.evaluate.published.downloads import benchmarks_place
from got_core.evaluate.published.registry import published_benchmark
from got_core.registry.log import WEIGHTS_TAG
from got_core.registry.reference import pipeline_folder
from got_core.registry.results import BenchmarkResult
from got_core.registry.tracking import fluent, mlflow
from got_core.scenes.world import World
from got_core.storage import Storage

if TYPE_CHECKING:
    from got_core.evaluate.protocol import Protocol
    from got_core.model.pipeline import GoTPipeline

Report = Callable[[str], None]


class CannotScoreError(RuntimeError):
    """A version that cannot be scored again: its model is gone, or does not load any more."""


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Scores registered versions as the graph scores its candidate; pictures are kept in its storage."""

    world: World
    config: EvaluateConfig
    storage: Storage
    downloads: Path | None = None
    """Data and networks of published benchmarks (GOT_BENCHMARKS)."""

    cluster: Cluster = field(default_factory=Cluster)
    """Where published benchmarks are drawn and judged."""

    report: Report = lambda line: None
    """Called with lines about progress."""

    def protocols(self) -> dict[str, str]:
        """Digest of today's protocol of each of the configuration's benchmarks, by name.

        Raises what a published benchmark raises whose downloads are missing or cannot be read.
        """
        chosen = (one for one in BENCHMARKS if one.name in self.config.benchmarks)
        scenes = {one.name: one.protocol(self.world, self.config).digest() for one in chosen}
        names = self.config.published
        return scenes | {name: self._protocol_of_published(name).digest() for name in names}

    def _protocol_of_published(self, name: str) -> Protocol:
        # Here: nothing is found or measured for it, so no worker has to be started.
        place = benchmarks_place(self.downloads)
        benchmark = published_benchmark(name, place)
        judge = self.cluster.judge if benchmark.by_server else None
        opened = benchmark.open(place, device="cpu", judge=judge)
        return opened.protocol(plan=True, sampler=self.config.sampler)

    def score(
        self, version: ModelVersion, names: Collection[str], tracking_uri: str
    ) -> list[BenchmarkResult]:
        """Results of the named benchmarks. What an interrupted run has drawn is not drawn again.

        Raises CannotScoreError; what a benchmark raises is passed on, since trying again may help.
        """
        weights = version.tags.get(WEIGHTS_TAG)
        if not weights:
            raise CannotScoreError(f"it has no tag {WEIGHTS_TAG}")
        scenes = [one for one in BENCHMARKS if one.name in names]
        published = [name for name in self.config.published if name in names]
        with _folder(version, tracking_uri) as folder:
            # Where workers draw, it is loaded only to see that it can be, not into the GPU that they need.
            pipeline = _loaded(folder, device="auto" if scenes else "cpu")
            results = [self._result(one, pipeline, weights) for one in scenes]
            del pipeline
            return results + [self._result_of_published(name, folder, weights) for name in published]

    def _result(self, benchmark: Benchmark, pipeline: GoTPipeline, weights: str) -> BenchmarkResult:
        def progress(done: int, total: int) -> None:
            self.report(f"champion, {benchmark.name}: {done} of {total} {benchmark.unit}")

        made = benchmark.score(pipeline, self.world, self.config, self.storage, weights, progress)
        return BenchmarkResult(made.scores, benchmark.outcomes(made.samples), plans_of_rows(made.samples))

    def _result_of_published(self, name: str, folder: Path, weights: str) -> BenchmarkResult:
        place = benchmarks_place(self.downloads)
        benchmark = published_benchmark(name, place)
        with self._seen_by_workers(folder, f"{benchmark.folder}/{weights[:12]}/model") as model:
            made = score_on(
                self.cluster,
                benchmark,
                place,
                model,
                self.storage,
                weights,
                sampler=self.config.sampler,
                batch_size=self.config.batch_size,
                report=lambda line: self.report(f"champion, {line}"),
            )
        return BenchmarkResult(made.scores, made.outcomes)

    @contextmanager
    def _seen_by_workers(self, folder: Path, name: str) -> Iterator[Path | str]:
        """The folder, or on a cluster of several machines a copy in the storage."""
        if self.cluster.address is None:
            yield folder
            return
        self.storage.upload(folder, name)
        try:
            yield name
        finally:
            self.storage.delete(name)


@contextmanager
def _folder(version: ModelVersion, tracking_uri: str) -> Iterator[Path]:
    """The version's saved pipeline, in a copy of its artifacts that is deleted afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="got-champion-"))
    try:
        entry = _downloaded(version, tracking_uri, folder)
        with _loading():
            found = pipeline_folder(entry)
        yield found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _loaded(folder: Path, device: str) -> GoTPipeline:
    with _loading():
        return open_pipeline(folder, device=device)


@contextmanager
def _loading() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # whatever a library raises over files it cannot use
        raise CannotScoreError(f"its model does not load: {type(error).__name__}: {error}") from error


def _downloaded(version: ModelVersion, tracking_uri: str, folder: Path) -> Path:
    uri = f"models:/{version.name}/{version.version}"
    try:
        with fluent(tracking_uri):
            return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))
    except (MlflowException, OSError) as error:
        if not _gone(error):
            raise  # the server may be back later
        raise CannotScoreError(f"its model is gone: {error}") from error


def _gone(error: MlflowException | OSError) -> bool:
    if isinstance(error, MlflowException):
        return error.error_code == "RESOURCE_DOES_NOT_EXIST"
    # MLflow's own error for a missing local folder is a plain OSError.
    return type(error) in (FileNotFoundError, NotADirectoryError, OSError)
