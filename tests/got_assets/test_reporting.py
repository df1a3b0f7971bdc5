from __future__ import annotations

import math

import polars as pl
import pytest

from got_assets.reporting import document_result, markdown_table, readable, table_result


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.123456789, 0.1235),
        (12.34567, 12.35),
        (0.0000123456, 0.00001235),
        (-0.5, -0.5),
        (1234567.89, 1234568.0),
        (0.0, 0.0),
        (math.inf, math.inf),
        (7, 7),
        (True, True),
        ("0.123456789", "0.123456789"),
    ],
)
def test_floats_are_rounded_and_nothing_else(value: object, shown: object) -> None:
    assert readable(value) == shown and type(readable(value)) is type(value)


def test_not_a_number_stays_one() -> None:
    assert math.isnan(readable(math.nan))


def test_metadata_is_rounded_and_what_is_stored_is_not() -> None:
    document = document_result({"score": 1 / 3}, version="1", started=0.0, score=1 / 3, pictures=6)
    assert document.value == {"score": 1 / 3}
    assert document.metadata and (document.metadata["score"], document.metadata["pictures"]) == (0.3333, 6)
    frame = pl.DataFrame({"error": [None, "x"]})
    table = table_result(frame, rows_in=2, started=0.0, share=2 / 3)
    assert table.metadata and (table.metadata["share"], table.metadata["rows_rejected"]) == (0.6667, 1)
    assert "0.6667" in str(markdown_table(["share"], [[2 / 3]]).value)
