"""Prompts of any benchmark for a guidance grid, and the benchmark's own verdict on their pictures.

Belongs here: choosing prompts evenly over tasks, their requests, and judging the pictures of one pair of
scales. Not here: drawing (`grid`), rules and networks (the benchmarks).
"""

from __future__ import annotations

import copy
import dataclasses
import json
import typing
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from got_core.evaluate.benchmarks import BENCHMARKS, benchmarks_named
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.detector import check_detector
from got_core.evaluate.emu_edit.measuring import decode
from got_core.evaluate.exact.suite import ExactSuite
from got_core.evaluate.geneval.layout import METADATA
from got_core.evaluate.geneval.prompts import Samples
from got_core.evaluate.guidance_grid.config import GuidanceGridConfig
from got_core.evaluate.judged_names import is_own
from got_core.evaluate.protocol import Protocol
from got_core.evaluate.published.answers import OpenedGenEval2
from got_core.evaluate.published.downloads import MissingDownloadError, benchmarks_place
from got_core.evaluate.published.edits import OpenedEdits
from got_core.evaluate.published.judged import OpenedJudged
from got_core.evaluate.published.pictures import OpenedGenEval
from got_core.evaluate.published.registry import PUBLISHED_NAMES, published_benchmark
from got_core.evaluate.samples import Drawn, Request
from got_core.evaluate.suite import Suite
from got_core.scenes.world import World

if TYPE_CHECKING:
    from got_core.storage import Storage

VERDICTS: dict[str, pl.DataType] = {
    "prompt": pl.Int32(),
    "correct": pl.Boolean(),
    "value": pl.Float64(),
    "reason": pl.String(),
}
"""`prompt`: number in the grid; `value`: what the mean of a cell is made of, null without a verdict."""


class GridPrompts(typing.Protocol):
    """The prompts of a grid, numbered from 0."""

    name: str
    """Of the benchmark."""

    figure: str
    """What a cell's score is, in words."""

    notes: tuple[str, ...]
    """What is to be known about it, one line each."""

    @property
    def protocol(self) -> Protocol | None:
        """By which pictures are judged; None: nothing judges them."""
        ...

    def requests(self, folder: str) -> dict[int, Request]:
        """The pictures of one pair of scales, below a folder of the storage; their seeds are not used."""
        ...

    def judge(self, storage: Storage, folder: str, drawn: Mapping[int, Drawn]) -> pl.DataFrame | None:
        """The verdicts on these (VERDICTS); None where nothing judges."""
        ...


def grid_prompts(
    config: GuidanceGridConfig,
    world: World,
    evaluate: EvaluateConfig,
    place: Path | None = None,
    *,
    device: str = "auto",
) -> GridPrompts:
    """The prompts that a grid asks for.

    `place`: of the downloads of published benchmarks (the setting GOT_BENCHMARKS). Where networks are missing
    there, pictures are drawn and not judged, and `notes` says so. Raises ValueError for an unknown benchmark
    or one with fewer prompts, DetectorError where the scene reader fails, MissingDownloadError without data.
    """
    known = {one.name for one in BENCHMARKS}
    if config.benchmark in known:
        (benchmark,) = benchmarks_named([config.benchmark])
        return ScenePrompts(benchmark.suite(world, evaluate), world, config)
    if config.benchmark not in PUBLISHED_NAMES and not is_own(config.benchmark):
        names = ", ".join([*sorted(known), *PUBLISHED_NAMES])
        raise ValueError(f"there is no benchmark {config.benchmark!r} for a guidance grid; there are {names}")
    opened, notes = _opened(config.benchmark, benchmarks_place(place), device)
    if isinstance(opened, OpenedGenEval):
        return GenEvalPrompts(opened, config, notes)
    if isinstance(opened, OpenedEdits):
        return EditPrompts(opened, config, notes)
    if isinstance(opened, OpenedJudged):
        return JudgedPrompts(opened, config, notes)
    return QuestionPrompts(opened, config, notes)


def _opened(name: str, place: Path, device: str) -> tuple[Any, tuple[str, ...]]:
    benchmark = published_benchmark(name, place)
    if benchmark.by_server:
        opened = benchmark.open(place, networks=False)
        return opened, (*opened.notes, "pictures are not judged: a server would have to be asked about each")
    try:
        benchmark.check(place)
    except MissingDownloadError as error:
        opened = benchmark.open(place, networks=False)
        return opened, (*opened.notes, f"pictures are not judged: {error}")
    opened = benchmark.open(place, device=device)
    return opened, opened.notes


def evenly(tasks: Sequence[str], count: int, benchmark: str) -> list[int]:
    """Places of `count` samples, taken from the tasks in turn, the first ones of each."""
    if count > len(tasks):
        raise ValueError(f"{benchmark} has {len(tasks)} prompts, the guidance grid asks for {count}")
    places: dict[str, list[int]] = {}
    for number, task in enumerate(tasks):
        places.setdefault(task, []).append(number)
    turns = zip_longest(*places.values())
    return [number for turn in turns for number in turn if number is not None][:count]


def noise_seed(seed: int, prompt: int) -> int:
    """Of a prompt's noise, the same at all scales."""
    return int(np.random.SeedSequence([seed, prompt]).generate_state(1)[0])


# -- rendered scenes ---------------------------------------------------------------------------------


class ScenePrompts:
    """Prompts or edits of rendered scenes."""

    figure = "share of right pictures"
    notes: tuple[str, ...] = ()

    def __init__(self, suite: Suite, world: World, config: GuidanceGridConfig) -> None:
        check_detector(world, suite.config)
        self.name, self.suite = suite.name, suite
        tasks = _scene_tasks(suite)
        places = evenly([*tasks.values()], config.prompts, suite.name)
        self._chosen = [list(tasks)[place] for place in places]

    @property
    def protocol(self) -> Protocol | None:
        """Of the whole benchmark."""
        return self.suite.protocol()

    def requests(self, folder: str) -> dict[int, Request]:
        """See `GridPrompts`."""
        wanted = self.suite.requests(folder)
        return {number: wanted[index] for number, index in enumerate(self._chosen)}

    def judge(self, storage: Storage, folder: str, drawn: Mapping[int, Drawn]) -> pl.DataFrame:
        """By the benchmark's rules; a picture that could not be drawn is a wrong one."""
        rows = []
        for number, one in drawn.items():
            verdict = self.suite.judge(self._chosen[number], one)
            rows.append(
                {
                    "prompt": number,
                    "correct": verdict["correct"],
                    "value": float(verdict["correct"]),
                    "reason": verdict["reason"],
                }
            )
        return pl.DataFrame(rows, schema=VERDICTS)


def _scene_tasks(suite: Any) -> dict[int, str]:
    """Of the requests of the first sampling seed, by their numbers, in their order."""
    if isinstance(suite, ExactSuite):
        first = {number: one for number, one in suite.places.items() if one.turn == 0}
        return {number: suite.cases[one.case].kind for number, one in first.items()}
    if hasattr(suite, "cases"):
        return dict(enumerate(case.kind for case in suite.cases))
    count = len(suite.rows) // len(suite.config.sampling_seeds)
    return dict(enumerate(row["tag"] for row in suite.rows[:count]))


# -- published benchmarks ----------------------------------------------------------------------------


class GenEvalPrompts:
    """Prompts of the published GenEval, or of another list in its format."""

    figure = "share of right pictures"

    def __init__(self, opened: OpenedGenEval, config: GuidanceGridConfig, notes: tuple[str, ...]) -> None:
        rows = opened.samples.rows
        chosen = evenly([row["tag"] for row in rows], config.prompts, opened.name)
        self.name, self.notes, self._opened = opened.name, notes, copy.copy(opened)
        self._opened.samples = _few_prompts(opened.samples, chosen)
        self._judges = opened._detector is not None

    @cached_property
    def protocol(self) -> Protocol | None:
        """Of the chosen prompts alone."""
        return self._opened.protocol(plan=True) if self._judges else None

    def requests(self, folder: str) -> dict[int, Request]:
        """See `GridPrompts`; pictures lie as in the official layout."""
        return {
            one.prompt_index: Request(f"{folder}/{one.name}", one.row["prompt"], 0)
            for one in self._opened.samples.all
        }

    def judge(self, storage: Storage, folder: str, drawn: Mapping[int, Drawn]) -> pl.DataFrame | None:
        """By GenEval's rules over what the detector finds."""
        if not self._judges:
            return None
        for number, row in enumerate(self._opened.samples.rows):
            storage.write_bytes(f"{folder}/{number:05d}/{METADATA}", json.dumps(row).encode())
        pictures = _below(storage, folder)
        frame = self._opened.judge(pictures, store=storage, prefix=f"{folder}-found", partial=True)
        return frame.select(
            pl.col("prompt_index").alias("prompt"),
            "correct",
            pl.col("correct").cast(pl.Float64).alias("value"),
            pl.coalesce("reason", "unscored").alias("reason"),
        )


def _few_prompts(samples: Samples, chosen: Sequence[int]) -> Samples:
    """A list of some of the prompts, one picture each."""
    rows = tuple(samples.rows[number] for number in chosen)
    return dataclasses.replace(samples, rows=rows, images_per_prompt=1)


class EditPrompts:
    """Edits of photographs, of pictures of the data alone."""

    def __init__(self, opened: OpenedEdits, config: GuidanceGridConfig, notes: tuple[str, ...]) -> None:
        direct = {one.key for one in opened.benchmark.requests(opened.samples) if not one.of_edited}
        there = [one for one in opened.samples.samples if one.key in direct]
        chosen = evenly([one.task for one in there], config.prompts, opened.name)
        self.name, self.notes, self._opened = opened.name, notes, copy.copy(opened)
        self._opened.samples = dataclasses.replace(
            opened.samples, samples=tuple(there[number] for number in chosen)
        )
        self._numbers = {one.key: number for number, one in enumerate(self._opened.samples.samples)}
        self.figure = opened._opener.figures[0]
        self._judges = opened.benchmark.networks is not None

    @cached_property
    def protocol(self) -> Protocol | None:
        """Of the chosen edits alone."""
        return self._opened.protocol(plan=True) if self._judges else None

    def requests(self, folder: str) -> dict[int, Request]:
        """See `GridPrompts`; pictures lie as in the official layout."""
        samples = self._opened.samples
        sources = samples.pictures.read([one.source for one in samples.samples])
        return {
            self._numbers[one.key]: Request(
                f"{folder}/{self._opened.benchmark.place(one.key)}.png",
                one.instruction,
                0,
                source=decode(sources[one.source]),
            )
            for one in samples.samples
        }

    def judge(self, storage: Storage, folder: str, drawn: Mapping[int, Drawn]) -> pl.DataFrame | None:
        """The figure that stands for the whole; none of a picture that could not be drawn."""
        if not self._judges:
            return None
        pictures, judged = _below(storage, folder), f"{folder.rpartition('/')[0]}/found"
        frame = self._opened.judge(pictures, store=storage, prefix=judged, partial=True)
        faults = {number: one.fault for number, one in drawn.items() if one.fault}
        rows = [
            {"prompt": number, "correct": None, "value": None, "reason": faults.get(number)}
            if number in faults
            else {"prompt": number, "correct": None, "value": row[self.figure], "reason": row["reason"]}
            for row in frame.filter(pl.col("kind") == "edited").to_dicts()
            for number in [self._numbers[row["sample"]]]
        ]
        return pl.DataFrame(rows, schema=VERDICTS)


class JudgedPrompts:
    """Edits of a benchmark that a vision model judges: drawn, and not judged."""

    figure = "not judged"
    protocol: Protocol | None = None

    def __init__(self, opened: OpenedJudged, config: GuidanceGridConfig, notes: tuple[str, ...]) -> None:
        rows = opened.samples.all
        self.name, self.notes, self._opened = opened.name, notes, opened
        self._rows = [rows[k] for k in evenly([one.task for one in rows], config.prompts, opened.name)]

    def requests(self, folder: str) -> dict[int, Request]:
        """See `GridPrompts`; pictures lie as in the benchmark's layout."""
        sources = self._opened.samples.pictures.read([one.source for one in self._rows])
        return {
            k: Request(f"{folder}/{one.place}.png", one.instruction, 0, source=decode(sources[one.source]))
            for k, one in enumerate(self._rows)
        }

    def judge(self, storage: Storage, folder: str, drawn: Mapping[int, Drawn]) -> None:
        """Nothing."""


class QuestionPrompts:
    """Prompts of GenEval 2: drawn, and not judged."""

    figure = "not judged"
    protocol: Protocol | None = None

    def __init__(self, opened: OpenedGenEval2, config: GuidanceGridConfig, notes: tuple[str, ...]) -> None:
        rows = opened.samples.all
        self.name, self.notes = opened.name, notes
        self._rows = [rows[k] for k in evenly([one.task for one in rows], config.prompts, opened.name)]

    def requests(self, folder: str) -> dict[int, Request]:
        """See `GridPrompts`."""
        return {k: Request(f"{folder}/{one.name}", one.prompt, 0) for k, one in enumerate(self._rows)}

    def judge(self, storage: Storage, folder: str, drawn: Mapping[int, Drawn]) -> None:
        """Nothing."""


def _below(storage: Storage, folder: str) -> Storage:
    return type(storage)(storage.url_of(folder), **storage.fs_options)
