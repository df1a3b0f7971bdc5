"""Assumptions: distributions of boxes, limits, and what is known being alike in all sets."""

from __future__ import annotations

from dataclasses import fields

import polars as pl
import pytest

from got_core.budget.config import Assumptions, BoxCounts, BudgetConfig
from got_core.budget.data import boxes_by_kind, boxes_of_chains, counts_of, known_of, pictures_of


@pytest.mark.parametrize("mean", [1.0, 1.5, 3.94, 8.0])
def test_boxes_around_a_mean_have_it(mean: float) -> None:
    boxes = BoxCounts.around(mean)
    assert boxes.mean == pytest.approx(mean, abs=0.05) and sum(boxes.shares) == pytest.approx(1)
    assert boxes.shares[0] == 0 and boxes.most <= 16
    assert sum(n * share for n, share in enumerate(boxes.shares)) == boxes.mean


def test_the_assumed_boxes_have_the_papers_mean() -> None:
    assert 3.8 < Assumptions().t2i_boxes.mean < 4.1
    assert BoxCounts.exactly(3) == BoxCounts((0.0, 0.0, 0.0, 1.0)) and BoxCounts.exactly(3).most == 3


@pytest.mark.parametrize("shares", [(), (0.5,), (1.5, -0.5)])
def test_shares_that_are_none_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="not negative and sum to 1"):
        BoxCounts(shares)


def test_each_set_lies_on_its_side_of_what_is_expected() -> None:
    config = BudgetConfig()
    dearer = {"stored_pixels", "bytes_per_pixel", "start_seconds", "t2i_boxes", "edit_boxes"}
    for one in fields(Assumptions):
        values = [getattr(config, name) for name in ("favourable", "expected", "unfavourable")]
        numbers = [
            value.mean if isinstance(value, BoxCounts) else value
            for value in (getattr(assumed, one.name) for assumed in values)
        ]
        assert numbers == sorted(numbers, reverse=one.name not in dearer), one.name


def test_what_is_known_is_alike_in_all_sets() -> None:
    config = BudgetConfig().knowing({"read_gb": 3.0, "decoders": 7})
    for assumed in (config.favourable, config.expected, config.unfavourable):
        assert (assumed.read_gb, assumed.decoders) == (3.0, 7)
    assert config.favourable.link_gb > config.unfavourable.link_gb


@pytest.mark.parametrize(
    ("name", "value"), [("overlap", 1.1), ("utilisation", 0.0), ("float32_share", 2.0), ("link_gb", 0.0)]
)
def test_a_value_outside_its_range_is_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        BudgetConfig().knowing({name: value})


def test_boxes_are_counted_by_kind_of_a_manifest() -> None:
    box = "(100,100),(900,900)"
    manifest = pl.LazyFrame(
        {
            "kind": ["t2i", "t2i", "t2i", "t2i"],
            "chain": ["nothing (of note), (1,2)", f"a cat {box}", f"a cat {box}", f"{box} by {box} {box}"],
        }
    )
    boxes = boxes_by_kind(manifest)
    assert boxes.keys() == {"t2i"} and counts_of(boxes["t2i"]) == BoxCounts((0.25, 0.5, 0.0, 0.25))
    known = known_of(boxes, {}, 64)
    assert known == {"t2i_boxes": counts_of(boxes["t2i"])}


def test_chains_and_pictures_that_failed_do_not_count() -> None:
    chains = pl.LazyFrame({"boxes": [2, 2, None, 9], "error": [None, None, "busy", "not_a_chain"]})
    assert counts_of(boxes_of_chains(chains)) == BoxCounts.exactly(2)
    columns = {"width": [100, 200, 5], "height": [100, 50, 5], "bytes": [3000, 5000, 9]}
    pictures = pictures_of(pl.LazyFrame(columns | {"error": [None, None, "broken"]}))
    assert pictures == {"pictures": 2, "pixels": 20_000, "bytes": 8000}
    assert known_of({}, pictures, 50) == {"stored_pixels": 4.0, "bytes_per_pixel": 0.4}
    none = pictures_of(pl.LazyFrame(columns | {"error": ["a", "b", "c"]}))
    assert known_of({}, none, 50) == {}
