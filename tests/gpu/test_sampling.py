"""Pictures at the model's full resolution from random weights, from text and from a photograph's aspect."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from got_core.budget.config import BudgetConfig
from got_core.budget.measure import sampling_step
from got_core.chain.grammar import parse
from got_core.train.sizes import empty_pipeline
from tests.gpu.sizes import random_pipeline, recipe_for

CHAIN = parse("a cat (100,200),(400,900) and a dog (500,200),(900,900)")
FACTOR = 2.0
"""Measured over planned memory of drawing, beside the weights, at most: libraries take work space of their
own, most of all for the autoencoder's convolutions in 32 bits."""


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return getattr(torch, request.param)


def test_pictures_are_drawn_at_full_resolution(device: torch.device, dtype: torch.dtype) -> None:
    recipe = recipe_for(device)
    side, config = recipe.model.resolution, recipe.stages[0].config
    pipeline = random_pipeline(recipe.model, device).to(device, dtype)
    pipeline.register_to_config(edit_bucket_multiple=config.edit_bucket_multiple)
    before = torch.cuda.memory_allocated() if device.type == "cuda" else 0
    (image,) = pipeline.draw(CHAIN, "a cat and a dog", num_inference_steps=2)
    assert image.size == (side, side)
    if device.type == "cuda":
        budget = BudgetConfig()
        planned = sampling_step(empty_pipeline(recipe.model), budget, edit=False).bytes
        measured = torch.cuda.max_memory_allocated() - before
        print(f"drawing in {dtype}: planned {planned / 1e9:.1f} GB, measured {measured / 1e9:.1f} GB")
        assert measured < FACTOR * planned
    source = Image.effect_noise((side * 7 // 4, side), 60).convert("RGB")
    chains = pipeline.plan("make it blue", source, max_new_tokens=4)
    (edited,) = pipeline.draw(chains, "make it blue", source, num_inference_steps=2)
    assert edited.width / edited.height == pytest.approx(7 / 4, abs=0.02)
    assert min(edited.size) < side < max(edited.size)
