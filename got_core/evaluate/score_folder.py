"""Scores as files: written by whoever judges, read by whoever compares, possibly elsewhere.

Belongs here: `scores.json`, `protocol.json`, `verdicts.parquet`, `plans.jsonl`, `grid.png` in a folder, and
finding them again. Not here: making scores, or comparing them (`comparison`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

from got_core.evaluate.plans import PLANS
from got_core.evaluate.protocol import digest_of
from got_core.storage import Storage

if TYPE_CHECKING:
    import polars as pl

SCORES, PROTOCOL, VERDICTS, GRID = "scores.json", "protocol.json", "verdicts", "grid.png"
OUTCOMES = "outcomes"
_NEEDED = ("protocol", "protocol_digest", "protocol_record", "overall", "tasks", "complete")

OF_EDITS = (
    *("clip_i", "clip_t", "clip_dir", "l1", "l2", "dino"),
    *("clip_score", "psnr", "ssim", "mse", "lpips"),
)
"""Of benchmarks of edits, in the order of tables."""


class ScoresError(ValueError):
    """A file that holds no scores."""


@dataclass(frozen=True, kw_only=True)
class StoredScores:
    """Scores with where they lie."""

    url: str
    scores: Mapping[str, Any]
    outcomes: pl.DataFrame | None = None
    """What became of each sample, where that lies beside the scores."""

    @property
    def benchmark(self) -> str:
        """The benchmark's name."""
        return self.scores.get("benchmark", self.scores["protocol"])


def write_scores(
    folder: Storage,
    scores: Mapping[str, Any],
    verdicts: pl.DataFrame,
    grid: bytes,
    *,
    outcomes: pl.DataFrame | None = None,
    plans: bytes = b"",
) -> None:
    """Write a result; the scores come last and say that it is whole. `outcomes`: of each sample, by which
    scores are compared in pairs; `plans`: the lines of `plans.jsonl`, where there are any."""
    folder.write_table(VERDICTS, verdicts)
    if outcomes is not None:
        folder.write_table(OUTCOMES, outcomes)
    folder.write_json(PROTOCOL, scores["protocol_record"])
    if grid:
        folder.write_bytes(GRID, grid)
    if plans:
        folder.write_bytes(PLANS, plans)
    folder.write_json(SCORES, scores)


def read_scores(place: str, **fs_options: Any) -> StoredScores:
    """The scores of a folder, or of a file of scores, local or by URL.

    Raises FileNotFoundError, or ScoresError for what holds none.
    """
    folder, _, last = place.rstrip("/").rpartition("/")
    storage, name = (
        (Storage(folder or ".", **fs_options), last)
        if last.endswith(".json")
        else (Storage(place, **fs_options), SCORES)
    )
    url = storage.url_of(name)
    data = storage.read_many([name]).get(name)
    if data is None:
        raise FileNotFoundError(
            f"{url} is not there: name the folder that `got score judge` wrote, or its {SCORES}"
        )
    try:
        scores = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ScoresError(f"{url} is not JSON: {error}") from error
    _check(url, scores)
    return StoredScores(url=url, scores=scores, outcomes=_outcomes(storage))


def _outcomes(folder: Storage) -> pl.DataFrame | None:
    try:
        return folder.read_table(OUTCOMES)
    except FileNotFoundError:
        return None


def find_scores(place: str, **fs_options: Any) -> list[StoredScores]:
    """The scores of a folder or file, or of all folders that lie directly in a folder. Raises as
    `read_scores`."""
    storage = Storage(place, **fs_options)
    if place.endswith(".json") or storage.exists(SCORES):
        return [read_scores(place, **fs_options)]
    inside = [name for name in storage.top()[0] if storage.exists(f"{name}/{SCORES}")]
    if not inside:
        return [read_scores(place, **fs_options)]
    return [read_scores(storage.url_of(name), **fs_options) for name in inside]


def _check(url: str, scores: Any) -> None:
    missing = [name for name in _NEEDED if not isinstance(scores, dict) or name not in scores]
    if missing:
        raise ScoresError(f"{url} holds no scores of a benchmark: it has no {', '.join(missing)}")
    if not isinstance(scores["protocol_record"], dict):
        raise ScoresError(f"{url} holds no scores of a benchmark: protocol_record is no object")
    record = {name: value for name, value in scores["protocol_record"].items() if name != "digest"}
    if digest_of(record) != scores["protocol_digest"]:
        raise ScoresError(
            f"{url}: the digest {scores['protocol_digest']} is not that of the protocol beside it: the file "
            "was changed by hand; judge the pictures again"
        )
    if odd := [name for name, fits in _shapes(scores) if not fits]:
        raise ScoresError(
            f"{url} holds no whole scores: {', '.join(odd)} missing, or of another type; judge the "
            "pictures again"
        )


def _shapes(scores: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Names of all that a comparison reads, and whether it can."""
    yield "protocol", isinstance(scores["protocol"], str)
    yield from ((name, isinstance(scores.get(name), int)) for name in ("found", "expected"))
    yield from ((name, _is_figure(scores.get(name))) for name in ("overall", "low", "high"))
    yield "notes", isinstance(scores.get("notes", []), list)
    drawn = scores.get("drawn") or {}
    yield "drawn", isinstance(drawn, dict) and isinstance(drawn.get("costs") or {}, dict)
    tables = {name: scores.get(name, {}) for name in ("tasks", "skills")}
    for name, table in [*tables.items(), *_tables_of_edits(scores)]:
        yield name, isinstance(table, dict) and all(map(_is_task, table.values()))


def _tables_of_edits(scores: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Figures by kind of picture and view, of benchmarks of edits."""
    settings = scores.get("settings", {})
    kinds = settings.get(scores.get("setting"), {}) if isinstance(settings, dict) else settings
    if not isinstance(kinds, dict) or not all(isinstance(views, dict) for views in kinds.values()):
        yield "settings", None
        return
    for view in (views.get(name, {}) for views in kinds.values() for name in ("raw", "filtered")):
        named = isinstance(view, dict)
        yield "settings", {name: view[name] for name in OF_EDITS if name in view} if named else None


def _is_task(one: Any) -> bool:
    means = isinstance(one, dict) and {"mean", "n"} <= one.keys()
    return means and all(_is_figure(one.get(name)) for name in ("mean", "low", "high"))


def _is_figure(value: Any) -> bool:
    return value is None or (isinstance(value, Real) and not isinstance(value, bool))
