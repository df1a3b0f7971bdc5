"""Parts made ready for a stage: what the backward pass runs through, and whose the head's weights are."""

from __future__ import annotations

from dataclasses import replace

import torch
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from got_core.model.backbones.registry import planner_of
from got_core.model.pipeline import GoTPipeline
from got_core.train.config import StageConfig
from got_core.train.prepare import prepare_parts, set_checkpointing
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
