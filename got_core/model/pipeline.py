"""GoT as a diffusers pipeline: plan with the language model, draw with the U-Net.

``pipe(prompt)`` does both; ``pipe.plan`` gives the chain alone, ``pipe.draw`` a picture from a chain that may
have been edited in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, SchedulerMixin, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from got_core.chain.grammar import Chain, parse_tolerant
from got_core.model.autoencoder import PatchAutoencoder
from got_core.model.config import GuidanceScales
from got_core.model.got import SMALLEST_SIGMA, language_states, latent_stride
from got_core.model.guidance import (
    Branch,
    GuidanceProjector,
    black_latents,
    branches,
    combine,
    encode,
    spatial_latents,
    time_ids,
)
from got_core.model.sequence import IGNORED, Sample, SequenceBuilder

GENERATE_SCALES = (7.5, 4.0, 1.0)
EDIT_SCALES = (4.0, 3.0, 1.5)


@dataclass
class GoTOutput(BaseOutput):
    """Pictures and the chains they were drawn from, one a picture."""

    images: list[Image.Image] | np.ndarray | Tensor
    chains: list[Chain]


@dataclass(frozen=True)
class _Conditions:
    """What the U-Net reads besides the noisy latents, for B pictures."""

    context: Tensor
    pooled: Tensor
    spatial: Tensor
    reference: Tensor


class GoTPipeline(DiffusionPipeline):
    """Generation Chain-of-Thought (arXiv 2503.10639).

    Components: ``mllm`` and its ``tokenizer`` and ``image_processor``, ``projector``, ``unet`` (3C input
    channels), ``vae``, ``scheduler``. Scales, steps, resolution and token numbers are configuration values,
    saved with the pipeline.
    """

    model_cpu_offload_seq = "mllm->projector->unet->vae"

    def __init__(
        self,
        mllm: Qwen2_5_VLForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: Qwen2VLImageProcessorPil,
        projector: GuidanceProjector,
        unet: UNet2DConditionModel,
        vae: PatchAutoencoder | AutoencoderKL,
        scheduler: SchedulerMixin,
        resolution: int = 1024,
        image_tokens: int = 64,
        source_size: int = 448,
        inference_steps: int = 50,
        max_new_tokens: int = 1024,
        prediction: str = "epsilon",
        generate_scales: list[float] | None = None,
        edit_scales: list[float] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            mllm=mllm,
            tokenizer=tokenizer,
            image_processor=image_processor,
            projector=projector,
            unet=unet,
            vae=vae,
            scheduler=scheduler,
        )
        self.register_to_config(
            resolution=resolution,
            image_tokens=image_tokens,
            source_size=source_size,
            inference_steps=inference_steps,
            max_new_tokens=max_new_tokens,
            prediction=prediction,
            generate_scales=list(generate_scales or GENERATE_SCALES),
            edit_scales=list(edit_scales or EDIT_SCALES),
        )
        self.sequences = SequenceBuilder(tokenizer, image_processor, image_tokens, source_size)
        self.vae_scale_factor = latent_stride(vae)
        self.picture_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)

    # -- checks ---------------------------------------------------------------------------------------

    def check_inputs(
        self,
        prompts: Sequence[str],
        sources: Sequence[Image.Image] | None,
        height: int,
        width: int,
        steps: int,
        output_type: str,
    ) -> None:
        """Raise ValueError or TypeError for the first input that cannot be used, naming it."""
        if not prompts:
            raise ValueError("`prompt` is empty; pass at least one prompt")
        for index, prompt in enumerate(prompts):
            if not isinstance(prompt, str) or not prompt.strip():
                raise ValueError(f"`prompt[{index}]` must be a non-empty string, got {prompt!r}")
        if sources is not None and len(sources) != len(prompts):
            raise ValueError(f"{len(sources)} source images for {len(prompts)} prompts; pass one each")
        for index, source in enumerate(sources or []):
            if not isinstance(source, Image.Image):
                raise TypeError(f"`image[{index}]` must be a PIL image, got {type(source).__name__}")
        self._check_sizes(height, width, steps, output_type)

    def _check_sizes(self, height: int, width: int, steps: int, output_type: str) -> None:
        multiple = self.vae_scale_factor
        if height % multiple or width % multiple or min(height, width) <= 0:
            raise ValueError(
                f"`height` and `width` must be multiples of {multiple}, got {height} and {width}"
            )
        if steps < 1:
            raise ValueError(f"`num_inference_steps` must be at least 1, got {steps}")
        if output_type not in ("pil", "np", "pt", "latent"):
            raise ValueError(f"`output_type` must be pil, np, pt or latent, got {output_type!r}")

    # -- planning -------------------------------------------------------------------------------------

    @torch.no_grad()
    def plan(
        self,
        prompt: str | Sequence[str],
        image: Image.Image | Sequence[Image.Image] | None = None,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
    ) -> list[Chain]:
        """Let the language model write the chain of each prompt, all prompts in one call.

        Text that does not parse as a chain is read tolerantly: what is readable is kept. Decoding is greedy
        unless ``temperature`` is given; sampling then draws from torch's global generator.
        """
        prompts, sources = _as_list(prompt), _as_list(image)
        heads = [self.sequences.prompt(text, has_image=sources is not None) for text in prompts]
        batch = self.sequences.collate([_unlabelled(ids) for ids in heads], sources)
        batch.pop("labels")
        batch = {key: value.to(self._execution_device) for key, value in batch.items()}
        ids = self.mllm.generate(
            **batch,
            max_new_tokens=max_new_tokens or self.config.max_new_tokens,
            do_sample=temperature is not None,
            temperature=temperature,
            top_k=None,
            top_p=None,
            eos_token_id=[self.sequences.start_id, self.sequences.eos_id],
            pad_token_id=self.sequences.eos_id,
        )
        answers = ids[:, batch["input_ids"].shape[1] :].tolist()
        return [parse_tolerant(self._chain_text(answer))[0] for answer in answers]

    def _chain_text(self, ids: list[int]) -> str:
        stops = (self.sequences.start_id, self.sequences.eos_id)
        length = next((k for k, token in enumerate(ids) if token in stops), len(ids))
        return self.tokenizer.decode(ids[:length], clean_up_tokenization_spaces=False)

    # -- drawing --------------------------------------------------------------------------------------

    @torch.no_grad()
    def draw(
        self,
        chains: Chain | Sequence[Chain],
        prompt: str | Sequence[str],
        image: Image.Image | Sequence[Image.Image] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        text_scale: float | None = None,
        spatial_scale: float | None = None,
        reference_scale: float | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callable[..., dict] | None = None,
    ) -> list[Image.Image] | np.ndarray | Tensor:
        """Draw one picture a chain.

        ``prompt`` is what the chain answers; the guidance is read off the whole sequence. ``image`` gives the
        sources of edits. Scales default to the task's (paper section 4.3). ``latents`` (B, C, h, w) replaces
        the initial noise. Raises ValueError or TypeError for inputs that cannot be used.
        """
        plans, prompts, sources = _as_list(chains), _as_list(prompt), _as_list(image)
        height, width = height or self.config.resolution, width or self.config.resolution
        steps = num_inference_steps or self.config.inference_steps
        self.check_inputs(prompts, sources, height, width, steps, output_type)
        if len(plans) != len(prompts):
            raise ValueError(f"{len(plans)} chains for {len(prompts)} prompts; pass one each")
        scales = self._scales(sources is not None, text_scale, spatial_scale, reference_scale)
        conditions = self.encode_conditions(plans, prompts, sources, height, width)
        latents = self.prepare_latents(len(plans), height, width, generator, latents)
        latents = self.denoise(latents, conditions, steps, scales, (height, width), callback_on_step_end)
        images = self.decode(latents, output_type)
        self.maybe_free_model_hooks()
        return images

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        image: Image.Image | Sequence[Image.Image] | None = None,
        num_images_per_prompt: int = 1,
        max_new_tokens: int | None = None,
        return_dict: bool = True,
        **drawing: object,
    ) -> GoTOutput | tuple:
        """Plan and draw. ``drawing`` takes the arguments of :meth:`draw`.

        With ``num_images_per_prompt`` above 1 the pictures of a prompt stand together and share its chain.
        """
        prompts, sources = _as_list(prompt), _as_list(image)
        if num_images_per_prompt < 1:
            raise ValueError(f"`num_images_per_prompt` must be at least 1, got {num_images_per_prompt}")
        size = int(self.config.resolution)
        self.check_inputs(prompts, sources, size, size, 1, "pil")
        chains = _repeat(self.plan(prompts, sources, max_new_tokens), num_images_per_prompt)
        prompts = _repeat(prompts, num_images_per_prompt)
        sources = _repeat(sources, num_images_per_prompt) if sources is not None else None
        images = self.draw(chains, prompts, sources, **drawing)  # type: ignore[arg-type]
        return GoTOutput(images=images, chains=chains) if return_dict else (images, chains)

    def encode_conditions(
        self,
        chains: Sequence[Chain],
        prompts: Sequence[str],
        sources: Sequence[Image.Image] | None,
        height: int,
        width: int,
    ) -> _Conditions:
        """Gt, its pooled vector, Gs and Gr (specification, section 3) for a batch of chains."""
        device = self._execution_device
        heads = [self.sequences.prompt(text, has_image=sources is not None) for text in prompts]
        samples = [
            self.sequences.drawing(head, chain.to_model()) for head, chain in zip(heads, chains, strict=True)
        ]
        batch = {k: v.to(device) for k, v in self.sequences.collate(samples, sources).items()}
        hidden = language_states(self.mllm, batch)[:, self.sequences.image_span(training=False)]
        context, pooled = self.projector(hidden)
        spatial = spatial_latents(self.vae, chains, height, width)
        if sources is None:
            reference = black_latents(self.vae, len(chains), height, width)
        else:
            # Stretched to the output size, as the released code does.
            pixels = self.picture_processor.preprocess(
                [s.convert("RGB").resize((width, height), Image.Resampling.BICUBIC) for s in sources]
            )
            reference = encode(self.vae, pixels.to(device))
        return _Conditions(context, pooled, spatial, reference)

    def prepare_latents(
        self,
        batch: int,
        height: int,
        width: int,
        generator: torch.Generator | list[torch.Generator] | None,
        latents: Tensor | None = None,
    ) -> Tensor:
        """Initial noise (B, C, h, w), scaled as the scheduler wants it."""
        channels = self.unet.config.out_channels
        shape = (batch, channels, height // self.vae_scale_factor, width // self.vae_scale_factor)
        if latents is None:
            latents = randn_tensor(
                shape, generator=generator, device=self._execution_device, dtype=self.unet.dtype
            )
        elif tuple(latents.shape) != shape:
            raise ValueError(f"`latents` must have shape {shape}, got {tuple(latents.shape)}")
        return latents * getattr(self.scheduler, "init_noise_sigma", 1.0)

    def denoise(
        self,
        latents: Tensor,
        conditions: _Conditions,
        steps: int,
        scales: GuidanceScales,
        size: tuple[int, int],
        callback: Callable[..., dict] | None = None,
    ) -> Tensor:
        """Run the scheduler; the U-Net evaluates only the branches that the scales leave."""
        used = branches(scales)
        self.scheduler.set_timesteps(steps, device=latents.device)
        for index, t in enumerate(self.progress_bar(self.scheduler.timesteps)):
            scaled = latents
            if hasattr(self.scheduler, "scale_model_input"):
                scaled = self.scheduler.scale_model_input(latents, t)
            output = self.as_scheduled(self.predict(scaled, t, conditions, used, size), latents, t)
            latents = self.scheduler.step(output, t, latents, return_dict=False)[0]
            if callback is not None:
                changed = callback(self, index, t, {"latents": latents})
                latents = changed.pop("latents", latents)
        return latents

    def predict(
        self,
        latents: Tensor,
        t: Tensor,
        conditions: _Conditions,
        used: Sequence[Branch],
        size: tuple[int, int],
    ) -> Tensor:
        """The guided prediction: all branches in one U-Net call, then their weighted sum."""
        batch, count = len(latents), len(used)
        null = self.projector.null_context(batch, conditions.context.shape[1]).to(conditions.context.dtype)
        zero = torch.zeros_like(conditions.spatial)
        context = torch.cat([conditions.context if branch.text else null for branch in used])
        spatial = torch.cat([conditions.spatial if branch.spatial else zero for branch in used])
        reference = torch.cat([conditions.reference if branch.reference else zero for branch in used])
        output = self.unet(
            torch.cat([latents.repeat(count, 1, 1, 1), reference, spatial], dim=1).to(self.unet.dtype),
            t,
            encoder_hidden_states=context.to(self.unet.dtype),
            added_cond_kwargs={
                "text_embeds": conditions.pooled.repeat(count, 1).to(self.unet.dtype),
                "time_ids": time_ids(batch * count, *size, device=latents.device).to(self.unet.dtype),
            },
        ).sample
        return combine(output.chunk(count), used)

    def as_scheduled(self, output: Tensor, latents: Tensor, t: Tensor) -> Tensor:
        """The guided prediction in the form that the scheduler steps with.

        Flow schedulers want the velocity; a U-Net that answers the clean latent leaves it to be computed.
        Other schedulers know what is predicted (their ``prediction_type``).
        """
        if self.config.prediction != "sample" or "prediction_type" in self.scheduler.config:
            return output
        sigma = (t / self.scheduler.config.num_train_timesteps).clamp(min=SMALLEST_SIGMA)
        return (latents - output) / sigma

    def decode(self, latents: Tensor, output_type: str) -> list[Image.Image] | np.ndarray | Tensor:
        """Latents (B, C, h, w) to pictures."""
        if output_type == "latent":
            return latents
        pixels = self.vae.decode(latents.to(self.vae.dtype) / self.vae.config.scaling_factor).sample
        return self.picture_processor.postprocess(pixels, output_type=output_type)

    def _scales(
        self, edit: bool, text: float | None, spatial: float | None, reference: float | None
    ) -> GuidanceScales:
        default = self.config.edit_scales if edit else self.config.generate_scales
        given = [d if s is None else s for s, d in zip((text, spatial, reference), default, strict=True)]
        return GuidanceScales(text=given[0], spatial=given[1], reference=given[2])


def _as_list(value: Any) -> Any:
    """One value or a sequence of them, as a list; None stays None."""
    if value is None or isinstance(value, list):
        return value
    return list(value) if isinstance(value, tuple) else [value]


def _repeat(values: list, times: int) -> list:
    return [value for value in values for _ in range(times)]


def _unlabelled(ids: list[int]) -> Sample:
    return Sample(ids, [IGNORED] * len(ids))
