"""Counts of prompts, chains and boxes beside the published averages."""

from __future__ import annotations

import io

import polars as pl
import pytest
from PIL import Image

from got_core.corpus.schemas import check_schema
from got_core.curate.review_schemas import STATISTICS
from got_core.curate.schemas import MANIFEST
from got_core.curate.statistics import statistics, statistics_plot
from tests.got_core.annotate.scenes_on_hand import table


def manifest() -> pl.DataFrame:
    rows = [
        {"kind": "t2i", "source": source, "prompt": "x" * length, "chain": "a (1,2),(3,4) " * boxes}
        for source, length, boxes in [("lahr", 100, 3), ("lahr", 140, 5), (None, 60, 1)]
    ]
    rows.append({"kind": "edit", "source": "omni", "prompt": "go", "chain": "1. ü (1,2),(300,400)"})
    return table(rows, MANIFEST)


def test_numbers_stand_beside_the_published_ones() -> None:
    frame = statistics(manifest())
    check_schema(frame, STATISTICS, "statistics")
    found = {(row["kind"], row["source"], row["quantity"]): row for row in frame.iter_rows(named=True)}
    assert found["t2i", "lahr", "prompt_chars"]["mean"] == 120
    assert found["t2i", "all", "prompt_chars"]["mean"] == 100
    assert found["t2i", "all", "boxes"]["mean"] == 3 and found["t2i", "all", "boxes"]["rows"] == 3
    assert found["t2i", "unknown", "chain_chars"]["median"] == len("a (1,2),(3,4) ")
    assert found["edit", "omni", "chain_chars"]["median"] == 20, "characters, not bytes"
    assert found["t2i", "lahr", "boxes"]["published"] == "3.8 to 4.1"
    assert found["t2i", "all", "chain_chars"]["published_high"] == 910
    assert {row["published"] for key, row in found.items() if key[0] == "edit"} == {"not known"}
    assert [key[0] for key in found][:3] == ["edit"] * 3 and len(found) == 3 * 5


@pytest.mark.parametrize("rows", [4, 0])
def test_the_plot_is_a_picture_and_always_the_same(rows: int) -> None:
    one = statistics_plot(manifest().head(rows))
    assert Image.open(io.BytesIO(one)).size[0] > 800
    assert one == statistics_plot(manifest().head(rows))
    assert statistics(manifest().clear()).height == 0
