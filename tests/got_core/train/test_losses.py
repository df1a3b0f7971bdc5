"""The loss as the paper has it: what the U-Net is given, what it should answer, and who learns from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from got_core.model.backbones.registry import planner_of
from got_core.model.build import fresh_pipeline
from got_core.model.config import LossConfig, SchedulerConfig
from got_core.model.got import GoTModel, count_dropped
from got_core.model.noising import add_noise
from got_core.model.pipeline import GoTPipeline
from got_core.model.tokens import train_tokenizer
from got_core.train.config import StageConfig
from got_core.train.data.samples import training_data
from got_core.train.prepare import attach_lora
from got_core.train.run import TrainingRun
from got_core.train.trainer import JOINT, Trainer
from tests.got_core.tiny_pipeline import TINY, tiny_pipeline

SDXL = SchedulerConfig(
    name="DDPMScheduler",
    options={
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "clip_sample": False,
        "steps_offset": 1,
        "timestep_spacing": "leading",
    },
    prediction="epsilon",
)
PAPER_LOSS = LossConfig(prediction="epsilon", noise_offset=0.1)
SIGNAL = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2).cumprod(0)
"""Share of the signal's variance after each step of SDXL's schedule (DDPM paper, equation 4)."""


def sdxl_pipeline() -> GoTPipeline:
    tokenizer = train_tokenizer(["a red circle (1,2),(3,4)"], TINY.image_tokens)
    pipeline = fresh_pipeline(replace(TINY, scheduler=SDXL), tokenizer)
    pipeline.vae.register_to_config(scaling_factor=0.13025)
    return pipeline


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latents(count: int, seed: int) -> Tensor:
    return torch.randn(count, 8, 8, 8, generator=seeded(seed))


def test_epsilon_target_is_the_noise_in_the_scaled_latent_and_conditions_are_unscaled() -> None:
    pipeline = sdxl_pipeline()
    model = GoTModel.of(pipeline, PAPER_LOSS, JOINT)
    seen: dict[str, Tensor] = {}

    def note(module: object, given: tuple, named: dict, answer: object) -> None:
        seen.update(input=given[0], steps=given[1], answer=answer.sample, **named["added_cond_kwargs"])

    pipeline.unet.register_forward_hook(note, with_kwargs=True)
    batch = {"clean": latents(6, 1), "spatial": latents(6, 2), "reference": latents(6, 3)}
    batch["time_ids"] = torch.arange(36.0).reshape(6, 6)
    model.loss = replace(PAPER_LOSS, drop=0.0)
    loss = model.diffusion_loss(torch.randn(6, TINY.image_tokens, 64, generator=seeded(4)), batch, seeded())
    noisy, reference, spatial = seen["input"].split(8, dim=1)
    torch.testing.assert_close(reference, batch["reference"])
    torch.testing.assert_close(spatial, batch["spatial"])
    torch.testing.assert_close(seen["time_ids"], batch["time_ids"])
    signal = SIGNAL[seen["steps"]][:, None, None, None]
    noise = (noisy - signal.sqrt() * 0.13025 * batch["clean"]) / (1 - signal).sqrt()
    # Were the latent not scaled, this would be no unit noise at the small steps.
    assert noise.std() == pytest.approx(1.0, abs=0.1)
    torch.testing.assert_close(loss, (seen["answer"] - noise).pow(2).mean(), rtol=1e-3, atol=1e-4)


def test_steps_are_uniform_and_the_offset_is_one_number_a_channel() -> None:
    scheduler = sdxl_pipeline().scheduler
    clean = torch.zeros(8000, 2, 4, 4)
    with_offset = add_noise(clean, PAPER_LOSS, seeded(), scheduler)
    without = add_noise(clean, replace(PAPER_LOSS, noise_offset=0.0), seeded(), scheduler)
    shares = torch.histc(with_offset.timesteps.float(), bins=10, min=0, max=1000) / len(clean)
    assert with_offset.timesteps.min() == 0
    assert with_offset.timesteps.max() == 999
    torch.testing.assert_close(shares, torch.full((10,), 0.1), atol=0.015, rtol=0)
    # Variance of a channel's mean: 1/16 from independent noise, 0.1 squared from the offset.
    assert without.target.mean(dim=(2, 3)).var() == pytest.approx(1 / 16, rel=0.04)
    assert with_offset.target.mean(dim=(2, 3)).var() == pytest.approx(1 / 16 + 0.01, rel=0.04)
    # Around its channel's mean the noise is as it was, and it is this noise that was added.
    assert with_offset.target.var(dim=(2, 3)).mean() == pytest.approx(1.0, rel=0.02)
    signal = SIGNAL[with_offset.timesteps][:, None, None, None]
    torch.testing.assert_close(
        with_offset.latents, (1 - signal).sqrt() * with_offset.target, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("language_share", [1.0, 0.5])
def test_dropped_conditions_are_missing_in_what_the_unet_is_given(
    training_run: TrainingRun, language_share: float
) -> None:
    pipeline = tiny_pipeline()
    torch.nn.init.normal_(pipeline.projector.output_projector.bias, generator=seeded(1))
    config = StageConfig(
        steps=1, batch_size=4, lora_rank=4, mixture={"edit": 1.0}, bf16=False,
        loss=LossConfig(drop=0.25, language_share=language_share),
    )  # fmt: skip
    trainer = Trainer(pipeline, training_data(training_run), config)
    trainer.batches.drop = 0.0  # everything is encoded
    (batch,) = trainer.batches.passes(0)
    seen: list[dict[str, Tensor]] = []

    def note(module: object, given: tuple, named: dict) -> None:
        noisy, reference, spatial = given[0].split(8, dim=1)
        seen.append({"noisy": noisy, "reference": reference, "spatial": spatial})
        seen[-1] |= {"context": named["encoder_hidden_states"], **named["added_cond_kwargs"]}

    pipeline.unet.register_forward_pre_hook(note, with_kwargs=True)
    # What is dropped is drawn first, so it can be drawn here too: one row of each branch.
    seed = next(k for k in range(1000) if sorted(count_dropped(4, 0.25, seeded(k)).tolist()) == [0, 1, 2, 3])
    dropped = count_dropped(4, 0.25, seeded(seed))
    for share in (0.0, 0.25):
        trainer.model.loss = replace(config.loss, drop=share)
        trainer.model(batch, seeded(seed))["loss"].backward()
    whole, partly = seen
    bias = pipeline.projector.output_projector.bias.detach()
    for row, missing in enumerate(dropped.tolist()):
        context = bias.expand_as(whole["context"][row]) if missing >= 2 else whole["context"][row]
        torch.testing.assert_close(partly["context"][row], context, rtol=0, atol=0)
        for name, needed in (("spatial", 1), ("reference", 3)):
            expected = torch.zeros_like(batch[name][row]) if missing >= needed else batch[name][row]
            assert torch.equal(partly[name][row], expected), name
            assert batch[name][row].abs().sum() > 0
            assert torch.equal(whole[name][row], batch[name][row])
        assert not torch.equal(whole["context"][row], bias.expand_as(whole["context"][row]))
    for name in ("text_embeds", "time_ids", "noisy"):
        assert torch.equal(partly[name], whole[name]), name
    assert len({tuple(vector.tolist()) for vector in partly["text_embeds"]}) == 4


def test_the_paper_path_trains_and_its_gradient_reaches_the_language_model(
    training_run: TrainingRun,
) -> None:
    config = StageConfig(
        steps=1, batch_size=2, lora_rank=4, bf16=False, loss=replace(PAPER_LOSS, text_weight=0.0)
    )
    trainer = Trainer(sdxl_pipeline(), training_data(training_run), config)
    trainer._backward_passes()
    # LoRA's second factor starts at zero, so the first step's gradient is there and nowhere before it.
    gradients = {name: p.grad for name, p in trainer.trained().items() if "lora_B" in name}
    assert gradients
    assert all(grad is not None and grad.abs().sum() > 0 for grad in gradients.values())
    head = [p.grad for name, p in trainer.trained().items() if "lm_head" in name]
    assert all(grad is None or not grad.any() for grad in head)


def test_epsilon_needs_a_scheduler_and_a_pipeline_that_predict_it(training_run: TrainingRun) -> None:
    pipeline = tiny_pipeline()
    with pytest.raises(ValueError, match="DDPMScheduler"):
        GoTModel.of(pipeline, PAPER_LOSS, JOINT)
    config = StageConfig(steps=1, loss=PAPER_LOSS)
    with pytest.raises(ValueError, match=r"'epsilon'.*'sample'"):
        Trainer(pipeline, training_data(training_run), config)


def test_exactly_the_published_parts_of_the_language_model_are_trained() -> None:
    pipeline = tiny_pipeline()
    layers = [f"model.language_model.layers.{k}" for k in range(TINY.language_model.layers)]
    attention = [f"self_attn.{name}_proj" for name in "qkvo"]
    adapted = {
        f"{layer}.{part}"
        for layer in layers
        for part in (*attention, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    }
    norms = {
        f"{layer}.{part}" for layer in layers for part in ("input_layernorm", "post_attention_layernorm")
    }
    whole = norms | {"model.language_model.embed_tokens", "lm_head"}
    config = StageConfig(steps=1, lora_dropout=0.05)
    mllm = attach_lora(pipeline.mllm, config)
    trained = {
        name.removeprefix("base_model.model.") for name, p in mllm.named_parameters() if p.requires_grad
    }
    expected = {f"{part}.lora_{factor}.default.weight" for part in adapted for factor in "AB"}
    assert trained == expected | {f"{part}.modules_to_save.default.weight" for part in whole}
    layer = planner_of(mllm).network.get_submodule(f"{layers[0]}.mlp.up_proj")
    assert (layer.r["default"], layer.scaling["default"]) == (32, 1.0)
    assert layer.lora_dropout["default"].p == 0.05


def test_training_steps_leave_vision_tower_and_autoencoder_bit_by_bit(training_run: TrainingRun) -> None:
    config = StageConfig(steps=2, batch_size=2, lora_rank=4, mixture={"edit": 1.0}, bf16=False)
    trainer = Trainer(tiny_pipeline(), training_data(training_run), config)
    frozen = {
        **planner_of(trainer.model.mllm).network.model.visual.state_dict(),
        **trainer.model.vae.state_dict(),
    }
    before = {name: value.clone() for name, value in frozen.items()}
    moved = {name: p.detach().clone() for name, p in trainer.trained().items()}
    trainer.run(2, lambda step, losses: None)
    assert all(torch.equal(value, before[name]) for name, value in frozen.items())
    # The same two steps did reach everything that is trained.
    assert not [name for name, p in trainer.trained().items() if torch.equal(p, moved[name])]


def test_tied_embeddings_are_untied_when_both_have_been_trained(training_run: TrainingRun, tmp_path) -> None:
    model = replace(TINY, language_model=replace(TINY.language_model, tie_embeddings=True))
    tokenizer = train_tokenizer(["a red circle (1,2),(3,4)"], TINY.image_tokens)
    config = StageConfig(steps=2, batch_size=2, lora_rank=4, bf16=False, ema_decay=0.0)
    trainer = Trainer(fresh_pipeline(model, tokenizer), training_data(training_run), config)
    trainer.run(2, lambda step, losses: None)
    (batch,) = trainer.batches.passes(0)
    trainer.model.eval()
    with torch.no_grad():
        pipeline = trainer.finish()
        assert pipeline is not None
        pipeline.save_pretrained(tmp_path)
        again = GoTPipeline.from_pretrained(tmp_path)
        keys = ("input_ids", "attention_mask")
        logits = [part.mllm(**{key: batch[key] for key in keys}).logits for part in (pipeline, again)]
    torch.testing.assert_close(logits[0], logits[1])
