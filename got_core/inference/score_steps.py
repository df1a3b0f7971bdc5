"""Drawing for a benchmark and judging, each by itself and possibly on different machines.

Belongs here: one step from names to files. Not here: the benchmarks (`got_core.evaluate`), both steps at once
for the graph's benchmarks (`scoring`), comparing scores (`got_core.evaluate.comparison`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_core.evaluate.benchmarks import BENCHMARKS, Benchmark, open_pipeline
from got_core.evaluate.drawers.costs import Costs, costs
from got_core.evaluate.drawers.local import as_drawer
from got_core.evaluate.judged_names import is_own
from got_core.evaluate.picture_record import COSTS, PictureRecord, begin_record, read_record
from got_core.evaluate.published.apart import TABLE, pictures_of, with_apart
from got_core.evaluate.published.downloads import benchmarks_place
from got_core.evaluate.published.edits import OpenedEdits
from got_core.evaluate.published.outside import outside_of
from got_core.evaluate.published.plans import published_plans
from got_core.evaluate.published.registry import PUBLISHED, PUBLISHED_NAMES, published_benchmark
from got_core.evaluate.published.scenes import OpenedScenes
from got_core.evaluate.score_folder import SCORES, ScoresError, read_scores, write_scores
from got_core.evaluate.scores import IncompleteRunError
from got_core.inference.any_model import FoundModel, ModelPlaces, found_model, saved_pipeline

if TYPE_CHECKING:
    from got_core.evaluate.drawers.drawer import Drawer
    from got_core.evaluate.geneval2.config import JudgeConfig
    from got_core.evaluate.published.benchmark import Opened, PublishedBenchmark
    from got_core.recipes import Recipe
    from got_core.storage import Storage

Report = Callable[[str], None]
NAMES = (*PUBLISHED_NAMES, *(one.name for one in BENCHMARKS))
_KEPT = "kept"
"""Prefix beside the scores, of what judging need not do again."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Where a step finds what it needs."""

    recipe: Recipe
    """World and sizes of the benchmarks on scenes."""

    benchmarks: Path | None
    """Folder of downloads (GOT_BENCHMARKS)."""

    models: ModelPlaces
    judge: JudgeConfig | None = None
    """Of benchmarks that are judged by a server."""

    report: Report = lambda line: None
    """Given a line after each batch."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How pictures are drawn."""

    plan: bool = True
    sampler: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    dtype: str | None = None
    """None: as the model was saved."""

    workers: int | None = None
    """Of a Ray cluster, each with the model; None: this process draws."""

    ray_address: str | None = None


@dataclass(frozen=True, kw_only=True)
class Judging:
    """What judges pictures, and which gaps are allowed."""

    device: str = "auto"
    dtype: str = "float32"
    judge: Any = None
    """In place of the networks, as `PublishedBenchmark.open` takes it."""

    workers: int | None = None
    """Of a Ray cluster, each with the networks; None: they are in this process."""

    ray_address: str | None = None
    partial: bool = False
    plan: bool | None = None
    """Whether other people's pictures were drawn from plans; what the project drew says it itself."""

    model: str | None = None
    """What to call the model of other people's pictures; of a generations set, whose pictures."""


def benchmark_of(name: str, place: Path | None = None) -> PublishedBenchmark | Benchmark:
    """The benchmark of this name: published, on scenes, or a user's own below `place` (GOT_BENCHMARKS).
    Raises ValueError, which lists the names, and DefinitionError."""
    if is_own(name):
        return published_benchmark(name, place)
    every: tuple[PublishedBenchmark | Benchmark, ...] = (*PUBLISHED, *BENCHMARKS)
    found = next((one for one in every if one.name == name), None)
    if found is None:
        raise ValueError(f"there is no benchmark {name}; there are {', '.join(NAMES)}")
    return found


def opened_benchmark(benchmark: PublishedBenchmark | Benchmark, setup: Setup, **options: Any) -> Opened:
    """A benchmark with its samples; `options`: as `PublishedBenchmark.open`."""
    if isinstance(benchmark, Benchmark):
        if options.get("judge") is not None:
            raise ValueError(f"{benchmark.name} is judged by the scene reader alone")
        return OpenedScenes(benchmark, setup.recipe.world, setup.recipe.evaluate)
    if benchmark.by_server and options.get("networks", True) and options.get("judge") is None:
        options["judge"] = setup.judge
    return benchmark.open(benchmarks_place(setup.benchmarks), **options)


# -- drawing -----------------------------------------------------------------------------------------


def generate(name: str, model: str, folder: Storage, setup: Setup, drawing: Drawing) -> dict[str, Any]:
    """Draw a model's pictures for a benchmark into a folder of its official layout.

    What is there is not drawn again. Returns plain JSON: `pictures` (the folder), `benchmark`, `model`,
    `weights_hash`, `plan`, `drawn` (pictures drawn now), `costs`. Raises ValueError for an unknown benchmark
    before anything is loaded, OtherPicturesError for a folder of another run, and as `found_model` and the
    benchmarks.
    """
    benchmark = benchmark_of(name, setup.benchmarks)
    opened = opened_benchmark(benchmark, setup, networks=False)
    with found_model(model, setup.models) as found:
        record = _record(benchmark, found, setup, drawing)
        begin_record(folder, record)
        with model_drawer(found, setup, drawing) as drawer:
            if isinstance(opened, OpenedScenes):
                begin_record(folder, record, figures=_joined(folder, benchmark, opened.figures(drawer)))
            drawn = opened.generate(
                drawer.recording(Costs(folder, COSTS)),
                folder,
                plan=drawing.plan,
                sampler=drawing.sampler,
                weights_hash=found.weights_hash,
                progress=lambda done, total: setup.report(f"{name}: {done} of {total} {benchmark.unit}"),
            )
    return {
        "benchmark": name,
        "pictures": folder.url,
        "model": found.name,
        "weights_hash": found.weights_hash,
        "plan": drawing.plan,
        "drawn": drawn,
        "costs": costs(folder, COSTS),
    }


def _record(
    benchmark: PublishedBenchmark | Benchmark, found: FoundModel, setup: Setup, drawing: Drawing
) -> PictureRecord:
    return PictureRecord(
        pictures_of=_pictures_of(benchmark),
        model=found.name,
        weights_hash=found.weights_hash,
        plan=drawing.plan,
        sampler=drawing.sampler,
        dtype=drawing.dtype,
        recipe=setup.recipe.name if isinstance(benchmark, Benchmark) else None,
    )


def _pictures_of(benchmark: PublishedBenchmark | Benchmark) -> str:
    """What the folder's record says its pictures are of; some benchmarks judge the same ones."""
    return benchmark.pictures_of if isinstance(benchmark, Benchmark) else benchmark.folder


def _joined(
    folder: Storage, benchmark: PublishedBenchmark | Benchmark, figures: Mapping[str, Any]
) -> dict[str, Any]:
    """A record's figures with those of a benchmark: under its name if the pictures are another's too."""
    there = read_record(folder)
    shared = isinstance(benchmark, Benchmark) and benchmark.drawn_as
    return {**(there.figures if there else {}), **({benchmark.name: figures} if shared else figures)}


def _figures(record: PictureRecord | None, benchmark: PublishedBenchmark | Benchmark) -> dict[str, Any]:
    """Those of a record that are of this benchmark."""
    figures = record.figures if record else {}
    if isinstance(benchmark, Benchmark) and benchmark.drawn_as:
        return dict(figures.get(benchmark.name, {}))
    return {name: value for name, value in figures.items() if name not in NAMES}


@contextmanager
def model_drawer(found: FoundModel, setup: Setup, drawing: Drawing) -> Iterator[Drawer]:
    """What draws with a model: this process, or workers."""
    with saved_pipeline(found, setup.models) as folder:
        if drawing.workers is None:
            yield as_drawer(open_pipeline(folder, device=drawing.device, dtype=drawing.dtype))
            return
        from got_core.evaluate.drawers.cluster import RayDrawer

        options: dict[str, Any] = {"device": drawing.device, "dtype": drawing.dtype}
        with RayDrawer(folder, workers=drawing.workers, address=drawing.ray_address, **options) as drawer:
            yield drawer


# -- judging -----------------------------------------------------------------------------------------


def judge(name: str, folder: Storage | None, out: Storage, setup: Setup, judging: Judging) -> dict[str, Any]:
    """Judge the pictures of a folder in a benchmark's official layout; write scores to `out` and return them.

    `folder`: None where a file of detections is judged without pictures. How the project's own pictures were
    drawn is read beside them. Raises ValueError for an unknown benchmark before anything is loaded, for
    pictures of another benchmark, and for an `out` with scores of something else; and as the benchmarks.
    """
    benchmark = benchmark_of(name, setup.benchmarks)
    _check_apart(folder, out)
    record = read_record(folder) if folder else None
    plan = _plan_of(benchmark, setup, record, judging, folder)
    with _judge_opened(benchmark, setup, judging) as opened:
        protocol = opened.protocol(plan=plan, sampler=record.sampler if record else None)
        _check_free(out, protocol.digest(), folder)
        frame = opened.judge(
            folder,
            store=out,
            prefix=_KEPT,
            partial=judging.partial,
            progress=lambda done, total: setup.report(f"{name}: {done} of {total} judged"),
            **({"model": judging.model} if isinstance(opened, OpenedEdits) else {}),
        )
        scores = opened.scores(frame, protocol=protocol, partial=judging.partial)
        _check_some(scores, folder)
        grid = opened.grid(folder, frame)
    scores = {**scores, **_figures(record, benchmark), "drawn": _drawn(folder, record, judging, plan)}
    if folder and record and plan and (apart := pictures_of(opened, folder, frame)):
        scores = with_apart(scores, apart)
        out.write_table(TABLE, apart.rows)
    if outside := outside_of(opened, folder, frame):
        scores = outside.joined(scores)
        outside.write(out)
    plans = published_plans(opened, folder, frame) if folder and record and plan is not False else b""
    write_scores(out, scores, frame, grid, outcomes=opened.outcomes(frame), plans=plans)
    return scores


@contextmanager
def _judge_opened(
    benchmark: PublishedBenchmark | Benchmark, setup: Setup, judging: Judging
) -> Iterator[Opened]:
    """The benchmark with what judges it, here or on workers."""
    if judging.workers is None:
        options = {"judge": judging.judge, "partial": judging.partial}
        yield opened_benchmark(benchmark, setup, device=judging.device, dtype=judging.dtype, **options)
        return
    if isinstance(benchmark, Benchmark) or benchmark.by_server or judging.judge is not None:
        raise ValueError(
            f"{benchmark.name} is judged without networks here: workers would have nothing to do"
        )
    from got_core.evaluate.published.cluster import Cluster, opened_on

    cluster = Cluster(workers=judging.workers, device=judging.device, address=judging.ray_address)
    place = benchmarks_place(setup.benchmarks)
    with opened_on(cluster, benchmark, place, dtype=judging.dtype, partial=judging.partial) as opened:
        yield opened


def _drawn(
    folder: Storage | None, record: PictureRecord | None, judging: Judging, plan: bool | None
) -> dict[str, Any]:
    """What is known of the pictures and their model."""
    spent = costs(folder, COSTS) if folder and record else None
    return {
        "pictures": folder.url if folder else None,
        "model": record.model if record else judging.model,
        "weights_hash": record.weights_hash if record else None,
        "plan": plan,
        "dtype": record.dtype if record else None,
        "costs": spent if spent and spent["pictures"] else None,
    }


def _plan_of(
    benchmark: PublishedBenchmark | Benchmark,
    setup: Setup,
    record: PictureRecord | None,
    judging: Judging,
    folder: Storage | None,
) -> bool | None:
    """Whether the pictures were drawn from plans, after a look at what they are of."""
    if record is None or folder is None:
        return judging.plan
    if record.pictures_of != _pictures_of(benchmark):
        raise ValueError(
            f"{folder.url} holds pictures for {record.pictures_of}, {benchmark.name} judges those for "
            f"{_pictures_of(benchmark)}: name another benchmark or folder"
        )
    if record.recipe not in (None, setup.recipe.name):
        raise ValueError(
            f"{folder.url} was drawn with the recipe {record.recipe}, and {setup.recipe.name} has other "
            f"prompts: take --recipe {record.recipe}"
        )
    if judging.plan is not None and judging.plan != record.plan:
        with_or_not = "with plans" if record.plan else "without plans"
        raise ValueError(f"{folder.url} was drawn {with_or_not}: leave --plan and --no-plan out")
    return record.plan


def _check_some(scores: Mapping[str, Any], folder: Storage | None) -> None:
    """Refuse a partial score of nothing: a mistyped folder, or one of another benchmark, has no scores."""
    if not scores["found"]:
        more = "; ".join(map(str, scores.get("notes", ())[-2:]))
        raise IncompleteRunError(
            f"{folder.url if folder else 'what was given'} has no picture of {scores['protocol']} with a "
            f"verdict ({scores['of']}), so there is no partial score either: name the folder of its pictures"
            + (f". {more}" if more else "")
        )


def _check_apart(folder: Storage | None, out: Storage) -> None:
    if folder and f"{out.url}/".startswith(f"{folder.url}/"):
        raise ValueError(
            f"scores in {out.url} would be taken for pictures of {folder.url}: name a folder beside it"
        )


def _check_free(out: Storage, digest: str, folder: Storage | None) -> None:
    """Refuse to write over scores of something else."""
    if not out.exists(SCORES):
        return
    try:
        there = read_scores(out.url, **out.fs_options).scores
    except ScoresError:  # damaged: it is made anew
        return
    url = (there.get("drawn") or {}).get("pictures")
    other_pictures = url != (folder.url if folder else None)
    if there["protocol_digest"] != digest or other_pictures:
        what = f"of the pictures {url}" if other_pictures else f"of another protocol ({there['protocol']})"
        raise ValueError(f"{out.url_of(SCORES)} holds scores {what}: name another folder with --out")
