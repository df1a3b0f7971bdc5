"""The noise levels of diffusers' schedulers, and how many of them they can step through."""

from __future__ import annotations

import diffusers
import numpy as np
import pytest
import torch

from got_core.model import schedule
from got_core.model.schedule import check_steps, set_timesteps

CELLS = 64
LEADING = {"timestep_spacing": "leading", "steps_offset": 1}
TRAILING = {"timestep_spacing": "trailing"}


def build(name: str, **options: object) -> diffusers.SchedulerMixin:
    return getattr(diffusers, name)(**options)


def levels(scheduler: diffusers.SchedulerMixin, steps: int, cells: int = CELLS) -> list[float]:
    """Noise levels of the steps in turn, a repeated one once, and what they lead to."""
    set_timesteps(scheduler, steps, cells)
    return list(dict.fromkeys(scheduler.sigmas.tolist()))


@pytest.mark.parametrize("steps", [1, 2, 4, 50])
@pytest.mark.parametrize("name", ["Euler", "Heun", "LCM"])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching_goes_down_in_equal_parts_and_is_shifted_once(
    name: str, shift: float, steps: int
) -> None:
    name = f"FlowMatch{name}{'' if name == 'LCM' else 'Discrete'}Scheduler"
    even = np.linspace(1, 0, steps + 1)
    wanted = shift * even / (1 + (shift - 1) * even)
    assert levels(build(name, shift=shift), steps) == pytest.approx(wanted.tolist(), abs=1e-6)


def test_a_scheduler_set_twice_has_the_same_levels() -> None:
    heun = build("FlowMatchHeunDiscreteScheduler", shift=3.0)
    smallest = heun.sigma_min
    assert levels(heun, 4) == levels(heun, 4)
    assert heun.sigma_min == smallest


@pytest.mark.parametrize("cells", [256, 1024, 4096])
@pytest.mark.parametrize("kind", ["exponential", "linear"])
def test_dynamic_shifting_goes_by_the_pictures_size(kind: str, cells: int) -> None:
    scheduler = build("FlowMatchEulerDiscreteScheduler", use_dynamic_shifting=True, time_shift_type=kind)
    # By the settings: 0.5 at 256 cells, 1.15 at 4,096.
    mu = 0.5 + 0.65 * (cells - 256) / 3840
    even, factor = np.linspace(1, 1 / 5, 5), np.exp(mu) if kind == "exponential" else mu
    wanted = [*(factor / (factor + 1 / even - 1)), 0.0]
    assert levels(scheduler, 5, cells) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("spacing", ["karras", "exponential", "beta"])
def test_other_spacings_end_as_far_from_zero_as_even_ones(spacing: str) -> None:
    scheduler = build("FlowMatchEulerDiscreteScheduler", shift=3.0, **{f"use_{spacing}_sigmas": True})
    found = levels(scheduler, 4)
    assert (found[0], found[-2:]) == (1.0, pytest.approx([0.5, 0.0]))
    assert len(found) == 5 and found == sorted(found, reverse=True)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("DDPMScheduler", {}),
        ("EulerDiscreteScheduler", LEADING),
        ("UniPCMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True}),
    ],
)
def test_other_schedulers_keep_their_own_schedule(name: str, options: dict) -> None:
    ours, own = build(name, **options), build(name, **options)
    set_timesteps(ours, 7, CELLS)
    own.set_timesteps(7)
    assert torch.equal(ours.timesteps, own.timesteps)


@pytest.mark.parametrize(
    ("name", "options", "steps", "fitting"),
    [
        ("DDPMScheduler", LEADING, 1000, 999),
        ("DDPMScheduler", {}, 1001, 1000),
        ("DDPMScheduler", {"num_train_timesteps": 100}, 101, 100),
        ("DDIMScheduler", LEADING, 1000, 999),
        ("DDIMScheduler", {"timestep_spacing": "leading", "steps_offset": 5}, 500, 498),
        ("DDIMScheduler", TRAILING, 998, 997),
        ("PNDMScheduler", LEADING | {"skip_prk_steps": True}, 1000, 999),
        ("EulerDiscreteScheduler", LEADING, 1000, 999),
        ("EulerAncestralDiscreteScheduler", TRAILING, 998, 997),
        ("HeunDiscreteScheduler", LEADING, 1000, 999),
        ("DPMSolverMultistepScheduler", {}, 1000, 999),
        ("DPMSolverMultistepScheduler", LEADING, 1000, 998),
        ("UniPCMultistepScheduler", {"timestep_spacing": "leading"}, 1000, 999),
        ("LCMScheduler", {}, 51, 50),
        ("FlowMatchEulerDiscreteScheduler", {}, 1001, 1000),
        ("FlowMatchHeunDiscreteScheduler", {}, 10**30, 1000),
        ("DDPMScheduler", {}, 10**9, 1000),
        ("IPNDMScheduler", {}, 10**9, 1000),
    ],
)
def test_steps_beyond_a_schedulers_tables_are_refused_with_the_number_that_fits(
    name: str, options: dict, steps: int, fitting: int
) -> None:
    scheduler = build(name, **options)
    message = rf"`num_inference_steps` = {steps} does not fit {name} .*smaller number that does is {fitting}$"
    with pytest.raises(ValueError, match=message):
        check_steps(scheduler, steps, CELLS)
    check_steps(scheduler, fitting, CELLS)


def test_where_no_number_fits_few_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    walked: list[int] = []
    scheduler = build("DDIMScheduler")
    monkeypatch.setattr(type(scheduler), "step", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(schedule, "set_timesteps", lambda _, steps, *rest: walked.append(steps))
    with pytest.raises(ValueError, match="take more, or another scheduler"):
        check_steps(scheduler, 10**9, CELLS)
    assert walked[:9] == [1000, 999, 998, 997, 996, 995, 994, 993, 496] and walked[-1] == 1
    assert len(walked) == len(set(walked)) and sum(walked) < 20_000


def test_levels_that_are_no_numbers_are_refused() -> None:
    stretched = build("FlowMatchEulerDiscreteScheduler", shift_terminal=0.1)
    with pytest.raises(ValueError, match=r"`num_inference_steps` = 1 does not fit .*take more"):
        check_steps(stretched, 1, CELLS)
    check_steps(stretched, 2, CELLS)


def test_asking_a_scheduler_changes_neither_it_nor_torchs_generator() -> None:
    scheduler = build("FlowMatchEulerDiscreteScheduler", stochastic_sampling=True)
    timesteps, state = scheduler.timesteps.clone(), torch.get_rng_state()
    check_steps(scheduler, 4, CELLS)
    assert torch.equal(scheduler.timesteps, timesteps)
    assert torch.equal(torch.get_rng_state(), state)
