"""Parts made ready for a stage: what the backward pass runs through, and whose the head's weights are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from got_core.model.backbones.registry import planner_of
from got_core.model.pipeline import GoTPipeline
from got_core.train.config import StageConfig
from got_core.train.data.samples import training_data
from got_core.train.prepare import prepare_parts, set_checkpointing
from got_core.train.run import TrainingRun
from got_core.train.trainer import Trainer
from tests.got_core.tiny_pipeline import TINY, tiny_pipeline

CONFIG = StageConfig(steps=1, batch_size=2, lora_rank=4, gradient_checkpointing=True)


def edit_batch(pipeline: GoTPipeline) -> dict[str, Tensor]:
    prompt = pipeline.sequences.prompt("make it red", has_image=True)
    sample = pipeline.sequences.training(prompt, "a red circle (1,2),(3,4)")
    return pipeline.sequences.collate([sample] * 2, [Image.new("RGB", (64, 64))] * 2)


def test_checkpointing_runs_no_backward_pass_through_the_frozen_vision_tower() -> None:
    pipeline = tiny_pipeline()
    prepare_parts(pipeline, CONFIG)
    mllm = planner_of(pipeline.mllm).network
    assert mllm.is_gradient_checkpointing and pipeline.unet.is_gradient_checkpointing
    needed = {}
    for name, part in (("vision", mllm.model.visual.merger), ("language", mllm.model.language_model.norm)):
        part.register_forward_hook(lambda *given, name=name: needed.update({name: given[-1].requires_grad}))
    pipeline.mllm.train()
    planner_of(pipeline.mllm).hidden_states(edit_batch(pipeline)).sum().backward()
    assert needed == {"vision": False, "language": True}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_the_frozen_tower_costs_its_forward_pass_alone(
    training_run: TrainingRun, checkpointing: bool, whole: bool
) -> None:
    config = replace(
        CONFIG, bf16=False, gradient_checkpointing=checkpointing, language_whole=whole, mixture={"edit": 1.0}
    )
    trainer = Trainer(tiny_pipeline(), training_data(training_run), config)
    (batch,) = trainer.batches.passes(0)
    trainer.model.train()
    planner = planner_of(trainer.model.mllm).network
    tower, answers, needed = planner.model.visual, [], []
    for part in tower.modules():
        part.register_forward_hook(lambda *given: needed.append(_needs_gradient(given[-1])))
    # A copy: what comes back is changed in place.
    hook = tower.register_forward_hook(lambda *given: answers.append(type(given[-1])(**given[-1])))
    with FlopCounterMode(display=False) as alone, torch.no_grad():
        planner.model.get_image_features(batch["pixel_values"], batch["image_grid_thw"])
    hook.remove()
    step = [_operations(trainer, batch)]
    assert needed and not any(needed)
    assert all(p.grad is None and not p.requires_grad for p in tower.parameters())
    tower.forward = lambda *given, **named: type(answers[0])(**answers[0])
    step.append(_operations(trainer, batch))
    assert step[0] - step[1] == alone.get_total_flops() > 0


def _operations(trainer: Trainer, batch: dict[str, Tensor]) -> int:
    with FlopCounterMode(display=False) as counter:
        trainer.model(batch, torch.Generator().manual_seed(0))["loss"].backward()
    return counter.get_total_flops()


def _needs_gradient(found: object) -> bool:
    leaves = found.values() if isinstance(found, dict) else found if isinstance(found, tuple) else [found]
    return any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in leaves)


def test_nothing_below_the_first_trained_layer_is_run_backward(training_run: TrainingRun) -> None:
    config = replace(CONFIG, language_whole=False, mixture={"edit": 1.0}, bf16=False)
    trainer = Trainer(tiny_pipeline(), training_data(training_run), config)
    (batch,) = trainer.batches.passes(0)
    trainer.model.train()
    first = planner_of(trainer.model.mllm).network.model.language_model.layers[0]
    found: list[bool] = []
    first.register_forward_pre_hook(lambda _, given, named: found.append(
        any(leaf.requires_grad for leaf in (*given, *named.values()) if isinstance(leaf, Tensor))
    ), with_kwargs=True)  # fmt: skip
    trainer.model(batch, torch.Generator().manual_seed(0))["loss"].backward()
    assert found and not any(found)


def test_checkpointing_goes_on_and_off_and_leaves_nothing_behind() -> None:
    pipeline = tiny_pipeline()
    mllm = pipeline.mllm
    for wanted in (True, True, False):
        set_checkpointing(pipeline, wanted=wanted)
        assert mllm.is_gradient_checkpointing is wanted
        assert pipeline.unet.is_gradient_checkpointing is wanted
        assert pipeline.vae.use_slicing is wanted
        with torch.enable_grad():
            mllm.requires_grad_(False)
            assert not planner_of(mllm).hidden_states(edit_batch(pipeline)).requires_grad


def test_selective_checkpointing_repeats_no_product_and_full_checkpointing_does() -> None:
    def operations(**options: bool) -> int:
        pipeline = tiny_pipeline()
        prepare_parts(pipeline, CONFIG)
        set_checkpointing(pipeline, **options)
        pipeline.mllm.train()
        with FlopCounterMode(display=False) as counter:
            planner_of(pipeline.mllm).hidden_states(edit_batch(pipeline)).sum().backward()
        return counter.get_total_flops()

    everything = operations(wanted=False)
    assert operations(wanted=True, selective=True) == everything
    assert operations(wanted=True) > everything


def test_a_head_that_was_the_embedding_is_trained_for_itself() -> None:
    tied = replace(TINY, language_model=replace(TINY.language_model, tie_embeddings=True))
    pipeline = tiny_pipeline(config=tied)
    before = pipeline.mllm.lm_head.weight
    assert before is pipeline.mllm.get_input_embeddings().weight
    prepare_parts(pipeline, CONFIG)
    mllm = planner_of(pipeline.mllm).network
    head, embedding = mllm.lm_head.weight, mllm.get_input_embeddings().weight
    assert head.requires_grad and embedding.requires_grad and head is not embedding
    assert torch.equal(head, embedding) and torch.equal(head, before)
    with torch.no_grad():
        head.zero_()
    assert embedding.abs().sum() > 0
