"""GoT as a diffusers pipeline: plan with a language model, draw with a diffusion network.

``pipe(prompt)`` does both; ``pipe.plan`` gives the chain alone, ``pipe.draw`` a picture from a chain that may
have been edited in between, ``pipe.edit_rounds`` goes through several instructions one after the other.

Belongs here: the parts, checks, and planning before drawing. Not here: the arguments of calls
(`options`), writing of chains (`text_generation`), what a drawing does in which order (`drawing`), its
conditions (`conditioning`) and steps (`denoising`), pictures from latents (`decoding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import diffusers
import torch
from diffusers import AutoencoderKL, ModelMixin, SchedulerMixin
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor
from transformers import ImageProcessingMixin, PreTrainedModel, PreTrainedTokenizerBase

from got_core.chain.grammar import Chain, parse_tolerant
from got_core.model import edit_rounds, inputs, schedule
from got_core.model.autoencoder import PatchAutoencoder
from got_core.model.backbones.protocols import Drawer, Planner
from got_core.model.backbones.registry import drawer_of, planner_of
from got_core.model.conditioning import Conditions, encode_conditions
from got_core.model.decoding import GoTOutput, Pictures, decode_latents
from got_core.model.denoising import branch_predictions
from got_core.model.drawing import draw_pictures
from got_core.model.frames import check_frames, frames_of, shown_to_planner
from got_core.model.got import latent_stride
from got_core.model.guidance import Branch, GuidanceProjector, combine
from got_core.model.inputs import Generators, as_list
from got_core.model.memory import AutoencoderMemory
from got_core.model.options import DrawingOptions, OnPlan, PlanningOptions, takes
from got_core.model.precision import KeepsPrecision, dtypes_of
from got_core.model.sequence import SequenceBuilder
from got_core.model.text_generation import write_texts

GENERATE_SCALES = (7.5, 4.0, 1.0)
EDIT_SCALES = (4.0, 3.0, 1.5)

Prompts: TypeAlias = str | Sequence[str]
Sources: TypeAlias = Image.Image | Sequence[Image.Image] | None
"""The pictures of edits, one a prompt; None: text to image."""


class GoTPipeline(AutoencoderMemory, KeepsPrecision):
    """Generation Chain-of-Thought (arXiv 2503.10639).

    Components: ``mllm`` and its ``tokenizer`` and ``image_processor``, ``projector``, ``unet`` (the drawing
    network, of whatever family; its input has 3C channels), ``vae``, ``scheduler``. What only one family of
    networks does is behind :attr:`planner` and :attr:`drawer`. Scales, steps, resolution and token numbers
    are configuration values, saved with the pipeline, and so are two switches: without ``reasoning`` the
    model writes no chain and draws from none, without ``spatial_guidance`` it does not look at the boxes (Gs
    is null). ``edit_bucket_multiple`` is that of the aspect buckets in which edits were trained and are drawn
    (see `buckets`); None: in the square.

    Pictures to edit may be of any Pillow mode and profile: see :func:`to_rgb`. Turning them upright is
    left to the caller.
    """

    # The autoencoder also encodes the conditions, before the drawing begins. It then stays where it is during
    # the loop (3 % of SDXL's size); named before the drawing network, it would let that stay during decoding.
    model_cpu_offload_seq = "mllm->projector->unet->vae"
    _callback_tensor_inputs = ("latents", "context", "null", "pooled", "spatial", "reference")

    def __init__(
        self,
        mllm: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: ImageProcessingMixin,
        projector: GuidanceProjector,
        unet: ModelMixin,
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
        edit_bucket_multiple: int | None = None,
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
            edit_bucket_multiple=edit_bucket_multiple,
        )
        self._keep_autoencoder_wide()
        self.register_to_config(dtype=dtypes_of(self.components))
        chat = self.planner.chat_format(image_processor, source_size)
        self.sequences = SequenceBuilder(tokenizer, chat, image_tokens)
        self.vae_scale_factor = latent_stride(vae)
        self.picture_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self._interrupt = False

    @property
    def planner(self) -> Planner:
        """The adapter of ``mllm``."""
        return planner_of(self.mllm)

    @property
    def drawer(self) -> Drawer:
        """The adapter of ``unet``."""
        return drawer_of(self.unet)

    @property
    def interrupt(self) -> bool:
        """Whether the drawing stops before its next step; a callback may set ``pipe._interrupt = True``."""
        return self._interrupt

    # -- checks ---------------------------------------------------------------------------------------

    def check_inputs(
        self,
        prompts: Sequence[str],
        sources: Sequence[Image.Image] | None,
        options: DrawingOptions,
        chains: Sequence[Chain] | None = None,
    ) -> None:
        """Raise ValueError or TypeError for the first argument that cannot be used, naming it."""
        inputs.check_prompts(prompts)
        inputs.check_sources(sources, prompts)
        inputs.check_earlier(options.earlier, prompts)
        if chains is not None:
            inputs.check_chains(chains, prompts, reasoning=self.config.reasoning)
        steps = options.steps(int(self.config.inference_steps))
        options.check(sources, steps, self.scheduler, self._callback_tensor_inputs)
        frames = frames_of(self.config, len(prompts), sources, options)
        for frame in frames:
            inputs.check_size(*frame, self.vae_scale_factor)
        check_frames(frames, options)
        pictures = len(prompts) * options.num_images_per_prompt
        inputs.check_generator(options.generator, pictures, "pictures")
        inputs.check_latents(options.latents, self._latent_shape(pictures, *frames[0]))
        schedule.check_prediction(self.scheduler, self.config.prediction)
        for cells in {self._cells(*frame) for frame in frames}:
            schedule.check_steps(self.scheduler, int(steps), cells)

    def _latent_shape(self, batch: int, height: int, width: int) -> tuple[int, int, int, int]:
        stride = self.vae_scale_factor
        return batch, self.drawer.latent_channels, height // stride, width // stride

    def _cells(self, height: int, width: int) -> int:
        return (height // self.vae_scale_factor) * (width // self.vae_scale_factor)

    # -- planning -------------------------------------------------------------------------------------

    @takes(PlanningOptions)
    @torch.no_grad()
    def plan(
        self, prompt: Prompts, image: Sources = None, *, generator: Generators = None, **options: Any
    ) -> list[Chain]:
        """Let the language model write the chain of each prompt, all prompts in one call.

        Greedy, unless ``temperature`` or ``top_p`` ask for sampling; ``generator`` (one, or a list of one a
        prompt) then makes the chains reproducible. ``options`` are those of :class:`PlanningOptions`. Text
        that does not parse as a chain is read tolerantly: what is readable is kept; :meth:`write_chains`
        gives the text itself. All chains are empty where the model has no ``reasoning``. Raises ValueError or
        TypeError for inputs that cannot be used.
        """
        texts = self.write_chains(prompt, image, generator=generator, **options)
        return [parse_tolerant(text)[0] for text in texts]

    @takes(PlanningOptions)
    @torch.no_grad()
    def write_chains(
        self, prompt: Prompts, image: Sources = None, *, generator: Generators = None, **options: Any
    ) -> list[str]:
        """What the language model writes for each prompt, word for word. Arguments as :meth:`plan`."""
        prompts, sources = as_list(prompt), as_list(image)
        chosen = PlanningOptions.of("pipe.plan", options)
        inputs.check_prompts(prompts)
        inputs.check_sources(sources, prompts)
        chosen.check()
        inputs.check_generator(generator, len(prompts), "prompts")
        texts = self._write(prompts, sources, chosen, generator)
        self.maybe_free_model_hooks()
        return texts

    def _write(
        self,
        prompts: list[str],
        sources: list[Image.Image] | None,
        options: PlanningOptions,
        generator: Generators,
    ) -> list[str]:
        if not self.config.reasoning:
            return [""] * len(prompts)
        return write_texts(
            self.mllm,
            self.sequences,
            prompts,
            shown_to_planner(self.config, sources),
            options,
            max_new_tokens=self.config.max_new_tokens,
            generator=generator,
            device=self._execution_device,
        )

    # -- drawing --------------------------------------------------------------------------------------

    @takes(DrawingOptions)
    @torch.no_grad()
    def draw(
        self, chains: Chain | Sequence[Chain], prompt: Prompts, image: Sources = None, **options: Any
    ) -> Pictures:
        """Draw from chains, all in one call; the same seed with a changed chain keeps the rest of the scene.

        ``prompt`` is what the chain answers; the guidance is read off the whole sequence. ``image`` gives the
        sources of edits: they are stretched to the drawing's size, and the pictures get their aspect back
        with the short side of the drawing, unless ``height`` or ``width`` is given or they are not wanted as
        PIL images. The drawing is square, or with a model that was trained in aspect buckets of the one
        nearest to the source; boxes are thousandths of the source's sides in both. ``options``
        (``num_inference_steps``, ``text_scale``, ``generator`` ...) are explained in :class:`DrawingOptions`.
        Raises ValueError or TypeError for inputs that cannot be used, and NotFiniteError, with all other
        pictures, for those that hold NaN or infinity.
        """
        plans, prompts, sources = as_list(chains) or [], as_list(prompt), as_list(image)
        chosen = DrawingOptions.of("pipe.draw", options)
        self.check_inputs(prompts, sources, chosen, plans)
        return draw_pictures(self, plans, prompts, sources, chosen)

    @takes(PlanningOptions, DrawingOptions)
    @torch.no_grad()
    def __call__(
        self,
        prompt: Prompts,
        image: Sources = None,
        *,
        on_plan: OnPlan | None = None,
        return_dict: bool = True,
        **options: Any,
    ) -> GoTOutput | tuple:
        """Plan and draw. Arguments as :meth:`plan` and :meth:`draw`.

        ``on_plan`` sees each plan before it is drawn and may change it: ``planning.any_prompt.repaired``
        repairs what falls short of its prompt.
        With ``num_images_per_prompt`` above 1 the pictures of a prompt stand together and share its chain.
        Where chains are sampled, planning uses a copy of ``generator``, so that ``plan`` and ``draw`` with
        generators of the same seed give the same chains and pictures. With ``return_dict=False`` the result
        is the tuple (images, chains, dropped).
        """
        prompts, sources = as_list(prompt), as_list(image)
        planning, others = PlanningOptions.taken_from(options)
        chosen = DrawingOptions.of("pipe", others)
        self.check_inputs(prompts, sources, chosen)
        inputs.check_on_plan(on_plan)
        planning.check()
        texts = self._write(prompts, sources, planning, chosen.planning_generator())
        read = [parse_tolerant(text) for text in texts]
        if on_plan is not None:
            plans = zip(read, prompts, strict=True)
            read = [(on_plan(chain, text, sources is not None), lost) for (chain, lost), text in plans]
            self.check_inputs(prompts, sources, chosen, [chain for chain, _ in read])
        images = draw_pictures(self, [chain for chain, _ in read], prompts, sources, chosen)
        read = _repeat(read, chosen.num_images_per_prompt)
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
        edit_rounds.check_options(options)
        pictures = as_list(image)
        rounds: list[GoTOutput] = []
        for prompts in edit_rounds.prompts_of_rounds(pictures, instructions):
            rounds.append(self(prompts, pictures, **options))
            pictures = rounds[-1].images
        return rounds

    def encode_conditions(
        self,
        chains: Sequence[Chain],
        prompts: Sequence[str],
        sources: Sequence[Image.Image] | None,
        height: int,
        width: int,
    ) -> Conditions:
        """Gt, its pooled vector, Gs and Gr (specification, section 3) for a batch of chains."""
        return encode_conditions(self, chains, prompts, sources, (height, width))

    def prepare_latents(
        self, batch: int, height: int, width: int, generator: Generators, latents: Tensor | None = None
    ) -> Tensor:
        """Initial noise (B, C, h, w), scaled as the scheduler wants it at its present timesteps."""
        device, dtype = self._execution_device, self.unet.dtype
        if latents is None:
            shape = self._latent_shape(batch, height, width)
            latents = randn_tensor(shape, generator=generator, device=device, dtype=dtype)
        latents = latents.to(device, dtype)
        return latents * getattr(self.scheduler, "init_noise_sigma", 1.0)

    def predict(
        self,
        latents: Tensor,
        t: Tensor,
        conditions: Conditions,
        used: Sequence[Branch],
        size: tuple[int, int],
    ) -> Tensor:
        """The guided prediction: all branches in one call of the network, then their weighted sum."""
        return combine(self.predict_branches(latents, t, conditions, used, size), used)

    def predict_branches(
        self,
        latents: Tensor,
        t: Tensor,
        conditions: Conditions,
        used: Sequence[Branch],
        size: tuple[int, int],
    ) -> Sequence[Tensor]:
        """What the network answers in each branch, (B, C, h, w), all in one call of it."""
        return branch_predictions(self.drawer, latents, t, conditions, used, size)

    def decode(
        self, latents: Tensor, output_type: str, sizes: Sequence[tuple[int, int]] | None = None
    ) -> Pictures:
        """Latents (B, C, h, w) to pictures; PIL images are resized to ``sizes`` (width, height) if given.

        Raises NotFiniteError, which holds the other pictures, where latents or pixels are no numbers.
        """
        return decode_latents(self, latents, output_type, sizes)


# `DiffusionPipeline.from_pretrained` looks among diffusers' own names for the class of a folder, and for the
# modules of its components, which are imported above, among the loaded ones.
diffusers.GoTPipeline = GoTPipeline


def _repeat(values: Any, times: int) -> list:
    return [value for value in values for _ in range(times)]
