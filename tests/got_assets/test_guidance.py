"""The asset `guidance_grid`: on demand, with its run's configuration, from the candidate's pipeline."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from PIL import Image

from got_core.model.formats.weights import weights_hash
from tests.got_core.evaluate.published.downloads import write_data
from tests.got_core.tiny_pipeline import sees_its_conditions, tiny_pipeline

from .conftest import Graph

PAIR = "a photo of a cup and a dog"
CONFIG = {"text_scales": [1.0, 4.0], "spatial_scales": [1.0, 3.0], "prompts": 2, "num_inference_steps": 1}


def put_candidate(graph: Graph) -> str:
    """A model where the recipe's last stage would put it; its weights' hash."""
    with graph.storage.new_folder("models/finetune/0123456789ab/pipeline") as folder:
        sees_its_conditions(tiny_pipeline()).save_pretrained(folder, safe_serialization=True)
        weights = weights_hash(folder)
    document = {"folder": "models/finetune/0123456789ab/pipeline", "weights_hash": weights}
    graph.storage.write_json(f"{graph.project.recipe.candidate}.json", document)
    return weights


def materialized(graph: Graph, **config: Any) -> dg.ExecuteInProcessResult:
    module = import_module("got_assets.defs.evaluate.guidance")
    manager = import_module("got_assets.io").StorageIOManager(graph.storage)
    return dg.materialize(
        [module.guidance_grid, dg.AssetSpec(graph.project.recipe.candidate)],
        selection=[module.guidance_grid],
        instance=graph.instance,
        resources={"project": graph.project, "io_manager": manager},
        run_config={"ops": {"guidance_grid": {"config": CONFIG | config}}},
        raise_on_error=False,
    )


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = result.get_step_failure_events()
    error: Any = event.step_failure_data.error
    return str(error.cause.message if error.cause else error.message)


def test_sheets_and_scores_are_shown(graph: Graph) -> None:
    weights = put_candidate(graph)
    assert materialized(graph).success
    shown, document = graph.metadata("guidance_grid"), graph.storage.read_json("guidance_grid.json")
    assert document["benchmark"] == "geneval/scenes" and document["weights_hash"] == weights
    assert document["folder"].startswith(f"guidance/{weights[:12]}/") and len(document["sheets"]) == 2
    assert shown["pictures"] == 8 and "text 4" in shown["scores"] and "2 / 2" in shown["scores"]
    for link in (shown["heat_map"], shown["first_sheet"]):
        data = graph.storage.read_bytes(link.removeprefix(f"{graph.storage.url}/"))
        assert Image.open(io.BytesIO(data)).format == "PNG"
    before = {name: graph.storage.modified(name) for name in graph.storage.list("guidance/")
              if name.rpartition("/")[2].startswith("000") and "sheets" not in name}  # fmt: skip
    assert len(before) == 8
    assert materialized(graph, benchmark="edits/scenes").success
    assert graph.storage.read_json("guidance_grid.json")["benchmark"] == "edits/scenes"
    assert materialized(graph).success
    assert {name: graph.storage.modified(name) for name in before} == before, "nothing is drawn again"


def test_what_cannot_be_used_is_one_error(graph: Graph) -> None:
    put_candidate(graph)
    assert "GuidanceGridConfig.prompts must be at least 1, got 0" in failure(materialized(graph, prompts=0))
    assert "there is no benchmark 'genevl' for a guidance grid" in failure(
        materialized(graph, benchmark="genevl")
    )
    assert "GOT_BENCHMARKS is not set" in failure(materialized(graph, benchmark="geneval"))
    assert not graph.storage.exists("guidance_grid.json") and not graph.storage.list("guidance/")


@pytest.mark.slow
def test_photographs_are_drawn_by_workers(load: Callable[..., Graph], tmp_path: Path) -> None:
    graph = load(benchmarks=str(write_data(tmp_path / "place")))
    put_candidate(graph)
    assert materialized(graph, benchmark="geneval").success
    document = graph.storage.read_json("guidance_grid.json")
    assert len(document["sheets"]) == 2 and document["prompts"] == ["a photo of a dog", PAIR]
    assert "pictures are not judged" in graph.metadata("guidance_grid")["notes"]


def test_no_job_and_no_run_makes_it(load: Callable[..., Graph]) -> None:
    graph = load()
    jobs = graph.run.defs.get_repository_def().get_all_jobs()
    named = {job.name: job.asset_layer.executable_asset_keys for job in jobs if not job.name.startswith("__")}
    assert not [name for name, keys in named.items() if dg.AssetKey("guidance_grid") in keys]
    node = graph.run.defs.resolve_asset_graph().get(dg.AssetKey("guidance_grid"))
    assert not node.child_keys, "nothing waits for it"


def test_a_recipe_without_benchmarks_asks_for_one(load: Callable[..., Graph]) -> None:
    load(recipe="tiny")
    module: Any = import_module("got_assets.defs.evaluate.guidance")
    from dataclasses import replace

    module._RECIPE = replace(module._RECIPE, evaluate=replace(module._RECIPE.evaluate, benchmarks=()))
    with pytest.raises(ValueError, match="recipe 'tiny' names no benchmark whose prompts could be drawn"):
        module.GuidanceConfig().grid()
    assert module.GuidanceConfig(benchmark="geneval").grid().benchmark == "geneval"
