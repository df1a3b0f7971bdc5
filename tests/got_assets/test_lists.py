"""Takedowns, verdicts and benchmarks make stale what they touch, in a process that had loaded the graph."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from got_core import recipes
from got_core.corpus.schemas import frame_of
from got_core.curate.review import read_verdict_file, record_verdicts
from got_core.curate.review_schemas import VERDICTS
from got_core.curate.takedown_lists import LIST, add_takedowns

from .conftest import Graph

NOTHING_MADE = {"images-00000": [], "images-00001": [], "edits-00000": []}
DRAWN = ["t2i_gallery", "t2i_training_shards"]


@pytest.fixture
def made(graph: Graph) -> Graph:
    """The graph with all shards and the manifest made once."""
    graph.render()
    graph.make_data()
    graph.make("training_manifest", "review_verdicts")
    return graph


def image_of(graph: Graph, shard: str) -> str:
    """A picture that no other shard holds."""
    ids = {
        name: set(graph.storage.read_table(f"raw_images/{name}")["image_id"].drop_nulls())
        for name in ("images-00000", "images-00001")
    }
    pairs = graph.storage.read_table("edit_pairs/edits-00000")
    others = set().union(*(held for name, held in ids.items() if name != shard))
    return min(ids[shard] - others - set(pairs["source_id"]) - set(pairs["target_id"]))


def verdict(graph: Graph, shard: str) -> pl.DataFrame:
    """One verdict against a chain of the shard that the rules accept."""
    selection = graph.storage.read_table(f"t2i_selection/{shard}").filter("accepted")
    entry = {"chain_id": selection["chain_id"][0], "kind": "t2i", "verdict": "reject", "note": "dull"}
    return read_verdict_file(json.dumps({"reviewer": "ada", "verdicts": [entry]}).encode())


def test_an_id_that_matches_nothing_makes_nothing_again(made: Graph) -> None:
    assert made.make_data() == NOTHING_MADE
    add_takedowns(made.storage, ["0f" * 32, "0f" * 8])
    assert made.make_data() == NOTHING_MADE
    assert made.make("training_manifest", "taken_down") == ["taken_down"], "it says that nothing was found"


def test_an_id_of_one_shard_makes_that_shard_and_the_manifest_again(made: Graph) -> None:
    add_takedowns(made.storage, [image_of(made, "images-00001")])
    assert made.make_data() == NOTHING_MADE | {"images-00001": DRAWN}
    assert made.make("training_manifest") == ["training_manifest"]
    # Its rows are gone by now, and what was said of the shard still counts.
    assert made.make_data() == NOTHING_MADE and made.make("training_manifest") == []

    made.storage.delete(LIST)
    assert made.make_data() == NOTHING_MADE | {"images-00001": DRAWN}
    assert made.make("training_manifest") == ["training_manifest"]
    assert made.make_data() == NOTHING_MADE


def test_a_picture_of_a_pair_concerns_the_shards_that_hold_it(made: Graph) -> None:
    pairs = made.storage.read_table("edit_pairs/edits-00000")
    add_takedowns(made.storage, [pairs["pair_id"][0]])
    drawn = ["edit_gallery", "edit_training_shards"]
    assert made.make_data() == NOTHING_MADE | {"edits-00000": drawn}


def test_a_verdict_makes_the_shard_of_its_chain_again(made: Graph) -> None:
    record_verdicts(made.storage, verdict(made, "images-00000"))
    assert made.make_data() == NOTHING_MADE | {"images-00000": ["t2i_selection", *DRAWN]}
    assert made.make("training_manifest", "review_verdicts") == ["training_manifest", "review_verdicts"]
    unknown = [{"chain_id": "no chain", "kind": "t2i", "verdict": "reject", "reviewer": "ada"}]
    record_verdicts(made.storage, frame_of([dict.fromkeys(VERDICTS) | unknown[0]], VERDICTS))
    assert made.make_data() == NOTHING_MADE
    assert made.make("training_manifest", "review_verdicts") == ["review_verdicts"]


def test_a_list_that_is_there_from_the_beginning_counts_once(graph: Graph) -> None:
    graph.render()
    images = sorted(graph.raw.rglob("*.png"))
    add_takedowns(graph.storage, [hashlib.sha256(images[0].read_bytes()).hexdigest()])
    graph.run.make_data(graph.run.Runner(graph.project, graph.instance))
    assert graph.make_data() == NOTHING_MADE


def test_a_benchmark_concerns_the_shards_with_pictures_like_its_own(
    load: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = tmp_path / "benchmark.csv"
    table.write_text("phash\n")

    def strict() -> recipes.Recipe:
        tiny = recipes.tiny()
        rules = (*tiny.curate.rules, "contaminated")
        curate = replace(tiny.curate, rules=rules, benchmark_hashes=str(table), contamination_distance=0)
        return replace(tiny, curate=curate)

    monkeypatch.setitem(recipes.RECIPES, "tiny", strict)
    graph = load()
    graph.render()
    graph.make_data()
    hashes = {
        name: set(graph.storage.read_table(f"raw_images/{name}")["phash"].drop_nulls())
        for name in ("images-00000", "images-00001")
    }
    table.write_text("phash\nffffffffffffffff\n")
    assert graph.make_data() == NOTHING_MADE
    pairs = graph.storage.read_table("edit_pairs/edits-00000")
    own = hashes["images-00001"] - hashes["images-00000"] - {*pairs["source_phash"], *pairs["target_phash"]}
    table.write_text(f"phash\nffffffffffffffff\n{min(own)}\n")
    assert graph.make_data() == NOTHING_MADE | {"images-00001": ["t2i_selection", *DRAWN]}


def test_the_sensor_observes_and_makes_what_is_touched_stale(made: Graph) -> None:
    module = import_module("got_assets.defs.lists.sources")

    def evaluate() -> list[tuple[str, str | None]]:
        with dg.build_sensor_context(made.instance, resources={"project": made.project}) as context:
            found = module.watch_lists(context)
        events = found.asset_events if isinstance(found, dg.SensorResult) else []
        for event in events:
            made.instance.report_runless_asset_event(event)
        return sorted((event.asset_key.to_user_string(), event.partition) for event in events)

    assert evaluate() == []
    add_takedowns(made.storage, [image_of(made, "images-00001")])
    touched = [("image_takedowns", "images-00001"), ("matched_entries", None), ("takedown_list", None)]
    assert evaluate() == touched
    assert evaluate() == []
    staleness = made.run.Staleness(made.instance, made.run.defs.resolve_asset_graph(), made.storage)
    needed = [
        (asset, shard)
        for shard in ("images-00000", "images-00001")
        for asset in ("t2i_selection", *DRAWN)
        if staleness.need(asset, shard)
    ]
    assert needed == [(asset, "images-00001") for asset in DRAWN]


def test_a_list_that_cannot_be_understood_stops_with_its_row(made: Graph) -> None:
    made.storage.write_bytes(LIST, b"id,reason\npicture.png,\n")
    with pytest.raises(ValueError, match=r"takedown list .*row 1: 'picture.png' is no id"):
        made.make_data()
