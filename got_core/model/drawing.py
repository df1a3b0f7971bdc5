"""From chains to pictures: conditions, noise, the loop of steps, decoding.

Belongs here: their order in one call, and pictures of several sizes in it. Not here: checks and planning
(`pipeline`), and each of these parts (`frames`, `conditioning`, `denoising`, `decoding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor

from got_core.chain.grammar import Chain
from got_core.model import schedule
from got_core.model.conditioning import Conditions, picture_latents
from got_core.model.config import GuidanceScales
from got_core.model.decoding import Pictures, sizes_in_aspect
from got_core.model.denoising import Denoising, denoise
from got_core.model.finite import NotFiniteError
from got_core.model.frames import Frame, draw_by_frame, frames_of
from got_core.model.inpaint_mask import KeptSource, cells_of, free_cells
from got_core.model.options import DrawingOptions

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline


def draw_pictures(
    pipe: GoTPipeline,
    chains: Sequence[Chain],
    prompts: Sequence[str],
    sources: Sequence[Image.Image] | None,
    options: DrawingOptions,
) -> Pictures:
    """The pictures of checked arguments, those of one size together. See ``GoTPipeline.draw``."""

    def draw(frame: Frame, numbers: list[int], chosen: DrawingOptions) -> Pictures:
        pictures = None if sources is None else [sources[k] for k in numbers]
        if chosen.earlier is not None:
            chosen = replace(chosen, earlier=[chosen.earlier[k] for k in numbers])
        return _draw_alike(
            pipe, frame, [chains[k] for k in numbers], [prompts[k] for k in numbers], pictures, chosen
        )

    return draw_by_frame(frames_of(pipe.config, len(prompts), sources, options), options, draw)


def _draw_alike(
    pipe: GoTPipeline,
    frame: Frame,
    chains: list[Chain],
    prompts: list[str],
    sources: list[Image.Image] | None,
    options: DrawingOptions,
) -> Pictures:
    """Pictures of one size."""
    copies = options.num_images_per_prompt
    conditions = _conditions(pipe, frame, chains, prompts, sources, options)
    # Before the noise is drawn: how strong it is may depend on the number of steps.
    steps, cells = options.steps(int(pipe.config.inference_steps)), pipe._cells(*frame)
    schedule.set_timesteps(pipe.scheduler, steps, cells, pipe._execution_device)
    latents = pipe.prepare_latents(len(chains) * copies, *frame, options.generator, options.latents)
    drawing = Denoising(
        size=frame,
        scales=_scales(pipe, options, edit=sources is not None),
        options=options,
        kept=_kept(pipe, chains, conditions, latents, frame, options),
    )
    pipe._interrupt = False
    latents = denoise(pipe, latents, conditions.repeated(copies), drawing)
    sizes = None
    if sources and not options.has_size:
        sizes = [size for size in sizes_in_aspect(sources, min(frame)) for _ in range(copies)]
    try:
        pictures = pipe.decode(latents, options.output_type, sizes)
    except NotFiniteError as error:
        error.images = _with_rests(error.images, drawing)
        raise
    finally:
        pipe.maybe_free_model_hooks()
    return _with_rests(pictures, drawing)


def _conditions(
    pipe: GoTPipeline,
    frame: Frame,
    chains: list[Chain],
    prompts: list[str],
    sources: list[Image.Image] | None,
    options: DrawingOptions,
) -> Conditions:
    """Of all pictures in one call of each network, or of each by itself."""
    if not options.apart:
        return pipe.encode_conditions(chains, prompts, sources, *frame)
    pictures = [None] * len(prompts) if sources is None else [[one] for one in sources]
    return Conditions.joined(
        [
            pipe.encode_conditions([chain], [prompt], picture, *frame)
            for chain, prompt, picture in zip(chains, prompts, pictures, strict=True)
        ]
    )


def _kept(
    pipe: GoTPipeline,
    chains: Sequence[Chain],
    conditions: Conditions,
    latents: Tensor,
    frame: Frame,
    options: DrawingOptions,
) -> KeptSource | None:
    """Of each chain the earlier picture, else the source if that is wanted; ``latents`` is the initial
    noise."""
    earlier = {k: one for k, one in enumerate(options.earlier or ()) if one is not None}
    if not options.keep_outside and not earlier:
        return None
    pictures = conditions.reference.clone()
    free = free_cells(chains, *frame, pipe.vae_scale_factor)
    if not options.keep_outside:
        free.fill_(True)
    if earlier:
        pictures[list(earlier)] = picture_latents(pipe, [one.image for one in earlier.values()], frame)
        changed = [one.changed(chains[k]) for k, one in earlier.items()]
        free[list(earlier)] = cells_of(changed, *frame, pipe.vae_scale_factor)
    noise = latents / getattr(pipe.scheduler, "init_noise_sigma", 1.0)
    return KeptSource.of(pipe.drawer.scale(pictures, pipe.vae), noise, free)


def _with_rests(pictures: Any, drawing: Denoising) -> Any:
    """PIL pictures with the pixels of the earlier ones where these stay: no autoencoder has been at them."""
    options = drawing.options
    if drawing.kept is None or options.earlier is None or options.output_type != "pil":
        return pictures
    found = list(pictures)
    for k, picture in enumerate(found):
        earlier = options.earlier[k // options.num_images_per_prompt]
        if earlier is not None and picture is not None and earlier.image.size == picture.size:
            found[k] = earlier.joined(picture, drawing.kept.free[k, 0].cpu().numpy())
    return found


def _scales(pipe: GoTPipeline, options: DrawingOptions, *, edit: bool) -> GuidanceScales:
    scales = options.scales(pipe.config.edit_scales if edit else pipe.config.generate_scales)
    # With Gs null two branches are the same one: at scale 0 the formula leaves the other out.
    return scales if pipe.config.spatial_guidance else replace(scales, spatial=0.0)
