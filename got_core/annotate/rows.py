"""Annotating a table row by row, so that one bad row never stops a shard."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import polars as pl
from PIL import Image

from got_core.annotate.annotator import AnnotationError, AnnotationPaused, Annotator, AskingFailed
from got_core.annotate.schemas import ORIGIN
from got_core.annotate.usage import counting
from got_core.chain.grammar import ChainError
from got_core.corpus.decode import ImageError
from got_core.corpus.schemas import Columns, frame_of

Row = dict[str, Any]
Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all)."""
_NOT_ASKED = "not_asked"
"""Reason of a row that got no answer; it is in no table."""
Reader = Callable[[str], Image.Image]
"""Opens a path of the raw table as an RGB picture; raises ImageError. Called from several threads at once
where the annotator works on several rows."""


def annotate_rows(
    frame: pl.DataFrame,
    key: str,
    answer: Callable[[Row], Row],
    columns: Columns,
    progress: Progress | None = None,
    annotator: Annotator | None = None,
) -> pl.DataFrame:
    """One output row for each input row without an error: `key` and what `answer` gives, or why not.

    Source and licence of the input row go with it.

    Rows come out in the order in which they go in, however many the annotator works on at once.
    AnnotationError, ImageError and ChainError become the row's `error` and `reason`. Where asking failed
    for a row, the others are worked on all the same and AnnotationPaused is raised in the end; anything else
    is a bug, or AnnotationPaused, and is raised at once.
    """
    good = frame.filter(pl.col("error").is_null())
    carried = good.select(name for name in (key, *ORIGIN) if name in good.columns).to_dicts()
    rows: list[Row] = [{}] * good.height
    for done, (index, row) in enumerate(_answered_rows(good, answer, annotator), start=1):
        rows[index] = {**carried[index], **row}
        if progress:
            progress(done, good.height)
    _raise_not_asked(key, carried, rows)
    return frame_of([{name: row.get(name) for name in columns} for row in rows], columns)


def _raise_not_asked(key: str, carried: list[Row], rows: list[Row]) -> None:
    """AnnotationPaused if a row got no answer for a reason that is not its own."""
    failed = [index for index, row in enumerate(rows) if row.get("reason") == _NOT_ASKED]
    if failed:
        first = failed[0]
        raise AnnotationPaused(
            f"{len(failed)} of {len(rows)} rows got no answer, the first is {key} {carried[first][key]}: "
            f"{rows[first]['error']}. All other answers are kept; run the step again",
            retryable=True,
        )


def joined(left: pl.DataFrame, right: pl.DataFrame, key: str, *columns: str) -> pl.DataFrame:
    """`left` with columns of `right`, matched by key (first row of a key). ValueError: a key is missing."""
    wanted = right.select(key, *columns).unique(key, keep="first", maintain_order=True)
    missing = left.join(wanted, on=key, how="anti")
    if missing.height:
        raise ValueError(
            f"{missing.height} rows have no {key} in the other table, the first is {missing[key][0]!r}"
        )
    return left.join(wanted, on=key, how="left", maintain_order="left")


def with_origin(rows: pl.DataFrame, ingested: pl.DataFrame, key: str, *columns: str) -> pl.DataFrame:
    """As `joined`, with source and licence: a row's own where it states them, else those of `ingested`."""
    own = rows.rename({name: f"own_{name}" for name in ORIGIN if name in rows.columns})
    table = joined(own, ingested, key, *ORIGIN, *columns)
    stated = [name for name in ORIGIN if f"own_{name}" in table.columns]
    return table.with_columns(pl.coalesce(f"own_{name}", name).alias(name) for name in stated).drop(
        f"own_{name}" for name in stated
    )


def short_hash(*parts: str) -> str:
    """32 hex digits of SHA-256 over the parts: the id of a chain."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _answered_rows(
    good: pl.DataFrame, answer: Callable[[Row], Row], annotator: Annotator | None
) -> Iterator[tuple[int, Row]]:
    """Index and answer of each row, as they get done."""
    if answer_rows := getattr(annotator, "answer_rows", None):
        yield from answer_rows(good, answer)
        return
    at_once = min(getattr(annotator, "rows_at_once", 1), good.height)
    if at_once > 1:
        yield from _answered_in_threads(good, answer, annotator, at_once)
        return
    for index, row in enumerate(good.iter_rows(named=True)):
        yield index, answer_row(answer, row)


def _answered_in_threads(
    good: pl.DataFrame, answer: Callable[[Row], Row], annotator: Annotator | None, at_once: int
) -> Iterator[tuple[int, Row]]:
    """The same with so many rows under way; the next one begins when one is done."""
    rows = enumerate(good.iter_rows(named=True))
    done: SimpleQueue[tuple[int, Row | BaseException]] = SimpleQueue()

    def answer_one(index: int, row: Row) -> None:
        try:
            done.put((index, answer_row(answer, row)))
        except BaseException as error:
            done.put((index, error))

    with ThreadPoolExecutor(at_once, thread_name_prefix="annotate") as pool:
        try:
            for _ in range(at_once):
                pool.submit(answer_one, *next(rows))
            for _ in range(good.height):
                index, result = done.get()
                if isinstance(result, BaseException):
                    raise result
                if (following := next(rows, None)) is not None:
                    pool.submit(answer_one, *following)
                yield index, result
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            if stop := getattr(annotator, "stop", None):
                stop()
            raise


def answer_row(answer: Callable[[Row], Row], row: Row) -> Row:
    """What a row gives, or why it gives nothing; with the tokens that its answers cost."""
    with counting() as tally:
        result = _answer_or_reason(answer, row)
    total = tally.total
    return {**result, "tokens_in": total.tokens_in, "tokens_out": total.tokens_out, "cost": total.cost}


def _answer_or_reason(answer: Callable[[Row], Row], row: Row) -> Row:
    try:
        return answer(row)
    except ChainError as error:
        return {"error": f"not_a_chain: {error}", "reason": "not_a_chain"}
    except AskingFailed as error:
        return {"error": str(error), "reason": _NOT_ASKED}
    except (AnnotationError, ImageError) as error:
        raw = getattr(error, "raw", None)
        return {"error": f"{error.reason}: {error.detail}", "reason": error.reason, "raw_reply": raw}
