"""Lines of a stage: against what the trainer really encodes and saves, and against sums by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from got_core.budget.config import Accelerator, Assumptions, BoxCounts, BudgetConfig
from got_core.budget.hours import Clock, Facts, Seconds
from got_core.budget.measure import Counted, Gathered, checkpoint_tensors, sampling_step
from got_core.budget.plan import make_plan
from got_core.budget.shapes import _FORMULAS
from got_core.chain.grammar import parse
from got_core.model.build import fresh_pipeline
from got_core.model.config import ModelConfig
from got_core.model.got import GoTModel
from got_core.model.tokens import train_tokenizer
from got_core.recipes import tiny
from got_core.train.checkpoints.tensors import training_tensors
from got_core.train.data.latents import drawing_inputs, stage_encoder
from got_core.train.data.samples import TrainingSample
from got_core.train.optim import MovingAverage, stage_optimizers
from got_core.train.prepare import prepare_parts
from got_core.train.sizes import empty_model, empty_pipeline
from got_core.train.stage import pretraining
from got_core.train.trainer import JOINT

GPU = Accelerator(peak_tflops=1e-3)
"""So slow that a tiny model's steps take as long as a large one's."""
ONE = BoxCounts.exactly(1)
MODEL = tiny().model
STAGE = replace(
    tiny().stage("pretrain").config, steps=10, workers=2, batch_size=2, checkpoint_every=4, held_out=0.5
)


@pytest.fixture(scope="module")
def facts() -> Facts:
    config = BudgetConfig()
    pipeline = empty_pipeline(MODEL)
    return Facts(
        stage=STAGE,
        model=MODEL,
        edits=0.25,
        parameters=1_000_000,
        drawing=sampling_step(pipeline, config, edit=False),
        counted=Counted.of(pipeline, MODEL, pretraining(STAGE), config),
        chain_tokens=100,
        rows=None,
    )


Lines = Callable[..., dict[str, float]]


@pytest.fixture
def seconds(facts: Facts) -> Lines:
    """Seconds of all lines, with some facts or assumptions changed."""

    def lines(
        *,
        latents: bool = False,
        stage: dict[str, Any] | None = None,
        counted: dict[str, Any] | None = None,
        **assumed: Any,
    ) -> dict[str, float]:
        known = replace(
            facts,
            stage=replace(facts.stage, **(stage or {})),
            counted=replace(facts.counted, **(counted or {})),
        )
        clock = Clock(known, Assumptions(**assumed), GPU, latents=latents)
        return {name: line.seconds for name, line in clock.lines().items()}

    return lines


def sample(boxes: int, edit: bool) -> TrainingSample:
    pixels = np.zeros((MODEL.resolution, MODEL.resolution, 3), dtype=np.uint8)
    return TrainingSample(
        sample_id="one",
        kind="edit" if edit else "t2i",
        prompts=("a thing",),
        chain=parse(" ".join(f"thing (100,{100 * box}),(900,900)" for box in range(boxes)) or "nothing"),
        target=pixels,
        source=pixels if edit else None,
        time_ids=(64, 64, 0, 0, 64, 64),
    )


KL = replace(MODEL, autoencoder=replace(MODEL.autoencoder, kind="kl", block_out_channels=(32,) * 4))
"""The same with an autoencoder that shortens canvases."""


@pytest.mark.parametrize("model", [MODEL, KL], ids=["patch", "kl"])
@pytest.mark.parametrize("edit", [False, True])
def test_encoding_of_a_sample_takes_what_the_trainer_computes(
    facts: Facts, model: ModelConfig, edit: bool
) -> None:
    vae = fresh_pipeline(model, train_tokenizer([], model.image_tokens)).vae
    encoder = stage_encoder(vae, STAGE)
    encoder.black(model.resolution, model.resolution)
    with FlopCounterMode(display=False) as counter:
        counter.flop_registry |= _FORMULAS
        drawing_inputs(encoder, [sample(0, edit), sample(4, edit)])
    counts = BoxCounts((0.5, 0.0, 0.0, 0.0, 0.5))
    counted = Counted.of(empty_pipeline(model), model, pretraining(STAGE), BudgetConfig())
    known = replace(facts, model=model, counted=counted)
    clock = Clock(known, Assumptions(t2i_boxes=counts, edit_boxes=counts), GPU)
    assert 2 * clock.sample_encoding(edit) == counter.get_total_flops() > 0
    edits = replace(known, edits=float(edit))
    everything = replace(edits, stage=replace(STAGE, loss=replace(STAGE.loss, drop=0.0)))
    clock = Clock(everything, Assumptions(t2i_boxes=counts, edit_boxes=counts), GPU)
    assert clock.flops_of_a_pass()[1] == counter.get_total_flops()
    assert Clock(edits, Assumptions(), GPU, latents=True).flops_of_a_pass()[1] == 0


@pytest.mark.parametrize("edit", [False, True])
def test_what_samples_go_without_is_not_encoded(facts: Facts, edit: bool) -> None:
    def of(drop: float) -> float:
        known = replace(facts, edits=float(edit), stage=replace(STAGE, loss=replace(STAGE.loss, drop=drop)))
        return Clock(known, Assumptions(edit_boxes=ONE, t2i_boxes=ONE), GPU).flops_of_a_pass()[1]

    kind = "edit" if edit else "text to image"
    bare, target, whole = (
        facts.counted.encoded[key].flops for key in ((kind, 0), ("text to image", 0), (kind, 1))
    )
    assert of(0.0) == 2 * whole
    # Of ten samples nothing is encoded but the target of one, and no canvas of two more.
    assert of(0.1) == pytest.approx(2 * (0.7 * whole + 0.2 * bare + 0.1 * target))
    assert of(1.0) == pytest.approx(2 * target)


def test_encoding_follows_boxes_edits_and_format(seconds: Lines, facts: Facts) -> None:
    def of(count: int, **changed: Any) -> float:
        boxes = {name: BoxCounts.exactly(count) for name in ("t2i_boxes", "edit_boxes")}
        return seconds(**boxes, **changed)["encoding"]

    # Of two samples: targets, a quarter of sources; black is known already.
    picture = facts.counted.encoded["text to image", 0].flops
    assert of(0) == pytest.approx(10 * 2 * (1 + 0.25 * (1 - STAGE.loss.drop)) * picture / (1e9 * 0.35))
    assert of(0) < of(1) and of(5) - of(1) == pytest.approx(4 * (of(2) - of(1)))
    mixed = {name: BoxCounts((0.5, 0.0, 0.0, 0.5)) for name in ("t2i_boxes", "edit_boxes")}
    assert seconds(**mixed)["encoding"] == pytest.approx((of(0) + of(3)) / 2)
    assert of(3, latents=True) == 0
    assert of(3, utilisation=0.7) == pytest.approx(of(3) / 2)
    whole = {key: replace(work, dtype="float32") for key, work in facts.counted.encoded.items()}
    assert of(3, counted={"encoded": whole}, float32_share=0.25) == pytest.approx(4 * of(3))


def test_latents_ahead_take_each_sample_once(facts: Facts, seconds: Lines) -> None:
    clock = Clock(facts, Assumptions(), GPU)
    every_condition = seconds(stage={"loss": replace(STAGE.loss, drop=0.0)})["encoding"]
    assert clock.latents_ahead(10 * 2) * 3600 == pytest.approx(2 * every_condition), "in float32"


def test_weights_are_read_by_one_and_sent_where_they_are_spread(facts: Facts) -> None:
    assumed = Assumptions(start_seconds=1.0, read_gb=0.1, copy_gb=0.2, write_gb=0.4, link_gb=0.8)
    size = 4 * facts.parameters / 1e9

    def start(sharding: Literal["ddp", "fsdp"], workers: int) -> Seconds:
        stage = replace(STAGE, sharding=sharding, workers=workers)
        return Clock(replace(facts, stage=stage), assumed, GPU).lines()["start and end"]

    alone = 1 + size * (10 + 5 + 2.5)
    for workers in (1, 2):
        assert start("ddp", workers).seconds == pytest.approx(alone)
    assert "one worker of each machine" in start("ddp", 2).how
    assert start("fsdp", 1).seconds == pytest.approx(alone)
    assert start("fsdp", 2).seconds == pytest.approx(alone + size / 2 / 0.8)
    assert "one worker reads and sends" in start("fsdp", 2).how


def test_passes_in_32_bits_take_longer(facts: Facts) -> None:
    whole = replace(facts, counted=replace(facts.counted, work={
        kind: replace(work, dtype="float32") for kind, work in facts.counted.work.items()
    }))  # fmt: skip
    half, full = (Clock(one, Assumptions(), GPU).lines()["forward and backward"] for one in (facts, whole))
    assert full.seconds == pytest.approx(2 * half.seconds)
    work = facts.counted.work
    flops = 0.75 * work["text to image"].flops + 0.25 * work["edit"].flops
    assert half.seconds == pytest.approx(10 * flops / (1e9 * 0.35))


def test_data_is_waited_for_only_where_it_comes_slower_than_steps(seconds: Lines) -> None:
    quick = seconds()
    assert quick["waiting for data"] == 0
    step = (quick["forward and backward"] + quick["encoding"] + quick["communication"]) / STAGE.steps
    # Two samples a worker and step, a quarter of them with a second picture.
    size = 2 * 1.25 * 1.5 * MODEL.resolution**2 * 0.4
    slow = seconds(read_gb=size / 1e9 / (3 * step))
    assert slow["waiting for data"] == pytest.approx(STAGE.steps * 2 * step)
    pixels = 2 * 1.25 * 1.5 * MODEL.resolution**2
    slow = seconds(decoders=2, decode_megapixels=pixels / 1e6 / 2 / (5 * step))
    assert slow["waiting for data"] == pytest.approx(STAGE.steps * 4 * step)


def test_the_stage_has_decoders_of_its_own_where_they_are_set() -> None:
    def how(decoders: int, known: int | None = None) -> str:
        recipe = replace(tiny(), stages=(pretraining(replace(STAGE, decoders=decoders)),))
        config = BudgetConfig(gpu=GPU).knowing({} if known is None else {"decoders": known})
        return next(line.how for line in make_plan(recipe, config).stages[0].lines if "wait" in line.name)

    assert "by 4 processes as assumed" in how(0)
    assert how(7).endswith("by 7 processes")
    assert how(7, known=3).endswith("by 3 processes") and how(0, known=3).endswith("by 3 processes")


def test_decoders_of_the_stage_decode(facts: Facts) -> None:
    times = [
        Clock(replace(facts, decoders=number), Assumptions(decode_megapixels=1e-3), GPU).lines()
        for number in (None, 4, 8)
    ]
    waits = [lines["waiting for data"].seconds for lines in times]
    steps = sum(times[0][name].seconds for name in ("forward and backward", "encoding", "communication"))
    assert waits[0] == waits[1] and waits[1] + steps == pytest.approx(2 * (waits[2] + steps))


def test_latents_are_read_in_place_of_all_but_what_the_language_model_sees(
    seconds: Lines, facts: Facts
) -> None:
    latents = 2.25 * np.prod(facts.counted.encoded["edit", 1].shapes["clean"]) * 2
    source = 0.25 * MODEL.language_model.image_size**2 * 1.45
    rate = 1e-9
    lines = seconds(latents=True, read_gb=rate)
    step = (lines["forward and backward"] + lines["communication"]) / STAGE.steps
    read = 2 * (latents + source) / (rate * 1e9)
    assert lines["waiting for data"] == pytest.approx(STAGE.steps * (read - step))
    wide = seconds(latents=True, read_gb=rate, stage={"latents": "float32"})["waiting for data"]
    assert wide - lines["waiting for data"] == pytest.approx(STAGE.steps * 2 * latents / (rate * 1e9))


def test_a_stage_that_reads_latents_is_planned_so() -> None:
    plans = [
        make_plan(replace(tiny(), stages=(pretraining(one),)), BudgetConfig(gpu=GPU)).stages[0]
        for one in (STAGE, replace(STAGE, latents="float16"))
    ]
    pictures, latents = plans
    for line, other in zip(pictures.lines, latents.lines, strict=True):
        assert other.expected == other.from_latents == line.from_latents
    assert pictures.encoding_share > 0 == latents.encoding_share
    assert latents.gpu_hours == latents.gpu_hours_from_latents < pictures.gpu_hours
    assert latents.latents_per_million == pictures.latents_per_million > 0
    # Sixteen boxes take more memory to encode than a pass of so small a model.
    encoding = [[memory.activations for memory in plan.memory] for plan in plans]
    assert all(some < more for more, some in zip(*encoding, strict=True))


def test_a_replicated_model_sums_gradients_and_a_spread_one_also_gathers(
    seconds: Lines, facts: Facts
) -> None:
    trained, counted = sum(facts.counted.trained.values()), facts.counted
    slow = {"link_gb": 1e-6, "overlap": 0.0}
    assert seconds(**slow)["communication"] == pytest.approx(10 * 2 * 0.5 * 4 * trained / 1e3)
    spread = counted.total - counted.frozen_autoencoder
    gathered = 2 * (2 * spread - counted.gathered.rest)
    found = seconds(**slow, stage={"sharding": "fsdp"})["communication"]
    assert found == pytest.approx(10 * 0.5 * (gathered + 4 * trained) / 1e3)
    # Layers are gathered for each pass, gradients summed in the last one.
    passes: dict[str, Any] = {"sharding": "fsdp", "global_batch": 12, "draws_per_step": 3}
    found = seconds(**slow, stage=passes)["communication"]
    assert found == pytest.approx(10 * 0.5 * (3 * gathered + 4 * trained) / 1e3)
    assert seconds(stage={"workers": 1})["communication"] == 0


def test_what_is_whole_everywhere_is_not_gathered(seconds: Lines, facts: Facts) -> None:
    trained, slow = sum(facts.counted.trained.values()), {"link_gb": 1e-6, "overlap": 0.0}
    stage = {"sharding": "fsdp", "replicate_frozen": True}
    sizes = {"gathered": Gathered(rest=1000, layer=1)}
    found = seconds(**slow, stage=stage, counted=sizes)["communication"]
    assert found == pytest.approx(10 * 0.5 * (2 * (2 * trained - 1000) + 4 * trained) / 1e3)


def test_groups_gather_among_themselves_and_sum_pieces_with_each_other(seconds: Lines, facts: Facts) -> None:
    counted, slow = facts.counted, {"link_gb": 1e-6, "overlap": 0.0}
    trained, spread = sum(counted.trained.values()), counted.total - counted.frozen_autoencoder
    stage = {"sharding": "fsdp", "workers": 8, "global_batch": 16, "shard_within": 4}
    gathered = 2 * (2 * spread - counted.gathered.rest)
    found = seconds(**slow, stage=stage)["communication"]
    # Each of four sums a quarter, and exchanges it with one of the other group.
    assert found == pytest.approx(10 * (0.75 * gathered + (0.75 + 2 * 0.5 / 4) * 4 * trained) / 1e3)
    alone, replicated = (
        seconds(**slow, stage=stage | one)["communication"]
        for one in ({"shard_within": 1}, {"sharding": "ddp"})
    )
    assert alone == pytest.approx(replicated)
    whole, all_of_them = (
        seconds(**slow, stage=stage | {"shard_within": size})["communication"] for size in (8, 0)
    )
    assert whole == pytest.approx(all_of_them) and whole > found


def test_what_is_exchanged_while_the_gpu_computes_is_hidden_up_to_that_time(seconds: Lines) -> None:
    whole = seconds(overlap=0.0)["communication"]
    assert seconds(overlap=0.6)["communication"] == pytest.approx(0.4 * whole)
    slow = seconds(overlap=1.0, link_gb=1e-6)
    computing = slow["forward and backward"] + slow["encoding"]
    all_of_it = seconds(overlap=0.0, link_gb=1e-6)["communication"]
    assert slow["communication"] == pytest.approx(all_of_it - computing) and all_of_it > computing


def test_checkpoints_cost_their_copy_the_last_upload_and_what_is_not_done_in_time(
    seconds: Lines, facts: Facts
) -> None:
    size = facts.counted.checkpoint_part
    copy = size / 12e9
    quick = seconds(write_gb=1000.0)
    assert quick["checkpoints"] == pytest.approx(3 * copy + size / 1e12)
    steps = quick["forward and backward"] + quick["encoding"] + quick["communication"]
    between, upload = 4 * steps / STAGE.steps, 3 * steps
    slow = seconds(write_gb=size / 1e9 / upload)
    assert slow["checkpoints"] == pytest.approx(3 * copy + 2 * (upload - between) + upload)


def test_the_held_out_loss_takes_rounds_of_one_row_a_worker(seconds: Lines, facts: Facts) -> None:
    assert seconds(stage={"held_out": 0.0})["held-out loss"] == 0
    # At the start and at steps 4, 8 and 10; of ten rows two or three edit, so 4 + 1 rounds.
    one = seconds(stage={"held_out_samples": 10})["held-out loss"] / (4 * 5)
    assert seconds(stage={"held_out_samples": 1000})["held-out loss"] == pytest.approx(one * 4 * 500)
    few = replace(facts, rows=8)
    how = Clock(few, Assumptions(), GPU).lines()["held-out loss"].how
    assert "4 times 4 rows in 3 rounds" in how or "4 times 4 rows in 2 rounds" in how
    every = seconds(stage={"held_out_samples": 10, "held_out_every": 8})["held-out loss"]
    assert every == pytest.approx(one * 3 * 5)


def test_grids_are_drawn_when_the_stage_draws_them(seconds: Lines) -> None:
    end = seconds(stage={"sample_every": 0})["sample pictures"]
    assert seconds(stage={"sample_every": 4})["sample pictures"] == pytest.approx(3 * end)
    # Six pictures a worker, two at a time: three calls, each writing a chain of 100 tokens.
    slow = seconds(stage={"sample_every": 0}, tokens_per_second=1.0)["sample pictures"]
    assert slow - end == pytest.approx(3 * 100 * (1 - 1 / 20))


def test_workers_share_a_grid_where_each_holds_the_model(seconds: Lines, facts: Facts) -> None:
    quick = {"tokens_per_second": 1e9, "copy_gb": 1e9, "link_gb": 1e9}

    def grid(workers: int, **stage: Any) -> float:
        stage |= {"sample_every": 0, "workers": workers, "global_batch": 2 * workers}
        return seconds(**quick, stage=stage)["sample pictures"]

    picture = grid(12)
    assert [grid(workers) / picture for workers in (1, 2, 5, 24)] == pytest.approx([12, 6, 3, 1])
    assert grid(5, sharding="fsdp") == pytest.approx(12 * picture)
    whole = {kind: replace(work, dtype="float32") for kind, work in facts.counted.work.items()}
    alone = {"sample_every": 0, "workers": 12, "global_batch": 24}
    found = seconds(**quick, stage=alone, counted={"work": whole}, float32_share=0.25)["sample pictures"]
    assert found == pytest.approx(4 * picture), "they are drawn in the format of the passes"


def test_a_checkpoint_of_shapes_holds_what_a_real_one_holds() -> None:
    for stage in (STAGE, replace(STAGE, optimizer="muon", ema_decay=0.0)):
        pipeline = fresh_pipeline(MODEL, train_tokenizer([], MODEL.image_tokens))
        prepare_parts(pipeline, stage)
        model = GoTModel.of(pipeline, stage.loss, JOINT)
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        optimizers = stage_optimizers(model, stage)
        for parameter in trained.values():
            parameter.grad = torch.ones_like(parameter)
        optimizers.step(1.0)
        average = MovingAverage(trained.values() if stage.ema_decay else [], stage.ema_decay)
        real = training_tensors(trained, average, optimizers)
        planned = checkpoint_tensors(empty_model(empty_pipeline(MODEL), stage, JOINT), stage)
        shapes = partial(map, lambda item: (item[0], item[1].shape, item[1].dtype))
        assert list(shapes(planned.items())) == list(shapes(real.items()))


def test_the_largest_part_of_a_replicated_checkpoint_is_about_its_share(facts: Facts) -> None:
    assert facts.counted.checkpoint_part == pytest.approx(facts.counted.checkpoint / 2, rel=0.01)
    spread = Counted.of(
        empty_pipeline(MODEL), MODEL, pretraining(replace(STAGE, sharding="fsdp")), BudgetConfig()
    )
    assert spread.checkpoint_part == spread.checkpoint // 2


def test_of_groups_that_hold_everything_the_first_writes() -> None:
    stage = replace(STAGE, sharding="fsdp", workers=8, global_batch=16)
    groups, all_of_them = (
        Counted.of(empty_pipeline(MODEL), MODEL, pretraining(one), BudgetConfig())
        for one in (replace(stage, shard_within=4), stage)
    )
    assert groups.checkpoint == all_of_them.checkpoint
    assert groups.checkpoint_part == groups.checkpoint // 4
    assert all_of_them.checkpoint_part == groups.checkpoint // 8


def test_sensitivity_is_the_total_with_one_assumption_changed() -> None:
    recipe = replace(tiny(), stages=(pretraining(STAGE),))
    plan = make_plan(recipe, BudgetConfig(gpu=GPU))
    widths = [one.width for one in plan.sensitivity]
    assert widths == sorted(widths, reverse=True)
    found = {one.name: one for one in plan.sensitivity}
    for name in ("utilisation", "edit_boxes"):
        for side in ("favourable", "unfavourable"):
            value = getattr(getattr(plan.assumptions, side), name)
            changed = make_plan(recipe, BudgetConfig(gpu=GPU).knowing({name: value}))
            assert getattr(found[name], side) == pytest.approx(changed.stages[0].gpu_hours)


def test_the_data_may_decide_the_share_of_edits() -> None:
    recipe = replace(tiny(), stages=(pretraining(STAGE),))
    passes = [
        make_plan(recipe, BudgetConfig(gpu=GPU), {"pretrain": share}).stages[0].lines[0].expected
        for share in (0.0, 0.5, 1.0)
    ]
    assert passes[1] == pytest.approx((passes[0] + passes[2]) / 2) and passes[0] < passes[2]
