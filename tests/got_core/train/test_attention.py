"""Which attention kernels train, and that a model has its own again after every stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0, XFormersAttnProcessor

from got_core.foundation.drawing import train_unet
from got_core.foundation.language_model import fit_tokenizer, train_language_model
from got_core.foundation.train import build_text_encoder
from got_core.model.build import (
    build_autoencoder,
    build_image_processor,
    build_language_model,
    build_projector,
    build_sequences,
    build_unet,
)
from got_core.model.pipeline import GoTPipeline
from got_core.recipes import tiny
from got_core.train import optim
from got_core.train.attention import Kernels, attentive_parts, plain_attention
from got_core.train.config import StageConfig
from got_core.train.data.samples import training_data
from got_core.train.optim import allow_fast_matmul, fused_backward_is_slow
from got_core.train.run import TrainingRun
from got_core.train.trainer import Trainer
from tests.got_core.tiny_pipeline import tiny_pipeline

STAGE = StageConfig(steps=1, batch_size=2, lora_rank=2, mixture={"t2i": 1.0})
SDPA = {"": "sdpa", "text_config": "sdpa", "vision_config": "sdpa"}
EAGER = dict.fromkeys(SDPA, "eager")


@pytest.fixture(params=[False, True], ids=["float32", "bfloat16"])
def computes_in_bf16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(optim, "computes_in_bf16", lambda device_type: request.param)
    return request.param


def classes(unet: UNet2DConditionModel) -> set[type]:
    return {type(processor) for processor in unet.attn_processors.values()}


def test_fused_attention_is_slow_in_bfloat16_on_a_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optim, "computes_in_bf16", lambda device_type: True)
    assert fused_backward_is_slow("cpu", bf16=True)
    assert not fused_backward_is_slow("cpu", bf16=False)
    assert not fused_backward_is_slow("cuda", bf16=True)
    monkeypatch.setattr(optim, "computes_in_bf16", lambda device_type: False)
    assert not fused_backward_is_slow("cpu", bf16=True)


def test_plain_attention_of_a_loaded_model_is_fused_where_that_is_not_slow(
    training_run: TrainingRun, computes_in_bf16: bool
) -> None:
    pipeline = tiny_pipeline()
    places = list(pipeline.unet.attn_processors)
    pipeline.unet.set_attn_processor({place: AttnProcessor() for place in places})
    pipeline.mllm.set_attn_implementation(EAGER)
    trainer = Trainer(pipeline, training_data(training_run), STAGE)
    kernels = [Kernels.of(model) for model in attentive_parts(trainer.pipeline)]
    assert kernels[0].implementations == (EAGER if computes_in_bf16 else SDPA)
    assert classes(trainer.pipeline.unet) == ({AttnProcessor} if computes_in_bf16 else {AttnProcessor2_0})
    finished = trainer.finish()
    assert finished is not None
    assert classes(finished.unet) == {AttnProcessor} and Kernels.of(finished.mllm).implementations == EAGER


def test_gpus_may_multiply_faster_and_processors_stay_exact() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        allow_fast_matmul("cpu")
        assert torch.get_float32_matmul_precision() == before
        allow_fast_matmul("cuda")
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_joint_stage_leaves_the_attention_of_a_freshly_loaded_pipeline(
    training_run: TrainingRun, computes_in_bf16: bool, tmp_path: Path
) -> None:
    trainer = Trainer(tiny_pipeline(), training_data(training_run), STAGE)
    mllm = trainer.pipeline.mllm.get_base_model()
    trainer.run(1, lambda step, losses: None)
    while_training = (classes(trainer.pipeline.unet), Kernels.of(mllm).implementations)
    assert while_training == (({AttnProcessor}, EAGER) if computes_in_bf16 else ({AttnProcessor2_0}, SDPA))
    with trainer.averaged() as pipeline:
        assert pipeline is not None
        assert (classes(pipeline.unet), Kernels.of(mllm).implementations) == ({AttnProcessor2_0}, SDPA)
    assert (classes(trainer.pipeline.unet), Kernels.of(mllm).implementations) == while_training
    finished = trainer.finish()
    assert finished is not None
    finished.save_pretrained(tmp_path)
    fresh = GoTPipeline.from_pretrained(tmp_path)
    assert classes(finished.unet) == classes(fresh.unet) == {AttnProcessor2_0}
    mine, other = Kernels.of(finished.mllm), Kernels.of(fresh.mllm)
    assert mine.implementations == other.implementations == SDPA


def test_foundation_parts_have_their_own_attention_again(
    training_run: TrainingRun, computes_in_bf16: bool
) -> None:
    data, recipe, seen = training_data(training_run), tiny(), []
    config = replace(recipe.foundation, unet_steps=1, vision_steps=1, language_steps=1)
    tokenizer = fit_tokenizer(data, recipe.model.image_tokens)
    encoder = build_text_encoder(recipe.model)
    unet, vae = build_unet(recipe.model), build_autoencoder(recipe.model)
    before = dict(unet.attn_processors)
    train_unet(unet, vae, encoder, data, recipe.model, config, lambda *_: seen.append(classes(unet)))
    assert seen == [{AttnProcessor if computes_in_bf16 else AttnProcessor2_0}]
    after = unet.attn_processors
    assert after.keys() == before.keys() and all(after[place] is before[place] for place in before)
    model = build_language_model(recipe.model.language_model, tokenizer)
    sequences = build_sequences(recipe.model, tokenizer, build_image_processor(recipe.model.language_model))
    used = []
    train_language_model(
        model, build_projector(recipe.model), encoder, sequences, data, config,
        lambda *_: used.append(Kernels.of(model).implementations),
    )  # fmt: skip
    assert used and all(one == (EAGER if computes_in_bf16 else SDPA) for one in used)
    assert Kernels.of(model).implementations == SDPA


def test_what_was_there_comes_back_place_by_place_also_after_an_error() -> None:
    pipeline = tiny_pipeline()
    unet, places = pipeline.unet, list(pipeline.unet.attn_processors)
    # Somebody's choice: one place unfused, one of another kind.
    chosen = {place: AttnProcessor2_0() for place in places}
    chosen[places[0]] = AttnProcessor()
    chosen[places[1]] = other = XFormersAttnProcessor()
    unet.set_attn_processor(dict(chosen))
    pipeline.mllm.set_attn_implementation({"": "sdpa", "vision_config": "eager", "text_config": "sdpa"})
    with (
        pytest.raises(RuntimeError, match="stop"),
        plain_attention(unet, wanted=True),
        plain_attention(pipeline.mllm, wanted=True),
    ):
        assert classes(unet) == {AttnProcessor, XFormersAttnProcessor}
        assert unet.attn_processors[places[1]] is other
        assert Kernels.of(pipeline.mllm).implementations == EAGER
        raise RuntimeError("stop")
    assert all(unet.attn_processors[place] is chosen[place] for place in places)
    assert Kernels.of(pipeline.mllm).implementations == {**SDPA, "vision_config": "eager"}
