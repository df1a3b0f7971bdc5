"""The drawing loop: from noise to latents, step by step, with the guidance formula in each.

Belongs here: what happens between the initial noise and the last latents. Not here: where conditions come
from and how latents become pictures (`pipeline`), and noise levels (`schedule`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from got_core.model import schedule
from got_core.model.backbones.protocols import Drawer, DrawerConditions
from got_core.model.conditioning import Conditions
from got_core.model.config import GuidanceScales
from got_core.model.guidance import Branch, branches, combine, time_ids
from got_core.model.inpaint_mask import KeptSource
from got_core.model.options import DrawingOptions

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline


@dataclass(frozen=True, kw_only=True)
class Denoising:
    """What holds for all steps of one drawing."""

    size: tuple[int, int]
    """Height and width in pixels."""
    scales: GuidanceScales
    options: DrawingOptions
    kept: KeptSource | None = None
    """Sources to be put back after each step."""


def denoise(pipe: GoTPipeline, latents: Tensor, conditions: Conditions, drawing: Denoising) -> Tensor:
    """Run the pipeline's scheduler from initial noise (B, C, h, w) to clean latents.

    Only the branches that the scales leave are computed. Ends early where ``pipe.interrupt`` becomes true.
    """
    scheduler, options = pipe.scheduler, drawing.options
    used = branches(drawing.scales)
    extra = schedule.step_arguments(scheduler, options.generator, options.eta)
    for index, t in enumerate(pipe.progress_bar(scheduler.timesteps)):
        if pipe.interrupt:
            break
        scaled = latents
        if hasattr(scheduler, "scale_model_input"):
            scaled = scheduler.scale_model_input(latents, t)
        output = pipe.predict(scaled, t, conditions, used, drawing.size)
        output = schedule.as_scheduled(scheduler, pipe.config.prediction, output, latents, t)
        latents = scheduler.step(output, t, latents, **extra, return_dict=False)[0]
        if drawing.kept is not None:
            latents = drawing.kept.put_back(latents, scheduler, index)
        if options.callback_on_step_end is not None:
            latents, conditions = _called_back(pipe, (index, t), latents, conditions, options)
    return latents


def _called_back(
    pipe: GoTPipeline, step: tuple[int, Tensor], latents: Tensor, conditions: Conditions, options: Any
) -> tuple[Tensor, Conditions]:
    """Latents and conditions after the caller's function has seen them, and may have changed them."""
    tensors = {"latents": latents, **vars(conditions)}
    wanted = {name: tensors[name] for name in options.callback_inputs()}
    changed = options.callback_on_step_end(pipe, *step, wanted) or {}
    latents = changed.pop("latents", latents)
    return latents, replace(conditions, **changed)


def guided_prediction(
    drawer: Drawer,
    latents: Tensor,
    t: Tensor,
    conditions: Conditions,
    used: Sequence[Branch],
    size: tuple[int, int],
) -> Tensor:
    """The guided prediction (B, C, h, w): all branches in one call, then their weighted sum."""
    batch, count, dtype = len(latents), len(used), drawer.network.dtype
    zero = torch.zeros_like(conditions.spatial)
    context = torch.cat([conditions.context if branch.text else conditions.null for branch in used])
    spatial = torch.cat([conditions.spatial if branch.spatial else zero for branch in used])
    reference = torch.cat([conditions.reference if branch.reference else zero for branch in used])
    given = DrawerConditions(
        context=context.to(dtype),
        pooled=conditions.pooled.repeat(count, 1).to(dtype),
        sizes=time_ids(batch * count, *size, device=latents.device).to(dtype),
        reference=reference.to(dtype),
        spatial=spatial.to(dtype),
    )
    output = drawer.predict(latents.repeat(count, 1, 1, 1).to(dtype), t, given)
    return combine(output.chunk(count), used)
