"""A spread model (FSDP2) in bfloat16 on one worker: its losses are those of float32 but for rounding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from got_core.train.data.samples import training_data
from got_core.train.run import TrainingRun
from got_core.train.trainer import Trainer
from tests.got_core.tiny_pipeline import TINY
from tests.gpu.sizes import random_pipeline, recipe_for

STEPS = 3


@pytest.mark.usefixtures("one_worker")
def test_losses_in_bfloat16_are_finite_and_those_of_float32(
    training_run: TrainingRun, device: torch.device
) -> None:
    base = recipe_for(torch.device("cpu")).stages[0].config
    losses: dict[bool, list[float]] = {False: [], True: []}
    for bf16 in losses:
        config = replace(base, sharding="fsdp", bf16=bf16, batch_size=2)
        trainer = Trainer(
            random_pipeline(TINY, torch.device("cpu")),
            training_data(training_run, config),
            config,
            device=device,
        )
        trainer.run(STEPS, lambda step, found, kept=losses[bf16]: kept.append(found["loss"]))
        for name, parameter in trainer.trained().items():
            assert parameter.dtype == torch.float32, name
            assert parameter.device.type == device.type, name
            assert parameter.full_tensor().isfinite().all(), name
        with trainer.averaged() as pipeline:
            assert pipeline is not None
            assert pipeline.config.edit_bucket_multiple == config.bucket_multiple
            (image,) = pipeline("a red circle", max_new_tokens=4, num_inference_steps=2).images
            assert image.size == (TINY.resolution, TINY.resolution)
    print(f"losses in float32 {losses[False]}, in bfloat16 {losses[True]}")
    assert losses[True] == pytest.approx(losses[False], rel=0.02)
