"""Results that lie in a storage, as parts of a page.

    own = scenes_run(storage, GENEVAL, weights, label="challenger", suite=GENEVAL.suite(world, config))
    champion = scenes_run(storage, GENEVAL, other_weights, label="champion, version 3")

Belongs here: where tables, plans and pictures of a benchmark lie. Not here: which model is the champion
(`got_core.registry`), or what a page shows of it (`cases`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import polars as pl
from PIL import Image

from got_core.evaluate.benchmarks import Benchmark
from got_core.evaluate.outside.table import TABLE as OUTSIDE
from got_core.evaluate.plans import PLANS, edited_rows, read_plans
from got_core.evaluate.published.apart import TABLE as APART
from got_core.evaluate.published.benchmark import PublishedBenchmark
from got_core.evaluate.published.edits import OpenedEdits
from got_core.evaluate.published.judged import OpenedJudged
from got_core.evaluate.published.scoring import OUTCOMES_TABLE, pictures_name
from got_core.evaluate.report.section import Opener, Row, Run
from got_core.evaluate.score_folder import SCORES, VERDICTS, StoredScores
from got_core.filesystems import local_path
from got_core.storage import Storage

if TYPE_CHECKING:
    from got_core.evaluate.suite import Suite

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_FROM_PLANS = ("prompt", "chain", "seed")
_FROM_APART = ("chain", "failure", "plan_reason")
SAMPLES = "samples"
"""Table of a benchmark on scenes."""


# -- the graph's own results -------------------------------------------------------------------------


def scenes_run(
    storage: Storage,
    benchmark: Benchmark,
    weights: str,
    *,
    label: str,
    model: str | None = None,
    suite: Suite | None = None,
) -> Run | None:
    """A model's result of a benchmark on scenes; None where the storage has none.

    `suite`: knows the pictures that were to be edited, which are not stored.
    """
    prefix = benchmark.prefix(weights)
    if not storage.exists(f"{prefix}/{SCORES}"):
        return None
    samples = _read(storage, f"{prefix}/{SAMPLES}")
    return Run(
        label=label,
        scores=storage.read_json(f"{prefix}/{SCORES}"),
        samples=samples,
        pictures=StoredPictures(storage, _image),
        sources=suite_sources(suite) if suite is not None else None,
        heats=_heats(storage, f"{prefix}/"),
        outcomes=None if samples is None else benchmark.outcomes(samples),
        model=model,
    )


def published_run(
    storage: Storage,
    benchmark: PublishedBenchmark,
    weights: str,
    *,
    label: str,
    model: str | None = None,
    opened: Any = None,
) -> Run | None:
    """A model's result of a published benchmark; None where the storage has none.

    `opened`: the benchmark with its data, for the pictures and instructions of edits, which are not stored.
    """
    prefix = benchmark.results(weights)
    if not storage.exists(f"{prefix}/{SCORES}"):
        return None
    scores = storage.read_json(f"{prefix}/{SCORES}")
    record = {key: value for key, value in scores["protocol_record"].items() if key != "digest"}
    pictures = Storage(storage.url_of(pictures_name(benchmark, record, weights)), **storage.fs_options)
    return Run(
        label=label,
        scores=scores,
        samples=_with_more(_read(storage, f"{prefix}/{VERDICTS}"), storage, f"{prefix}/"),
        pictures=_pictures_in(pictures),
        sources=opened_sources(opened),
        heats=_heats(storage, f"{prefix}/"),
        outcomes=_read(storage, f"{prefix}/{OUTCOMES_TABLE}"),
        model=model,
    )


# -- folders that `got score judge` wrote ------------------------------------------------------------


def folder_run(found: StoredScores, label: str, **fs_options: Any) -> Run:
    """A result by its folder. Pictures are looked for where its scores say that they lie, if that is on the
    same machine or in the same bucket as the scores."""
    place = found.url.rpartition("/")[0]
    folder = Storage(place, **fs_options)
    samples = _read(folder, VERDICTS)
    if samples is not None:
        samples, pictures = _with_more(samples, folder, ""), _pictures_of(found, fs_options)
    else:  # a folder of the graph's, whose pictures lie in it
        samples, pictures = _read(folder, SAMPLES), StoredPictures(folder, _base_name)
    return Run(
        label=label,
        scores=found.scores,
        samples=samples,
        pictures=pictures if samples is not None else None,
        heats=_heats(folder, ""),
        outcomes=found.outcomes,
        model=str(local_path(place) or place),
    )


def _pictures_of(found: StoredScores, fs_options: Mapping[str, Any]) -> Opener | None:
    place = (found.scores.get("drawn") or {}).get("pictures")
    if not isinstance(place, str) or _where(place) != _where(found.url):
        return None
    return _pictures_in(Storage(place, **fs_options))


def _where(url: str) -> tuple[str, str]:
    """Kind of store, and machine or bucket."""
    parts = urlsplit(url)
    return (parts.scheme or "file", parts.netloc) if "://" in url else ("file", "")


# -- tables ------------------------------------------------------------------------------------------


def _read(storage: Storage, name: str) -> pl.DataFrame | None:
    try:
        return storage.read_table(name)
    except FileNotFoundError:
        return None


def _with_more(samples: pl.DataFrame | None, storage: Storage, prefix: str) -> pl.DataFrame | None:
    """The table with plans, prompts and causes from the files beside it, where it lacks them."""
    if samples is None:
        return None
    samples = edited_rows(samples)
    plans = storage.read_many([f"{prefix}{PLANS}"]).get(f"{prefix}{PLANS}")
    if plans is not None:
        samples = _joined(samples, read_plans(plans), _FROM_PLANS)
    if (apart := _read(storage, f"{prefix}{APART}")) is not None:
        rows = {_sample(row): row for row in apart.iter_rows(named=True)}
        samples = _joined(samples, rows, _FROM_APART)
    return samples


def _joined(
    samples: pl.DataFrame, rows: Mapping[str, Mapping[str, Any]], names: Sequence[str]
) -> pl.DataFrame:
    keys = [_sample(row) for row in samples.iter_rows(named=True)]
    there = [one for one in names if one not in samples.columns and any(one in row for row in rows.values())]
    return samples.with_columns(pl.Series(one, [rows.get(key, {}).get(one) for key in keys]) for one in there)


def _sample(row: Row) -> str:
    return str(row.get("sample_id") or row.get("sample") or "")


# -- pictures ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StoredPictures:
    """Pictures of rows in a storage (`section.Opener`)."""

    storage: Storage
    name: Callable[[Row], str | None]
    """Of a row's picture; None where it has none."""

    def __call__(self, rows: Sequence[Row]) -> dict[int, bytes]:
        names = [_inside(self.name(row)) for row in rows]
        files = self.storage.read_many(dict.fromkeys(one for one in names if one))
        return {number: files[name] for number, name in enumerate(names) if name in files}


def _inside(name: str | None) -> str | None:
    """A name that stays below its folder; tables may come from anybody."""
    if not name or name.startswith("/") or ".." in PurePosixPath(name).parts or "://" in name:
        return None
    return name


def _image(row: Row) -> str | None:
    return row.get("image")


def _base_name(row: Row) -> str | None:
    return None if not row.get("image") else PurePosixPath(row["image"]).name


def _pictures_in(folder: Storage) -> StoredPictures:
    return StoredPictures(folder, _Named(folder))


@dataclass(frozen=True)
class _Named:
    """Names of pictures in a folder of a benchmark's layout: as rows say it, else by their sample."""

    folder: Storage

    @cached_property
    def _stems(self) -> dict[str, str]:
        names = (name for name in self.folder.list() if name.lower().endswith(_ENDINGS))
        return {PurePosixPath(name).stem: name for name in names}

    def __call__(self, row: Row) -> str | None:
        return row.get("image") or self._stems.get(str(row.get("sample")))


def _heats(storage: Storage, prefix: str) -> StoredPictures | None:
    """Heat maps of edits, which lie beside their table; None without one."""
    table = _read(storage, f"{prefix}{OUTSIDE}")
    if table is None:
        return None
    named = dict(table.select("sample_id", "heat").drop_nulls().iter_rows())

    def name(row: Row) -> str | None:
        heat = _inside(named.get(_sample(row)))
        return heat and f"{prefix}{heat}"

    return StoredPictures(storage, name)


def suite_sources(suite: Suite) -> Opener | None:
    """The pictures that a suite on scenes has edited; None where it has none."""
    requests = suite.requests("sources")
    if not any(one.source is not None for one in requests.values()):
        return None

    def sources(rows: Sequence[Row]) -> dict[int, Image.Image]:
        asked = {number: requests.get(row.get("index", -1)) for number, row in enumerate(rows)}
        return {number: one.source for number, one in asked.items() if one is not None and one.source}

    return sources


def opened_sources(opened: Any) -> Opener | None:
    """The pictures that an opened benchmark has edited; None where it has none, or its data are not there."""
    if isinstance(opened, OpenedEdits):
        names = {one.key: one.source for one in opened.samples.samples}
    elif isinstance(opened, OpenedJudged):
        names = {one.key: one.source for one in opened.samples.all}
    else:
        return None

    def sources(rows: Sequence[Row]) -> dict[int, bytes]:
        asked = {k: names[_sample(row)] for k, row in enumerate(rows) if _sample(row) in names}
        files = opened.samples.pictures.read(list(dict.fromkeys(asked.values())))
        return {number: files[name] for number, name in asked.items()}

    return sources
