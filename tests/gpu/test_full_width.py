"""The published U-Net and autoencoder from random weights: a training step, and the memory it was planned to
take."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from got_core.budget.plan import Memory, make_plan
from got_core.train.data.samples import training_data
from got_core.train.run import TrainingRun
from got_core.train.trainer import Trainer
from tests.gpu.sizes import random_pipeline, recipe_for

FACTOR = 1.3
"""Between planned and measured memory of a training step, either way."""


def planned_bytes(memory: Memory) -> int:
    """What is allocated while a step trains: without sample pictures, and what CUDA itself takes."""
    return memory.total - memory.overhead - max(0, memory.samples - training_bytes(memory))


def training_bytes(memory: Memory) -> int:
    return memory.gathered + memory.accumulated + memory.activations


def test_a_full_width_training_step_takes_the_memory_that_is_planned(
    training_run: TrainingRun, device: torch.device
) -> None:
    recipe = recipe_for(device)
    (stage,) = recipe.stages
    (memory,) = [one for one in make_plan(recipe).stages[0].memory if one.chosen]
    planned = planned_bytes(memory)
    assert planned == memory.state + training_bytes(memory) > 0
    if device.type == "cuda" and memory.total > torch.cuda.mem_get_info()[0]:
        pytest.skip(f"needs {memory.total / 1e9:.0f} GB of free GPU memory")
    run = replace(training_run, recipe=recipe)
    pipeline = random_pipeline(recipe.model, device)
    trainer = Trainer(pipeline, training_data(run, stage.config), stage.config, device=device)
    losses: list[dict[str, float]] = []
    # The optimizer has its moments from the end of the first step on.
    trainer.run(2, lambda step, found: losses.append(found))
    assert all(math.isfinite(value) for found in losses for value in found.values())
    assert pipeline.config.edit_bucket_multiple == stage.config.bucket_multiple
    if device.type == "cuda":
        measured = torch.cuda.max_memory_allocated()
        print(f"a training step: planned {planned / 1e9:.1f} GB, measured {measured / 1e9:.1f} GB")
        assert planned / FACTOR < measured < planned * FACTOR
