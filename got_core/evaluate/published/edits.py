"""Emu-Edit and MagicBrush as published benchmarks, each with two sets of networks.

Belongs here: both behind the interface of `benchmark`, and which of their figures promotion may compare. Not
here: the benchmarks (`evaluate.emu_edit`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from got_core.evaluate.emu_edit.benchmark import EditBenchmark
from got_core.evaluate.emu_edit.emu import EmuEdit, Generations
from got_core.evaluate.emu_edit.folders import SUFFIXES, StoredPictures
from got_core.evaluate.emu_edit.judging import EDITED, JUDGED
from got_core.evaluate.emu_edit.measuring import decode
from got_core.evaluate.emu_edit.samples import EditSamples
from got_core.evaluate.outside.rows import Case, edited_cases
from got_core.evaluate.published.benchmark import OUTCOMES, PublishedBenchmark, no_judge
from got_core.figures.grids import GridItem, picture_grid, png_bytes
from got_core.filesystems import local_path

if TYPE_CHECKING:
    from got_core.evaluate.network_profiles import Profile, PublishedNetwork
    from got_core.evaluate.networks import Networks
    from got_core.evaluate.protocol import Protocol
    from got_core.evaluate.samples import Progress
    from got_core.storage import Storage

_PAIRS = 3


@dataclass(frozen=True, kw_only=True)
class EditOpener:
    """How one of them is opened."""

    kind: type[EditBenchmark]
    """Of the benchmark."""

    profile: Profile
    data: str
    """Its data below GOT_BENCHMARKS."""

    setting: str
    """The list whose figures count."""

    figures: tuple[str, ...]
    """Of edits, higher is better, and copying the source does not win by them. The first is the overall
    score."""

    def __call__(
        self,
        benchmark: PublishedBenchmark,
        place: Path,
        *,
        device: str,
        dtype: str,
        networks: bool,
        judge: Networks | None,
        partial: bool,
    ) -> OpenedEdits:
        loaded = self.load(place, device=device, dtype=dtype) if networks else judge
        bench = self.kind(networks=loaded, partial=partial)
        return OpenedEdits(benchmark.name, bench, bench.read(place / self.data), self)

    def load(self, place: Path, *, device: str, dtype: str = "float32") -> Networks:
        """The networks of the profile, from the downloads below `place`."""
        from got_core.evaluate.networks import load_networks

        clip, dino = self.profile.clip, self.profile.dino
        folders = place / network_path(clip), place / network_path(dino) if dino else None
        return load_networks(self.profile, *folders, device=device, dtype=dtype)


def network_path(network: PublishedNetwork) -> str:
    """Where a network is looked for below GOT_BENCHMARKS."""
    return f"networks/{network.name.rpartition('/')[2]}"


class OpenedEdits:
    """Emu-Edit or MagicBrush with its samples, and with networks where it is to judge (see
    `benchmark.Opened`)."""

    def __init__(self, name: str, bench: EditBenchmark, samples: EditSamples, opener: EditOpener) -> None:
        self.name, self.benchmark, self.samples, self._opener = name, bench, samples, opener
        self.notes = samples.notes
        self._judged: StoredPictures | Generations | None = None

    def check(self) -> None:
        """Networks that are not whole were refused when they were loaded."""

    def generate(self, drawer: Any, folder: Storage, *, batch_size: int | None = None, **options: Any) -> int:
        """See `EditBenchmark.write_layout`."""
        usual = self.benchmark.batch_size
        bench = dataclasses.replace(self.benchmark, batch_size=min(usual, batch_size or usual))
        return bench.write_layout(self.samples, drawer, folder, **options)

    def judge(
        self,
        folder: Storage | None,
        *,
        store: Storage,
        prefix: str,
        partial: bool = False,
        progress: Progress | None = None,
        model: str | None = None,
    ) -> pl.DataFrame:
        """Figures of every edit, of the copied sources, and of targets where there are any.

        The folder may also be Emu-Edit's generations set in parquet, of which `model` says whose rows to
        take; what was found about it is added to `notes`.
        """
        if folder is None:
            raise ValueError(f"{self.name} judges pictures: name their folder")
        bench = self._judging(partial)
        pictures = self._pictures(bench, folder, model)
        self.notes = tuple(dict.fromkeys([*self.notes, *pictures.notes]))
        self._judged = pictures
        return bench.judge(self.samples, pictures, progress, store, prefix)

    def _pictures(
        self, bench: EditBenchmark, folder: Storage, model: str | None
    ) -> StoredPictures | Generations:
        place = local_path(folder.url)
        if isinstance(bench, EmuEdit) and place and next(place.rglob("*.parquet"), None):
            return bench.generations(place, self.samples, model)
        return bench.read_layout(self.samples, folder)

    def outside_cases(self, folder: Storage, frame: pl.DataFrame) -> Iterator[Case]:
        """Each sample's source and edit, for what changed outside (`published.outside`)."""
        bench = dataclasses.replace(self.benchmark, partial=True)
        edited = self._judged or bench.read_layout(self.samples, folder)
        requests = bench.requests(self.samples)
        return edited_cases(self.samples.samples, requests, self.samples.pictures, edited)

    def _judging(self, partial: bool) -> EditBenchmark:
        if self.benchmark.networks is None:
            raise no_judge(self.name)
        return dataclasses.replace(self.benchmark, partial=partial)

    def protocol(self, *, plan: bool | None = None, sampler: Mapping[str, Any] | None = None) -> Protocol:
        """See `EditBenchmark.protocol`."""
        return self._judging(False).protocol(self.samples, plan=plan, sampler=sampler)

    def scores(self, frame: pl.DataFrame, *, protocol: Protocol, partial: bool = False) -> dict[str, Any]:
        """See `EditBenchmark.scores`; `tasks` has the filtered figures that a copy does not win, all others
        are in `settings`."""
        scores = self._judging(partial).scores(frame, protocol=protocol)
        filtered = scores["settings"].get(self._opener.setting, {}).get(EDITED, {}).get("filtered", {})
        tasks = {name: _task(filtered[name]) for name in self._opener.figures if name in filtered}
        first = tasks.get(self._opener.figures[0], {})
        return {
            "benchmark": self.name,
            **scores,
            "overall": first.get("mean"),
            "low": first.get("low"),
            "high": first.get("high"),
            "tasks": tasks,
            "setting": self._opener.setting,
            "partial": not scores["complete"],
            "of": f"{scores['found']} / {scores['expected']}",
            "notes": list(self.notes),
        }

    def outcomes(self, frame: pl.DataFrame) -> pl.DataFrame:
        """One row for each figure of each sample that counts in it; `sample_id` is `KEY/FIGURE`."""
        setting = self._opener.setting
        wanted = pl.col("bad").is_null() & pl.col("settings").list.contains(setting)
        rows = frame.filter((pl.col("kind") == EDITED) & wanted)
        there = [name for name in self._opener.figures if rows[name].is_not_null().any()]
        return pl.concat([_outcomes(rows, name) for name in there or self._opener.figures])

    def grid(self, folder: Storage | None, frame: pl.DataFrame) -> bytes:
        """Of the first samples of each task the source and its edit."""
        items = list(self._items(folder, frame)) if folder else []
        return png_bytes(picture_grid(items, columns=2 * _PAIRS)) if items else b""

    def _items(self, folder: Storage, frame: pl.DataFrame) -> Iterator[GridItem]:
        judged = frame.filter((pl.col("kind") == EDITED) & (pl.col("state") == JUDGED))
        chosen = set(judged.group_by("task", maintain_order=True).head(_PAIRS)["sample"])
        for one in (one for one in self.samples.samples if one.key in chosen):
            place = self.benchmark.place(one.key)
            made = next(iter(folder.read_many(f"{place}{suffix}" for suffix in SUFFIXES).values()), b"")
            if made:
                yield GridItem(decode(self.samples.pictures.read([one.source])[one.source]), one.instruction)
                yield GridItem(decode(made), one.output_caption)


def _task(figure: Mapping[str, Any]) -> dict[str, Any]:
    judged = figure["n"] + figure["undefined"]
    return {
        **{name: figure[name] for name in ("mean", "low", "high", "n", "undefined")},
        "of": f"{figure['n']} / {figure['of']}",
        "partial": judged < figure["of"],
    }


def _outcomes(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    return rows.select(
        pl.concat_str(pl.col("sample"), pl.lit(f"/{name}")).alias("sample_id"),
        pl.lit(name).alias("task"),
        pl.col("cluster"),
        pl.lit(None, pl.Boolean).alias("correct"),
        pl.col(name).alias("value"),
    ).select(OUTCOMES)
