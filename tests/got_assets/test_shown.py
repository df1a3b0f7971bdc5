"""Events are small; what they show beside numbers lies in the storage, and goes with a takedown."""

from __future__ import annotations

import io
from importlib import import_module

import dagster as dg
import polars as pl
import pytest
from dagster._serdes import serialize_value
from PIL import Image

from got_core.curate.takedown_lists import add_takedowns

from .conftest import Graph

MOST_BYTES = 4096


def event_sizes(instance: dg.DagsterInstance) -> dict[tuple[str, str | None], int]:
    """Bytes of the largest serialized materialization by asset and partition."""
    sizes: dict[tuple[str, str | None], int] = {}
    for key in instance.all_asset_keys():
        for record in instance.fetch_materializations(key, limit=1000).records:
            place = (key.to_user_string(), record.partition_key)
            size = len(serialize_value(record.event_log_entry).encode())
            sizes[place] = max(size, sizes.get(place, 0))
    return sizes


@pytest.fixture
def made(graph: Graph) -> Graph:
    graph.render()
    graph.make_data()
    graph.make("training_plan", "taken_down", "training_manifest", "review_verdicts", "data_statistics")
    return graph


def test_events_are_small_and_pictures_are_files(made: Graph) -> None:
    sizes = event_sizes(made.instance)
    assert len(sizes) == 8 * 2 + 7 + 5
    assert {place: size for place, size in sizes.items() if size >= MOST_BYTES} == {}
    for asset, shard in (
        ("raw_images", "images-00000"),
        ("boxes", "images-00001"),
        ("edit_boxes", "edits-00000"),
    ):
        link = made.metadata(asset, shard)["pictures"]
        assert link == made.storage.url_of(f"shown/{asset}/{shard}/pictures.png")
        picture = Image.open(io.BytesIO(made.storage.read_bytes(f"shown/{asset}/{shard}/pictures.png")))
        assert picture.width > 300 and picture.height > 90


def test_a_takedown_takes_what_pages_show_of_the_shard(made: Graph) -> None:
    image = made.storage.read_table("raw_images/images-00001")["image_id"].drop_nulls()[0]
    shown = {name for name in made.storage.list("shown/") if "/images-00001/" in name}
    assert len(shown) >= 3
    add_takedowns(made.storage, [image])
    made.make("training_manifest")
    left = {name for name in made.storage.list("shown/") if "/images-00001/" in name}
    assert not left and [name for name in made.storage.list("shown/") if "/images-00000/" in name]


def test_what_models_say_is_no_markup_on_any_page(made: Graph) -> None:
    figures = import_module("got_assets.defs.annotate.figures")
    text = "![x](http://evil.example/x.png) <img src=y> | cell"
    frame = pl.DataFrame({"chain": [text], "boxes": [1], "error": [None], "reason": [text]})
    page = figures.chain_figures(frame)["examples"].value
    counts = import_module("got_assets.reporting").reason_counts(frame).value
    for shown in (page, counts):
        assert "\\!\\[x\\]\\(http:\u200b//evil.example/x.png\\) \\<img src=y\\> \\| cell" in shown
