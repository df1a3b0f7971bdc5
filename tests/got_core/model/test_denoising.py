"""Guidance at some steps only: which branches a step computes, and what is made of the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, HeunDiscreteScheduler
from PIL import Image

from got_core.chain.grammar import parse
from got_core.model.config import GuidanceReuse, GuidanceScales
from got_core.model.denoising import GuidedSteps
from got_core.model.guidance import Branch, branches, combine
from got_core.model.pipeline import EDIT_SCALES, GENERATE_SCALES, GoTPipeline
from tests.got_core.tiny_pipeline import TINY, sees_its_conditions, tiny_pipeline

CHAIN = parse("a red circle (100,100),(400,400)")
SOURCE = Image.new("RGB", (64, 64), (200, 30, 30))
STEPS = 8
NAMES = ("text_scale", "spatial_scale", "reference_scale")


@pytest.fixture(scope="module")
def pipeline() -> GoTPipeline:
    return sees_its_conditions(tiny_pipeline())


@contextmanager
def rows_of(pipeline: GoTPipeline) -> Iterator[list[int]]:
    """Rows that go through the U-Net, call by call."""
    rows: list[int] = []
    hook = pipeline.unet.register_forward_pre_hook(
        lambda _, given, named: rows.append(len(given[0])), with_kwargs=True
    )
    try:
        yield rows
    finally:
        hook.remove()


def drawn(pipeline: GoTPipeline, *, edit: bool = False, **options: Any) -> torch.Tensor:
    scales = dict(zip(NAMES, EDIT_SCALES if edit else GENERATE_SCALES, strict=True))
    given = {"num_inference_steps": STEPS, "output_type": "latent", **scales, **options}
    noise = torch.Generator().manual_seed(0)
    return pipeline.draw(CHAIN, "a red circle", SOURCE if edit else None, generator=noise, **given)


# ---------------------------------------------------------------- which steps


@pytest.mark.parametrize(
    ("interval", "every", "inside", "computed"),
    [
        ((0.0, 1.0), 1, range(10), range(10)),
        ((0.3, 0.7), 1, range(3, 7), range(3, 7)),
        ((0.3, 0.7), 3, range(3, 7), [3, 6]),
        ((0.0, 1.0), 4, range(10), [0, 4, 8]),
        ((0.0, 1.0), 99, range(10), [0]),
        ((0.25, 0.55), 1, range(2, 6), range(2, 6)),
        ((0.51, 0.52), 1, [5], [5]),
    ],
)
def test_steps_that_are_guided_and_steps_that_compute_it(
    interval: tuple[float, float], every: int, inside: range, computed: range
) -> None:
    reuse = GuidanceReuse(interval=interval, every=every)
    assert reuse.inside(10) == list(inside)
    assert reuse.computed(10) == list(computed)
    assert reuse.passes(10, 4) == 10 + 3 * len(list(computed))


def test_bounds_that_fall_on_a_step_are_exact_for_every_number_of_steps() -> None:
    for steps in range(1, 120):
        for first in range(steps):
            reuse = GuidanceReuse(interval=(first / steps, (first + 1) / steps))
            assert reuse.inside(steps) == [first]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"every": 0}, "every must be a whole number of at least 1, got 0"),
        ({"every": 1.5}, "every"),
        ({"every": True}, "every"),
        ({"every": "2"}, "every"),
        ({"interval": (0.5, 0.5)}, "interval must be a start and a later end"),
        ({"interval": (0.6, 0.2)}, "interval"),
        ({"interval": (-0.1, 0.5)}, "interval"),
        ({"interval": (0.0, 1.5)}, "interval"),
        ({"interval": (float("nan"), 1.0)}, "interval"),
        ({"interval": (0.0, 0.5, 1.0)}, "interval must be two numbers"),
        ({"interval": 0.5}, "interval must be two numbers"),
        ({"interval": ("0", "1")}, "interval must be two numbers"),
        ({"interval": (False, True)}, "interval must be two numbers"),
    ],
    ids=repr,
)
def test_numbers_that_cannot_be_used_are_named(given: dict, named: str) -> None:
    with pytest.raises(ValueError, match=f"GuidanceReuse.{named}"):
        GuidanceReuse(**given)


def test_single_numbers_make_one_and_none_makes_none() -> None:
    assert GuidanceReuse.chosen() is None
    assert GuidanceReuse.chosen(every=2) == GuidanceReuse(every=2)
    assert GuidanceReuse.chosen(start=0.5) == GuidanceReuse(interval=(0.5, 1.0))
    assert GuidanceReuse.chosen(end=0.5) == GuidanceReuse(interval=(0.0, 0.5))
    # Read back from JSON it is the same.
    assert GuidanceReuse(interval=[0, 1], every=2) == GuidanceReuse(every=2)  # type: ignore[arg-type]


def test_what_is_no_reuse_is_refused(pipeline: GoTPipeline) -> None:
    with pytest.raises(TypeError, match="`guidance_reuse` must be a GuidanceReuse or None"):
        drawn(pipeline, guidance_reuse={"every": 2})


# ---------------------------------------------------------------- passes


@pytest.mark.parametrize(("edit", "count"), [(False, 3), (True, 4)])
@pytest.mark.parametrize(
    "reuse",
    [
        None,
        GuidanceReuse(),
        GuidanceReuse(every=3),
        GuidanceReuse(interval=(0.25, 0.75)),
        GuidanceReuse(interval=(0.0, 0.5), every=2),
    ],
    ids=repr,
)
def test_exactly_these_rows_go_through_the_network(
    pipeline: GoTPipeline, edit: bool, count: int, reuse: GuidanceReuse | None
) -> None:
    with rows_of(pipeline) as rows:
        drawn(pipeline, edit=edit, guidance_reuse=reuse, num_images_per_prompt=2)
    computed = (reuse or GuidanceReuse()).computed(STEPS)
    assert rows == [2 * (count if step in computed else 1) for step in range(STEPS)]
    assert sum(rows) == 2 * (reuse or GuidanceReuse()).passes(STEPS, count)


def test_a_scheduler_that_calls_twice_a_step_counts_its_calls(pipeline: GoTPipeline) -> None:
    own = pipeline.scheduler
    pipeline.scheduler = HeunDiscreteScheduler(prediction_type=TINY.scheduler.prediction)
    try:
        with rows_of(pipeline) as rows:
            drawn(pipeline, guidance_reuse=GuidanceReuse(interval=(0.0, 0.5)))
    finally:
        pipeline.scheduler = own
    assert rows == [3] * STEPS + [1] * (STEPS - 1)


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("edit", [False, True])
def test_computed_at_every_step_it_changes_no_bit(pipeline: GoTPipeline, edit: bool) -> None:
    off = drawn(pipeline, edit=edit)
    assert torch.equal(off, drawn(pipeline, edit=edit, guidance_reuse=GuidanceReuse()))
    for changed in (GuidanceReuse(every=2), GuidanceReuse(interval=(0.0, 0.5))):
        assert not torch.equal(off, drawn(pipeline, edit=edit, guidance_reuse=changed))


@pytest.mark.parametrize("edit", [False, True])
def test_without_it_pictures_are_those_of_a_plain_loop(pipeline: GoTPipeline, edit: bool) -> None:
    """Bit for bit: noise, all branches in one call, their weighted sum, a step."""
    scales = GuidanceScales(**dict(zip(("text", "spatial", "reference"), EDIT_SCALES, strict=True)))
    if not edit:
        scales = GuidanceScales(**dict(zip(("text", "spatial", "reference"), GENERATE_SCALES, strict=True)))
    found = drawn(pipeline, edit=edit)
    with torch.no_grad():
        expected = by_hand(pipeline, scales, edit, lambda step, outputs, used: combine(outputs, used))
    assert torch.equal(found, expected)


def test_outside_the_interval_the_picture_goes_on_with_all_conditions(pipeline: GoTPipeline) -> None:
    scales = GuidanceScales(text=7.5, spatial=4.0, reference=1.0)
    reuse = GuidanceReuse(interval=(0.25, 0.75))

    def made(step: int, outputs: list[torch.Tensor], used: list[Branch]) -> torch.Tensor:
        return combine(outputs, used) if 2 <= step < 6 else outputs[0]

    with torch.no_grad():
        expected = by_hand(pipeline, scales, False, made)
    torch.testing.assert_close(drawn(pipeline, guidance_reuse=reuse), expected, atol=1e-4, rtol=1e-4)


def test_between_computed_steps_each_branchs_difference_is_the_last_one(pipeline: GoTPipeline) -> None:
    scales = GuidanceScales(text=4.0, spatial=3.0, reference=1.5)
    kept: list[torch.Tensor] = []

    def made(step: int, outputs: list[torch.Tensor], used: list[Branch]) -> torch.Tensor:
        if step % 3 == 0:
            kept[:] = [output - outputs[0] for output in outputs]
        return outputs[0] + sum(b.weight * part for b, part in zip(used, kept, strict=True))

    with torch.no_grad():
        expected = by_hand(pipeline, scales, True, made)
    found = drawn(pipeline, edit=True, guidance_reuse=GuidanceReuse(every=3))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def by_hand(pipeline: GoTPipeline, scales: GuidanceScales, edit: bool, made: Any) -> torch.Tensor:
    """Latents of a loop in which all branches are computed at every step; ``made`` makes one of them."""
    from got_core.model import schedule

    conditions = pipeline.encode_conditions([CHAIN], ["a red circle"], [SOURCE] if edit else None, 64, 64)
    schedule.set_timesteps(pipeline.scheduler, STEPS, 64)
    latents = pipeline.prepare_latents(1, 64, 64, torch.Generator().manual_seed(0))
    used = branches(scales)
    for step, t in enumerate(pipeline.scheduler.timesteps):
        outputs = pipeline.predict_branches(latents, t, conditions, used, (64, 64))
        output = made(step, outputs, used)
        output = schedule.as_scheduled(pipeline.scheduler, pipeline.config.prediction, output, latents, t)
        latents = pipeline.scheduler.step(output, t, latents, return_dict=False)[0]
    return latents


def test_a_condition_whose_scale_is_0_stays_out_where_there_is_no_guidance() -> None:
    used = branches(GuidanceScales(text=4.0, spatial=0.0, reference=1.5))
    asked: list[list[Branch]] = []

    def predict(wanted: Any) -> list[torch.Tensor]:
        asked.append(list(wanted))
        return [torch.ones(1, 1, 1, 1)] * len(wanted)

    steps = GuidedSteps(used, GuidanceReuse(interval=(0.0, 0.5)), 2)
    both = [steps.prediction(step, predict) for step in range(2)]
    assert asked == [used, [replace(used[0], weight=1.0)]]
    assert (used[0].text, used[0].spatial, used[0].reference) == (True, False, True)
    assert torch.equal(both[0], both[1]), "weights add up to 1"


def test_one_drawing_does_not_go_on_with_what_another_kept(pipeline: GoTPipeline) -> None:
    reuse = GuidanceReuse(interval=(0.5, 1.0), every=4)
    first = drawn(pipeline, guidance_reuse=reuse)
    drawn(pipeline, edit=True, guidance_reuse=reuse)
    assert torch.equal(first, drawn(pipeline, guidance_reuse=reuse))


def test_scales_of_1_need_one_pass_and_nothing_to_reuse(pipeline: GoTPipeline) -> None:
    ones = dict.fromkeys(NAMES, 1.0)
    with rows_of(pipeline) as rows:
        off = drawn(pipeline, **ones)
        assert torch.equal(off, drawn(pipeline, **ones, guidance_reuse=GuidanceReuse(every=2)))
    assert rows == [1] * 2 * STEPS


def test_noise_that_is_added_stays_as_it_was(pipeline: GoTPipeline) -> None:
    """Generators are asked for as much noise as without it."""
    own = pipeline.scheduler
    pipeline.scheduler = DDIMScheduler(prediction_type=TINY.scheduler.prediction)
    after = []
    try:
        for reuse in (None, GuidanceReuse(every=3)):
            noise = torch.Generator().manual_seed(3)
            pipeline.draw(CHAIN, "a", generator=noise, eta=1.0, num_inference_steps=4, guidance_reuse=reuse)
            after.append(noise.get_state())
    finally:
        pipeline.scheduler = own
    assert torch.equal(*after)
