"""Training plans: the published sizes to the last parameter, and small plans against real models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import distributed as dist
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.utils.flop_counter import FlopCounterMode

from got_core.budget.config import Accelerator, BudgetConfig
from got_core.budget.measure import (
    Gathered,
    count_parts,
    encoding,
    gathered_parameters,
    prepare_training,
    sampling_step,
    training_step,
)
from got_core.budget.page import json_text, markdown
from got_core.budget.plan import TrainingPlan, make_plan
from got_core.budget.shapes import _FORMULAS
from got_core.model.build import fresh_pipeline
from got_core.model.config import AutoencoderConfig
from got_core.model.got import GoTModel
from got_core.model.tokens import train_tokenizer
from got_core.recipes import Recipe, get_recipe, paper, tiny
from got_core.train import parallel
from got_core.train.config import StageConfig
from got_core.train.data.passes import LENGTH_MULTIPLE, language_inputs
from got_core.train.prepare import attach_lora, muon_weights, prepare_parts
from got_core.train.sizes import count, empty_pipeline
from got_core.train.stage import finetuning, pretraining
from got_core.train.trainer import JOINT

CONFIG = BudgetConfig(
    gpu=Accelerator(name="small", memory_gb=5, peak_tflops=10, utilisation=0.5, price_per_hour=3)
)
PRETRAIN = tiny().stage("pretrain").config


def trained_by(first: StageConfig, second: StageConfig | None = None) -> Recipe:
    """The tiny recipe with other stages."""
    return replace(tiny(), stages=(pretraining(first), finetuning(second or first)))


@pytest.fixture(scope="module")
def plan() -> TrainingPlan:
    """Of the tiny recipe, whose second stage saves memory here and else computes what the first does."""
    return make_plan(trained_by(PRETRAIN, replace(PRETRAIN, gradient_checkpointing=True)), CONFIG)


def test_the_paper_recipe_has_the_published_sizes() -> None:
    counts = count_parts(empty_pipeline(paper().model))
    assert counts["U-Net"] == 2_567_486_724
    assert counts["autoencoder"] == 83_653_863
    assert counts["projectors"] == 6_819_072
    assert counts["language model"] == 3_085_938_688 and counts["head"] == 0
    assert counts["vision tower"] == 668_684_288


def test_the_paper_recipe_trains_as_published() -> None:
    recipe = get_recipe("paper")
    stages = [stage.config for stage in recipe.stages]
    assert [(s.steps, s.peak_rate, s.warmup_steps) for s in stages] == [
        (60_000, 1e-4, 500),
        (10_000, 5e-5, 200),
    ]
    # By the sizes of the paper's sets: LAHR, JourneyDB and OmniEdit; then FLUX, OmniEdit and SEED-Edit's rows
    # of several turns.
    assert recipe.stage("pretrain").config.mixture == {"t2i": 0.914, "single-turn": 0.086}
    assert recipe.stage("finetune").config.mixture == {
        "t2i": 0.395,
        "single-turn": 0.486,
        "multi-turn": 0.119,
    }
    for stage in stages:
        assert stage.samples_per_step == 128
        assert (stage.betas, stage.epsilon, stage.weight_decay) == ((0.9, 0.98), 1e-6, 0.05)
        assert (stage.lora_rank, stage.lora_alpha, stage.lora_dropout) == (32, 32, 0.05)
        assert (stage.loss.noise_offset, stage.loss.drop, stage.loss.prediction) == (0.1, 0.05, "epsilon")
        assert (stage.loss.text_weight, stage.loss.diffusion_weight) == (1.0, 1.0)
    assert recipe.model.generate_scales.as_tuple() == (7.5, 4.0, 1.0)
    assert recipe.model.edit_scales.as_tuple() == (4.0, 3.0, 1.5)


@pytest.mark.parametrize("name", ["embedded", "embedded-long"])
def test_muon_is_planned_with_whole_weights_only(name: str) -> None:
    plan = make_plan(get_recipe(name), CONFIG)
    assert [(m.sharding, m.chosen) for stage in plan.stages for m in stage.memory] == 2 * [
        ("ddp", True),
        ("ddp", False),
    ]


def test_counts_are_those_of_the_real_model_and_of_what_training_changes(plan: TrainingPlan) -> None:
    recipe = tiny()
    real = fresh_pipeline(recipe.model, train_tokenizer([], recipe.model.image_tokens))
    parts = {part.name: part for part in plan.parts}
    assert {name: part.parameters for name, part in parts.items()} == count_parts(real)
    wrapped = attach_lora(real.mllm, recipe.stage("pretrain").config)
    assert parts["U-Net"].trained == count(real.unet.parameters())
    assert parts["autoencoder"].trained == parts["vision tower"].trained == 0
    language = parts["language model"].trained + parts["head"].trained
    assert language == count(wrapped.parameters(), trained=True)


@pytest.mark.parametrize("edit", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_of_shapes_counts_what_a_real_step_computes(edit: bool, checkpointing: bool) -> None:
    recipe = tiny()
    stage = replace(PRETRAIN, bf16=False, gradient_checkpointing=checkpointing)
    empty = empty_pipeline(recipe.model)
    planned = prepare_training(empty, stage)
    work = training_step(empty, planned, stage, recipe.model, CONFIG, edit=edit, checkpointing=checkpointing)
    real = fresh_pipeline(recipe.model, train_tokenizer([], recipe.model.image_tokens))
    prepare_parts(real, stage)
    model = GoTModel.of(real, stage.loss, JOINT).train()
    images = [Image.new("RGB", (64, 64))] * 2 if edit else []
    generator = torch.Generator().manual_seed(0)
    batch = language_inputs(real.sequences, [_words(30)] * 2, [_words(24)] * 2, images)
    batch |= {
        name: torch.randn(2, 8, 8, 8, generator=generator) for name in ("clean", "spatial", "reference")
    }
    assert {name: tuple(value.shape) for name, value in batch.items()} == work.shapes
    with FlopCounterMode(display=False) as counter:
        counter.flop_registry |= _FORMULAS
        model(batch, generator)["loss"].backward()
    assert counter.get_total_flops() == pytest.approx(work.flops, rel=1e-3)


def _words(tokens: int) -> str:
    return " ".join(["7"] * ((tokens + 1) // 2))


def test_a_planned_stage_computes_in_16_bits_where_it_may() -> None:
    for bf16, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        model = prepare_training(empty_pipeline(tiny().model), replace(PRETRAIN, bf16=bf16))
        assert {parameter.dtype for parameter in model.parameters()} == {dtype}


def test_a_model_without_reasoning_writes_no_chain() -> None:
    recipe = tiny()
    silent = replace(recipe, model=replace(recipe.model, reasoning=False, spatial_guidance=False))
    tokens = [make_plan(one, CONFIG).training["edit"].shapes["input_ids"][1] for one in (recipe, silent)]
    assert tokens[1] < tokens[0] and tokens[1] % LENGTH_MULTIPLE == tokens[0] % LENGTH_MULTIPLE == 0


def test_checkpointing_trades_operations_for_memory(plan: TrainingPlan) -> None:
    for stage in plan.stages:
        by_way = {(one.sharding, one.checkpointing): one for one in stage.memory}
        assert len(by_way) == 4 and sum(one.chosen for one in stage.memory) == 1
        for sharding in ("ddp", "fsdp"):
            assert by_way[sharding, True].activations < by_way[sharding, False].activations
        assert by_way["fsdp", False].state < by_way["ddp", False].state
    plain, saving = plan.stages
    assert 1.1 < saving.flops_per_step / plain.flops_per_step < 1.4
    assert [one.checkpointing for one in saving.memory if one.chosen] == [True]


def test_hours_and_cost_follow_from_operations(plan: TrainingPlan) -> None:
    stage = plan.stages[0]
    assert stage.gpu_hours == pytest.approx(stage.steps * stage.flops_per_step / 5e12 / 3600)
    assert stage.cost == pytest.approx(3 * stage.gpu_hours)
    assert stage.hours * stage.workers == pytest.approx(stage.gpu_hours)
    # State of a replicated model: weights, and for trained ones gradient, two moments and the average.
    memory = next(one for one in stage.memory if one.sharding == "ddp")
    parts = {part.name: part for part in plan.parts}
    assert memory.state >= 4 * sum(p.parameters for p in parts.values()) + 16 * sum(
        p.trained for p in parts.values()
    )


def test_passes_of_a_step_keep_whole_gradients_on_every_worker(plan: TrainingPlan) -> None:
    stage = replace(PRETRAIN, global_batch=3 * PRETRAIN.samples_per_step, draws_per_step=3)
    several = make_plan(trained_by(stage), CONFIG).stages[0]
    assert (several.accumulation, plan.stages[0].accumulation) == (3, 1)
    trained = sum(part.trained for part in plan.parts)
    for one, other in zip(plan.stages[0].memory, several.memory, strict=True):
        assert one.accumulated == 0
        assert other == replace(one, accumulated=4 * trained)
        assert other.total >= one.total


def test_the_page_says_what_fits(plan: TrainingPlan) -> None:
    page = markdown(plan)
    assert f"{plan.parts[4].parameters:,}" in page and "small with 5 GB at 50% of 10 TFLOP/s" in page
    assert "**too much**" in markdown(
        replace(plan, assumptions=BudgetConfig(gpu=replace(CONFIG.gpu, memory_gb=1)))
    )
    assert json.loads(json_text(plan))["stages"][0]["gpu_hours"] == plan.stages[0].gpu_hours


@pytest.fixture
def one_worker(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_worker")
def test_a_spread_model_gathers_what_it_is_planned_to() -> None:
    recipe = tiny()
    real = fresh_pipeline(recipe.model, train_tokenizer([], recipe.model.image_tokens))
    prepare_parts(real, PRETRAIN)
    model = GoTModel.of(real, PRETRAIN.loss, JOINT)
    parallel.shard(model, torch.device("cpu"), bf16=False)
    whole = [_gathered_with(layer, model) for layer in model.modules() if isinstance(layer, FSDPModule)]
    planned = gathered_parameters(prepare_training(empty_pipeline(recipe.model), PRETRAIN))
    assert planned == Gathered(rest=whole[0], layer=max(whole[1:]))


def _gathered_with(layer: FSDPModule, model: GoTModel) -> int:
    layer.unshard()
    size = count(p for p in model.parameters() if not isinstance(p, DTensor))
    layer.reshard()
    return size - count(model.vae.parameters())


def test_sample_pictures_are_drawn_in_32_bits_as_many_at_once_as_the_stage_draws(plan: TrainingPlan) -> None:
    pipeline = empty_pipeline(tiny().model)
    assert {p.dtype for part in (pipeline.unet, pipeline.vae) for p in part.parameters()} == {torch.float32}
    one = sampling_step(pipeline, CONFIG, edit=False).bytes
    model = prepare_training(pipeline, PRETRAIN)
    found = {(m.sharding, m.checkpointing): m.samples for m in plan.stages[0].memory}
    copy = 4 * count(model.parameters())
    assert found == {
        ("ddp", False): 2 * one, ("ddp", True): one,
        ("fsdp", False): one + copy, ("fsdp", True): one + copy,
    }  # fmt: skip


def test_pictures_of_a_batch_are_encoded_at_once_unless_memory_is_short(plan: TrainingPlan) -> None:
    stage = replace(PRETRAIN, batch_size=1)
    # A picture of this size takes more than a pass of this model.
    config = replace(CONFIG, boxes=60)
    picture = encoding(empty_pipeline(tiny().model), tiny().model.resolution).bytes
    found = make_plan(trained_by(stage), config).stages[0].memory
    assert [m.activations for m in found if not m.checkpointing] == 2 * [60 * picture]
    assert all(m.activations < 60 * picture for m in found if m.checkpointing)


def test_muon_keeps_one_moment_of_what_it_takes() -> None:
    states = []
    for optimizer in ("adamw", "muon"):
        stage = replace(PRETRAIN, optimizer=optimizer)
        states.append(make_plan(trained_by(stage), CONFIG).stages[0].memory[0].state)
    model = prepare_training(empty_pipeline(tiny().model), PRETRAIN)
    assert states[0] - states[1] == 4 * count(muon_weights(model, stage)) > 0


def test_stages_that_compute_otherwise_are_counted_by_themselves() -> None:
    dropped = replace(PRETRAIN, lora_dropout=0.5)
    first, second = make_plan(trained_by(PRETRAIN, dropped), CONFIG).stages
    assert second.memory[0].activations > first.memory[0].activations


def test_sizes_of_an_autoencoder_have_to_agree() -> None:
    with pytest.raises(ValueError, match="make it 8"):
        AutoencoderConfig(kind="kl", patch_size=4)


@pytest.mark.slow
def test_the_paper_plan() -> None:
    plan = make_plan(paper())
    assert sum(part.parameters for part in plan.parts) == 6_412_582_635
    assert plan.training["edit"].shapes["input_ids"][0] == 2
    assert plan.training["edit"].shapes["pixel_values"] == (2 * 32 * 32, 3 * 2 * 14 * 14)
    assert plan.training["edit"].shapes["clean"] == (2, 4, 128, 128)
    assert plan.sampling["text to image"].shapes["pictures"] == (1, 3, 1024, 1024)
    # Three branches for text to image, four for edits.
    ratio = plan.sampling["edit"].forward["U-Net"] / plan.sampling["text to image"].forward["U-Net"]
    assert ratio == pytest.approx(4 / 3)
    # About 2 operations a parameter and token, forward; the U-Net sees a fixed number of positions.
    tokens = plan.training["text to image"].shapes["input_ids"]
    assert plan.training["text to image"].forward["other"] == pytest.approx(
        2 * 2.8e9 * tokens[0] * tokens[1], rel=0.2
    )
    # The chosen way has four passes a step, and keeps gradients of all that is trained whole.
    (chosen,) = [one for one in plan.stages[0].memory if one.chosen]
    assert chosen.accumulated == 4 * sum(part.trained for part in plan.parts)
    # Rank 0 draws samples with a whole copy, while no gradients are in the making.
    assert chosen.samples > 4 * sum(part.parameters for part in plan.parts)
    assert chosen.total == chosen.state + chosen.samples + chosen.overhead
    fits = {(m.sharding, m.checkpointing): m.total < 80e9 for m in plan.stages[0].memory}
    assert fits == {("ddp", False): False, ("ddp", True): False, ("fsdp", False): True, ("fsdp", True): True}
    assert 500 < plan.stages[0].gpu_hours < 5000
