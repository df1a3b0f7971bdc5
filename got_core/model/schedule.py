"""Which noise levels a scheduler of diffusers steps through, and whether it can step with this model.

Belongs here: what the pipeline tells and asks a scheduler before it draws. Not here: the mathematics of a
step, which is diffusers', and the loop itself (`pipeline`).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from got_core.model.noising import SMALLEST_SIGMA

_SHIFTS = {"base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096}
"""diffusers' defaults, for schedulers that shift by the picture's size but have no such settings."""


def wants_velocity(scheduler: Any) -> bool:
    """Whether the scheduler steps along a straight path from data to noise."""
    return scheduler.config.get("prediction_type") == "flow_prediction" or _matches_flow(scheduler)


def _matches_flow(scheduler: Any) -> bool:
    return "FlowMatch" in type(scheduler).__name__


def check_prediction(scheduler: Any, prediction: str) -> None:
    """Raise ValueError unless the scheduler steps with what the U-Net predicts."""
    velocity = wants_velocity(scheduler)
    wanted = scheduler.config.get("prediction_type", prediction)
    if not (prediction in ("flow", "sample") if velocity else wanted == prediction):
        said = "a velocity" if velocity else f"prediction_type {wanted!r}"
        raise ValueError(
            f"the U-Net predicts {prediction!r}, but {type(scheduler).__name__} steps with {said}; "
            "set another one"
        )


def as_scheduled(scheduler: Any, prediction: str, output: Tensor, latents: Tensor, t: Tensor) -> Tensor:
    """The U-Net's answer in the form that the scheduler steps with.

    Flow schedulers want the velocity; a U-Net that answers the clean latent leaves it to be computed. Other
    schedulers know what is predicted (their ``prediction_type``).
    """
    if prediction != "sample" or not wants_velocity(scheduler):
        return output
    sigma = (t / scheduler.config.num_train_timesteps).clamp(min=SMALLEST_SIGMA)
    return (latents - output) / sigma


def step_arguments(scheduler: Any, generator: Any, eta: float) -> dict[str, Any]:
    """What this scheduler's step takes besides prediction, timestep and latents."""
    known = inspect.signature(scheduler.step).parameters
    return {name: value for name, value in (("generator", generator), ("eta", eta)) if name in known}


# -- noise levels -------------------------------------------------------------------------------------


def set_timesteps(scheduler: Any, steps: int, cells: int, device: torch.device | str | None = None) -> None:
    """Set the scheduler's timesteps for pictures of so many latent ``cells``.

    Flow matching goes down from 1 in ``steps`` equal parts, before the scheduler shifts them: by themselves
    these schedulers end with one more step from their smallest noise level, in which next to nothing is left
    to draw.
    """
    shift = _shift(scheduler, cells)
    if not _matches_flow(scheduler):
        scheduler.set_timesteps(steps, device=device, **shift)
    elif "sigmas" in inspect.signature(scheduler.set_timesteps).parameters:
        levels = np.linspace(1.0, 1.0 / steps, steps)
        scheduler.set_timesteps(steps, device=device, sigmas=levels, **shift)
    else:
        _set_last_level(scheduler, steps, device)


def _set_last_level(scheduler: Any, steps: int, device: torch.device | str | None) -> None:
    """For one that takes no levels (Heun's), but spaces them evenly down to its ``sigma_min``."""
    smallest = scheduler.sigma_min
    scheduler.sigma_min = 1.0 / steps
    try:
        scheduler.set_timesteps(steps, device=device)
    finally:
        scheduler.sigma_min = smallest


def _shift(scheduler: Any, cells: int) -> dict[str, float]:
    """What a scheduler that shifts its steps by the picture's size is told.

    As by diffusers' own pipelines: between its two settings by the number of latent cells.
    """
    if not scheduler.config.get("use_dynamic_shifting"):
        return {}
    low, high, few, many = (scheduler.config.get(name, value) for name, value in _SHIFTS.items())
    return {"mu": low + (high - low) / (many - few) * (cells - few)}


def check_steps(scheduler: Any, steps: int, cells: int) -> None:
    """Raise ValueError, naming a smaller number that can be used, unless so many steps can be taken.

    The scheduler itself is asked, on a single number: which steps run past its tables, repeat a noise level
    or divide by zero depends on its class and settings. Never more than the timesteps it was made for.
    """
    fresh = type(scheduler).from_config(scheduler.config)
    most = int(fresh.config.get("num_train_timesteps", 1000))
    fault = _fault_of_steps(fresh, steps, cells) if steps <= most else None
    if steps <= most and fault is None:
        return
    smaller = _some_below(min(steps, most + 1))
    fitting = next((n for n in smaller if _fault_of_steps(fresh, n, cells) is None), None)
    advice = (
        "take more, or another scheduler" if fitting is None else f"a smaller number that does is {fitting}"
    )
    raise ValueError(
        f"`num_inference_steps` = {steps} does not fit {type(scheduler).__name__} with its {most} timesteps; "
        f"{advice}"
    ) from fault


def _some_below(steps: int) -> Iterator[int]:
    """The numbers next below, then halves: to ask of each takes as many steps, and of some none fits."""
    while steps > 1:
        near = range(steps - 1, max(steps - 9, 0), -1)
        yield from near
        steps = near[-1] // 2 + 1


def _fault_of_steps(scheduler: Any, steps: int, cells: int) -> Exception | None:
    """What is wrong with stepping through so many noise levels."""
    try:
        # Some draw from torch's global generator, which must not notice.
        with torch.random.fork_rng(devices=[]), np.errstate(all="ignore"):
            set_timesteps(scheduler, steps, cells)
            _check_range(scheduler)
            last = _walk(scheduler)
        if not torch.isfinite(last).all():
            raise ValueError("two steps at one noise level")
    # Whatever a scheduler of another library raises: IndexError, AssertionError, ZeroDivisionError.
    except Exception as error:
        return error
    return None


def _check_range(scheduler: Any) -> None:
    """Raise ValueError for a timestep that the scheduler's table of noise levels does not have."""
    timesteps = scheduler.timesteps
    if not hasattr(scheduler, "alphas_cumprod") or wants_velocity(scheduler):
        return
    if timesteps.min() < 0 or timesteps.max() > len(scheduler.alphas_cumprod) - 1:
        raise ValueError(f"timesteps from {timesteps.min()} to {timesteps.max()}")


def _walk(scheduler: Any) -> Tensor:
    """All steps of one latent cell whose prediction is always 0."""
    cell = torch.ones(1, 1, 1, 1, device="cpu")
    arguments = step_arguments(scheduler, torch.Generator("cpu").manual_seed(0), 0.0)
    for t in scheduler.timesteps:
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(cell, t)
        cell = scheduler.step(torch.zeros_like(cell), t, cell, **arguments, return_dict=False)[0]
    return cell
