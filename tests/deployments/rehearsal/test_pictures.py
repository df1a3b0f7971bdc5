"""The rehearsal's inputs: all different, in several shapes and kinds of file, with faults to be counted."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from deployments.rehearsal.pictures import PAIRS, SIDE, SOURCES, Inputs, _photographs, write_inputs
from got_core.corpus.ingest import ingest_edit_pairs, ingest_images
from got_core.corpus.shards import assign_edit_shards, assign_image_shards
from got_core.recipes import rehearsal
from got_core.storage import Storage

pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


def test_ingestion_takes_and_refuses_what_is_counted(inputs: Inputs, tmp_path: Path) -> None:
    storage, config = Storage(str(tmp_path)), rehearsal().ingest
    shards = assign_image_shards(storage, str(inputs.raw), config)
    raw = pl.concat(ingest_images(storage, str(inputs.raw), shard, config) for shard in shards)
    good = raw.filter(pl.col("error").is_null())
    assert {name: len(good.filter(pl.col("source") == name)) for name in SOURCES} == inputs.good
    assert sorted(raw["reason"].drop_nulls()) == ["too_small", "truncated"]
    assert good["near_duplicate_of"].is_not_null().sum() == inputs.near_copies
    assert good["paths"].list.len().max() == 2  # the exact copy
    assert good["height"].min() == good["width"].min() == SIDE
    assert good.select("width", "height").n_unique() >= 5


def test_pairs_are_good_but_for_those_that_are_counted(inputs: Inputs, tmp_path: Path) -> None:
    storage, config = Storage(str(tmp_path)), rehearsal().ingest
    [shard] = assign_edit_shards(storage, str(inputs.edits), config)
    pairs = ingest_edit_pairs(storage, str(inputs.edits), shard, config)
    assert pairs["error"].is_null().sum() == inputs.good_pairs == PAIRS
    assert sorted(pairs["reason"].drop_nulls()) == ["identical_images", "unlike_aspect", "vanished"]
    assert len(pairs) - PAIRS == inputs.quarantined_pairs <= config.max_error_share * len(pairs)


def test_what_is_cut_out_differs() -> None:
    pictures = list(_photographs())
    assert len({picture.tobytes() for picture in pictures}) == len(pictures) == 40
