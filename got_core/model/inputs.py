"""Checks of what a caller hands to the pipeline.

Belongs here: one function an argument, which raises the one error that names it. Not here: defaults and
everything that needs the networks (`pipeline`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, TypeAlias

import torch
from PIL import Image

from got_core.chain.grammar import Chain
from got_core.model.config import GuidanceReuse
from got_core.model.earlier import Earlier
from got_core.pictures.colours import load

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
LARGEST_ASPECT = 16.0
"""Longer side over shorter side of a source image; an edited picture gets its source's aspect back."""

Generators: TypeAlias = torch.Generator | list[torch.Generator] | None
"""One generator for the whole batch, one for each picture, or torch's global one."""


def as_list(value: Any) -> Any:
    """One value or a sequence of them, as a list; None stays None."""
    if value is None or isinstance(value, list):
        return value
    return list(value) if isinstance(value, tuple) else [value]


def check_prompts(prompts: Sequence[str]) -> None:
    """At least one prompt, each a text that is not blank."""
    if not prompts:
        raise ValueError("`prompt` is empty; pass at least one prompt")
    for index, prompt in enumerate(prompts):
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(f"`prompt[{index}]` must be a non-empty string, got {prompt!r}")


def check_sources(sources: Sequence[Image.Image] | None, prompts: Sequence[str]) -> None:
    """No source at all, or one PIL image a prompt that can be decoded, none of them a mere strip."""
    if sources is None:
        return
    if len(sources) != len(prompts):
        raise ValueError(f"{len(sources)} source images for {len(prompts)} prompts; pass one each")
    for index, source in enumerate(sources):
        if not isinstance(source, Image.Image):
            raise TypeError(f"`image[{index}]` must be a PIL image, got {type(source).__name__}")
        try:
            load(source)
        except Exception as error:  # a decoder may raise anything on a damaged file
            raise ValueError(f"`image[{index}]` cannot be read: {type(error).__name__}: {error}") from error
        if not min(source.size):
            raise ValueError(f"`image[{index}]` has no pixels ({source.width}x{source.height})")
        if max(source.size) > LARGEST_ASPECT * min(source.size):
            raise ValueError(
                f"`image[{index}]` of {source.width}x{source.height} pixels is longer than "
                f"{LARGEST_ASPECT:g}:1; crop it"
            )


def check_chains(chains: Sequence[Chain], prompts: Sequence[str], *, reasoning: bool = True) -> None:
    """One chain a prompt, and an empty one where the model has no reasoning."""
    for index, chain in enumerate(chains):
        if not isinstance(chain, Chain):
            raise TypeError(
                f"`chains[{index}]` must be a Chain, got {type(chain).__name__}; "
                "read text with got_core.chain.grammar.parse"
            )
        if chain.parts and not reasoning:
            raise ValueError(
                f"`chains[{index}]` is not empty, but this model draws without a chain; pass `plan`'s chains"
            )
    if len(chains) != len(prompts):
        raise ValueError(f"{len(chains)} chains for {len(prompts)} prompts; pass one each")


def check_whole(name: str, value: object) -> None:
    """A whole number of at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"`{name}` must be a whole number, got {value!r}")
    if int(value) < 1:
        raise ValueError(f"`{name}` must be at least 1, got {value}")


def check_size(height: int, width: int, multiple: int) -> None:
    """Sides that latent cells fill exactly."""
    check_whole("height", height)
    check_whole("width", width)
    if height % multiple or width % multiple:
        raise ValueError(f"`height` and `width` must be multiples of {multiple}, got {height} and {width}")


def check_output_type(output_type: str) -> None:
    """One of OUTPUT_TYPES."""
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"`output_type` must be one of {', '.join(OUTPUT_TYPES)}, got {output_type!r}")


def check_scales(**scales: float | None) -> None:
    """Finite numbers, or None for the default."""
    for name, scale in scales.items():
        if scale is not None and not (isinstance(scale, Real) and abs(scale) <= sys.float_info.max):
            raise ValueError(f"`{name}` must be a finite number, got {scale!r}")


def check_guidance_reuse(reuse: object) -> None:
    """A GuidanceReuse, or None."""
    if not isinstance(reuse, GuidanceReuse | None):
        raise TypeError(f"`guidance_reuse` must be a GuidanceReuse or None, got {reuse!r}")


def check_sampling(temperature: float | None, top_p: float | None) -> None:
    """A positive temperature, a share of the probability in (0, 1]."""
    check_scales(temperature=temperature, top_p=top_p)
    if temperature is not None and temperature <= 0:
        raise ValueError(f"`temperature` must be above 0, got {temperature}; leave it out to decode greedily")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"`top_p` must lie in (0, 1], got {top_p}")


def check_keep_outside(scheduler: Any, sources: object) -> None:
    """Sources to keep, and a scheduler that can make them as noisy as the drawing is."""
    if sources is None:
        raise ValueError("`keep_outside` keeps what an edit does not touch: it needs `image`")
    _check_noising(scheduler, "`keep_outside` makes the source")


def check_earlier(earlier: Sequence[object] | None, prompts: Sequence[str]) -> None:
    """None, or a picture that was drawn before or None for each prompt."""
    if earlier is None:
        return
    if len(earlier) != len(prompts):
        raise ValueError(
            f"{len(earlier)} earlier pictures for {len(prompts)} prompts; pass one each, or None"
        )
    for index, one in enumerate(earlier):
        if not isinstance(one, Earlier | None):
            raise TypeError(f"`earlier[{index}]` must be an Earlier or None, got {type(one).__name__}")


def check_noisy_again(scheduler: Any, earlier: Sequence[object] | None) -> None:
    """A scheduler that can make earlier pictures, if there are any, as noisy as the drawing is."""
    if earlier and any(earlier):
        _check_noising(scheduler, "`earlier` makes a picture")


def _check_noising(scheduler: Any, what: str) -> None:
    if not {"scale_noise", "add_noise"} & set(dir(scheduler)):
        raise ValueError(f"{what} noisy again, which {type(scheduler).__name__} cannot; set another one")


def check_generator(generator: Generators, count: int, what: str) -> None:
    """None, one generator, or a list of one for each picture (or chain)."""
    several = isinstance(generator, list)
    for one in generator if isinstance(generator, list) else [generator]:
        if not isinstance(one, torch.Generator) and (several or one is not None):
            raise TypeError(f"`generator` must be a torch.Generator or a list, got {type(one).__name__}")
    if isinstance(generator, list) and len(generator) != count:
        raise ValueError(f"{len(generator)} generators for {count} {what}; pass one, or one for each")


def check_latents(latents: object, shape: tuple[int, ...]) -> None:
    """Initial noise of exactly this shape, or None."""
    if latents is None:
        return
    if not isinstance(latents, torch.Tensor):
        raise TypeError(f"`latents` must be a tensor, got {type(latents).__name__}")
    if tuple(latents.shape) != shape:
        raise ValueError(f"`latents` must have shape {shape}, got {tuple(latents.shape)}")


def check_on_plan(function: object) -> None:
    """Something that can be called, or None."""
    if function is not None and not callable(function):
        raise TypeError(f"`on_plan` must be callable, got {type(function).__name__}")


def check_callback(callback: object, inputs: Sequence[str], known: Sequence[str]) -> None:
    """Something that can be called, asking for tensors that the loop has."""
    if callback is not None and not callable(callback):
        raise TypeError(f"`callback_on_step_end` must be callable, got {type(callback).__name__}")
    unknown = [name for name in inputs if name not in known]
    if unknown:
        raise ValueError(
            f"`callback_on_step_end_tensor_inputs` holds {unknown}; possible are {', '.join(known)}"
        )
