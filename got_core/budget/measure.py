"""Runs the real model and its joint loss as shapes: parameters, operations and activations of a recipe.

Belongs here: what is run, and what was counted. Does not belong here: how it is run without memory
(``shapes``) and what follows for GPUs, hours and money (``plan``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn

from got_core.budget.config import BudgetConfig
from got_core.budget.shapes import ShapesMode
from got_core.chain.grammar import parse
from got_core.model.config import ModelConfig
from got_core.model.got import GoTModel
from got_core.model.guidance import encode
from got_core.model.pipeline import GoTPipeline
from got_core.train.config import StageConfig
from got_core.train.data.passes import language_inputs
from got_core.train.objective import Objective
from got_core.train.prepare import set_checkpointing, sharded_layers
from got_core.train.sizes import META, count, empty_model
from got_core.train.trainer import JOINT

HALF = torch.bfloat16


@dataclass(frozen=True)
class Part:
    """Parameters of one part: of the model itself, and those that training changes."""

    name: str
    parameters: int
    trained: int
    """LoRA weights and whole copies of modules count here, and not among ``parameters``."""


@dataclass(frozen=True)
class Work:
    """What one run of some code takes."""

    flops: int
    """Multiplications and additions of matrix products, convolutions and attention."""
    bytes: int
    """Most memory in use at once, beside parameters, gradients and inputs."""
    forward: dict[str, int]
    """Operations of the forward pass: of the U-Net, and of everything else (``other``)."""
    shapes: dict[str, tuple[int, ...]]
    """Shapes of what went in and came out."""


@dataclass(frozen=True)
class Gathered:
    """Parameters that a worker of a spread model holds whole at some moment: the rest outside of any layer,
    and the largest layer."""

    rest: int
    layer: int


# -- the model ----------------------------------------------------------------------------------------


def modules_by_part(pipeline: GoTPipeline) -> dict[str, nn.Module]:
    """The parts whose parameters are counted; together they are the whole model."""
    return {
        **pipeline.planner.parts(),
        "projectors": pipeline.projector,
        **pipeline.drawer.parts(),
        "autoencoder": pipeline.vae,
    }


def count_parts(pipeline: GoTPipeline) -> dict[str, int]:
    """Parameters by part; a head that shares the embedding's weights counts nothing of its own."""
    counts = {}
    seen: set[int] = set()
    for name, module in modules_by_part(pipeline).items():
        own = [p for p in module.parameters() if id(p) not in seen]
        seen |= {id(p) for p in own}
        counts[name] = count(own)
    return counts


def prepare_training(pipeline: GoTPipeline, stage: StageConfig, objective: Objective = JOINT) -> GoTModel:
    """The model as a stage trains it, in 16 bits as it computes; changes the pipeline's language model."""
    model = empty_model(pipeline, stage, objective)
    if stage.bf16:
        model.to(HALF)
    for parameter in model.parameters():
        if parameter.requires_grad:
            # Gradients are accounted for by themselves; kept here, they would count as activations.
            parameter.register_post_accumulate_grad_hook(_drop_gradient)
    return model.train()


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


def gathered_parameters(model: GoTModel) -> Gathered:
    """What stays or comes together on a worker when layers are spread as ``train.parallel`` spreads them."""
    taken: set[int] = set(map(id, model.vae.parameters()))
    sizes = [0]
    for layer in sharded_layers(model):
        own = [p for p in layer.parameters() if id(p) not in taken]
        taken |= set(map(id, own))
        sizes.append(count(own))
    return Gathered(count(p for p in model.parameters() if id(p) not in taken), max(sizes))


# -- runs ---------------------------------------------------------------------------------------------


def training_step(
    pipeline: GoTPipeline,
    model: GoTModel,
    stage: StageConfig,
    config: ModelConfig,
    budget: BudgetConfig,
    *,
    edit: bool,
    checkpointing: bool,
) -> Work:
    """Forward and backward pass of one worker's batch, from token ids and latents to gradients."""
    set_checkpointing(pipeline, wanted=checkpointing, selective=stage.selective_checkpointing)
    batch = _batch(pipeline, stage, config, budget, edit)
    known = [*model.parameters(), *model.buffers(), *batch.values()]
    with ShapesMode(known, {"U-Net": model.unet}) as mode:
        losses = model(batch, torch.Generator().manual_seed(0))
        forward = dict(mode.flops)
        losses["loss"].backward()
    shapes = {name: tuple(value.shape) for name, value in batch.items()}
    return Work(mode.flops.total(), mode.peak_bytes, forward, shapes)


def _batch(
    pipeline: GoTPipeline, stage: StageConfig, config: ModelConfig, budget: BudgetConfig, edit: bool
) -> dict[str, Tensor]:
    """A batch of average length: whole numbers with values, pictures and latents without."""
    size = stage.layout().batch_size
    images = [Image.new("RGB", (config.resolution, config.resolution))] * size if edit else []
    chain = _words(min(budget.chain_tokens, config.max_new_tokens)) if config.reasoning else ""
    prompts = [_words(budget.prompt_tokens)] * size
    batch = language_inputs(pipeline.sequences, prompts, [chain] * size, images)
    dtype = HALF if stage.bf16 else torch.float32
    batch = {k: v.to(META, dtype) if v.is_floating_point() else v for k, v in batch.items()}
    side = config.resolution // config.autoencoder.patch_size
    latents = (size, config.autoencoder.latent_channels, side, side)
    names = ("clean", "spatial", "reference")
    return batch | {name: torch.empty(latents, dtype=dtype, device=META) for name in names}


def _words(tokens: int) -> str:
    """Text of about so many tokens: in every tokenizer here a digit and a space are one each."""
    return " ".join(["7"] * ((tokens + 1) // 2))


def encoding(pipeline: GoTPipeline, resolution: int) -> Work:
    """Encoding of one picture or canvas."""
    dtype = next(pipeline.vae.parameters()).dtype
    picture = torch.empty((1, 3, resolution, resolution), dtype=dtype, device=META)
    known = [*pipeline.vae.parameters(), *pipeline.vae.buffers(), picture]
    with torch.no_grad(), ShapesMode(known) as mode:
        latents = encode(pipeline.vae, picture)
    shapes = {"picture": tuple(picture.shape), "latents": tuple(latents.shape)}
    return Work(mode.flops.total(), mode.peak_bytes, dict(mode.flops), shapes)


def sampling_step(pipeline: GoTPipeline, budget: BudgetConfig, *, edit: bool) -> Work:
    """Drawing of one picture from a chain in one step: conditions, all guidance branches, scheduler,
    decoding.

    Every further step takes the U-Net's operations again.
    """
    boxes = budget.boxes if pipeline.config.reasoning else 0
    chain = parse(" ".join(["thing (100,100),(900,900)"] * boxes))
    side = int(pipeline.config.resolution)
    source = Image.new("RGB", (side, side)) if edit else None
    modules = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
    known = [tensor for part in modules for tensor in (*part.parameters(), *part.buffers())]
    with ShapesMode(known, {"U-Net": pipeline.unet}) as mode:
        pictures = pipeline.draw(
            chain, _words(budget.prompt_tokens), image=source, num_inference_steps=1, output_type="pt"
        )
    assert isinstance(pictures, Tensor)
    shapes = {"pictures": tuple(pictures.shape)}
    return Work(mode.flops.total(), mode.peak_bytes, dict(mode.flops), shapes)
