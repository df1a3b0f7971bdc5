"""What a rehearsal compares."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from deployments.cluster_rehearsal.results import Results, different, results_in
from deployments.cluster_rehearsal.upgrade import made_again
from got_core.frame_hash import content_hash
from got_core.storage import Storage

ONE = Results({"raw_images/images-00000": "a", "boxes/images-00000": "b"}, "m", {"pretrained_model": "w"})


@pytest.mark.parametrize(
    ("other", "names"),
    [
        (ONE, []),
        (replace(ONE, manifest="n"), ["training_manifest"]),
        (replace(ONE, weights={"pretrained_model": "v"}), ["pretrained_model"]),
        (replace(ONE, tables={"raw_images/images-00000": "a"}), ["boxes/images-00000"]),
        (replace(ONE, tables=ONE.tables | {"boxes/images-00001": "b"}), ["boxes/images-00001"]),
    ],
)
def test_whatever_differs_or_is_in_one_alone_is_named(other: Results, names: list[str]) -> None:
    assert different(ONE, other) == names


def test_results_are_read_from_a_storage(storage: Storage) -> None:
    table = pl.DataFrame({"a": [1, 2]})
    storage.write_table("raw_images/images-00000", table)
    storage.write_table("training_manifest", table)
    for name in ("foundation_models", "pretrained_model", "finetuned_model"):
        storage.write_json(f"{name}.json", {"weights_hash": name[:4]})
    found = results_in(storage)
    assert found.tables == {"raw_images/images-00000": content_hash(table)}
    assert found.manifest == content_hash(table)
    assert found.weights["finetuned_model"] == "fine"


def test_what_is_made_again_is_read_with_its_reason() -> None:
    said = """
  images-00000: raw_images, captions (its code version is another)
  images-00000: 24 of 24 samples in tars
  foundation_models (missing)
  3 tables, models and reports made, the rest was up to date; 40 s, 1.2 of 2 cores busy
"""
    assert made_again(said) == [
        ("images-00000", "raw_images, captions", "its code version is another"),
        ("", "foundation_models", "missing"),
    ]
