"""Digests of recipes as they are stored: a moved or renamed configuration keeps its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from got_core.digests import digest
from got_core.recipes import get_recipe

ROOT = Path(__file__).resolve().parents[3]
STORED = {
    "embedded": {
        "world": "adeed808b5ab",
        "corpus": "fbfc95412ddf",
        "ingest": "711a3555cf19",
        "curate": "2395566b014e",
        "model": "cb1b3a1612fc",
        "foundation": "1d6afa74096a",
        "pretrain": "cf9b1d9f5fcd",
        "finetune": "7c7f3c70a24f",
        "evaluate": "0bb8c6539741",
        "ablation": "108c03b13b65",
        "promotion": "c3248a56c760",
        "pretrain.identity": "2867eb31cd29",
        "finetune.identity": "f51a6b71634d",
    },
    "embedded-long": {
        "world": "adeed808b5ab",
        "corpus": "e20c0b2335cb",
        "ingest": "23212e4cfe1d",
        "curate": "2395566b014e",
        "model": "cb1b3a1612fc",
        "foundation": "1d6afa74096a",
        "pretrain": "10604689e286",
        "finetune": "fa2e6386efbb",
        "evaluate": "9b2d923fff19",
        "ablation": "108c03b13b65",
        "promotion": "c3248a56c760",
        "pretrain.identity": "4e41c4d0c521",
        "finetune.identity": "c5f19255bf6d",
    },
    "finetune-own": {
        "world": "7d3e48781dd1",
        "corpus": "9a78deec2606",
        "ingest": "4a744159d64f",
        "curate": "f90b3ace638b",
        "model": "d9c9b236cf08",
        "foundation": "0307b01580fe",
        "finetune": "c59e47439e36",
        "evaluate": "4c423d1b75a9",
        "ablation": "e3bdc263e513",
        "promotion": "c3248a56c760",
        "finetune.identity": "133a7be2f8d8",
    },
    "finetune-own-512": {
        "world": "7d3e48781dd1",
        "corpus": "9a78deec2606",
        "ingest": "4a744159d64f",
        "curate": "f90b3ace638b",
        "model": "f052e1e75043",
        "foundation": "0307b01580fe",
        "finetune": "c59e47439e36",
        "evaluate": "4c423d1b75a9",
        "ablation": "e3bdc263e513",
        "promotion": "c3248a56c760",
        "finetune.identity": "133a7be2f8d8",
    },
    "paper": {
        "world": "7d3e48781dd1",
        "corpus": "9a78deec2606",
        "ingest": "895fae74c30c",
        "curate": "e3a44ca77c6b",
        "model": "516e4e9172b0",
        "foundation": "0307b01580fe",
        "pretrain": "30e441664e68",
        "finetune": "0ae80c4797e1",
        "evaluate": "018538e3b99f",
        "ablation": "16011d19a64e",
        "promotion": "5450f7104a46",
        "pretrain.identity": "89a7f7acca45",
        "finetune.identity": "96ccebf3b9e6",
    },
    "tiny": {
        "world": "7d3e48781dd1",
        "corpus": "d92364dea54f",
        "ingest": "906c6ed804a5",
        "curate": "2395566b014e",
        "model": "bb54a10553a6",
        "foundation": "2fc29d4dd8a0",
        "pretrain": "59525c7518d6",
        "finetune": "e56c1f4c455d",
        "evaluate": "110e4ff6ed88",
        "ablation": "962b8ec9c764",
        "promotion": "c3248a56c760",
        "pretrain.identity": "090daec09209",
        "finetune.identity": "422aabe835f2",
    },
}
"""What stored tables and models were made with. A changed value here makes users' data and models out of
date: change it only where that is meant."""


@pytest.mark.parametrize("name", sorted(STORED))
def test_parts_of_a_recipe_keep_their_digests(name: str) -> None:
    recipe = get_recipe(name)
    found = {part: digest(getattr(recipe, part)) for part in STORED[name] if hasattr(recipe, part)}
    found["evaluate"] = digest(recipe.evaluate.measuring())
    for stage in recipe.stages:
        found |= {stage.name: digest(stage.whole()), f"{stage.name}.identity": digest(stage.identity())}
    assert found == STORED[name]


def test_a_digest_depends_on_values_and_not_on_names_of_classes() -> None:
    tiny = get_recipe("tiny")
    assert digest(tiny) == digest(get_recipe("tiny")) != digest(tiny.with_stage("pretrain", steps=4))
    assert digest([1, "a"]) == digest((1, "a")) != digest([1, "b"])


def test_recipes_load_without_model_libraries() -> None:
    heavy = ("torch", "ray", "transformers", "diffusers", "dagster")
    code = f"import sys, got_core.recipes; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
