"""The joint loop: where gradients go, what is dropped, and resuming bit by bit."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from got_core.model.backbones.registry import planner_of
from got_core.model.config import LossConfig
from got_core.model.got import (
    count_dropped,
    drop_conditions,
    text_loss,
    weight_of_places,
)
from got_core.model.noising import add_noise
from got_core.model.pipeline import GoTPipeline
from got_core.model.sequence import IGNORED
from got_core.recipes import tiny
from got_core.train import optim
from got_core.train.checkpoints.tensors import training_tensors
from got_core.train.config import Geometry, OptimizerName, StageConfig
from got_core.train.data.batches import JointBatches
from got_core.train.data.samples import TrainingSample, noise_seed, training_data
from got_core.train.layout import StepLayout
from got_core.train.optim import MovingAverage, cosine_share
from got_core.train.run import TrainingRun
from got_core.train.trainer import Trainer
from tests.got_core.tiny_pipeline import TINY, tiny_pipeline
from tests.got_core.train.saved_state import saved_state

CONFIG = StageConfig(
    steps=6, batch_size=2, lora_rank=4, mixture={"t2i": 0.5, "edit": 0.5}, warmup_steps=2, bf16=False
)


def trainer(run: TrainingRun, config: StageConfig = CONFIG) -> Trainer:
    return Trainer(tiny_pipeline(), training_data(run), config)


def ignore(step: int, losses: dict[str, float]) -> None:
    """Nobody listens."""


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resumed_training_gives_bit_identical_weights(
    training_run: TrainingRun, tmp_path: Path, optimizer: OptimizerName
) -> None:
    config = replace(CONFIG, optimizer=optimizer)
    whole = trainer(training_run, config)
    whole.run(6, ignore)
    first = trainer(training_run, config)
    first.run(4, ignore)
    first.save(tmp_path)
    second = trainer(training_run, config)
    second.load(tmp_path)
    assert second.step == 4
    second.run(6, ignore)
    for name, value in whole.trained().items():
        assert torch.equal(value, second.trained()[name]), name
    for mine, other in zip(whole.average.values, second.average.values, strict=True):
        assert torch.equal(mine, other)


def test_the_diffusion_gradient_reaches_the_language_model_through_gt(training_run: TrainingRun) -> None:
    joint = trainer(training_run, replace(CONFIG, loss=LossConfig(text_weight=0.0)))
    joint._backward_passes()
    gradients = {name: p.grad for name, p in joint.trained().items() if "mllm" in name and "lora_B" in name}
    assert gradients
    assert any(g is not None and g.abs().sum() > 0 for g in gradients.values())


def test_the_vision_tower_and_the_autoencoder_stay_as_they_are(training_run: TrainingRun) -> None:
    names = list(trainer(training_run).trained())
    assert not [name for name in names if "visual" in name or name.startswith("vae")]
    assert [name for name in names if "embed_tokens" in name]
    assert [name for name in names if name.startswith("unet.conv_in")]


def test_finished_pipelines_are_plain_and_keep_what_was_learned(training_run: TrainingRun) -> None:
    joint = trainer(training_run, replace(CONFIG, ema_decay=0.0))
    joint.run(3, ignore)
    (batch,) = joint.batches.passes(0)
    joint.model.eval()
    with torch.no_grad():
        before = planner_of(joint.pipeline.mllm).hidden_states(batch)
        pipeline = joint.finish()
        after = planner_of(pipeline.mllm).hidden_states(batch)
    assert type(pipeline.mllm).__name__ == "Qwen2_5_VLForConditionalGeneration"
    read = batch["attention_mask"].bool()
    torch.testing.assert_close(before[read], after[read], atol=1e-4, rtol=1e-4)


def test_batches_depend_on_seed_and_step_alone_and_ranks_share_no_sample(training_run: TrainingRun) -> None:
    data, pipeline = training_data(training_run), tiny_pipeline()

    def samples(rank: int) -> list[TrainingSample]:
        batches = JointBatches(
            data,
            pipeline.sequences,
            pipeline.vae,
            layout=StepLayout(samples=6, workers=2, largest_batch=3),
            mixture={"t2i": 0.7, "edit": 0.3},
            seed=5,
            rank=rank,
        )
        (one,) = batches.layout.passes(7, rank)
        return batches.reader.read(batches.order(one)).samples

    first, again, other = samples(0), samples(0), samples(1)
    assert [(s.sample_id, s.prompts) for s in first] == [(s.sample_id, s.prompts) for s in again]
    assert not {s.sample_id for s in first} & {s.sample_id for s in other}
    assert {s.kind for s in first} == {s.kind for s in other}


def test_dropped_conditions_have_the_published_shares() -> None:
    count = 20_000
    ones = torch.ones(count, 1, 1)
    planes = torch.ones(count, 1, 1, 1)
    dropped = count_dropped(count, 0.05, torch.Generator().manual_seed(0))
    context, spatial, reference = drop_conditions(ones, planes, planes, torch.zeros_like(ones), dropped)
    shares = [float(part.mean()) for part in (context, spatial, reference)]
    assert shares == pytest.approx([0.90, 0.85, 0.95], abs=0.01)
    # Whoever has lost the reference has lost everything, whoever has lost the text has lost the layout.
    assert not (context.flatten() * (1 - reference.flatten())).any()
    assert not (spatial.flatten() * (1 - context.flatten())).any()


def test_samples_without_conditions_can_weigh_less() -> None:
    noised = add_noise(
        torch.zeros(2, 3, 2, 2), LossConfig(prediction="flow"), torch.Generator().manual_seed(2)
    )
    errors = noised.target.pow(2).mean(dim=(1, 2, 3))
    guess, share = torch.zeros(2, 3, 2, 2), torch.tensor([1.0, 0.1])
    torch.testing.assert_close(noised.loss(guess, share), (errors * share).mean())


def test_what_an_edit_keeps_can_weigh_more_where_its_source_is_shown() -> None:
    noised = add_noise(
        torch.zeros(2, 3, 2, 2), LossConfig(prediction="flow"), torch.Generator().manual_seed(2)
    )
    kept = torch.tensor([[1.0, 1.0], [1.0, 0.0]]).expand(2, 1, 2, 2)
    # The second sample has lost its source.
    places = weight_of_places(kept, torch.tensor([2, 3]), LossConfig(kept_weight=5.0))
    errors = noised.target.pow(2)
    errors[0, :, [0, 0, 1], [0, 1, 0]] *= 5
    torch.testing.assert_close(noised.loss(torch.zeros(2, 3, 2, 2), places=places), errors.mean())


def test_a_higher_noise_mean_gives_noisier_samples() -> None:
    clean = torch.zeros(4000, 1, 1, 1)
    shares = []
    for mean in (0.0, 1.5):
        config = LossConfig(prediction="flow", noise_mean=mean)
        sigma = add_noise(clean, config, torch.Generator().manual_seed(0)).timesteps / 1000
        shares.append(float((sigma > 0.5).float().mean()))
    assert shares[0] == pytest.approx(0.5, abs=0.03)
    assert shares[1] == pytest.approx(0.933, abs=0.02)  # the normal distribution below 1.5


def test_flow_noise_is_a_straight_path() -> None:
    clean = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    noised = add_noise(clean, LossConfig(prediction="flow"), torch.Generator().manual_seed(2))
    share = (noised.timesteps / 1000)[:, None, None, None]
    torch.testing.assert_close(noised.latents - share * noised.target, clean)


def test_predicting_the_sample_has_the_loss_of_the_velocity_it_implies() -> None:
    clean = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    flow = add_noise(clean, LossConfig(prediction="flow"), torch.Generator().manual_seed(2))
    unclamped = LossConfig(prediction="sample", smallest_weighted_sigma=0.0)
    sample = add_noise(clean, unclamped, torch.Generator().manual_seed(2))
    guess = torch.zeros_like(clean)
    sigma = (sample.timesteps / 1000)[:, None, None, None]
    assert sigma.min() > 0.05
    torch.testing.assert_close(flow.latents, sample.latents)
    torch.testing.assert_close(sample.loss(guess), flow.loss((sample.latents - guess) / sigma))


def test_the_rate_warms_up_and_decays_to_its_floor() -> None:
    shares = [cosine_share(step, 100, 10, 0.1) for step in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[9] == pytest.approx(1.0)
    assert shares[-1] == pytest.approx(0.1, abs=0.01)
    assert all(a >= b for a, b in pairwise(shares[10:]))


def test_the_moving_average_starts_fast_and_swaps_back() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    average = MovingAverage([weight], 0.999)
    with torch.no_grad():
        weight.fill_(1.0)
    for _ in range(50):
        average.update()
    assert 0.9 < float(average.values[0]) <= 1.0
    kept = average.values[0].item()
    average.swap()
    assert weight.item() == kept
    average.swap()
    assert weight.item() == 1.0


def test_unknown_recipes_and_digests() -> None:
    from got_core.recipes import digest, get_recipe

    with pytest.raises(ValueError, match="embedded"):
        get_recipe("huge")
    assert digest(tiny()) == digest(tiny())
    assert digest(tiny()) != digest(tiny().with_stage("pretrain", steps=4))


def passes_of(joint: Trainer) -> list[tuple[dict[str, Tensor], list[torch.Generator]]]:
    """The batches of the first step, each with the random sources of its samples' noise."""
    seed = joint.config.seed
    return [
        (batch, [torch.Generator().manual_seed(noise_seed(seed, k)) for k in batch["index"].tolist()])
        for batch in joint.batches.passes(0)
    ]


def widened(batch: dict[str, Tensor], length: int, filler: int) -> dict[str, Tensor]:
    """Language inputs padded on the left to a length."""
    fillers = {"input_ids": filler, "attention_mask": 0, "labels": IGNORED}
    missing = length - batch["input_ids"].shape[1]
    return {key: F.pad(batch[key], (missing, 0), value=value) for key, value in fillers.items()}


def test_accumulated_gradients_are_those_of_the_one_large_batch(training_run: TrainingRun) -> None:
    config = replace(CONFIG, workers=1, batch_size=2, global_batch=6, mixture={"t2i": 1.0}, loss=LossConfig())
    joint = trainer(training_run, config)
    joint.model.train()
    parts = passes_of(joint)
    counts = [int((batch["labels"] != IGNORED).sum()) for batch, _ in parts]
    assert len(set(counts)) > 1, "the passes need different numbers of tokens for this to say anything"
    joint._backward_passes()
    accumulated = {name: p.grad.clone() for name, p in joint.trained().items() if p.grad is not None}
    joint.optimizer.zero_grad()
    length = max(batch["input_ids"].shape[1] for batch, _ in parts)
    padded = [widened(batch, length, joint.pipeline.sequences.eos_id) for batch, _ in parts]
    large = {key: torch.cat([batch[key] for batch in padded]) for key in padded[0]}
    hidden = planner_of(joint.model.mllm).hidden_states(large)
    guidance = hidden[:, joint.pipeline.sequences.image_span(training=True)].split(2)
    diffusion = [
        joint.model.diffusion_loss(part, batch, generator)
        for part, (batch, generator) in zip(guidance, parts, strict=True)
    ]
    (text_loss(joint.model.mllm, hidden, large["labels"]) + torch.stack(diffusion).mean()).backward()
    assert accumulated
    for name, gradient in accumulated.items():
        torch.testing.assert_close(gradient, joint.trained()[name].grad, rtol=1e-3, atol=1e-5)


def test_gradient_checkpointing_changes_neither_loss_nor_gradients(training_run: TrainingRun) -> None:
    config = replace(CONFIG, lora_dropout=0.1, loss=LossConfig())
    kept, recomputed, selective = (
        trainer(training_run, replace(config, gradient_checkpointing=on, selective_checkpointing=some))
        for on, some in ((False, False), (True, False), (True, True))
    )
    calls: list[str] = []
    for joint in (kept, recomputed, selective):
        joint.model.train()
        layer = planner_of(joint.model.mllm).network.model.language_model.layers[0]
        for name, part in (("unet", joint.model.unet.down_blocks[0].resnets[0]), ("mllm", layer.mlp)):
            # Before, not after: a recomputation ends as soon as it has what the gradient needs.
            part.register_forward_pre_hook(lambda *given, name=name: calls.append(name))
    losses = [kept._backward_passes()]
    assert sorted(calls) == ["mllm", "unet"]
    losses.append(recomputed._backward_passes())
    assert sorted(calls[2:]) == ["mllm", "mllm", "unet", "unet"]
    losses.append(selective._backward_passes())
    for found in losses[1:]:
        torch.testing.assert_close(losses[0], found)
    for name, parameter in kept.trained().items():
        for joint in (recomputed, selective):
            torch.testing.assert_close(joint.trained()[name].grad, parameter.grad, rtol=1e-4, atol=1e-6)
    pipeline = recomputed.finish()
    assert pipeline is not None
    assert not pipeline.unet.is_gradient_checkpointing
    assert not pipeline.mllm.is_gradient_checkpointing


def test_the_global_batch_gives_the_number_of_passes_or_a_clear_error() -> None:
    assert StageConfig(steps=1, workers=4, batch_size=8, global_batch=128).layout().accumulation == 4
    assert StageConfig(steps=1, workers=2, batch_size=6).samples_per_step == 12
    with pytest.raises(ValueError, match="3 workers cannot share the 100 samples of a draw evenly"):
        StageConfig(steps=1, workers=3, batch_size=8, global_batch=100)
    with pytest.raises(ValueError, match="draws_per_step must be at least 1, got 0"):
        StageConfig(steps=1, draws_per_step=0)
    with pytest.raises(ValueError, match="global_batch must be at least 1, got 0"):
        StageConfig(steps=1, global_batch=0)
    with pytest.raises(ValueError, match="sum to 1"):
        StageConfig(steps=1, mixture={"t2i": 0.5})
    with pytest.raises(ValueError, match="geometry is one of"):
        StageConfig(steps=1, geometry="squash")  # type: ignore[arg-type]
    one, other = (StageConfig(steps=1, workers=w, batch_size=b, global_batch=16) for w, b in ((1, 2), (4, 4)))
    assert one.identity() == other.identity()
    assert one.identity() != replace(one, global_batch=32).identity()
    assert one.identity() != replace(one, draws_per_step=2).identity()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"checkpoint_every": 0}, "checkpoint_every is at least 1 step, got 0"),
        ({"sample_every": -1}, "sample_every is 0 or a number of steps, got -1"),
        ({"milestone_every": -1}, "milestone_every is 0 or a number of steps, got -1"),
        ({"peak_rate": -1e-4}, "peak_rate is not negative, got -0.0001"),
        ({"language_rate": -1e-4}, "language_rate is not negative, got -0.0001"),
    ],
)
def test_numbers_that_no_training_can_have_are_refused(value: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        StageConfig(steps=1, **value)
    StageConfig(steps=1, checkpoint_every=1, sample_every=0, peak_rate=0.0, language_rate=0.0)


@pytest.mark.parametrize(("given", "language"), [(5e-4, 5e-4), (None, 3e-3), (0.0, 0.0)])
def test_adamw_gets_the_numbers_of_the_stage(
    training_run: TrainingRun, given: float | None, language: float
) -> None:
    config = replace(
        CONFIG,
        peak_rate=3e-3,
        language_rate=given,
        betas=(0.8, 0.97),
        epsilon=1e-5,
        weight_decay=0.07,
        warmup_steps=0,
    )
    joint = trainer(training_run, config)
    (adamw,) = joint.optimizer._each
    assert type(adamw) is torch.optim.AdamW
    seen: dict[int, tuple[float, float]] = {}
    for group in adamw.param_groups:
        assert (group["betas"], group["eps"], group["amsgrad"]) == ((0.8, 0.97), 1e-5, False)
        seen |= {id(parameter): (group["lr"], group["weight_decay"]) for parameter in group["params"]}
    assert len(seen) == len(joint.trained())
    for name, parameter in joint.trained().items():
        rate = language if name.startswith("mllm.") else 3e-3
        vocabulary = "embed_tokens" in name or "lm_head" in name
        assert seen[id(parameter)] == (rate, 0.07 if parameter.ndim > 1 and not vocabulary else 0.0), name
    before = {name: value.detach().clone() for name, value in joint.trained().items()}
    joint.run(1, ignore)
    for name, value in joint.trained().items():
        # Adam's first update is the gradient over its own size plus epsilon; the clipped one is still there.
        assert value.grad is not None
        seen_rate, decay = seen[id(value)]
        update = value.grad / (value.grad.abs() + 1e-5)
        expected = before[name] * (1 - seen_rate * decay) - seen_rate * update
        torch.testing.assert_close(value.detach(), expected, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("tied", [False, True])
def test_rows_of_tokens_that_no_batch_holds_stay_to_the_bit(training_run: TrainingRun, tied: bool) -> None:
    language = replace(TINY.language_model, tie_embeddings=tied)
    pipeline = tiny_pipeline(config=replace(TINY, language_model=language))
    config = replace(CONFIG, weight_decay=0.5, ema_decay=0.9)
    joint = Trainer(pipeline, training_data(training_run), config)
    (name,) = [name for name in joint.trained() if "embed_tokens" in name]
    before = joint.trained()[name].detach().clone()
    joint.run(6, ignore)
    held = {int(token) for k in range(6) for token in joint.batches.passes(k)[0]["input_ids"].unique()}
    untouched = sorted(set(range(len(before))) - held)
    assert len(untouched) > 10
    after = joint.trained()[name].detach()
    assert torch.equal(after[untouched], before[untouched])
    # All but those of padding and of the source's place, which the vision tower's answer takes.
    assert (after[sorted(held)] != before[sorted(held)]).any(dim=1).sum() >= len(held) - 2 > 10
    average = dict(zip(joint.trained(), joint.average.values, strict=True))[name]
    assert torch.equal(average[untouched], before[untouched])


def test_a_stage_in_bfloat16_computes_in_it_and_keeps_its_weights_in_float32(
    training_run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: dict[bool, dict[str, float]] = {}
    # Not every processor computes in bfloat16 at a bearable speed; at this size the emulation will do.
    monkeypatch.setattr(optim, "computes_in_bf16", lambda device_type: True)
    for bf16 in (False, True):
        joint = trainer(training_run, replace(CONFIG, bf16=bf16, ema_decay=0.0))
        seen: set[torch.dtype] = set()
        layer = planner_of(joint.model.mllm).network.model.language_model.layers[0]
        for part in (layer.mlp.up_proj, joint.model.unet.conv_in, joint.model.projector.output_projector):
            part.register_forward_hook(lambda part, given, answer, seen=seen: seen.add(answer.dtype))
        joint.run(1, lambda step, found, bf16=bf16: losses.update({bf16: found}))
        assert seen == {torch.bfloat16 if bf16 else torch.float32}
        for name, parameter in joint.trained().items():
            assert parameter.grad is not None, name
            for value in (parameter, parameter.grad, *joint.optimizer.state(parameter).values()):
                assert value.dtype == torch.float32, name
                assert value.isfinite().all(), name
    assert losses[True] != losses[False]
    assert losses[True] == pytest.approx(losses[False], rel=0.02)


def test_without_an_average_none_is_kept_or_saved(training_run: TrainingRun, tmp_path: Path) -> None:
    joint = trainer(training_run, replace(CONFIG, ema_decay=0.0))
    joint.run(1, ignore)
    joint.save(tmp_path)
    assert not [key for key in saved_state(tmp_path) if key.startswith("average.")]
    again = trainer(training_run, replace(CONFIG, ema_decay=0.0))
    again.load(tmp_path)
    before = again.model.unet.conv_in.weight.clone()
    with again.averaged() as pipeline:
        assert pipeline is not None
        assert torch.equal(pipeline.unet.conv_in.weight, before)


@pytest.mark.parametrize("geometry", ["crop", "bucket"])
def test_cut_pictures_train(training_run: TrainingRun, geometry: Geometry) -> None:
    config = replace(CONFIG, geometry=geometry, bucket_multiple=16)
    joint = Trainer(tiny_pipeline(), training_data(training_run, config), config)
    joint.run(2, ignore)
    assert joint.step == 2
    pipeline = joint.finish()
    assert pipeline is not None
    assert pipeline.config.edit_bucket_multiple == (16 if geometry == "bucket" else None)


def test_a_pipeline_kept_in_bfloat16_is_trained_in_float32(training_run: TrainingRun, tmp_path: Path) -> None:
    tiny_pipeline().to(torch.bfloat16).save_pretrained(tmp_path)
    joint = Trainer(GoTPipeline.from_pretrained(tmp_path), training_data(training_run), CONFIG)
    joint.run(1, ignore)
    state = training_tensors(joint.trained(), joint.average, joint.optimizer)
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}
    finished = joint.finish()
    finished.save_pretrained(tmp_path / "trained")
    again = GoTPipeline.from_pretrained(tmp_path / "trained")
    assert again.config.dtype == "float32"
    assert all(
        torch.equal(value, finished.unet.state_dict()[k]) for k, value in again.unet.state_dict().items()
    )
