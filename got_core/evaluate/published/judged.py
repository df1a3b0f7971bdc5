"""Benchmarks that are a folder with a `benchmark.toml`, as published benchmarks.

Belongs here: them behind the interface of `benchmark`, those that come with the project and a user's own.
Not here: what their folders say and do (`evaluate.judged`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from got_core.evaluate.judged_names import DEFINITION, OWN, SHIPPED, folders_in
from got_core.evaluate.published.benchmark import OUTCOMES, NothingJudgesError, PublishedBenchmark
from got_core.evaluate.published.downloads import Download

if TYPE_CHECKING:
    from got_core.evaluate.judged.benchmark import JudgedBenchmark
    from got_core.evaluate.judged.shape import Definition
    from got_core.evaluate.outside.rows import Case
    from got_core.evaluate.protocol import Protocol
    from got_core.evaluate.samples import Progress
    from got_core.storage import Storage

_PAIRS = 3


def shipped_benchmarks() -> tuple[PublishedBenchmark, ...]:
    """Those that come with the project, in the order of their folders' names."""
    return tuple(one for folder in folders_in(SHIPPED) for one in _benchmarks(folder, folder.name))


def own_benchmarks(place: Path) -> tuple[PublishedBenchmark, ...]:
    """A user's own, below `place` (GOT_BENCHMARKS). Raises DefinitionError."""
    return tuple(one for folder in folders_in(place / OWN) for one in own_in(folder))


def own_in(folder: Path) -> tuple[PublishedBenchmark, ...]:
    """Those of one of a user's folders. Raises DefinitionError."""
    return _benchmarks(folder, f"{OWN}/{folder.name}")


def own_named(name: str, place: Path) -> PublishedBenchmark:
    """A user's own by its name, such as `judged/my_edits`. Raises ValueError, which names file and key, or
    the names that there are."""
    folder = place / OWN / name.split("/")[1]
    if not (folder / DEFINITION).is_file():
        there = ", ".join(f"{OWN}/{one.name}" for one in folders_in(place / OWN)) or "none"
        raise ValueError(
            f"there is no benchmark {name}: {folder / DEFINITION} is not there; below {place / OWN} are "
            f"{there}"
        )
    found = {one.name: one for one in own_in(folder)}
    if name not in found:
        raise ValueError(f"there is no benchmark {name}; {folder / DEFINITION} gives {', '.join(found)}")
    return found[name]


def _benchmarks(folder: Path, base: str) -> tuple[PublishedBenchmark, ...]:
    from got_core.evaluate.judged.definition import read_definitions

    return tuple(_published(one) for one in read_definitions(folder, base))


def _published(definition: Definition) -> PublishedBenchmark:
    files = [
        Download(
            what=one.what,
            where=one.where,
            licence=one.licence,
            path=one.path,
            sha256=one.sha256,
            judging=one.judging,
        )
        for one in definition.files
    ]
    return PublishedBenchmark(
        name=definition.name,
        folder=definition.pictures_folder,
        files=tuple(files),
        unit="edits",
        opener=JudgedOpener(definition=definition),
        judged_by=f"{definition.title}: a vision model's scores (GOT_JUDGE_URL)",
        by_server=True,
    )


@dataclass(frozen=True, kw_only=True)
class JudgedOpener:
    """How one of them is opened: with a judge it judges, without it draws only."""

    definition: Definition

    def __call__(
        self,
        benchmark: PublishedBenchmark,
        place: Path,
        *,
        device: str,
        dtype: str,
        networks: bool,
        judge: Any,
        partial: bool,
    ) -> OpenedJudged:
        from got_core.evaluate.judged.benchmark import JudgedBenchmark
        from got_core.evaluate.judges.config import JudgeConfig

        if judge is not None and not isinstance(judge, JudgeConfig):
            raise ValueError(
                f"{benchmark.name} is judged by a model behind a server, not by {type(judge).__name__}: set "
                "GOT_JUDGE_URL and GOT_JUDGE_MODEL"
            )
        if networks:
            raise _no_server(benchmark.name)
        benchmark.check(place, networks=judge is not None)
        return OpenedJudged(JudgedBenchmark.open(self.definition, place, judge=judge, partial=partial))


def _no_server(name: str) -> NothingJudgesError:
    return NothingJudgesError(
        f"{name} was opened without networks or a judge: it can draw, and nothing can be judged; it is "
        "judged by a vision model behind an OpenAI-compatible server: set GOT_JUDGE_URL and GOT_JUDGE_MODEL"
    )


class OpenedJudged:
    """A judged benchmark with its samples, and with a judge where it is to judge (see `benchmark.Opened`)."""

    def __init__(self, benchmark: JudgedBenchmark) -> None:
        self.benchmark, self.name = benchmark, benchmark.name
        self.samples = benchmark.samples
        self.notes: tuple[str, ...] = benchmark.samples.notes
        self._canary: dict[str, Any] | None = None

    def check(self) -> None:
        """There is a judge. Raises NothingJudgesError."""
        if self.benchmark.config is None:
            raise _no_server(self.name)

    def generate(self, drawer: Any, folder: Storage, **options: Any) -> int:
        """See `JudgedBenchmark.write_layout`."""
        return self.benchmark.write_layout(drawer, folder, **options)

    def judge(
        self,
        folder: Storage | None,
        *,
        store: Storage,
        prefix: str,
        partial: bool = False,
        progress: Progress | None = None,
    ) -> pl.DataFrame:
        """The judge's verdict on every sample."""
        self.check()
        if folder is None:
            raise ValueError(f"{self.name} judges pictures: name their folder")
        judged = self.benchmark.judge(folder, store=store, prefix=prefix, partial=partial, progress=progress)
        self._canary = judged.canary
        return judged.frame

    def protocol(self, *, plan: bool | None = None, sampler: Mapping[str, Any] | None = None) -> Protocol:
        """See `JudgedBenchmark.protocol`."""
        self.check()
        return self.benchmark.protocol(plan=plan, sampler=sampler)

    def scores(self, frame: pl.DataFrame, *, protocol: Protocol, partial: bool = False) -> dict[str, Any]:
        """See `JudgedBenchmark.scores`."""
        return self.benchmark.scores(frame, protocol=protocol, partial=partial, canary=self._canary)

    def outcomes(self, frame: pl.DataFrame) -> pl.DataFrame:
        """One row a sample."""
        return frame.select(OUTCOMES)

    def outside_cases(self, folder: Storage, frame: pl.DataFrame) -> Iterator[Case]:
        """Each sample's source and edit, for what changed outside (`published.outside`)."""
        from got_core.evaluate.outside.rows import edited_cases

        edits = self.samples.as_edits()
        edited = self.benchmark.read_layout(folder, partial=True)
        return edited_cases(edits.samples, self.samples.requests(), edits.pictures, edited)

    def grid(self, folder: Storage | None, frame: pl.DataFrame) -> bytes:
        """Of the first samples of each task the source and its edit."""
        from got_core.figures.grids import picture_grid, png_bytes

        items = list(self._items(folder, frame)) if folder else []
        return png_bytes(picture_grid(items, columns=2 * _PAIRS)) if items else b""

    def _items(self, folder: Storage, frame: pl.DataFrame) -> Iterator[Any]:
        from got_core.evaluate.emu_edit.measuring import decode
        from got_core.figures.grids import GridItem

        there = frame.filter(pl.col("image").is_not_null() & (pl.col("state") != "missing"))
        for row in there.group_by("task", maintain_order=True).head(_PAIRS).iter_rows(named=True):
            made, source = folder.read_bytes(row["image"]), row["source_image"]
            mark = row["state"] if row["value"] is None else f"{row['value']:.2f}"
            yield GridItem(decode(self.samples.pictures.read([source])[source]), row["prompt"])
            yield GridItem(decode(made), mark)
