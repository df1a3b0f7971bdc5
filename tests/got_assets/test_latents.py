"""Stages that read stored latents, through the graph: real Dagster, tiny size, trained by this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from got_core.curate.takedown import add_takedowns
from got_core.foundation.export import Facts, export_foundation
from got_core.recipes import RECIPES, Recipe, tiny
from got_core.train.latents.parts import FOLDER, read_index
from tests.got_core.tiny_pipeline import tiny_pipeline

from .conftest import Graph


def tiny_latents() -> Recipe:
    """`tiny` with both stages on stored latents."""
    recipe = replace(tiny(), name="tiny-latents")
    return recipe.with_stage("pretrain", latents="float16").with_stage("finetune", latents="float16")


@pytest.fixture
def latents_graph(load: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Graph:
    monkeypatch.setitem(RECIPES, "tiny-latents", tiny_latents)
    return load(recipe="tiny-latents", workers="0")


def test_latents_are_in_the_graph_only_where_a_stage_reads_them(
    latents_graph: Graph, load: Callable[..., Graph]
) -> None:
    def parents(graph: Graph, name: str) -> set[str]:
        nodes = {node.key.to_user_string(): node for node in graph.run.defs.resolve_asset_graph().asset_nodes}
        return {key.to_user_string() for key in nodes[name].parent_keys} if name in nodes else set()

    assert parents(latents_graph, "latent_shards") == {"training_manifest", "foundation_models"}
    for stage in ("pretrained_model", "finetuned_model"):
        assert "latent_shards" in parents(latents_graph, stage)
    assert "latent_shards" in latents_graph.run.RETRAIN_ASSETS
    plain = load(recipe="tiny")
    assert not parents(plain, "latent_shards") and "latent_shards" not in plain.run.RETRAIN_ASSETS
    assert "latent_shards" not in parents(plain, "pretrained_model")


def foundation_weights(folder: Path) -> Path:
    """Of parts that have learned nothing, as `got foundation` writes them."""
    pipeline = tiny_pipeline(seed=5)
    for part, name in (("mllm", "mllm"), ("projector", "projector"), ("tokenizer", "tokenizer")):
        getattr(pipeline, part).save_pretrained(folder / "parts" / "language" / name)
    for part in ("unet", "vae"):
        getattr(pipeline, part).save_pretrained(folder / "parts" / "drawing" / part)
    facts = Facts(
        recipe="tiny", seed=5, commit="c" * 40, manifest_hash="m" * 12, cpu_seconds=1.5, trained="2026-11-30",
        rows={"t2i": 3}, foundation={}, scores={"geneval/scenes": 0.125},
    )  # fmt: skip
    export_foundation(folder / "parts", folder / "weights", tiny().model, facts)
    return folder / "weights"


def version_of(graph: Graph, name: str) -> str | None:
    """Of an asset's code."""
    nodes = {node.key.to_user_string(): node for node in graph.run.defs.resolve_asset_graph().asset_nodes}
    return nodes[name].code_version


def test_a_folder_for_another_recipe_is_refused_before_anything_is_made(
    load: Callable[..., Graph], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = foundation_weights(tmp_path)
    graph = load(recipe="embedded", foundation=str(weights), parallel="1")
    assert graph.run.main() == 1
    said = capsys.readouterr()
    assert "holds foundation weights of another model than recipe 'embedded' is for" in said.err
    assert not graph.raw.exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_from_foundation_weights_makes_latents_once_and_trains_from_them(
    latents_graph: Graph, load: Callable[..., Graph], tmp_path: Path
) -> None:
    anew = version_of(latents_graph, "foundation_models")
    graph = load(recipe="tiny-latents", foundation=str(foundation_weights(tmp_path)))
    assert version_of(graph, "foundation_models") != anew
    steps = ("foundation_models", "latent_shards", "pretrained_model", "finetuned_model")
    graph.render()
    graph.make_data()
    graph.make("training_manifest")
    assert graph.make(*steps) == [*steps]
    start, told = graph.storage.read_json("foundation_models.json"), graph.metadata("foundation_models")
    assert start["stage"] == "published" and "seed 5" in told["weights"] and start["manifests"] == ["m" * 12]
    assert "| geneval/scenes | 0.125 |" in str(told["card_scores"]) and "c" * 40 in str(told["card"])
    document = graph.storage.read_json("latent_shards.json")
    assert set(document["stages"]) == {"pretrain", "finetune"} and not document["unused"]
    ((folder, made),) = document["latents"].items()
    manifest = graph.storage.read_table("training_manifest")
    assert (made["samples"], made["listed"]) == (manifest.height, 0)
    assert folder in str(graph.metadata("latent_shards")["folders"])
    for asset in ("pretrained_model", "finetuned_model"):
        model = graph.storage.read_json(f"{asset}.json")
        assert model["substituted"]["samples"] == 0 and model["steps"] > 0
    assert not graph.make(*steps), "nothing is made twice"

    gone = manifest.row(0, named=True)["image_id"]
    add_takedowns(graph.storage, [gone])
    again = graph.run.Runner(graph.project, graph.instance)
    outcome = again.bring_up_to_date(("training_manifest", *steps), again="the list")
    assert not outcome.error and "latent_shards" in outcome.made
    index = read_index(graph.storage, folder)
    assert gone not in index["image_id"].to_list() and index.height == manifest.height - 1
    names = [name for name in graph.storage.list(f"{FOLDER}/") if name.endswith(".safetensors")]
    stored = b"".join(graph.storage.read_bytes(name) for name in names)
    assert manifest["sample_id"][0].encode() not in stored
