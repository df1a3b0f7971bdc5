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
        "world": "ff43a4ae8cc3",
        "corpus": "566991b1c178",
        "ingest": "e2791fca012a",
        "curate": "2395566b014e",
        "model": "4dfc03a68647",
        "foundation": "97939fadb67a",
        "pretrain": "2c0fe9082dbc",
        "finetune": "fbefa8572886",
        "evaluate": "b22c8019cc2f",
        "ablation": "422f7056c569",
        "promotion": "c3248a56c760",
        "pretrain.identity": "82aa66a33b6f",
        "finetune.identity": "8b91aef62324",
    },
    "embedded-long": {
        "world": "adeed808b5ab",
        "corpus": "894dd98d9431",
        "ingest": "23212e4cfe1d",
        "curate": "2395566b014e",
        "model": "c5c99b109a13",
        "foundation": "dc25585221d6",
        "pretrain": "17c63c68d7d6",
        "finetune": "915d2f9053e7",
        "evaluate": "85841d5bd980",
        "ablation": "422f7056c569",
        "promotion": "c3248a56c760",
        "pretrain.identity": "6e7e67e53a73",
        "finetune.identity": "af185384cdb5",
    },
    "finetune-own": {
        "world": "7d3e48781dd1",
        "corpus": "566991b1c178",
        "ingest": "4a744159d64f",
        "curate": "f90b3ace638b",
        "model": "d9c9b236cf08",
        "foundation": "9fffce8eb72e",
        "finetune": "bae002c60fab",
        "evaluate": "b22c8019cc2f",
        "ablation": "422f7056c569",
        "promotion": "c3248a56c760",
        "finetune.identity": "7a4974305ae4",
    },
    "finetune-own-512": {
        "world": "7d3e48781dd1",
        "corpus": "566991b1c178",
        "ingest": "4a744159d64f",
        "curate": "f90b3ace638b",
        "model": "f052e1e75043",
        "foundation": "9fffce8eb72e",
        "finetune": "bae002c60fab",
        "evaluate": "b22c8019cc2f",
        "ablation": "422f7056c569",
        "promotion": "c3248a56c760",
        "finetune.identity": "7a4974305ae4",
    },
    "paper": {
        "world": "7d3e48781dd1",
        "corpus": "566991b1c178",
        "ingest": "895fae74c30c",
        "curate": "e3a44ca77c6b",
        "model": "516e4e9172b0",
        "foundation": "9fffce8eb72e",
        "pretrain": "66e48a0d1a7f",
        "finetune": "3fd42e80bbe2",
        "evaluate": "1c0051e3658b",
        "ablation": "6d79a3e669f3",
        "promotion": "5450f7104a46",
        "pretrain.identity": "ede05298fef8",
        "finetune.identity": "7bde82532b3b",
    },
    "tiny": {
        "world": "7d3e48781dd1",
        "corpus": "7cafb8169df1",
        "ingest": "906c6ed804a5",
        "curate": "2395566b014e",
        "model": "bb54a10553a6",
        "foundation": "0b60dd6b45e9",
        "pretrain": "ef2535759a40",
        "finetune": "3189cfa4316e",
        "evaluate": "160a4650a874",
        "ablation": "80207ee652ce",
        "promotion": "c3248a56c760",
        "pretrain.identity": "43fb3affa559",
        "finetune.identity": "22c5bebb379f",
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
        found |= {stage.name: digest(stage.version()), f"{stage.name}.identity": digest(stage.identity())}
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
