"""What Dagster loads: no model library, and exactly the graph of the snapshot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.automation_tick_evaluation_context import (
    build_run_requests_with_backfill_policies,
)
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._core.definitions.partitions.context import partition_loading_context

from .conftest import Graph

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = Path(__file__).with_name("snapshot.json")
HEAVY = ("torch", "ray", "transformers", "diffusers", "vllm", "mlflow", "matplotlib", "scipy", "pyarrow")
"""Seconds of importing each, for every process that loads the graph or a recipe."""


@pytest.mark.parametrize("module", ["got_assets.definitions", "got_core.recipes"])
def test_loading_imports_no_heavy_library(tmp_path: Path, module: str) -> None:
    loaded = f"[name for name in {HEAVY!r} if name in sys.modules]"
    code = f"import gc, sys, {module}; print(gc.isenabled(), {loaded})"
    environment = {**os.environ, "GOT_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "True []"
    assert not any(tmp_path.iterdir()), "loading must leave nothing behind"


def describe(defs: dg.Definitions) -> dict[str, Any]:
    """Assets with group, inputs, partitions and checks; jobs; schedules; sensors."""
    repository = defs.get_repository_def()
    graph = repository.asset_graph
    assets = {}
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        partitions = node.partitions_def
        assets[key.to_user_string()] = {
            "group": node.group_name,
            "inputs": sorted(parent.to_user_string() for parent in node.parent_keys),
            "partitions": partitions.name if isinstance(partitions, dg.DynamicPartitionsDefinition) else None,
            "checks": {
                check.name: "blocking" if graph.get(check).blocking else "warns"
                for check in sorted(node.check_keys)
            },
        }
    jobs = {
        job.name: sorted(key.to_user_string() for key in job.asset_layer.executable_asset_keys)
        for job in repository.get_all_jobs()
        if not job.name.startswith("__")
    }
    return {
        "assets": assets,
        "jobs": jobs,
        "schedules": {
            one.name: {"job": one.job_name, "cron": one.cron_schedule, "zone": one.execution_timezone}
            for one in repository.schedule_defs
        },
        "sensors": {
            one.name: {"type": one.sensor_type.value, "status": one.default_status.value}
            for one in repository.sensor_defs
        },
    }


def test_snapshot(graph: Graph) -> None:
    """A changed graph has to be looked at. To accept it, run this test with UPDATE_SNAPSHOT=1."""
    found = describe(graph.run.defs)
    if os.environ.get("UPDATE_SNAPSHOT"):
        SNAPSHOT.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(SNAPSHOT.read_text())


def test_every_asset_explains_itself(graph: Graph) -> None:
    nodes = graph.run.defs.resolve_asset_graph().asset_nodes
    for node in nodes:
        name = node.key.to_user_string()
        assert len(node.description or "") > 40, f"{name} has no description that explains it"
        assert node.owners and node.kinds, f"{name} lacks an owner or a kind"
        assert node.is_external or node.code_version, f"{name} lacks a version"
        assert node.group_name in {"ingest", "annotate", "curate", "train", "evaluate", "register"}


def test_tables_describe_their_columns(graph: Graph) -> None:
    steps = graph.run.IMAGE_STEPS + graph.run.EDIT_STEPS + ("training_manifest",)
    tables = [name for name in steps if not name.endswith("_gallery")]
    for node in graph.run.defs.resolve_asset_graph().asset_nodes:
        if node.key.to_user_string() in tables:
            schema = node.metadata["dagster/column_schema"]
            assert schema.columns and all(column.description for column in schema.columns)


def test_workspace_and_dg_name_the_same_location(graph: Graph) -> None:
    workspace = ROOT / "workspace.yaml"
    (module,) = yaml.safe_load(workspace.read_text())["load_from"]
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    project, dagster = tools["dg"]["project"], tools["dagster"]
    assert dagster["module_name"] == module["python_module"]["module_name"]
    assert dagster["code_location_name"] == module["python_module"]["location_name"]
    assert module["python_module"]["module_name"] == f"{project['root_module']}.definitions"
    assert module["python_module"]["location_name"] == project["code_location_name"]
    dg.Definitions.validate_loadable(graph.run.defs)


def test_a_recipe_section_is_part_of_the_versions_that_use_it(load) -> None:
    def versions(recipe: str) -> dict[str, str | None]:
        nodes = load(recipe=recipe).run.defs.resolve_asset_graph().asset_nodes
        return {node.key.to_user_string(): node.code_version for node in nodes}

    tiny, embedded = versions("tiny"), versions("embedded")
    changed = {name for name in tiny if tiny[name] != embedded.get(name)}
    assert {"raw_images", "pretrained_model", "finetuned_model", "geneval"} <= changed
    assert not {"captions", "t2i_selection", "benchmark_report", "promoted_model"} & changed


def test_how_a_stage_is_worked_on_makes_its_plan_out_of_date_and_no_model(load, monkeypatch) -> None:
    import got_core.recipes as recipes

    def versions(**changed: int) -> dict[str, str | None]:
        tiny = recipes.tiny().with_stage("pretrain", **changed)
        with monkeypatch.context() as patch:
            patch.setattr(recipes, "get_recipe", lambda name: tiny)
            nodes = load().run.defs.resolve_asset_graph().asset_nodes
        return {node.key.to_user_string(): node.code_version for node in nodes}

    plain = versions()
    for changed, expected in (
        ({"first_samples": 1, "checkpoint_every": 3}, {"training_plan"}),
        ({"seed": 9}, {"training_plan", "pretrained_model", "ablation_runs"}),
    ):
        found = versions(**changed)
        assert {name for name in plain if plain[name] != found[name]} == expected


def test_an_unknown_recipe_is_one_clear_error(tmp_path: Path) -> None:
    environment = {**os.environ, "GOT_HOME": str(tmp_path), "GOT_RECIPE": "huge"}
    done = subprocess.run(
        [sys.executable, "-c", "import got_assets.definitions"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1] == (
        "ValueError: unknown recipe 'huge'; set GOT_RECIPE to one of: embedded, embedded-long, finetune-own, "
        "finetune-own-512, paper, rehearsal, tiny"
    )


def test_own_images_get_a_home_of_their_own(tmp_path: Path, monkeypatch, load) -> None:
    with_home = load(raw=str(tmp_path / "a")).project.settings.home
    assert with_home == tmp_path / "home"
    monkeypatch.delenv("GOT_HOME")
    from got_assets.project import load_project

    first = load_project().settings.home
    monkeypatch.setenv("GOT_RAW", str(tmp_path / "b"))
    second = load_project().settings.home
    assert first.parent == second.parent and first != second and first.name.startswith("own-")


def test_each_benchmark_has_an_asset_that_is_scored_reported_and_registered() -> None:
    from got_assets.definitions import defs
    from got_core.evaluate.benchmarks import BENCHMARKS
    from got_core.evaluate.config import SCENE_ASSETS
    from got_core.recipes import embedded

    assert [one.name for one in BENCHMARKS] == list(SCENE_ASSETS.values())
    scored = {key for key, name in SCENE_ASSETS.items() if name in embedded().evaluate.benchmarks}
    graph = defs.resolve_asset_graph()
    for reader in ("benchmark_report", "registered_model"):
        parents = {key.to_user_string() for key in graph.get(dg.AssetKey(reader)).parent_keys}
        assert parents & set(SCENE_ASSETS) == scored


def test_a_recipe_without_benchmarks_is_registered_without_scores(load) -> None:
    graph = load(recipe="finetune-own").run
    assets = {node.key.to_user_string(): node for node in graph.defs.resolve_asset_graph().asset_nodes}
    assert not {"geneval", "scene_edits", "published_geneval"} & set(assets)
    assert {"benchmark_report", "registered_model", "promoted_model"} <= set(graph.RETRAIN_ASSETS)
    parents = {key.to_user_string() for key in assets["registered_model"].parent_keys}
    assert parents == {"foundation_models", "finetuned_model"}


def test_the_published_size_is_scored_by_published_benchmarks(load) -> None:
    graph = load(recipe="paper").run
    assets = {node.key.to_user_string(): node for node in graph.defs.resolve_asset_graph().asset_nodes}
    assert not {"geneval", "scene_edits"} & set(assets)
    parents = {key.to_user_string() for key in assets["registered_model"].parent_keys}
    assert {"published_geneval", "emu_edit_base"} <= parents


def test_a_backfill_is_one_run_a_shard_with_all_its_assets(graph: Graph) -> None:
    shards = [f"images-{number:05d}" for number in range(3)]
    graph.instance.add_dynamic_partitions("image_shards", shards)
    asset_graph = graph.run.defs.resolve_asset_graph()
    wanted = [
        AssetKeyPartitionKey(dg.AssetKey(asset), shard) for asset in graph.run.IMAGE_STEPS for shard in shards
    ]
    with partition_loading_context(dynamic_partitions_store=graph.instance):
        requests = build_run_requests_with_backfill_policies(wanted, asset_graph, graph.instance)
    assert sorted(request.partition_key for request in requests) == shards
    for request in requests:
        assert {key.to_user_string() for key in request.asset_selection} == set(graph.run.IMAGE_STEPS)


def test_pools_say_what_is_scarce(graph: Graph) -> None:
    pools: dict[str, set[str]] = {}
    for node in graph.run.defs.resolve_asset_graph().asset_nodes:
        for pool in node.pools or ():
            pools.setdefault(pool, set()).add(node.key.to_user_string())
    assert pools["decoding"] == {"raw_images", "edit_pairs"}
    assert pools["annotation"] == {
        *("captions", "entities", "boxes"), *("edit_descriptions", "edit_boxes", "edit_chains")
    }  # fmt: skip
    assert {"foundation_models", "pretrained_model", "finetuned_model"} <= pools["training"]
