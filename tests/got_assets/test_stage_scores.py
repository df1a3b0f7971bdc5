"""The asset `stage_scores`: foundation models and the models of both stages on the same few requests."""

from __future__ import annotations

import io
from importlib import import_module

import dagster as dg
import pytest
from PIL import Image

from tests.got_core.evaluate.stages.stored_models import STAGES, put_models

from .conftest import Graph


def materialized(graph: Graph) -> bool:
    module = import_module("got_assets.defs.evaluate.stages")
    manager = import_module("got_assets.io").StorageIOManager(graph.storage)
    (asset,) = module.stage_assets
    others = [dg.AssetSpec(key) for key in (*STAGES, "geneval", "scene_edits")]
    return dg.materialize(
        [asset, *others],
        selection=[asset],
        instance=graph.instance,
        resources={"project": graph.project, "io_manager": manager},
    ).success


@pytest.fixture
def hashes(graph: Graph) -> dict[str, str]:
    for name in ("geneval", "scene_edits"):
        graph.storage.write_json(f"{name}.json", {"prefix": name})
    return put_models(graph.storage)


def test_each_stage_is_scored_once_and_shown(graph: Graph, hashes: dict[str, str]) -> None:
    assert materialized(graph)
    document, shown = graph.storage.read_json("stage_scores.json"), graph.metadata("stage_scores")
    assert document["stages"] == ["foundation", "pretraining", "finetuning"]
    assert list(document["models"].values()) == list(hashes.values())
    sizes = {
        name: one["stages"]["foundation"]["picture"]["n"] for name, one in document["benchmarks"].items()
    }
    assert sizes == {"geneval/scenes": 12, "edits/scenes": 6}
    assert shown["pictures_judged"] == 3 * 18
    for part in ("pretraining", "right plans"):
        assert part in shown["geneval_scenes"] and part in shown["edits_scenes"]
    for link in (shown["plot"], shown["pictures"]):
        picture = Image.open(io.BytesIO(graph.storage.read_bytes(link.removeprefix(f"{graph.storage.url}/"))))
        assert picture.format == "PNG" and picture.width > 300
    own = f"geneval/{hashes['pretrained_model'][:12]}/00000.png"
    before = graph.storage.modified(own)
    assert materialized(graph) and graph.storage.modified(own) == before, "nothing is drawn again"
    assert graph.storage.read_json("stage_scores.json") == document


def test_what_is_made_is_known_to_whoever_clears_away() -> None:
    from got_core.retention.kinds import UNKNOWN, place_of

    names = (
        "stage_scores.png",
        "stage_pictures.png",
        "stage_scores.json",
        "edits/0123456789ab/given/00001.png",
    )
    assert UNKNOWN not in {place_of(name, ["stage_scores"]).kind for name in names}
