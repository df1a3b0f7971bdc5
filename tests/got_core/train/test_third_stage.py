"""A third stage of another objective: a module and a line in the recipe, and everything follows."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from mlflow import MlflowClient

from got_core.ablation.trials import Trial
from got_core.budget.plan import make_plan
from got_core.model.formats.weights import weights_hash
from got_core.recipes import Recipe, tiny
from got_core.train.config import StageConfig
from got_core.train.run import TrainingRun
from got_core.train.stage import Stage
from got_core.train.stages import train_stage
from tests.got_core.tiny_pipeline import tiny_pipeline
from tests.got_core.train.chain_only import ChainOnly

ROOT = Path(__file__).resolve().parents[3]
CONFIG = StageConfig(steps=2, workers=2, batch_size=2, lora_rank=4, sample_every=0, ema_decay=0.0)
CHAINS = Stage(name="chains", asset="chain_model", title="chain tuning", config=CONFIG, objective=ChainOnly())


def recipe() -> Recipe:
    short = tiny()
    return replace(short, stages=(*short.stages, CHAINS))


def test_it_trains_what_its_objective_says_and_nothing_else(
    training_run: TrainingRun, tmp_path: Path
) -> None:
    start = tmp_path / "storage" / "start"
    tiny_pipeline().save_pretrained(start)
    run = replace(
        training_run,
        recipe=recipe(),
        storage_url=str(tmp_path / "storage"),
        tracking_uri=f"sqlite:///{tmp_path}/mlflow.db",
        workers=0,
    )
    travelled = pickle.loads(pickle.dumps(CHAINS))  # as a Ray worker gets it
    assert travelled == CHAINS
    reference = train_stage(
        run, travelled, {"folder": "start", "stage": "finetune", "weights_hash": weights_hash(start)}
    )
    assert not ray.is_initialized()
    assert reference["stage"] == "chains" and reference["steps"] == 2
    assert set(reference["metrics"]) == {"loss", "chains"}
    history = MlflowClient(run.tracking_uri).get_metric_history(reference["mlflow_run_id"], "chains")
    assert history and history[-1].step == 2
    trained = run.storage().download(reference["folder"])
    changed = {
        part: weights_hash(trained / part) != weights_hash(start / part)
        for part in ("mllm", "unet", "projector")
    }
    assert changed == {"mllm": True, "unet": False, "projector": False}


def test_its_objective_is_part_of_its_identity_and_of_no_other_stages() -> None:
    plain, other = replace(CHAINS, objective=tiny().stages[0].objective), ChainOnly(weight=1.0)
    assert CHAINS.identity() != plain.identity() == CONFIG.identity()
    assert CHAINS.identity() != replace(CHAINS, objective=other).identity()
    assert "ChainOnly" in json.dumps(CHAINS.identity())


def test_plan_and_ablation_follow_the_recipe() -> None:
    assert [stage.name for stage in make_plan(recipe()).stages] == ["pretrain", "finetune", "chains"]
    assert [stage.name for stage in Trial("got", 0).recipe(recipe()).stages] == [
        "pretrain",
        "finetune",
        "chains",
    ]
    assert [stage.name for stage in Trial("ssgm", 0).recipe(recipe()).stages] == ["chains"]


def test_the_graph_has_an_asset_for_it_that_is_scored_and_registered(tmp_path: Path) -> None:
    code = """
import json, got_core.recipes
from tests.got_core.train.test_third_stage import recipe
got_core.recipes.RECIPES["third"] = recipe
from got_assets.definitions import defs
graph = defs.resolve_asset_graph()
parents = {k.to_user_string(): sorted(p.to_user_string() for p in graph.get(k).parent_keys)
           for k in graph.get_all_asset_keys()}
print(json.dumps(parents))
"""
    environment = {**os.environ, "GOT_RECIPE": "third", "GOT_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    parents = json.loads(done.stdout)
    assert parents["chain_model"] == ["finetuned_model", "training_manifest"]
    assert parents["geneval"] == parents["scene_edits"] == ["chain_model"]
    models = {"foundation_models", "pretrained_model", "finetuned_model", "chain_model"}
    assert models <= set(parents["registered_model"])


def test_stages_that_share_a_name_or_an_asset_are_one_clear_error() -> None:
    short = tiny()
    with pytest.raises(ValueError, match="two training stages have the name 'pretrain'"):
        replace(short, stages=(short.stages[0], short.stages[0]))
    with pytest.raises(ValueError, match="two training stages have the asset 'finetuned_model'"):
        replace(short, stages=(*short.stages, replace(CHAINS, asset="finetuned_model")))
    with pytest.raises(ValueError, match="at least one training stage"):
        replace(short, stages=())
    with pytest.raises(ValueError, match="'tiny' has no stage 'polish'; it has pretrain, finetune"):
        short.with_stage("polish", steps=1)
