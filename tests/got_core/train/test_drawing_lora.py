"""LoRA on the drawing network: what is trained, what is merged, and weights that are kept in 16 bits."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from got_core.budget.config import BudgetConfig
from got_core.budget.plan import make_plan
from got_core.model.build import fresh_pipeline
from got_core.model.config import LossConfig
from got_core.model.formats.saved import load_pipeline
from got_core.model.got import GoTModel
from got_core.model.tokens import train_tokenizer
from got_core.recipes import finetune_own, tiny
from got_core.train import optim
from got_core.train.config import StageConfig
from got_core.train.data.samples import training_data
from got_core.train.prepare import prepare_parts
from got_core.train.run import TrainingRun
from got_core.train.sample_pictures import sample_grid
from got_core.train.sizes import count, empty_pipeline
from got_core.train.stage import finetuning
from got_core.train.trainer import JOINT, Trainer
from tests.got_core.tiny_pipeline import TINY, sees_its_conditions, tiny_pipeline

CONFIG = StageConfig(
    steps=4,
    batch_size=2,
    lora_rank=4,
    language_whole=False,
    drawing_lora_rank=4,
    lora_alpha=4,
    peak_rate=1e-2,
    bf16=False,
    gradient_checkpointing=True,
)


def ignore(step: int, losses: dict[str, float]) -> None:
    """Nobody listens."""


def state(pipeline: object) -> dict[str, Tensor]:
    parts = {name: getattr(pipeline, name).state_dict() for name in ("mllm", "projector", "unet", "vae")}
    return {f"{part}.{name}": value.clone() for part, found in parts.items() for name, value in found.items()}


def test_adapters_and_projectors_alone_are_trained_and_merged(
    training_run: TrainingRun, tmp_path: Path
) -> None:
    pipeline = sees_its_conditions(tiny_pipeline())
    before = state(pipeline)
    trainer = Trainer(pipeline, training_data(training_run), CONFIG)
    names = list(trainer.trained())
    assert all("lora_" in name or name.startswith("projector.") for name in names)
    layers = {re.sub(r".*\.(to_|ff)(.*)\.lora_.*", r"\1\2", n) for n in names if "unet" in n}
    assert layers == {"to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"}
    trainer.run(4, ignore)
    batch, noise = trainer.batches.passes(0)[0], torch.Generator()
    trainer.model.eval()
    with torch.no_grad():
        adapted = trainer.model(batch, noise.manual_seed(1))["loss"]
        finished = trainer.finish()
        merged = GoTModel.of(finished, CONFIG.loss, JOINT).eval()(batch, noise.manual_seed(1))["loss"]
    torch.testing.assert_close(adapted, merged, rtol=1e-4, atol=1e-5)
    finished.save_pretrained(tmp_path)
    after = state(load_pipeline(tmp_path))
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"unet.conv_in.weight", "mllm.lm_head.weight"} <= before.keys() - changed
    assert any("attn1.to_q" in name for name in changed) and any("ff.net" in name for name in changed)
    assert all(re.search(r"to_|ff\.net|_proj\.|^projector", name) for name in changed)


def test_a_training_with_adapters_goes_on_bit_by_bit(training_run: TrainingRun, tmp_path: Path) -> None:
    def trainer() -> Trainer:
        config = replace(CONFIG, ema_decay=0.9, lora_dropout=0.1)
        return Trainer(tiny_pipeline(), training_data(training_run), config)

    whole, first, second = trainer(), trainer(), trainer()
    whole.run(4, ignore)
    first.run(2, ignore)
    first.save(tmp_path)
    second.load(tmp_path)
    second.run(4, ignore)
    assert all(torch.equal(value, second.trained()[name]) for name, value in whole.trained().items())


def test_frozen_weights_in_16_bits_are_drawn_with_and_merged_in_32(
    training_run: TrainingRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(optim, "computes_in_bf16", lambda device_type: True)
    pipeline = sees_its_conditions(tiny_pipeline())
    before = state(pipeline)
    config = replace(CONFIG, bf16=True, frozen_bf16=True, lora_dropout=0.05)
    trainer = Trainer(pipeline, training_data(training_run), config)
    formats = {
        (part, p.requires_grad): p.dtype
        for part in ("mllm", "unet", "vae", "projector")
        for p in getattr(trainer.model, part).parameters()
    }
    assert formats == {
        ("mllm", True): torch.float32, ("mllm", False): torch.bfloat16, ("unet", True): torch.float32,
        ("unet", False): torch.bfloat16, ("vae", False): torch.float32, ("projector", True): torch.float32,
    }  # fmt: skip
    trainer.run(4, ignore)
    lines: list[str] = []
    assert sample_grid(trainer, lines.append) is not None and not lines, "no picture holds NaN"
    trainer.finish().save_pretrained(tmp_path)
    after = state(load_pipeline(tmp_path))
    assert {value.dtype for value in after.values() if value.is_floating_point()} == {torch.float32}
    rounded = before["unet.conv_in.weight"].bfloat16().float()
    assert torch.equal(after["unet.conv_in.weight"], rounded)
    (name, *_) = [name for name in before if name.endswith("attn1.to_q.weight")]
    change = after[name] - before[name].bfloat16().float()
    assert change.abs().max() > 0 and torch.linalg.matrix_rank(change, rtol=1e-3) <= 4


def test_where_the_device_does_not_compute_in_16_bits_nothing_is_rounded(training_run: TrainingRun) -> None:
    config = replace(CONFIG, bf16=False, frozen_bf16=True)
    trainer = Trainer(tiny_pipeline(), training_data(training_run), config)
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"drawing_lora_rank": -1}, "drawing_lora_rank at least 0, got 32 and -1"),
        ({"lora_rank": 0}, "lora_rank is at least 1"),
        ({"drawing_lora_rank": 4, "optimizer": "muon"}, "takes whole weights, not LoRA's"),
        ({"frozen_bf16": True, "sharding": "fsdp"}, "frozen_bf16 needs whole weights on each worker"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StageConfig(steps=1, **given)


def test_frozen_weights_in_16_bits_may_lie_whole_beside_spread_ones() -> None:
    config = replace(CONFIG, bf16=True, frozen_bf16=True, sharding="fsdp", replicate_frozen=True)
    assert config.shardings == ("ddp", "fsdp")
    plain = replace(CONFIG, bf16=True, frozen_bf16=True)
    assert config.identity() == plain.identity() == replace(plain, compile=True, shard_within=2).identity()
    with pytest.raises(ValueError, match="shard_within is 0 or a number of workers, got -1"):
        replace(plain, shard_within=-1)


def test_another_rank_is_another_model() -> None:
    configs = (CONFIG, replace(CONFIG, drawing_lora_rank=8), replace(CONFIG, frozen_bf16=True))
    assert len({str(one.identity()) for one in configs}) == 3


def test_the_plan_counts_adapters_and_halves_what_is_frozen() -> None:
    stage = replace(CONFIG, bf16=True, loss=LossConfig())
    plans = [
        make_plan(replace(tiny(), stages=(finetuning(replace(stage, frozen_bf16=half)),)), BudgetConfig())
        for half in (False, True)
    ]
    real = fresh_pipeline(TINY, train_tokenizer([], TINY.image_tokens))
    prepare_parts(real, stage)
    model = GoTModel.of(real, stage.loss, JOINT)
    trained = count(model.parameters(), trained=True)
    assert [sum(part.trained for part in plan.parts) for plan in plans] == [trained, trained]
    wide, half = (next(m for m in plan.stages[0].memory if m.chosen) for plan in plans)
    frozen = count(model.parameters()) - trained - count(model.vae.parameters())
    assert wide.state - half.state == 2 * frozen
    assert wide.state == 4 * (count(model.parameters()) + 3 * trained)


def test_the_recipe_fits_a_gpu_of_24_gb_at_512_pixels_and_of_40_at_1024() -> None:
    """The largest parts of the plan, without its passes: `got estimate` counts those."""
    stage = finetune_own().stage("finetune").config
    pipeline = empty_pipeline(finetune_own().model)
    whole = count(p for name in ("mllm", "unet") for p in getattr(pipeline, name).parameters())
    with torch.device("meta"):
        prepare_parts(pipeline, stage)
    trained = count(GoTModel.of(pipeline, stage.loss, JOINT).parameters(), trained=True)
    assert 140e6 < trained < 160e6
    assert 14e9 < 2 * whole + 16 * trained < 17e9
    assert (stage.workers, stage.samples_per_step) == (1, 16)
    assert stage.steps * stage.samples_per_step / 5000 == 9.6, "epochs of 5,000 photographs"
