"""The table at the end of a run: what each stage took in, gave out and rejected, and how long it took.

Belongs here: reading the numbers back from Dagster's record, so that a run in which nothing was made shows
the same table. Does not belong here: making anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from got_assets.event_log import EventLog
from got_assets.needs import Node, Record


@dataclass
class StageRow:
    """One asset, summed over its partitions; None where an asset has no rows to count."""

    stage: str
    rows_in: int | None = None
    rows_out: int | None = None
    rejected: int | None = None
    seconds: float = 0.0
    partitions: int = 0


def stage_rows(
    log: EventLog, nodes: Mapping[str, Node], assets: Iterable[str], partitions: set[str]
) -> list[StageRow]:
    """The latest materialization of each asset (of each of `partitions` where it is partitioned), summed."""
    wanted = [asset for asset in assets if asset in nodes]
    whole = log.whole(asset for asset in wanted if not nodes[asset].partitioned)
    rows = []
    for asset in wanted:
        found = log.partitions(asset, partitions).values() if nodes[asset].partitioned else ()
        one = whole.get(asset)
        rows.append(_stage_row(asset, list(found) or ([one] if one else [])))
    return [row for row in rows if row.partitions]


def _stage_row(asset: str, records: Iterable[Record]) -> StageRow:
    row = StageRow(asset)
    for figures in (record.figures for record in records):
        row.partitions += 1
        row.seconds += figures.get("seconds", 0.0)
        if "rows_in" in figures:
            row.rows_in = (row.rows_in or 0) + int(figures["rows_in"])
            row.rows_out = (row.rows_out or 0) + int(figures["rows_out"])
            row.rejected = (row.rejected or 0) + int(figures["rows_rejected"])
    return row
