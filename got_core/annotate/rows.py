"""Working through a table row by row, so that one bad row never stops a shard."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import polars as pl
from PIL import Image

from got_core.annotate.annotator import AnnotationError
from got_core.chain.grammar import ChainError
from got_core.corpus.decode import ImageError
from got_core.corpus.schemas import Columns, frame_of

Row = dict[str, Any]
Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all)."""
Reader = Callable[[str], Image.Image]
"""Opens a path of the raw table as an RGB picture; raises ImageError."""


def annotate_rows(
    frame: pl.DataFrame,
    key: str,
    answer: Callable[[Row], Row],
    columns: Columns,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """One output row for each input row without an error: `key` and what `answer` gives, or why not.

    AnnotationError, ImageError and ChainError become the row's `error` and `reason`; anything else is a bug
    and is raised.
    """
    good = frame.filter(pl.col("error").is_null())
    rows: list[Row] = []
    for done, row in enumerate(good.iter_rows(named=True), start=1):
        rows.append({key: row[key], **_answered(answer, row)})
        if progress:
            progress(done, good.height)
    return frame_of([{name: row.get(name) for name in columns} for row in rows], columns)


def joined(left: pl.DataFrame, right: pl.DataFrame, key: str, *columns: str) -> pl.DataFrame:
    """`left` with columns of `right`, matched by key (first row of a key). ValueError: a key is missing."""
    wanted = right.select(key, *columns).unique(key, keep="first", maintain_order=True)
    missing = left.join(wanted, on=key, how="anti")
    if missing.height:
        raise ValueError(
            f"{missing.height} rows have no {key} in the other table, the first is {missing[key][0]!r}"
        )
    return left.join(wanted, on=key, how="left", maintain_order="left")


def short_hash(*parts: str) -> str:
    """32 hex digits of SHA-256 over the parts: the id of a chain."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _answered(answer: Callable[[Row], Row], row: Row) -> Row:
    try:
        return answer(row)
    except ChainError as error:
        return {"error": f"not_a_chain: {error}", "reason": "not_a_chain"}
    except (AnnotationError, ImageError) as error:
        return {"error": f"{error.reason}: {error.detail}", "reason": error.reason}
