"""Tables for the terminal."""

from __future__ import annotations

from got_assets.tables import text_table


def test_text_table_aligns() -> None:
    assert text_table(["a", "rows"], [("long name", 7), ("x", None)]).splitlines() == [
        "a          rows",
        "---------  ----",
        "long name     7",
        "x              ",
    ]
