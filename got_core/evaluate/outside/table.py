"""Changes outside beside a benchmark's result: made by the step that judges, written beside the verdicts.

Belongs here: rows, heat maps and figures as one thing, its files, and the cases of suites on rendered scenes.
Not here: rows themselves (`rows`), or which benchmarks have cases (`published.outside`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from got_core.evaluate.outside.rows import Case, outside_figures, outside_rows
from got_core.evaluate.samples import Drawn
from got_core.evaluate.suite import EditSuite, Suite

if TYPE_CHECKING:
    from got_core.storage import Storage

TABLE = "outside"
"""Name of the table, of the folder of heat maps, and of the figures' key in the scores."""


@dataclass(frozen=True)
class OutsideTable:
    """What the pictures of a benchmark changed outside their regions."""

    rows: pl.DataFrame
    """See `rows.ROWS`; `heat` names a file beside the table."""

    heats: Mapping[str, bytes]
    """PNG files by those names."""

    figures: Mapping[str, Any]
    """See `rows.outside_figures`."""

    def write(self, storage: Storage, folder: str = "") -> None:
        """Write the table and the heat maps, and nothing that an earlier judging left."""
        place = f"{folder.rstrip('/')}/" if folder else ""
        storage.delete(f"{place}{TABLE}")
        for name, data in self.heats.items():
            storage.write_bytes(f"{place}{name}", data)
        storage.write_table(f"{place}{TABLE}", self.rows)

    def joined(self, scores: Mapping[str, Any]) -> dict[str, Any]:
        """Scores with the figures."""
        return {**scores, TABLE: dict(self.figures)}


def outside_table(cases: Iterable[Case], *, seed: int = 0, folder: str = TABLE) -> OutsideTable:
    """Of the cases of a benchmark. `folder`: of the heat maps."""
    frame, heats = outside_rows(cases)
    named = frame.with_columns(pl.concat_str(pl.lit(f"{folder}/"), "heat").alias("heat"))
    return OutsideTable(
        named, {f"{folder}/{name}": data for name, data in heats.items()}, outside_figures(frame, seed=seed)
    )


def suite_table(suite: Suite, samples: pl.DataFrame, drawn: Mapping[int, Drawn]) -> OutsideTable | None:
    """Of a suite's judged pictures; None for one without sources, such as `geneval/scenes`."""
    if not hasattr(suite, "may_change"):
        return None
    return outside_table(suite_cases(suite, samples, drawn), seed=suite.config.seed)


def suite_cases(suite: Any, samples: pl.DataFrame, drawn: Mapping[int, Drawn]) -> Iterator[Case]:
    """Cases of a suite of edits (`suite.EditSuite`), with exact boxes."""
    edits: EditSuite = suite
    for row in samples.iter_rows(named=True):
        one, region = drawn[row["index"]], edits.may_change(row)
        yield Case(
            sample_id=row["sample_id"],
            task=row["task"],
            cluster=str(row[suite.cluster]),
            source=region.source,
            edited=one.image,
            boxes=region.boxes,
            margin=region.margin,
            fault=one.fault,
        )
