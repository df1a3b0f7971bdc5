"""The joint loop: where gradients go, what is dropped, and resuming bit by bit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from got_core.model.config import LossConfig
from got_core.model.got import add_noise, drop_conditions, language_states
from got_core.recipes import tiny
from got_core.train.config import StageConfig
from got_core.train.data import JointBatches
from got_core.train.joint import JointTrainer
from got_core.train.optim import MovingAverage, cosine_share
from got_core.train.run import TrainingRun
from got_core.train.stages import training_data
from tests.got_core.tiny_pipeline import tiny_pipeline

CONFIG = StageConfig(steps=6, batch_size=2, lora_rank=4, edit_share=0.5, warmup_steps=2, bf16=False)


def trainer(run: TrainingRun, config: StageConfig = CONFIG) -> JointTrainer:
    return JointTrainer(tiny_pipeline(), training_data(run), config)


def ignore(step: int, losses: dict[str, float]) -> None:
    """Nobody listens."""


def test_resumed_training_gives_bit_identical_weights(training_run: TrainingRun, tmp_path: Path) -> None:
    whole = trainer(training_run)
    whole.run(6, ignore)
    first = trainer(training_run)
    first.run(4, ignore)
    first.save(tmp_path)
    second = trainer(training_run)
    second.load(tmp_path)
    assert second.step == 4
    second.run(6, ignore)
    for name, value in whole.trained().items():
        assert torch.equal(value, second.trained()[name]), name
    for mine, other in zip(whole.average.values, second.average.values, strict=True):
        assert torch.equal(mine, other)


def test_the_diffusion_gradient_reaches_the_language_model_through_gt(training_run: TrainingRun) -> None:
    joint = trainer(training_run, replace(CONFIG, loss=LossConfig(text_weight=0.0)))
    joint._backward(0)
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
    batch = joint.batches[0]
    joint.model.eval()
    with torch.no_grad():
        before = language_states(joint.pipeline.mllm, batch)
        pipeline = joint.finish()
        after = language_states(pipeline.mllm, batch)
    assert type(pipeline.mllm).__name__ == "Qwen2_5_VLForConditionalGeneration"
    read = batch["attention_mask"].bool()
    torch.testing.assert_close(before[read], after[read], atol=1e-4, rtol=1e-4)


def test_batches_depend_on_seed_and_step_alone_and_ranks_share_no_sample(training_run: TrainingRun) -> None:
    data, pipeline = training_data(training_run), tiny_pipeline()

    def batches(rank: int) -> JointBatches:
        return JointBatches(
            data, pipeline.sequences, pipeline.vae, batch_size=3, edit_share=0.3, seed=5, rank=rank, ranks=2
        )

    first, again, other = batches(0).samples(7), batches(0).samples(7), batches(1).samples(7)
    assert [id(s) for s in first[0]] == [id(s) for s in again[0]]
    assert first[1] == again[1]
    assert not {id(s) for s in first[0]} & {id(s) for s in other[0]}
    assert {s.kind for s in first[0]} == {s.kind for s in other[0]}


def test_dropped_conditions_have_the_published_shares() -> None:
    count = 20_000
    ones = torch.ones(count, 1, 1)
    planes = torch.ones(count, 1, 1, 1)
    context, spatial, reference = drop_conditions(
        ones, planes, planes, torch.zeros_like(ones), 0.05, torch.Generator().manual_seed(0)
    )
    shares = [float(part.mean()) for part in (context, spatial, reference)]
    assert shares == pytest.approx([0.90, 0.85, 0.95], abs=0.01)
    # Whoever has lost the reference has lost everything, whoever has lost the text has lost the layout.
    assert not (context.flatten() * (1 - reference.flatten())).any()
    assert not (spatial.flatten() * (1 - context.flatten())).any()


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
    assert digest(tiny()) != digest(replace(tiny(), pretrain=replace(tiny().pretrain, steps=4)))
