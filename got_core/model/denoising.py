"""The drawing loop: from noise to latents, step by step, with the guidance formula in each.

Belongs here: what happens between the initial noise and the last latents, and which branches of the formula
a step computes. Not here: the formula (`guidance`), where conditions come from and how latents become
pictures (`pipeline`), and noise levels (`schedule`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from got_core.model import schedule
from got_core.model.backbones.protocols import Drawer, DrawerConditions
from got_core.model.conditioning import Conditions
from got_core.model.config import GuidanceReuse, GuidanceScales
from got_core.model.guidance import Branch, branches, combine, time_ids
from got_core.model.inpaint_mask import KeptSource
from got_core.model.options import DrawingOptions

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline

PredictBranches: TypeAlias = Callable[[Sequence[Branch]], Sequence[Tensor]]
"""What the network answers in each of some branches, (B, C, h, w), for one step's latents."""


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

    Only the branches that the scales leave are computed, at the steps that ``guidance_reuse`` says. Ends
    early where ``pipe.interrupt`` becomes true.
    """
    scheduler, options = pipe.scheduler, drawing.options
    guided = GuidedSteps(branches(drawing.scales), options.guidance_reuse, len(scheduler.timesteps))
    extra = schedule.step_arguments(scheduler, options.generator, options.eta)
    for index, t in enumerate(pipe.progress_bar(scheduler.timesteps)):
        if pipe.interrupt:
            break
        scaled = latents
        if hasattr(scheduler, "scale_model_input"):
            scaled = scheduler.scale_model_input(latents, t)
        predict = partial(pipe.predict_branches, scaled, t, conditions, size=drawing.size)
        output = guided.prediction(index, predict)
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


class GuidedSteps:
    """The guided predictions of a drawing's steps, and what is kept from one to the next.

    The branches' weights add up to 1: their sum is the first branch plus a distance from it, and this is what
    is kept.
    """

    def __init__(self, used: Sequence[Branch], reuse: GuidanceReuse | None, steps: int) -> None:
        chosen = reuse or GuidanceReuse()
        self.used = used
        self.inside, self.computed = set(chosen.inside(steps)), set(chosen.computed(steps))
        self._keeps = chosen.every > 1
        self._distance: Tensor | float = 0.0

    def prediction(self, step: int, predict: PredictBranches) -> Tensor:
        """The prediction (B, C, h, w) at a step, counted from 0, of what the branches predict there."""
        if step not in self.computed:
            (first,) = predict([replace(self.used[0], weight=1.0)])
            return first + self._distance if step in self.inside else first
        outputs = predict(self.used)
        guided = combine(outputs, self.used)
        if self._keeps:
            self._distance = guided - outputs[0]
        return guided


def branch_predictions(
    drawer: Drawer,
    latents: Tensor,
    t: Tensor,
    conditions: Conditions,
    used: Sequence[Branch],
    size: tuple[int, int],
) -> tuple[Tensor, ...]:
    """What the network answers in each branch, (B, C, h, w), all in one call of it."""
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
    return output.chunk(count)
