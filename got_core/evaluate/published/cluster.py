"""A published benchmark drawn and judged by workers of a Ray cluster.

Belongs here: which workers judge a benchmark, and that drawing and judging take turns on the same GPUs. Not
here: the workers (`evaluate.ray_workers`), and what is written (`scoring`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial as bound
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_core.evaluate.published.edits import EditOpener
from got_core.evaluate.published.pictures import load_detector
from got_core.evaluate.published.scoring import Report, Scoring

if TYPE_CHECKING:
    from got_core.evaluate.cluster_networks import RayNetworks
    from got_core.evaluate.drawers.costs import Costs
    from got_core.evaluate.drawers.drawer import Drawer
    from got_core.evaluate.geneval.cluster import RayDetector
    from got_core.evaluate.geneval2.config import JudgeConfig
    from got_core.evaluate.published.benchmark import Opened, PublishedBenchmark
    from got_core.evaluate.published.scoring import PublishedScores
    from got_core.storage import Storage


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where pictures are drawn and judged."""

    workers: int | None = None
    """None: as many as there are GPUs, or one on processors. 0: this process draws and judges, no Ray."""

    device: str = "auto"
    """`auto` (GPUs where there are any), `cpu` or `cuda`."""

    address: str | None = None
    """Of the Ray cluster; None: Ray is started on this machine."""

    judge: JudgeConfig | None = None
    """The server of benchmarks that a vision model judges."""

    @property
    def here(self) -> bool:
        """Whether this process draws and judges."""
        return self.workers == 0

    def session(self) -> AbstractContextManager[None]:
        """Ray for all that is done in the block."""
        from got_core.ray_sessions import ray_session

        return nullcontext() if self.here else ray_session(self.address, self.workers)

    def options(self) -> dict[str, Any]:
        """Arguments of the workers."""
        return {"workers": self.workers, "device": self.device, "address": self.address}


def score_on(
    cluster: Cluster,
    benchmark: PublishedBenchmark,
    place: Path,
    model: Path | str,
    storage: Storage,
    weights_hash: str,
    *,
    sampler: Mapping[str, Any],
    batch_size: int | None = None,
    report: Report = lambda line: None,
) -> PublishedScores:
    """`scoring.score_published` on a cluster; `place`: the downloads (GOT_BENCHMARKS), seen by all machines.

    `model`: a saved pipeline, by its name in the storage, or a local folder that all machines see; it keeps
    its format of numbers. Judge and model are never open at once: each may need the whole GPU.
    """
    from got_core.evaluate.drawers.costs import Costs

    with cluster.session():
        with opened_on(cluster, benchmark, place) as opened:
            run = Scoring.begin(benchmark, opened, storage, weights_hash, sampler=sampler, report=report)
        costs = Costs(storage, f"{benchmark.results(weights_hash)}/costs")
        with drawing_on(cluster, model, storage, costs) as drawer:
            run.draw(opened, drawer, batch_size)
        with opened_on(cluster, benchmark, place) as opened:
            return run.judge(opened)


@contextmanager
def drawing_on(
    cluster: Cluster, model: Path | str, storage: Storage, costs: Costs | None = None
) -> Iterator[Drawer]:
    """What draws with a model (see `score_on`), between `with` and its end."""
    from got_core.evaluate.benchmarks import open_pipeline
    from got_core.evaluate.drawers.cluster import RayDrawer
    from got_core.evaluate.drawers.local import LocalDrawer

    if cluster.here:
        folder = storage.download(model) if isinstance(model, str) else model
        yield LocalDrawer(open_pipeline(folder, device=cluster.device), costs)
        return
    source = storage if isinstance(model, str) else None
    with RayDrawer(model, storage=source, costs=costs, **cluster.options()) as drawer:
        yield drawer


@contextmanager
def opened_on(
    cluster: Cluster,
    benchmark: PublishedBenchmark,
    place: Path,
    *,
    dtype: str = "float32",
    partial: bool = False,
) -> Iterator[Opened]:
    """The benchmark with networks on workers, or with its server, between `with` and its end.

    `dtype`: of the networks; `partial`: see `PublishedBenchmark.open`. Raises MissingDownloadError, and what
    loading the networks raises.
    """
    benchmark.check(place)
    if benchmark.by_server:
        yield benchmark.open(place, judge=cluster.judge, partial=partial)
        return
    if cluster.here:
        yield benchmark.open(place, device=cluster.device, dtype=dtype, partial=partial)
        return
    with _networks(cluster, benchmark, place, dtype) as networks:
        yield benchmark.open(place, device=cluster.device, judge=networks, partial=partial)


def _networks(
    cluster: Cluster, benchmark: PublishedBenchmark, place: Path, dtype: str
) -> RayDetector | RayNetworks:
    """On workers, as many as there may be."""
    from got_core.evaluate.cluster_networks import RayNetworks
    from got_core.evaluate.geneval.cluster import RayDetector

    opener: Any = benchmark.opener
    if isinstance(opener, EditOpener):
        return RayNetworks(bound(opener.load, place, dtype=dtype), **cluster.options())
    return RayDetector(bound(load_detector, place, dtype=dtype), **cluster.options())
