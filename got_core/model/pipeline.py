"""GoT as a diffusers pipeline: plan with the language model, draw with the U-Net.

``pipe(prompt)`` does both; ``pipe.plan`` gives the chain alone, ``pipe.draw`` a picture from a chain that may
have been edited in between, ``pipe.edit_rounds`` goes through several instructions one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor, nn
from transformers import LogitsProcessorList, PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from got_core.chain.grammar import Chain, Dropped, parse_tolerant
from got_core.model import inputs, schedule
from got_core.model.autoencoder import PatchAutoencoder
from got_core.model.config import GuidanceScales
from got_core.model.finite import NotFiniteError, check_finite
from got_core.model.got import language_states, latent_stride
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
from got_core.model.inpaint_mask import KeptSource, free_cells
from got_core.model.inputs import Generators, as_list
from got_core.model.precision import KeepsPrecision, dtypes_of
from got_core.model.sampling import SeededSampling
from got_core.model.sequence import IGNORED, Sample, SequenceBuilder
from got_core.model.unet import UNetWithInputSkip
from got_core.pictures.colours import to_rgb

GENERATE_SCALES = (7.5, 4.0, 1.0)
EDIT_SCALES = (4.0, 3.0, 1.5)

Pictures: TypeAlias = list[Image.Image] | np.ndarray | Tensor
"""``pil``; ``np`` (B, H, W, 3) in [0, 1]; ``pt`` (B, 3, H, W) in [0, 1]; ``latent`` (B, C, h, w)."""
Callback: TypeAlias = Callable[..., dict | None]
"""Called as (pipeline, step index, timestep, tensors); tensors in the dict it returns replace the loop's."""
OnPlan: TypeAlias = Callable[[Chain, str, bool], Chain]
"""Called as (chain, prompt, whether there is a picture to edit); the chain it returns is drawn."""


@dataclass
class GoTOutput(BaseOutput):
    """Pictures and the chains they were drawn from, one a picture."""

    images: Pictures
    chains: list[Chain]
    dropped: list[list[Dropped]]
    """What the language model wrote but no chain can hold, for each picture; nothing where all is well."""


@dataclass(frozen=True)
class _Conditions:
    """What the U-Net reads besides the noisy latents, for B pictures."""

    context: Tensor
    null: Tensor
    """Gt of the branches without text, as large as ``context``."""
    pooled: Tensor
    spatial: Tensor
    reference: Tensor

    def repeated(self, times: int) -> _Conditions:
        """Each picture's conditions several times in a row."""
        return _Conditions(*(part.repeat_interleave(times, dim=0) for part in vars(self).values()))


@dataclass(frozen=True, kw_only=True)
class _Request:
    """The arguments of one drawing call."""

    prompts: list[str]
    sources: list[Image.Image] | None
    height: int | None
    width: int | None
    num_inference_steps: int
    text_scale: float | None
    spatial_scale: float | None
    reference_scale: float | None
    num_images_per_prompt: int
    generator: Generators
    latents: Tensor | None
    eta: float
    keep_outside: bool
    output_type: str
    callback: Callback | None
    callback_inputs: Sequence[str]


class GoTPipeline(KeepsPrecision):
    """Generation Chain-of-Thought (arXiv 2503.10639).

    Components: ``mllm`` and its ``tokenizer`` and ``image_processor``, ``projector``, ``unet`` (3C input
    channels), ``vae``, ``scheduler``. Scales, steps, resolution and token numbers are configuration values,
    saved with the pipeline, and so are two switches: without ``reasoning`` the model writes no chain and
    draws from none, without ``spatial_guidance`` it does not look at the boxes (Gs is null).

    Pictures to edit may be of any Pillow mode and profile: see :func:`to_rgb`. Turning them upright is
    left to the caller.
    """

    # The autoencoder also encodes the conditions, before the U-Net runs. It then stays where it is during the
    # loop (3 % of the U-Net's size); named before the U-Net, it would let the U-Net stay during decoding.
    model_cpu_offload_seq = "mllm->projector->unet->vae"
    _callback_tensor_inputs = ("latents", "context", "null", "pooled", "spatial", "reference")

    def __init__(
        self,
        mllm: Qwen2_5_VLForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: Qwen2VLImageProcessorPil,
        projector: GuidanceProjector,
        unet: UNet2DConditionModel | UNetWithInputSkip,
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
        reasoning: bool = True,
        spatial_guidance: bool = True,
        dtype: str | dict[str, str] | None = None,
    ) -> None:
        """``dtype`` stands in saved configurations for loaders; what is registered is what the parts have."""
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
            reasoning=reasoning,
            spatial_guidance=spatial_guidance,
        )
        self._keep_autoencoder_wide()
        self.register_to_config(dtype=dtypes_of(self.components))
        self.sequences = SequenceBuilder(tokenizer, image_processor, image_tokens, source_size)
        self.vae_scale_factor = latent_stride(vae)
        self.picture_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self._interrupt = False

    @property
    def interrupt(self) -> bool:
        """Whether the drawing stops before its next step; a callback may set ``pipe._interrupt = True``."""
        return self._interrupt

    # -- memory ---------------------------------------------------------------------------------------

    def enable_vae_slicing(self) -> None:
        """Encode canvases and decode pictures one at a time: less memory for many boxes or pictures."""
        self.vae.enable_slicing()

    def disable_vae_slicing(self) -> None:
        """Encode and decode whole batches again."""
        self.vae.disable_slicing()

    def enable_vae_tiling(self) -> None:
        """Encode and decode in tiles: less memory for large pictures. `AutoencoderKL` blends tile borders."""
        self.vae.enable_tiling()

    def disable_vae_tiling(self) -> None:
        """Encode and decode whole pictures again."""
        self.vae.disable_tiling()

    # -- checks ---------------------------------------------------------------------------------------

    def check_inputs(self, request: _Request, chains: Sequence[Chain] | None = None) -> None:
        """Raise ValueError or TypeError for the first argument that cannot be used, naming it."""
        inputs.check_prompts(request.prompts)
        inputs.check_sources(request.sources, request.prompts)
        if chains is not None:
            inputs.check_chains(chains, request.prompts, reasoning=self.config.reasoning)
        inputs.check_whole("num_inference_steps", request.num_inference_steps)
        inputs.check_whole("num_images_per_prompt", request.num_images_per_prompt)
        inputs.check_output_type(request.output_type)
        if request.keep_outside and request.sources is None:
            raise ValueError("`keep_outside` keeps what an edit does not touch: it needs `image`")
        if request.keep_outside and not {"scale_noise", "add_noise"} & set(dir(self.scheduler)):
            raise ValueError(
                "`keep_outside` makes the source noisy again, which "
                f"{type(self.scheduler).__name__} cannot; set another one"
            )
        inputs.check_scales(
            text_scale=request.text_scale,
            spatial_scale=request.spatial_scale,
            reference_scale=request.reference_scale,
            eta=request.eta,
        )
        inputs.check_callback(request.callback, request.callback_inputs, self._callback_tensor_inputs)
        height, width = self._size(request)
        inputs.check_size(height, width, self.vae_scale_factor)
        pictures = len(request.prompts) * request.num_images_per_prompt
        inputs.check_generator(request.generator, pictures, "pictures")
        inputs.check_latents(request.latents, self._latent_shape(pictures, height, width))
        schedule.check_prediction(self.scheduler, self.config.prediction)
        schedule.check_steps(self.scheduler, int(request.num_inference_steps), self._cells(height, width))

    def _size(self, request: _Request) -> tuple[int, int]:
        side = int(self.config.resolution)
        return (
            side if request.height is None else request.height,
            side if request.width is None else request.width,
        )

    def _latent_shape(self, batch: int, height: int, width: int) -> tuple[int, int, int, int]:
        stride = self.vae_scale_factor
        return batch, int(self.unet.config.out_channels), height // stride, width // stride

    def _cells(self, height: int, width: int) -> int:
        return (height // self.vae_scale_factor) * (width // self.vae_scale_factor)

    # -- planning -------------------------------------------------------------------------------------

    @torch.no_grad()
    def plan(
        self,
        prompt: str | Sequence[str],
        image: Image.Image | Sequence[Image.Image] | None = None,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        generator: Generators = None,
    ) -> list[Chain]:
        """Let the language model write the chain of each prompt, all prompts in one call.

        Greedy, unless ``temperature`` or ``top_p`` ask for sampling; ``generator`` (one, or a list of one a
        prompt) then makes the chains reproducible. Text that does not parse as a chain is read tolerantly:
        what is readable is kept; :meth:`write_chains` gives the text itself. All chains are empty where the
        model has no ``reasoning``. Raises ValueError or TypeError for inputs that cannot be used.
        """
        texts = self.write_chains(prompt, image, max_new_tokens, temperature, top_p, generator)
        return [parse_tolerant(text)[0] for text in texts]

    @torch.no_grad()
    def write_chains(
        self,
        prompt: str | Sequence[str],
        image: Image.Image | Sequence[Image.Image] | None = None,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        generator: Generators = None,
    ) -> list[str]:
        """What the language model writes for each prompt, word for word. Arguments as :meth:`plan`."""
        prompts, sources = as_list(prompt), as_list(image)
        inputs.check_prompts(prompts)
        inputs.check_sources(sources, prompts)
        self._check_writing(max_new_tokens, temperature, top_p)
        inputs.check_generator(generator, len(prompts), "prompts")
        texts = self._write(prompts, sources, max_new_tokens, temperature, top_p, generator)
        self.maybe_free_model_hooks()
        return texts

    def _check_writing(
        self, max_new_tokens: int | None, temperature: float | None, top_p: float | None
    ) -> None:
        if max_new_tokens is not None:
            inputs.check_whole("max_new_tokens", max_new_tokens)
        inputs.check_sampling(temperature, top_p)

    def _write(
        self,
        prompts: list[str],
        sources: list[Image.Image] | None,
        max_new_tokens: int | None,
        temperature: float | None,
        top_p: float | None,
        generator: Generators,
    ) -> list[str]:
        if not self.config.reasoning:
            return [""] * len(prompts)
        heads = [self.sequences.prompt(text, has_image=sources is not None) for text in prompts]
        batch = self.sequences.collate([_unlabelled(ids) for ids in heads], sources)
        batch.pop("labels")
        batch = {key: value.to(self._execution_device) for key, value in batch.items()}
        # Not by its own hook: `generate` runs the vision tower before it calls `forward`.
        _onload(self.mllm)
        sampling = LogitsProcessorList()
        if temperature is not None or top_p is not None:
            sampling.append(SeededSampling(temperature or 1.0, top_p, generator))
        ids = self.mllm.generate(
            **batch,
            max_new_tokens=max_new_tokens or self.config.max_new_tokens,
            logits_processor=sampling,
            # The checkpoint's own generation settings must not decide: a penalty on repeated tokens, which
            # Qwen2.5-VL ships, would fall on the digits of coordinates.
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_k=None,
            top_p=None,
            repetition_penalty=1.0,
            eos_token_id=[self.sequences.start_id, self.sequences.eos_id],
            pad_token_id=self.sequences.eos_id,
        )
        answers = ids[:, batch["input_ids"].shape[1] :].tolist()
        return [self._chain_text(answer) for answer in answers]

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
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] | None = ("latents",),
        num_images_per_prompt: int = 1,
        eta: float = 0.0,
        keep_outside: bool = False,
    ) -> Pictures:
        """Draw from chains, all in one call; the same seed with a changed chain keeps the rest of the scene.

        ``prompt`` is what the chain answers; the guidance is read off the whole sequence. ``image`` gives the
        sources of edits: they are stretched to the drawing's size, and the pictures get their aspect back
        with the drawing's resolution as the short side, unless ``height`` or ``width`` is given or they are
        not wanted as PIL images. Scales default to the task's (paper section 4.3). ``generator``: one, or a
        list of one a picture. ``latents`` (B, C, h, w) replaces the initial noise. ``eta`` goes to schedulers
        that have it. ``keep_outside`` (edits only) leaves the source as it is outside the chain's boxes, but
        for what the autoencoder loses of it; the paper draws it anew. Raises ValueError or TypeError for
        inputs that cannot be used, and NotFiniteError, with all other pictures, for those that hold NaN or
        infinity.
        """
        plans = as_list(chains) or []
        request = _Request(
            prompts=as_list(prompt),
            sources=as_list(image),
            height=height,
            width=width,
            num_inference_steps=self._steps(num_inference_steps),
            text_scale=text_scale,
            spatial_scale=spatial_scale,
            reference_scale=reference_scale,
            num_images_per_prompt=num_images_per_prompt,
            generator=generator,
            latents=latents,
            eta=eta,
            keep_outside=keep_outside,
            output_type=output_type,
            callback=callback_on_step_end,
            callback_inputs=_wanted_inputs(callback_on_step_end, callback_on_step_end_tensor_inputs),
        )
        self.check_inputs(request, plans)
        return self._draw(plans, request)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        image: Image.Image | Sequence[Image.Image] | None = None,
        num_images_per_prompt: int = 1,
        max_new_tokens: int | None = None,
        return_dict: bool = True,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        text_scale: float | None = None,
        spatial_scale: float | None = None,
        reference_scale: float | None = None,
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] | None = ("latents",),
        temperature: float | None = None,
        top_p: float | None = None,
        eta: float = 0.0,
        keep_outside: bool = False,
        on_plan: OnPlan | None = None,
    ) -> GoTOutput | tuple:
        """Plan and draw. Arguments as :meth:`plan` and :meth:`draw`.

        ``on_plan`` sees each plan before it is drawn and may change it: ``planning.any_prompt.mended``
        repairs what falls short of its prompt.
        With ``num_images_per_prompt`` above 1 the pictures of a prompt stand together and share its chain.
        Where chains are sampled, planning uses a copy of ``generator``, so that ``plan`` and ``draw`` with
        generators of the same seed give the same chains and pictures. With ``return_dict=False`` the result
        is the tuple (images, chains, dropped).
        """
        request = _Request(
            prompts=as_list(prompt),
            sources=as_list(image),
            height=height,
            width=width,
            num_inference_steps=self._steps(num_inference_steps),
            text_scale=text_scale,
            spatial_scale=spatial_scale,
            reference_scale=reference_scale,
            num_images_per_prompt=num_images_per_prompt,
            generator=generator,
            latents=latents,
            eta=eta,
            keep_outside=keep_outside,
            output_type=output_type,
            callback=callback_on_step_end,
            callback_inputs=_wanted_inputs(callback_on_step_end, callback_on_step_end_tensor_inputs),
        )
        self.check_inputs(request)
        if on_plan is not None and not callable(on_plan):
            raise TypeError(f"`on_plan` must be callable, got {type(on_plan).__name__}")
        self._check_writing(max_new_tokens, temperature, top_p)
        planner = _copied(generator, every=num_images_per_prompt)
        texts = self._write(request.prompts, request.sources, max_new_tokens, temperature, top_p, planner)
        read = [parse_tolerant(text) for text in texts]
        if on_plan is not None:
            has_image = request.sources is not None
            read = [
                (on_plan(chain, prompt, has_image), lost)
                for (chain, lost), prompt in zip(read, request.prompts, strict=True)
            ]
            self.check_inputs(request, [chain for chain, _ in read])
        images = self._draw([chain for chain, _ in read], request)
        read = _repeat(read, num_images_per_prompt)
        chains, dropped = [chain for chain, _ in read], [lost for _, lost in read]
        return GoTOutput(images, chains, dropped) if return_dict else (images, chains, dropped)

    def edit_rounds(
        self,
        image: Image.Image | Sequence[Image.Image],
        instructions: Sequence[str | Sequence[str]],
        **options: Any,
    ) -> list[GoTOutput]:
        """Edit in several rounds: the pictures of a round are the sources of the next.

        ``instructions`` holds one entry a round: a text for all pictures, or a list of one a picture.
        ``options`` are those of a call, for every round; a generator goes on from round to round. Returns the
        pictures and chains of all rounds. Raises ValueError or TypeError, before anything is drawn, for
        instructions that cannot be used.
        """
        refused = {"prompt", "num_images_per_prompt", "output_type", "return_dict"} & options.keys()
        if refused:
            raise ValueError(f"edit_rounds does not take {', '.join(sorted(refused))}")
        if not instructions or isinstance(instructions, str):
            raise ValueError("`instructions` must be a list with one entry a round")
        pictures = as_list(image)
        if not pictures:
            raise ValueError("`image` is empty; pass the picture to edit")
        asked = [
            [entry] * len(pictures) if isinstance(entry, str) else as_list(entry) for entry in instructions
        ]
        for prompts in asked:
            inputs.check_prompts(prompts)
            inputs.check_sources(pictures, prompts)
        rounds: list[GoTOutput] = []
        for prompts in asked:
            rounds.append(self(prompts, pictures, **options))
            pictures = rounds[-1].images
        return rounds

    def _steps(self, asked: int | None) -> int:
        return int(self.config.inference_steps) if asked is None else asked

    def _draw(self, chains: list[Chain], request: _Request) -> Pictures:
        height, width = self._size(request)
        copies = request.num_images_per_prompt
        conditions = self.encode_conditions(chains, request.prompts, request.sources, height, width)
        # Before the noise is drawn: how strong it is may depend on the number of steps.
        schedule.set_timesteps(
            self.scheduler, request.num_inference_steps, self._cells(height, width), self._execution_device
        )
        latents = self.prepare_latents(
            len(chains) * copies, height, width, request.generator, request.latents
        )
        kept = self._kept(chains, conditions, latents, (height, width)) if request.keep_outside else None
        latents = self._denoise(latents, conditions.repeated(copies), (height, width), request, kept)
        stretched = request.sources and request.height is None and request.width is None
        sizes = _sizes_in_aspect(_repeat(request.sources, copies), height) if stretched else None
        try:
            return self.decode(latents, request.output_type, sizes)
        finally:
            self.maybe_free_model_hooks()

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
        _onload(self.mllm)
        hidden = language_states(self.mllm, batch)[:, self.sequences.image_span(training=False)]
        hidden = hidden.to(self.projector.dtype)
        context, pooled = self.projector(hidden)
        # Null Gt, once for all steps: where models are offloaded the projector is gone while the U-Net runs.
        null, _ = self.projector(torch.zeros_like(hidden))
        _onload(self.vae)
        if sources is None:
            reference = black_latents(self.vae, len(chains), height, width)
        else:
            # Stretched to the output size, as the released code does.
            pixels = self.picture_processor.preprocess(
                [to_rgb(s).resize((width, height), Image.Resampling.BICUBIC) for s in sources]
            )
            reference = encode(self.vae, pixels.to(device))
        if self.config.spatial_guidance:
            spatial = spatial_latents(self.vae, chains, height, width)
        else:
            spatial = torch.zeros_like(reference)
        return _Conditions(context, null, pooled, spatial, reference)

    def prepare_latents(
        self,
        batch: int,
        height: int,
        width: int,
        generator: Generators,
        latents: Tensor | None = None,
    ) -> Tensor:
        """Initial noise (B, C, h, w), scaled as the scheduler wants it at its present timesteps."""
        device, dtype = self._execution_device, self.unet.dtype
        if latents is None:
            shape = self._latent_shape(batch, height, width)
            latents = randn_tensor(shape, generator=generator, device=device, dtype=dtype)
        latents = latents.to(device, dtype)
        return latents * getattr(self.scheduler, "init_noise_sigma", 1.0)

    def _kept(
        self, chains: Sequence[Chain], conditions: _Conditions, latents: Tensor, size: tuple[int, int]
    ) -> KeptSource:
        """The sources, to be put back where no box of the chain reaches; ``latents`` is the initial noise."""
        copies = len(latents) // len(chains)
        source = (conditions.reference * self.vae.config.scaling_factor).repeat_interleave(copies, dim=0)
        free = free_cells(chains, *size, self.vae_scale_factor).repeat_interleave(copies, dim=0)
        noise = latents / getattr(self.scheduler, "init_noise_sigma", 1.0)
        return KeptSource(source.to(latents), noise, free.to(latents.device))

    def _denoise(
        self,
        latents: Tensor,
        conditions: _Conditions,
        size: tuple[int, int],
        request: _Request,
        kept: KeptSource | None = None,
    ) -> Tensor:
        """Run the scheduler; the U-Net evaluates only the branches that the scales leave."""
        used = branches(self._scales(request))
        extra = schedule.step_arguments(self.scheduler, request.generator, request.eta)
        self._interrupt = False
        for index, t in enumerate(self.progress_bar(self.scheduler.timesteps)):
            if self._interrupt:
                break
            scaled = latents
            if hasattr(self.scheduler, "scale_model_input"):
                scaled = self.scheduler.scale_model_input(latents, t)
            output = self.predict(scaled, t, conditions, used, size)
            output = schedule.as_scheduled(self.scheduler, self.config.prediction, output, latents, t)
            latents = self.scheduler.step(output, t, latents, **extra, return_dict=False)[0]
            if kept is not None:
                latents = kept.put_back(latents, self.scheduler, index)
            if request.callback is not None:
                tensors = {"latents": latents, **vars(conditions)}
                asked = {name: tensors[name] for name in request.callback_inputs}
                changed = request.callback(self, index, t, asked) or {}
                latents = changed.pop("latents", latents)
                conditions = replace(conditions, **changed)
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
        batch, count, dtype = len(latents), len(used), self.unet.dtype
        zero = torch.zeros_like(conditions.spatial)
        context = torch.cat([conditions.context if branch.text else conditions.null for branch in used])
        spatial = torch.cat([conditions.spatial if branch.spatial else zero for branch in used])
        reference = torch.cat([conditions.reference if branch.reference else zero for branch in used])
        output = self.unet(
            torch.cat([latents.repeat(count, 1, 1, 1), reference, spatial], dim=1).to(dtype),
            t,
            encoder_hidden_states=context.to(dtype),
            added_cond_kwargs={
                "text_embeds": conditions.pooled.repeat(count, 1).to(dtype),
                "time_ids": time_ids(batch * count, *size, device=latents.device).to(dtype),
            },
        ).sample
        return combine(output.chunk(count), used)

    def decode(
        self, latents: Tensor, output_type: str, sizes: Sequence[tuple[int, int]] | None = None
    ) -> Pictures:
        """Latents (B, C, h, w) to pictures; PIL images are resized to ``sizes`` (width, height) if given.

        Raises NotFiniteError, which holds the other pictures, where latents or pixels are no numbers.
        """
        faults, images = check_finite(latents, "its latents hold"), latents
        if output_type != "latent":
            pixels = self.vae.decode(latents.to(self.vae.dtype) / self.vae.config.scaling_factor).sample
            faults = check_finite(pixels, "its latents are decoded to") | faults
            for number in faults:
                pixels[number] = 0.0
            images = self.picture_processor.postprocess(pixels, output_type=output_type)
        if sizes is not None and output_type == "pil":
            images = [_resized(image, size) for image, size in zip(images, sizes, strict=True)]
        if faults:
            raise NotFiniteError(faults, [None if k in faults else one for k, one in enumerate(images)])
        return images

    def _scales(self, request: _Request) -> GuidanceScales:
        default = self.config.generate_scales if request.sources is None else self.config.edit_scales
        given = (request.text_scale, request.spatial_scale, request.reference_scale)
        text, spatial, reference = (d if s is None else s for s, d in zip(given, default, strict=True))
        if not self.config.spatial_guidance:
            # With Gs null two branches are the same one: at scale 0 the formula leaves the other out.
            spatial = 0.0
        return GuidanceScales(text=text, spatial=spatial, reference=reference)


# `DiffusionPipeline.from_pretrained` looks among diffusers' own names for the class of a folder, and for the
# modules of its components, which are imported above, among the loaded ones.
diffusers.GoTPipeline = GoTPipeline


def _onload(module: nn.Module) -> None:
    """Run the offloading hook of a model that is used other than through its ``forward``.

    What diffusers' ``apply_forward_hook`` does for one method; nothing where models are not offloaded.
    """
    hook = getattr(module, "_hf_hook", None)
    if hook is not None:
        hook.pre_forward(module)


def _wanted_inputs(callback: object, names: Sequence[str] | None) -> Sequence[str]:
    """The tensors that a callback asks for; diffusers' own callback classes know them."""
    return list(getattr(callback, "tensor_inputs", names) or ())


def _copied(generator: Generators, every: int) -> Generators:
    """Generators in the same state, of a list every n-th."""
    if isinstance(generator, list):
        return [one.clone_state() for one in generator[::every]]
    return None if generator is None else generator.clone_state()


def _sizes_in_aspect(sources: Sequence[Image.Image], short: int) -> list[tuple[int, int]]:
    """Sizes in the sources' aspect, the short side as given (released inference code)."""
    scales = [short / min(source.size) for source in sources]
    return [(round(one.width * k), round(one.height * k)) for one, k in zip(sources, scales, strict=True)]


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def _repeat(values: Any, times: int) -> list:
    return [value for value in values for _ in range(times)]


def _unlabelled(ids: list[int]) -> Sample:
    return Sample(ids, [IGNORED] * len(ids))
