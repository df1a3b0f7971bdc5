"""Own pictures finetune the champion of a run: LoRA on the U-Net, registered, and compared with it.

Real Dagster and MLflow at the tiny size, trained by this process; `finetune-own` differs from what runs here
in sizes and steps.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from got_core.model.formats.saved import load_pipeline
from got_core.recipes import RECIPES, Recipe, finetune_own, tiny
from got_core.registry.reference import model_folder
from got_core.registry.tracking import connect
from got_core.scenes.corpus import write_corpus
from got_core.storage import Storage
from got_core.train.data.samples import training_data
from got_core.train.run import TrainingRun
from got_core.train.trainer import Trainer
from tests.got_core.conftest import _manifest

from .conftest import Graph, loading

# A run in this process, where warnings of Dagster and MLflow would be errors inside its steps.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def own_tiny() -> Recipe:
    """`finetune-own` for weights of the recipe `tiny`."""
    recipe = finetune_own(tiny().model)
    recipe = replace(
        recipe, name="own-tiny", ingest=replace(tiny().ingest, min_side=32), curate=tiny().curate
    )
    return recipe.with_stage(
        "finetune",
        steps=60,
        batch_size=4,
        global_batch=8,
        bucket_multiple=16,
        peak_rate=5e-3,
        language_rate=5e-3,
        warmup_steps=4,
        checkpoint_every=30,
        sample_every=0,
        held_out=0.2,
    )


@dataclass
class Own:
    """What finetuning on own pictures left behind."""

    graph: Graph
    uri: str

    def read(self, asset: str) -> Any:
        return self.graph.storage.read_json(f"{asset}.json")


def champion_of_a_run(home: Path) -> str:
    """The graph at the recipe `tiny`; the registry that holds its champion."""
    with pytest.MonkeyPatch.context() as patch, loading(home, patch) as load:
        graph = load(workers="0")
        assert graph.run.run(graph.project, graph.instance) == 0
    return f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"


def pictures(folder: Path, images: int, seed: int, edits: int = 0) -> Path:
    """A folder `raw` of pictures that the champion was not trained on."""
    corpus = replace(tiny().corpus, images=images, edits=edits, seed=seed)
    write_corpus(tiny().world, corpus, folder / "raw", folder / "edits", folder / "truth.parquet")
    return folder / "raw"


def run_own(load: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch, root: Path, uri: str) -> Own:
    monkeypatch.setitem(RECIPES, "own-tiny", own_tiny)
    graph = load(
        home=str(root / "own"),
        recipe="own-tiny",
        raw=str(pictures(root / "pictures", 40, 77)),
        annotator="scenes",
        weights="models:/got@champion",
        mlflow_uri=uri,
        workers="0",
    )
    assert graph.run.run(graph.project, graph.instance) == 0
    return Own(graph, uri)


def held_out(root: Path) -> TrainingRun:
    """Pictures that nobody was trained on, annotated and curated."""
    pictures(root, 24, 78, edits=4)
    storage = Storage(f"file://{root / 'storage'}")
    manifest = _manifest(storage, root, own_tiny())
    return TrainingRun(
        storage_url=storage.url, raw_url=str(root / "raw"), edits_url=str(root / "edits" / "pairs.csv"),
        manifest=manifest, manifest_hash="held out", recipe=own_tiny(), tracking_uri="",
    )  # fmt: skip


def loss_of(folder: Path, run: TrainingRun) -> float:
    """Mean of the stage's own objective over fixed rows with fixed noise."""
    stage = own_tiny().stage("finetune").config
    config = replace(stage, bf16=False, lora_dropout=0.0, loss=replace(stage.loss, drop=0.0))
    trainer = Trainer(load_pipeline(folder), training_data(run, config), config)
    trainer.model.eval()
    with torch.no_grad():
        losses = [
            trainer.model(trainer.batches.passes(k)[0], torch.Generator().manual_seed(k)) for k in range(8)
        ]
    return sum(float(one["loss"]) for one in losses) / len(losses)


def out_of_date(graph: Graph) -> list[str]:
    """What the weekly schedule would retrain for."""
    from got_assets.staleness import Staleness

    found = Staleness(graph.instance, graph.run.defs.resolve_asset_graph(), graph.storage)
    return [state.key for state in found.states(graph.run.RETRAIN_ASSETS) if state.needed]


def test_own_pictures_finetune_the_champion(
    load: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    uri = champion_of_a_run(tmp_path / "home")
    own = run_own(load, monkeypatch, tmp_path, uri)
    start, model = own.read("foundation_models"), own.read("finetuned_model")
    assert start["weights"] == "models:/got/1" and start["steps"] == 0
    client = connect(uri)
    first, second = (client.get_model_version("got", number) for number in ("1", "2"))
    assert start["weights_hash"] == first.tags["weights_hash"] != model["weights_hash"]
    assert second.tags["weights"] == "models:/got/1"
    manifests = second.tags["manifest_hashes"].split(",")
    assert manifests == [*start["manifests"], model["manifest_hash"]], "who asks finds the champion's too"
    decision = own.read("promoted_model")
    assert (decision["champion"], decision["promoted"]) == ("2", True)
    assert "the held-out loss is lower" in decision["reason"]

    # On pictures that neither has seen, the champion against what became of it.
    rows = held_out(tmp_path / "held out")
    with model_folder("models:/got/1", uri) as (folder, _):
        before = loss_of(folder, rows)
    after = loss_of(own.graph.storage.download(model["folder"]), rows)
    assert after < 0.95 * before, f"held-out loss went from {before:.4f} to {after:.4f}"
    # A moved alias alone starts no training; new pictures do, and then from the new champion.
    graph = own.graph
    assert out_of_date(graph) == []
    shutil.copytree(pictures(tmp_path / "more", 24, 79), graph.raw / "more")
    graph.make_data()
    assert "training_manifest" in out_of_date(graph)
    graph.make("taken_down", "training_manifest", "foundation_models")
    assert own.read("foundation_models")["weights"] == "models:/got/2"
