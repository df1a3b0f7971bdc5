"""What a caller may choose when a pipeline plans and draws, each argument declared and explained once.

Belongs here: the arguments, their defaults, and how they stand in signatures. Not here: checks of a single
value (`inputs`), and what is done with them (`pipeline`, `text_generation`, `denoising`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeAlias, TypeVar

from torch import Tensor

from got_core.chain.grammar import Chain
from got_core.model import inputs
from got_core.model.config import GuidanceReuse, GuidanceScales
from got_core.model.earlier import Earlier
from got_core.model.inputs import Generators

Callback: TypeAlias = Callable[..., dict | None]
"""Called as (pipeline, step index, timestep, tensors); tensors in the dict it returns replace the loop's."""
OnPlan: TypeAlias = Callable[[Chain, str, bool], Chain]
"""Called as (chain, prompt, whether there is a picture to edit); the chain it returns is drawn."""

Method = TypeVar("Method", bound=Callable[..., Any])


class Options:
    """Keyword arguments of a method, as an object. Subclasses are frozen dataclasses."""

    @classmethod
    def taken_from(cls, given: Mapping[str, Any]) -> tuple[Self, dict[str, Any]]:
        """Those of this class among the keyword arguments of a method, and the others."""
        names = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        others = {name: value for name, value in given.items() if name not in names}
        return cls(**{name: value for name, value in given.items() if name in names}), others

    @classmethod
    def of(cls, method: str, given: Mapping[str, Any]) -> Self:
        """All keyword arguments of a method. Raises TypeError, naming it, for one that does not exist."""
        options, others = cls.taken_from(given)
        for name in others:
            raise TypeError(f"{method}() got an unexpected keyword argument {name!r}: see help({method})")
        return options


@dataclass(frozen=True, kw_only=True)
class PlanningOptions(Options):
    """How the language model writes chains: greedily, unless ``temperature`` or ``top_p`` is given."""

    max_new_tokens: int | None = None
    """Longest chain in tokens, at least 1; None: the pipeline's own."""
    temperature: float | None = None
    """Above 0; the higher, the more chains vary."""
    top_p: float | None = None
    """Share in (0, 1] of the probability, the likeliest tokens first, from which tokens are drawn."""

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn at random."""
        return self.temperature is not None or self.top_p is not None

    def check(self) -> None:
        """Raise ValueError or TypeError for the first option that cannot be used."""
        if self.max_new_tokens is not None:
            inputs.check_whole("max_new_tokens", self.max_new_tokens)
        inputs.check_sampling(self.temperature, self.top_p)


@dataclass(frozen=True, kw_only=True)
class DrawingOptions(Options):
    """How pictures are drawn from chains."""

    height: int | None = None
    """Pixels, a multiple of the autoencoder's factor; None: the pipeline's resolution, or of edits by a model
    that was trained in aspect buckets, the bucket nearest to the source's aspect."""
    width: int | None = None
    """As ``height``. Where neither is given, pictures of edits get their source's aspect back."""
    num_inference_steps: int | None = None
    """Steps of the scheduler, at least 1; None: the pipeline's own number."""
    text_scale: float | None = None
    """Guidance by the chain's words; scales are any finite numbers, None: the task's (paper section 4.3)."""
    spatial_scale: float | None = None
    """Guidance by the chain's boxes."""
    reference_scale: float | None = None
    """Guidance by the source image."""
    guidance_reuse: GuidanceReuse | None = None
    """At which steps all branches of the guidance formula are computed; None: at every step."""
    num_images_per_prompt: int = 1
    """Pictures of each prompt, which stand together and share its chain."""
    generator: Generators = None
    """One, or a list of one a picture; None: torch's global one."""
    latents: Tensor | None = None
    """Initial noise (B, C, h, w) in place of one that is drawn."""
    eta: float = 0.0
    """Noise that is added in each step, for schedulers that have such a number (DDIM)."""
    keep_outside: bool = False
    """Of edits: whether the source stays outside the chain's boxes, but for what the autoencoder loses of it;
    the paper draws it anew."""
    earlier: Sequence[Earlier | None] | None = None
    """Pictures that were drawn before, one a prompt or None: each stays outside the boxes in which its plan
    and the new one differ, whatever ``keep_outside`` says: to the pixel as a PIL image of the same size, else
    but for what the autoencoder loses of it. Where no box differs everything is drawn anew."""
    apart: bool = False
    """Whether conditions are made prompt by prompt: a picture then depends on how many are drawn in its call
    and where it stands among them, and not on what the others show."""
    output_type: str = "pil"
    """``pil``, ``np``, ``pt`` or ``latent``."""
    callback_on_step_end: Callback | None = None
    """Called after each step; ``pipe._interrupt = True`` in it ends the drawing."""
    callback_on_step_end_tensor_inputs: Sequence[str] | None = ("latents",)
    """Names of the tensors that the callback is given: latents, context, null, pooled, spatial, reference."""

    def check(self, sources: object, steps: int, scheduler: Any, tensors: Sequence[str]) -> None:
        """Raise ValueError or TypeError for the first option that cannot be used by itself.

        ``steps``: the number that is taken; ``tensors``: names that a callback may ask for.
        """
        inputs.check_whole("num_inference_steps", steps)
        inputs.check_whole("num_images_per_prompt", self.num_images_per_prompt)
        inputs.check_guidance_reuse(self.guidance_reuse)
        inputs.check_output_type(self.output_type)
        if self.keep_outside:
            inputs.check_keep_outside(scheduler, sources)
        inputs.check_noisy_again(scheduler, self.earlier)
        inputs.check_scales(
            text_scale=self.text_scale,
            spatial_scale=self.spatial_scale,
            reference_scale=self.reference_scale,
            eta=self.eta,
        )
        inputs.check_callback(self.callback_on_step_end, self.callback_inputs(), tensors)

    def steps(self, default: int) -> int:
        """Steps of the scheduler."""
        return default if self.num_inference_steps is None else self.num_inference_steps

    def size(self, side: int) -> tuple[int, int]:
        """Height and width in pixels, of a pipeline that draws squares of this side."""
        return side if self.height is None else self.height, side if self.width is None else self.width

    @property
    def has_size(self) -> bool:
        """Whether a size was asked for."""
        return self.height is not None or self.width is not None

    def of_pictures(self, numbers: Sequence[int]) -> Self:
        """The same for some of a call's pictures: of a list of generators, theirs."""
        if not isinstance(self.generator, list):
            return self
        return replace(self, generator=[self.generator[number] for number in numbers])

    def planning_generator(self) -> Generators:
        """Generators in the same state, one a prompt, for chains that are sampled before they are drawn."""
        if isinstance(self.generator, list):
            return [one.clone_state() for one in self.generator[:: self.num_images_per_prompt]]
        return None if self.generator is None else self.generator.clone_state()

    def scales(self, default: Sequence[float]) -> GuidanceScales:
        """Guidance scales; ``default`` holds text, spatial, reference."""
        given = (self.text_scale, self.spatial_scale, self.reference_scale)
        text, spatial, reference = (d if s is None else s for s, d in zip(given, default, strict=True))
        return GuidanceScales(text=text, spatial=spatial, reference=reference)

    def callback_inputs(self) -> list[str]:
        """The tensors that the callback wants; diffusers' own callback classes know them."""
        names = self.callback_on_step_end_tensor_inputs
        return list(getattr(self.callback_on_step_end, "tensor_inputs", names) or ())


def takes(*groups: type[Options]) -> Callable[[Method], Method]:
    """Show the options of these classes in a method's signature, in place of its ``**options``."""

    def decorate(method: Method) -> Method:
        signature = inspect.signature(method)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        shown = [
            inspect.Parameter(
                option.name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=option.type
            )
            for group in groups
            for option in fields(group)  # type: ignore[arg-type]
        ]
        method.__signature__ = signature.replace(parameters=[*own, *shown])  # type: ignore[attr-defined]
        return method

    return decorate
