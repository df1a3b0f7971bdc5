"""A training plan: what a recipe's stages take in memory, hours and money.

Belongs here: arithmetic over what ``measure`` counted, with the assumptions of ``config``. Not here: how a
plan reads (``page``). State of training per parameter: the weights in 32 bits (those that are not trained in
16, if the stage says so), and of trained ones the gradient (4 bytes), the optimizer's moments (8 with Adam, 4
with Muon) and, if kept, the average (4). Spread (``fsdp``), all of it is divided by the workers but the
autoencoder and what is gathered. Where a step takes several passes, gradients that are not exchanged yet are
whole on every worker, in 32 bits, beside those of the state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from got_core.budget.config import Accelerator, BudgetConfig
from got_core.budget.measure import (
    Gathered,
    Part,
    Work,
    count_parts,
    encoding,
    gathered_parameters,
    modules_by_part,
    prepare_training,
    sampling_step,
    training_step,
)
from got_core.digests import digest
from got_core.model.got import GoTModel
from got_core.model.pipeline import GoTPipeline
from got_core.recipes import Recipe
from got_core.train.config import StageConfig
from got_core.train.optim import count_moments
from got_core.train.prepare import muon_weights
from got_core.train.sizes import count, empty_pipeline
from got_core.train.stage import Stage, check_predictions

GB = 1e9

KINDS = {"text to image": False, "edit": True}
"""Kinds of samples, and whether they edit a picture."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU of a stage, for one way of spreading the work."""

    sharding: str
    checkpointing: bool
    state: int
    """Weights, gradients, moments, averages."""
    gathered: int
    """Of a spread model: weights and gradients that are whole at some moment, in 16 bits. Of a replicated
    one: the 16-bit copies of trained weights."""
    accumulated: int
    """Whole gradients of a step's passes before they are exchanged, in 32 bits; 0 where it has one pass."""
    activations: int
    samples: int
    """While sample pictures are drawn, in place of the three before: those of one call in 32 bits, and of a
    spread model the whole copy that the first worker draws with."""
    overhead: int
    chosen: bool
    """Whether the recipe's stage works this way."""

    @property
    def total(self) -> int:
        """The most there is at any time."""
        training = self.gathered + self.accumulated + self.activations
        return self.state + max(training, self.samples) + self.overhead


@dataclass(frozen=True)
class StagePlan:
    """One stage: per step, and as a whole."""

    name: str
    steps: int
    workers: int
    batch_size: int
    accumulation: int
    flops_per_step: float
    """Of the global batch, with encoding and recomputation."""
    encoding_share: float
    """Share of the autoencoder in ``flops_per_step``; it sees each picture anew every time."""
    gpu_hours: float
    cost: float
    memory: tuple[Memory, ...]

    @property
    def hours(self) -> float:
        """By the clock, all workers at once."""
        return self.gpu_hours / self.workers


@dataclass(frozen=True)
class TrainingPlan:
    """Everything that is known about a recipe's training before it starts."""

    recipe: str
    assumptions: BudgetConfig
    parts: tuple[Part, ...]
    stages: tuple[StagePlan, ...]
    training: dict[str, Work]
    """A worker's forward and backward pass, by kind of sample, as the recipe's first stage does it."""
    sampling: dict[str, Work]
    """One sampling step, by kind."""
    inference_steps: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def sampling_flops(self, kind: str) -> float:
        """Operations of drawing one picture, without writing its chain."""
        work = self.sampling[kind]
        return work.flops + (self.inference_steps - 1) * work.forward["U-Net"]


# -- making the plan ----------------------------------------------------------------------------------


def make_plan(recipe: Recipe, config: BudgetConfig | None = None) -> TrainingPlan:
    """The plan of a recipe. Takes seconds and no memory to speak of, at any size; needs no data.

    Raises ValueError for a recipe whose stages do not predict what its model draws with.
    """
    config = config or BudgetConfig()
    check_predictions(recipe.model.scheduler.prediction, recipe.stages)
    pipeline = empty_pipeline(recipe.model)
    totals = count_parts(pipeline)
    sampling = {kind: sampling_step(pipeline, config, edit=edit) for kind, edit in KINDS.items()}
    known: dict[str, _Counted] = {}
    stages = []
    for one in recipe.stages:
        stage = one.config
        # Stages mostly differ in rates and data alone: what they compute is then counted once.
        key = digest(
            [
                *(stage.layout().batch_size, stage.lora_rank, stage.lora_dropout, stage.loss, stage.bf16),
                *(stage.language_whole, stage.drawing_lora_rank),
                *(stage.gradient_checkpointing, stage.selective_checkpointing),
                *(stage.replicate_frozen, stage.optimizer, repr(one.objective)),
            ]
        )
        if key not in known:
            fresh = pipeline if not known else empty_pipeline(recipe.model)
            known[key] = _Counted.of(fresh, recipe, one, config)
        stages.append(_plan_stage(one.name, stage, known[key], sampling["text to image"], config))
    first = next(iter(known.values()))
    return TrainingPlan(
        recipe.name,
        config,
        tuple(Part(name, total, first.trained[name]) for name, total in totals.items()),
        tuple(stages),
        first.work,
        sampling,
        recipe.model.inference_steps,
    )


@dataclass(frozen=True)
class _Counted:
    """What was counted for a stage's way of computing."""

    work: dict[str, Work]
    """A forward and backward pass by kind of sample, with and without checkpointing as the stage does it."""
    activations: dict[bool, int]
    """Bytes of a pass that edits, by whether it checkpoints."""
    encoded: dict[tuple[str, bool], Work]
    """Encoding of a pass's pictures and canvases by kind of sample and whether the stage checkpoints."""
    total: int
    trained: dict[str, int]
    moments: int
    frozen_autoencoder: int
    gathered: Gathered

    @classmethod
    def of(cls, pipeline: GoTPipeline, recipe: Recipe, one: Stage, config: BudgetConfig) -> _Counted:
        stage = one.config
        encoded = {
            (kind, saves): encoding(pipeline, stage, recipe.model, config, edit=edit, checkpointing=saves)
            for kind, edit in KINDS.items()
            for saves in (False, True)
        }
        model = prepare_training(pipeline, stage, one.objective)

        def run(edit: bool, checkpointing: bool) -> Work:
            return training_step(
                pipeline, model, stage, recipe.model, config, edit=edit, checkpointing=checkpointing
            )

        chosen = stage.gradient_checkpointing
        work = {kind: run(edit, chosen) for kind, edit in KINDS.items()}
        return cls(
            work=work,
            activations={chosen: work["edit"].bytes, not chosen: run(True, not chosen).bytes},
            encoded=encoded,
            total=count(model.parameters()),
            trained=_trained(pipeline, model),
            moments=count_moments(model.parameters(), muon_weights(model, stage)),
            frozen_autoencoder=count(model.vae.parameters()),
            gathered=gathered_parameters(model, replicate_frozen=stage.replicate_frozen),
        )


def _trained(pipeline: GoTPipeline, model: GoTModel) -> dict[str, int]:
    counts = {
        name: count(part.parameters(), trained=True) for name, part in modules_by_part(pipeline).items()
    }
    assert sum(counts.values()) == count(model.parameters(), trained=True)
    return counts


def _plan_stage(
    name: str, stage: StageConfig, counted: _Counted, drawing: Work, config: BudgetConfig
) -> StagePlan:
    texts = sum(share for group, share in stage.mixture.items() if group.startswith("t2i"))
    shares = {"text to image": texts, "edit": 1 - texts}
    passes = sum(share * counted.work[kind].flops for kind, share in shares.items())
    way = stage.gradient_checkpointing
    encodings = sum(share * counted.encoded[kind, way].flops for kind, share in shares.items())
    layout = stage.layout()
    flops = layout.workers * layout.accumulation * (passes + encodings)
    gpu = config.gpu
    hours = stage.steps * flops / (gpu.peak_tflops * 1e12 * gpu.utilisation) / 3600
    return StagePlan(
        name,
        stage.steps,
        layout.workers,
        layout.batch_size,
        layout.accumulation,
        flops,
        encodings / (passes + encodings),
        hours,
        hours * gpu.price_per_hour,
        tuple(_memory(stage, counted, drawing, gpu)),
    )


def _memory(stage: StageConfig, counted: _Counted, drawing: Work, gpu: Accelerator) -> Iterable[Memory]:
    for sharding in stage.shardings:
        for checkpointing in (False, True):
            way = replace(stage, sharding=sharding, gradient_checkpointing=checkpointing)
            yield Memory(
                sharding,
                checkpointing,
                _state(way, counted),
                _gathered(way, counted),
                _accumulated(way, counted),
                max(counted.activations[checkpointing], _encoding(way, counted)),
                _samples(way, counted, drawing),
                int(gpu.overhead_gb * GB),
                way == stage,
            )


def _state(way: StageConfig, counted: _Counted) -> int:
    trained = sum(counted.trained.values())
    frozen = counted.total - counted.frozen_autoencoder - trained
    whole = 4 * counted.frozen_autoencoder
    spread = 4 * (2 * trained + counted.moments)
    if way.ema_decay:
        spread += 4 * trained
    kept = (2 if way.frozen_bf16 and way.bf16 else 4) * frozen
    if way.replicate_frozen:
        whole += kept
    else:
        spread += kept
    share = (way.shard_within or way.workers) if way.sharding == "fsdp" else 1
    return spread // share + whole


def _gathered(way: StageConfig, counted: _Counted) -> int:
    if way.sharding == "fsdp":
        # Weights and gradients; the layer that comes next is gathered while one computes.
        return (4 if way.bf16 else 8) * (counted.gathered.rest + 2 * counted.gathered.layer)
    return 2 * sum(counted.trained.values()) if way.bf16 else 0


def _accumulated(way: StageConfig, counted: _Counted) -> int:
    # Gradients are exchanged in the last pass only. Until then FSDP keeps them whole, cast to the type it
    # sums in; DDP keeps them beside its buffers.
    return 4 * sum(counted.trained.values()) if way.layout().accumulation > 1 and way.workers > 1 else 0


def _encoding(way: StageConfig, counted: _Counted) -> int:
    return max(counted.encoded[kind, way.gradient_checkpointing].bytes for kind in KINDS)


def _samples(way: StageConfig, counted: _Counted, drawing: Work) -> int:
    copy = 4 * counted.total if way.sharding == "fsdp" else 0
    return way.samples_at_once * drawing.bytes + copy
