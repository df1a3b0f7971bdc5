"""Training plans: the published sizes to the last parameter, and small plans against real models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.utils.flop_counter import FlopCounterMode

from got_core.budget.config import Accelerator, BoxCounts, BudgetConfig
from got_core.budget.measure import (
    Gathered,
    count_parts,
    encoding,
    gathered_parameters,
    prepare_training,
    sampling_step,
    training_step,
)
from got_core.budget.page import markdown
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
from tests.got_core.ranks import join_group, leave_group

CONFIG = BudgetConfig(gpu=Accelerator(name="small", memory_gb=5, peak_tflops=10, price_per_hour=3)).knowing(
    {"utilisation": 0.5, "t2i_boxes": BoxCounts.exactly(2), "edit_boxes": BoxCounts.exactly(1)}
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


def test_hours_and_cost_are_the_sums_of_their_lines(plan: TrainingPlan) -> None:
    for stage in plan.stages:
        assert stage.gpu_hours == pytest.approx(sum(line.expected for line in stage.lines))
        assert stage.gpu_hours_favourable == pytest.approx(sum(line.favourable for line in stage.lines))
        assert stage.gpu_hours_unfavourable == pytest.approx(sum(line.unfavourable for line in stage.lines))
        assert stage.gpu_hours_favourable < stage.gpu_hours < stage.gpu_hours_unfavourable
        assert stage.cost == pytest.approx(3 * stage.gpu_hours)
        assert stage.hours * stage.workers == pytest.approx(stage.gpu_hours)
    assert plan.gpu_hours[0] == pytest.approx(sum(stage.gpu_hours_favourable for stage in plan.stages))


def test_a_replicated_model_keeps_the_whole_state(plan: TrainingPlan) -> None:
    # Weights, and for trained ones gradient, two moments and the average.
    memory = next(one for one in plan.stages[0].memory if one.sharding == "ddp")
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


def test_the_page_says_what_fits_and_what_matters(plan: TrainingPlan) -> None:
    page = markdown(plan)
    assert f"{plan.parts[4].parameters:,}" in page and "small with 5 GB and 10 TFLOP/s for 3 an hour" in page
    assert "50% of it used" in page and "| communication | " in page and "GPU hours, cost " in page
    assert f"| `{plan.sensitivity[0].name}` | " in page and "utilisation" not in page.split("matters most")[1]
    assert "**too much**" in markdown(
        replace(plan, assumptions=BudgetConfig(gpu=replace(CONFIG.gpu, memory_gb=1)))
    )


def test_the_document_has_all_of_the_plan(plan: TrainingPlan) -> None:
    found = json.loads(json.dumps(plan.to_dict()))
    (first, *_) = found["stages"]
    assert first["gpu_hours"] == plan.stages[0].gpu_hours
    assert [line["name"] for line in first["lines"]] == [line.name for line in plan.stages[0].lines]
    assert found["gpu_hours"] == dict(zip(("favourable", "unfavourable"), plan.gpu_hours, strict=True))
    assert found["assumptions"]["expected"]["t2i_boxes"]["shares"][0] == 0
    assert found["sensitivity"][0]["name"] == plan.sensitivity[0].name


@pytest.fixture
def one_worker(tmp_path: Path) -> Iterator[None]:
    join_group(tmp_path / "rendezvous", 0, 1)
    yield
    leave_group()


@pytest.mark.usefixtures("one_worker")
@pytest.mark.parametrize("frozen", [False, True], ids=["spread", "frozen-whole"])
def test_a_spread_model_gathers_what_it_is_planned_to(frozen: bool) -> None:
    recipe = tiny()
    real = fresh_pipeline(recipe.model, train_tokenizer([], recipe.model.image_tokens))
    prepare_parts(real, PRETRAIN)
    model = GoTModel.of(real, PRETRAIN.loss, JOINT)
    parallel.shard(model, torch.device("cpu"), bf16=False, replicate_frozen=frozen)
    kept = count(p for p in model.parameters() if not isinstance(p, DTensor))
    whole = [
        _gathered_with(layer, model) - kept for layer in model.modules() if isinstance(layer, FSDPModule)
    ]
    empty = prepare_training(empty_pipeline(recipe.model), PRETRAIN)
    planned = gathered_parameters(empty, replicate_frozen=frozen)
    assert planned == Gathered(rest=whole[0], layer=max(whole[1:]))


def _gathered_with(layer: FSDPModule, model: GoTModel) -> int:
    layer.unshard()
    size = count(p for p in model.parameters() if not isinstance(p, DTensor))
    layer.reshard()
    return size


@pytest.mark.usefixtures("one_worker")
def test_groups_of_workers_divide_the_number_of_workers() -> None:
    model = prepare_training(empty_pipeline(tiny().model), PRETRAIN)
    with pytest.raises(ValueError, match="shard_within 2 does not divide the 1 workers: set it to 0 or"):
        parallel.shard(model, torch.device("cpu"), bf16=False, within=2)


def test_what_is_frozen_is_planned_whole_and_the_rest_by_its_group() -> None:
    stage = replace(PRETRAIN, workers=4, global_batch=8, sharding="fsdp")
    ways = (stage, replace(stage, replicate_frozen=True), replace(stage, shard_within=2))
    spread, whole, groups = (
        next(m.state for m in make_plan(trained_by(way), CONFIG).stages[0].memory if m.chosen) for way in ways
    )
    model = prepare_training(empty_pipeline(tiny().model), stage)
    trained, autoencoder = count(model.parameters(), trained=True), count(model.vae.parameters())
    frozen = count(model.parameters()) - trained - autoencoder
    assert abs(whole - spread - 3 * frozen) <= 1
    assert abs(groups - 4 * autoencoder - 2 * (spread - 4 * autoencoder)) <= 1


def test_as_many_sample_pictures_are_drawn_at_once_as_the_stage_draws(plan: TrainingPlan) -> None:
    pipeline = empty_pipeline(tiny().model)
    assert {p.dtype for part in (pipeline.unet, pipeline.vae) for p in part.parameters()} == {torch.float32}
    one = sampling_step(pipeline, CONFIG, edit=False).bytes
    model = prepare_training(pipeline, PRETRAIN)
    found = {(m.sharding, m.checkpointing): m.samples for m in plan.stages[0].memory}
    # Autocast keeps 16-bit copies; of a spread model there is a whole one beside.
    cast, copy = 2 * count(model.parameters(), trained=True), 4 * count(model.parameters())
    assert found == {
        ("ddp", False): 2 * one + cast, ("ddp", True): one + cast,
        ("fsdp", False): one + cast + copy, ("fsdp", True): one + cast + copy,
    }  # fmt: skip


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


def test_encoding_takes_memory_by_the_most_boxes() -> None:
    pipeline, model = empty_pipeline(tiny().model), tiny().model
    several = CONFIG.knowing({"t2i_boxes": BoxCounts((0.9,) + 39 * (0.0,) + (0.1,))})
    for memory in make_plan(trained_by(PRETRAIN), several).stages[0].memory:
        work = encoding(
            pipeline, PRETRAIN, model, 40, edit=False, samples=2, checkpointing=memory.checkpointing
        )
        assert memory.activations == work.bytes


def test_a_stage_that_saves_memory_encodes_fewer_pictures_at_once() -> None:
    sizes = replace(tiny().model.autoencoder, kind="kl", block_out_channels=(32,) * 4)
    model = replace(tiny().model, autoencoder=sizes)
    pipeline, large = empty_pipeline(model), replace(model, resolution=1024)

    def size(samples: int, checkpointing: bool) -> int:
        return encoding(
            pipeline, PRETRAIN, large, 1, edit=False, samples=samples, checkpointing=checkpointing
        ).bytes

    assert size(3, True) < 1.2 * size(1, True)
    assert size(3, False) == pytest.approx(3 * size(1, False), rel=0.2)


def test_encoding_is_planned_in_the_format_that_the_trainer_encodes_in() -> None:
    pipeline = empty_pipeline(tiny().model)

    def dtype(**changed: bool) -> str:
        stage = replace(PRETRAIN, **changed)  # type: ignore[arg-type]
        return encoding(pipeline, stage, tiny().model, 1, edit=True, samples=1, checkpointing=False).dtype

    assert (dtype(bf16=True), dtype(bf16=False)) == ("bfloat16", "float32")
    pipeline.vae.register_to_config(force_upcast=True)
    assert dtype(bf16=True) == "float32"


def test_groups_that_the_workers_cannot_form_are_no_plan() -> None:
    stage = replace(PRETRAIN, workers=4, global_batch=8, sharding="fsdp", shard_within=3)
    with pytest.raises(ValueError, match="stage 'pretrain': shard_within 3 does not divide the 4 workers"):
        make_plan(trained_by(stage), CONFIG)


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
    assert 500 < plan.stages[0].gpu_hours_favourable < plan.stages[0].gpu_hours_unfavourable < 10_000
    lines = {line.name: line for line in plan.stages[0].lines}
    # 39.1 GB of weights and moments, by 16 workers.
    assert "60 of 2.44 GB a worker" in lines["checkpoints"].how
    assert lines["waiting for data"].expected == 0 < lines["communication"].expected
