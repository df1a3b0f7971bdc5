"""What a registered version says of its data, whatever its training started from."""

from __future__ import annotations

import polars as pl
import pytest

from got_assets.defs.register.assets import _lineage
from got_core.registry import lineage
from got_core.registry.lineage import DataSet, read_data_sets, write_data_sets

from .conftest import Graph

STARTS = [
    ("a foundation trained here", {}, True),
    ("the package's", {"weights": "foundation weights of recipe embedded", "manifests": ["own"]}, True),
    ("a folder", {"weights": "/models/base", "manifests": []}, False),
    ("another's", {"weights": "foundation weights of recipe mine", "manifests": ["another"]}, False),
    ("a version that is gone", {"weights": "models:/got/9", "manifests": ["m0"]}, False),
]


def test_data_sets_are_listed_where_all_are_known(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "packaged_manifests", lambda: ["own"])
    rows = pl.DataFrame({"source": ["photos"], "licence": ["cc0"], "kind": ["t2i"]})
    write_data_sets(graph.storage, "m1", rows)
    for what, start, known in STARTS:
        tags = {"manifest_hashes": ",".join([*start.get("manifests", []), "m1"])}
        found = read_data_sets(_lineage(graph.project, tags, start))
        expected = [DataSet(source="photos", licence="cc0", kind="t2i", rows=1)] if known else None
        assert found == expected, what
