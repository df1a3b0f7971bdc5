"""The asset `stage_scores`: what the models of all stages made of the same few requests."""

from __future__ import annotations

import io
from importlib import import_module

import dagster as dg
import pytest
from PIL import Image

from got_core.evaluate.benchmarks import SCENE_EDITS, benchmarks_named
from got_core.evaluate.samples import draw_batch
from got_core.evaluate.stages.scoring import FirstOfEach
from got_core.retention.kinds import UNKNOWN, place_of
from tests.got_core.evaluate.report.painted import Painter

from .conftest import Graph

ASSETS = {"foundation_models": [0, 1, 2, 3], "pretrained_model": [0, 1], "finetuned_model": [0]}
"""Of each model the edits whose pictures are wrong; all plans are the same."""
WEIGHTS = {asset: f"{number}" * 64 for number, asset in enumerate(ASSETS)}


def put_pictures(graph: Graph) -> None:
    """References of models, and all of their pictures: no model is needed."""
    recipe, storage = graph.project.recipe, graph.storage
    for asset, wrong in ASSETS.items():
        weights = WEIGHTS[asset]
        storage.write_json(f"{asset}.json", {"stage": "x", "folder": "models/none", "weights_hash": weights})
        for benchmark in benchmarks_named(list(recipe.evaluate.stage_requests)):
            suite = benchmark.suite(recipe.world, recipe.evaluate)
            few = FirstOfEach(suite, recipe.evaluate.stage_requests[benchmark.name])
            painter = Painter(suite, wrong if benchmark is SCENE_EDITS else ())
            for request in few.requests(benchmark.prefix(weights)).values():
                draw_batch(painter, [request], storage, {}, sampler={}, weights_hash=weights)  # type: ignore[arg-type]


def materialized(graph: Graph) -> bool:
    module = import_module("got_assets.defs.evaluate.stages")
    manager = import_module("got_assets.io").StorageIOManager(graph.storage)
    (asset,) = module.stage_assets
    others = [dg.AssetSpec(key) for key in (*ASSETS, "geneval", "scene_edits")]
    return dg.materialize(
        [asset, *others],
        selection=[asset],
        instance=graph.instance,
        resources={"project": graph.project, "io_manager": manager},
    ).success


@pytest.fixture
def pictures(graph: Graph) -> None:
    for name in ("geneval", "scene_edits"):
        graph.storage.write_json(f"{name}.json", {"prefix": name})
    put_pictures(graph)


@pytest.mark.usefixtures("pictures")
def test_each_stage_is_scored_and_shown(graph: Graph) -> None:
    assert materialized(graph)
    document, shown = graph.storage.read_json("stage_scores.json"), graph.metadata("stage_scores")
    assert document["stages"] == ["foundation", "pretraining", "finetuning"]
    assert document["models"] == dict(zip(document["stages"], WEIGHTS.values(), strict=True))
    edits = document["benchmarks"]["edits/scenes"]
    assert [one["stage"] for one in edits["stages"]] == document["stages"], "in the order of training"
    means = [one["picture"]["mean"] for one in edits["stages"]]
    assert means == sorted(means) and means[0] < means[-1]
    assert [one["picture"]["n"] for one in edits["stages"]] == [6] * 3
    assert shown["pictures_judged"] == 3 * 18
    for part in ("pretraining", "right plans"):
        assert part in shown["geneval_scenes"] and part in shown["edits_scenes"]
    for link in (shown["plot"], shown["pictures"]):
        picture = Image.open(io.BytesIO(graph.storage.read_bytes(link.removeprefix(f"{graph.storage.url}/"))))
        assert picture.format == "PNG" and picture.width > 300


def test_what_is_made_is_known_to_whoever_clears_away() -> None:
    names = ("stage_scores.png", "stage_pictures.png", "stage_scores.json", "edits/0123456789ab/given/1.png")
    assert UNKNOWN not in {place_of(name, ["stage_scores"]).kind for name in names}
