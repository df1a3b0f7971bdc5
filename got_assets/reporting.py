"""What a materialization shows: counts, reasons, column descriptions, pictures.

Belongs here: metadata in the form that Dagster's pages show. Does not belong here: computing any table.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl

from got_assets.shown import Picture, in_files
from got_core.figures.markdown import markdown_text
from got_core.frame_hash import content_hash
from got_core.storage import Storage

Metadata = dict[str, Any]
THUMBNAILS = 16
CELL = 200
"""Characters of a text in a table."""


def column_schema(columns: Mapping[str, tuple[pl.DataType, str]]) -> Metadata:
    """Static metadata: names, types and descriptions of a table's columns."""
    described = [
        dg.TableColumn(name, str(dtype), description=text) for name, (dtype, text) in columns.items()
    ]
    return {"dagster/column_schema": dg.TableSchema(columns=described)}


def readable(value: Any) -> Any:
    """A float with four significant digits, or whole from 1000 up; anything else as it is.

    For pages only: what is stored stays exact.
    """
    if not isinstance(value, float):
        return value
    return round(value, 0) if abs(value) >= 1000 else float(f"{value:.4g}")


def readable_figures(figures: Mapping[str, Any]) -> Metadata:
    """Metadata whose floats are `readable`."""
    return {name: readable(value) for name, value in figures.items()}


def table_result(
    frame: pl.DataFrame,
    *,
    rows_in: int,
    started: float,
    rejected: pl.Expr | None = None,
    tags: Mapping[str, str] | None = None,
    **extra: Any,
) -> dg.MaterializeResult[pl.DataFrame]:
    """A table with its content hash as data version, and the fate of every input row as numbers.

    `started` is a `time.monotonic()`; `rejected` says which rows are quarantined (default: `error` is not
    null). Rows that are neither out nor rejected were folded into another row.
    """
    bad = frame.filter(pl.col("error").is_not_null() if rejected is None else rejected)
    counts: Metadata = {
        "rows_in": rows_in,
        "rows_out": frame.height - bad.height,
        "rows_rejected": bad.height,
        "rows_folded": rows_in - frame.height,
        "seconds": round(time.monotonic() - started, 3),
        "dagster/row_count": frame.height,
    }
    return dg.MaterializeResult(
        value=frame,
        data_version=dg.DataVersion(content_hash(frame)),
        metadata=in_files(counts | readable_figures(extra)),
        tags=tags,
    )


def document_result(
    document: dict[str, Any],
    *,
    version: str,
    started: float,
    tags: Mapping[str, str] | None = None,
    **extra: Any,
) -> dg.MaterializeResult[dict[str, Any]]:
    """A JSON document with `version` (a content or weights hash) as data version."""
    seconds = round(time.monotonic() - started, 3)
    metadata = in_files({"seconds": seconds} | readable_figures(extra))
    return dg.MaterializeResult(
        value=document, data_version=dg.DataVersion(version), metadata=metadata, tags=tags
    )


def reason_counts(frame: pl.DataFrame, column: str = "reason") -> dg.MarkdownMetadataValue:
    """A small table: reason, rows, most frequent first."""
    counts = frame.drop_nulls(column).group_by(column).len().sort("len", column, descending=[True, False])
    return markdown_table(["reason", "rows"], counts.iter_rows())


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> dg.MarkdownMetadataValue:
    """Rows of plain values, floats `readable`, as a markdown table; `none` if there are no rows.

    Texts are shown as they are (`markdown_text`), cut at CELL characters.
    """
    cells = ([_cell(cell) for cell in row] for row in rows)
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    if not lines:
        return dg.MetadataValue.md("none")
    return dg.MetadataValue.md(
        "\n".join(["| " + " | ".join(header) + " |", "|" + "---|" * len(header), *lines])
    )


def _cell(value: Any) -> str:
    return markdown_text(value, CELL) if isinstance(value, str) else str(readable(value))


def spread(frame: pl.DataFrame, count: int = THUMBNAILS) -> pl.DataFrame:
    """`count` good rows, evenly spread over the table, so that a grid shows more than the first folder."""
    good = frame.filter(pl.col("error").is_null()) if "error" in frame.columns else frame
    return good.gather_every(max(1, good.height // count)).head(count) if good.height else good


def grid(items: Sequence[Any], *, columns: int = 8, side: int = 96) -> Picture | str:
    """Pictures (`GridItem`s) as one small picture, a file in the storage; `no pictures` for an empty list."""
    from got_core.figures.grids import picture_grid

    return Picture(image=picture_grid(items, columns=columns, side=side)) if items else "no pictures"


def stored_image(storage: Storage, name: str) -> dg.UrlMetadataValue:
    """A link to a picture in the storage."""
    return dg.MetadataValue.url(storage.url_of(name))


def document_hash(document: Mapping[str, Any]) -> str:
    """SHA-256 over a document's canonical JSON."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def log_progress(line: str) -> None:
    """A progress line: on the terminal in `make run`, in the run's stdout log in the web page."""
    print(f"  {line}", flush=True)
