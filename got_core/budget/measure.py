"""Runs the real model and its joint loss as shapes: parameters, operations and activations of a recipe.

Belongs here: what is run, and what was counted. Does not belong here: how it is run without memory
(``shapes``) and what follows for GPUs, hours and money (``memory``, ``hours``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from got_core.budget.config import BudgetConfig
from got_core.budget.shapes import ShapesMode
from got_core.chain.grammar import parse
from got_core.model.config import ModelConfig
from got_core.model.got import GoTModel, latent_stride
from got_core.model.pipeline import GoTPipeline
from got_core.train.checkpoints.parts import largest_part
from got_core.train.checkpoints.tensors import training_tensors
from got_core.train.config import StageConfig
from got_core.train.data.latents import drawing_inputs, stage_encoder
from got_core.train.data.passes import language_inputs
from got_core.train.data.samples import TrainingSample
from got_core.train.objective import Objective
from got_core.train.optim import MovingAverage, stage_optimizers
from got_core.train.prepare import set_checkpointing, sharded_layers
from got_core.train.sizes import META, count, empty_model
from got_core.train.stage import Stage
from got_core.train.trainer import JOINT

HALF = torch.bfloat16
FULL = "float32"
"""Format that a GPU computes slower in, as :class:`Work` names it."""
KINDS = {"text to image": False, "edit": True}
"""Kinds of samples, and whether they edit a picture."""
COUNTED_BOXES = 2
"""Boxes up to which encoding is counted: from the first to the second is what each further one adds."""


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
    dtype: str
    """Format that it computes in, such as ``bfloat16``."""


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
    return computing(empty_model(pipeline, stage, objective), stage)


def computing(model: GoTModel, stage: StageConfig) -> GoTModel:
    """A stage's empty model as its passes compute: in 16 bits where the stage says so, without gradients."""
    if stage.bf16:
        model.to(HALF)
    for parameter in model.parameters():
        if parameter.requires_grad:
            # Gradients are accounted for by themselves; kept here, they would count as activations.
            parameter.register_post_accumulate_grad_hook(_drop_gradient)
    return model.train()


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


def gathered_parameters(model: GoTModel, *, replicate_frozen: bool = False) -> Gathered:
    """What stays or comes together on a worker when layers are spread as ``train.parallel`` spreads them."""
    taken: set[int] = set(map(id, model.vae.parameters()))
    if replicate_frozen:
        taken |= {id(p) for p in model.parameters() if not p.requires_grad}
    sizes = [0]
    for layer in sharded_layers(model):
        own = [p for p in layer.parameters() if id(p) not in taken]
        taken |= set(map(id, own))
        sizes.append(count(own))
    return Gathered(count(p for p in model.parameters() if id(p) not in taken), max(sizes))


def checkpoint_tensors(model: GoTModel, stage: StageConfig) -> dict[str, Tensor]:
    """What a checkpoint of an empty model in 32 bits holds, once its stage's optimizers took a step."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizers = stage_optimizers(model, stage)
    for parameter in trained.values():
        parameter.grad = torch.empty_like(parameter)
    optimizers.step(1.0)
    optimizers.zero_grad()
    average = MovingAverage(trained.values() if stage.ema_decay else [], stage.ema_decay)
    return training_tensors(trained, average, optimizers)


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
    batch = training_batch(pipeline, stage, config, budget, edit)
    known = [*model.parameters(), *model.buffers(), *batch.values()]
    with ShapesMode(known, {"U-Net": model.unet}) as mode:
        losses = model(batch, torch.Generator().manual_seed(0))
        forward = dict(mode.flops)
        losses["loss"].backward()
    shapes = {name: tuple(value.shape) for name, value in batch.items()}
    return Work(mode.flops.total(), mode.peak_bytes, forward, shapes, _named(HALF) if stage.bf16 else FULL)


def training_batch(
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
    side = config.resolution // latent_stride(pipeline.vae)
    latents = (size, config.autoencoder.latent_channels, side, side)
    names = ("clean", "spatial", "reference")
    return batch | {name: torch.empty(latents, dtype=dtype, device=META) for name in names}


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _words(tokens: int) -> str:
    """Text of about so many tokens: in every tokenizer here a digit and a space are one each."""
    return " ".join(["7"] * ((tokens + 1) // 2))


def encoding(
    pipeline: GoTPipeline,
    stage: StageConfig,
    config: ModelConfig,
    boxes: int,
    *,
    edit: bool,
    samples: int,
    checkpointing: bool,
) -> Work:
    """Encoding of the pictures and canvases of samples with so many boxes each, as the stage's trainer does
    it. Black is in the encoder's cache already."""
    encoder = stage_encoder(pipeline.vae, replace(stage, gradient_checkpointing=checkpointing))
    side = config.resolution
    known = [*pipeline.vae.parameters(), *encoder.parameters(), encoder.black(side, side)]
    batch = [_sample(number, boxes, side, edit=edit) for number in range(samples)]
    with ShapesMode(known) as mode:
        inputs = drawing_inputs(encoder, batch, META, config.spatial_guidance)
    shapes = {name: tuple(value.shape) for name, value in inputs.items()}
    return Work(mode.flops.total(), mode.peak_bytes, dict(mode.flops), shapes, _named(encoder.dtype))


def _sample(number: int, boxes: int, side: int, *, edit: bool) -> TrainingSample:
    """A sample without a picture's content; no two have a canvas in common."""
    picture = np.zeros((side, side, 3), dtype=np.uint8)
    corners = [divmod((number * boxes + box) % 400, 20) for box in range(boxes)]
    chain = parse(" ".join(f"thing ({20 * x},{20 * y}),(900,900)" for x, y in corners))
    return TrainingSample(
        f"sample {number}", "edit" if edit else "t2i", (), chain, picture, picture if edit else None,
        (side, side, 0, 0, side, side),
    )  # fmt: skip


def sampling_step(pipeline: GoTPipeline, budget: BudgetConfig, *, edit: bool) -> Work:
    """Drawing of one picture from a chain in one step: conditions, all guidance branches, scheduler,
    decoding.

    Every further step takes the U-Net's operations again.
    """
    boxes = round(budget.expected.boxes(edit).mean) if pipeline.config.reasoning else 0
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
    return Work(mode.flops.total(), mode.peak_bytes, dict(mode.flops), shapes, _named(pipeline.unet.dtype))


# -- all of a stage -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counted:
    """What was counted for a stage's way of computing."""

    work: dict[str, Work]
    """A forward and backward pass by kind of sample, with and without checkpointing as the stage does it."""
    activations: dict[bool, int]
    """Bytes of a pass that edits, by whether it checkpoints."""
    encoded: dict[tuple[str, int], Work]
    """Encoding of one sample, by its kind and up to ``COUNTED_BOXES``."""
    encoding_bytes: dict[bool, int]
    """Of encoding a pass whose samples have the most boxes, by whether it checkpoints."""
    total: int
    trained: dict[str, int]
    checkpoint: int
    """Bytes of a checkpoint, single numbers aside."""
    checkpoint_part: int
    """Bytes of the worker that writes most of it."""
    frozen_autoencoder: int
    gathered: Gathered

    @classmethod
    def of(cls, pipeline: GoTPipeline, model: ModelConfig, one: Stage, config: BudgetConfig) -> Counted:
        """Of an empty pipeline that is used for nothing else afterwards."""
        stage = one.config
        encoded, encoding_bytes = _encodings(pipeline, model, stage, config)
        empty = empty_model(pipeline, stage, one.objective)
        # In 32 bits, before the model takes the form that it computes in.
        checkpoint, part = _checkpoint_bytes(empty, stage)
        computed = computing(empty, stage)

        def run(edit: bool, checkpointing: bool) -> Work:
            return training_step(
                pipeline, computed, stage, model, config, edit=edit, checkpointing=checkpointing
            )

        chosen = stage.gradient_checkpointing
        work = {kind: run(edit, chosen) for kind, edit in KINDS.items()}
        return cls(
            work=work,
            activations={chosen: work["edit"].bytes, not chosen: run(True, not chosen).bytes},
            encoded=encoded,
            encoding_bytes=encoding_bytes,
            total=count(computed.parameters()),
            trained=_trained(pipeline, computed),
            checkpoint=checkpoint,
            checkpoint_part=part,
            frozen_autoencoder=count(computed.vae.parameters()),
            gathered=gathered_parameters(computed, replicate_frozen=stage.replicate_frozen),
        )

    def encoding_flops(self, kind: str, boxes: int) -> int:
        """Operations of encoding one sample: each box beyond those counted takes as much as the last one."""
        if boxes <= COUNTED_BOXES:
            return self.encoded[kind, boxes].flops
        before, last = (self.encoded[kind, COUNTED_BOXES - back].flops for back in (1, 0))
        return last + (boxes - COUNTED_BOXES) * (last - before)


def _encodings(
    pipeline: GoTPipeline, model: ModelConfig, stage: StageConfig, config: BudgetConfig
) -> tuple[dict[tuple[str, int], Work], dict[bool, int]]:
    """``encoded`` and ``encoding_bytes`` of :class:`Counted`."""

    def run(edit: bool, boxes: int, samples: int, checkpointing: bool) -> Work:
        return encoding(
            pipeline, stage, model, boxes, edit=edit, samples=samples, checkpointing=checkpointing
        )

    encoded = {
        (kind, boxes): run(edit, boxes, 1, stage.gradient_checkpointing)
        for kind, edit in KINDS.items()
        for boxes in range(COUNTED_BOXES + 1)
    }
    size = stage.layout().batch_size
    most = {edit: config.expected.boxes(edit).most for edit in KINDS.values()}
    return encoded, {
        way: max(run(edit, boxes, size, way).bytes for edit, boxes in most.items()) for way in (False, True)
    }


def _checkpoint_bytes(model: GoTModel, stage: StageConfig) -> tuple[int, int]:
    """Of a whole checkpoint, single numbers aside, and of the worker that writes most of it."""
    state = checkpoint_tensors(model, stage)
    size = sum(value.nbytes for value in state.values() if value.ndim)
    if stage.sharding == "fsdp":
        # Of several groups that hold everything, the first writes.
        return size, size // (stage.shard_within or stage.workers)
    return size, largest_part(state, stage.workers)


def way_of_computing(one: Stage) -> tuple[Any, ...]:
    """What of a stage :class:`Counted` depends on; stages mostly differ in rates and data alone."""
    stage = one.config
    return (
        *(stage.layout(), stage.lora_rank, stage.lora_dropout, stage.loss, stage.bf16, stage.language_whole),
        *(stage.drawing_lora_rank, stage.gradient_checkpointing, stage.selective_checkpointing),
        *(stage.sharding, stage.shard_within, stage.replicate_frozen, stage.optimizer),
        *(bool(stage.ema_decay), repr(one.objective)),
    )


def _trained(pipeline: GoTPipeline, model: GoTModel) -> dict[str, int]:
    counts = {
        name: count(part.parameters(), trained=True) for name, part in modules_by_part(pipeline).items()
    }
    assert sum(counts.values()) == count(model.parameters(), trained=True)
    return counts
