"""Changes outside the region of an edit, for any opened benchmark.

Belongs here: which opened benchmarks have cases. Not here: how pictures are compared (`evaluate.outside`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import polars as pl

from got_core.evaluate.outside.table import OutsideTable, outside_table

if TYPE_CHECKING:
    from got_core.evaluate.outside.rows import Case
    from got_core.storage import Storage


def outside_of(opened: Any, folder: Storage | None, frame: pl.DataFrame) -> OutsideTable | None:
    """What the judged pictures of a folder changed outside; None for a benchmark of no edits.

    `frame`: what `opened.judge` gave for the folder. A benchmark of edits has a method `outside_cases(folder,
    frame)`, which gives `outside.rows.Case` one by one.
    """
    cases: Iterable[Case] | None = None
    if folder is not None and hasattr(opened, "outside_cases"):
        cases = opened.outside_cases(folder, frame)
    return None if cases is None else outside_table(cases)
