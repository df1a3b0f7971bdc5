"""A training plan: what a recipe's stages take in memory, hours and money, and the page that says so.

Belongs here: arithmetic over what ``measure`` counted, with the assumptions of ``config``. State of
training per parameter: the weights in 32 bits, and of trained ones the gradient (4 bytes), Adam's moments
(8) and, if kept, the average (4). Spread (``fsdp``), all of it is divided by the workers but the
autoencoder and what is gathered. Where a step takes several passes, gradients that are not exchanged yet are
whole on every worker, in 32 bits, beside those of the state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from got_core.budget.config import Accelerator, BudgetConfig
from got_core.budget.measure import (
    Gathered,
    Part,
    Work,
    count,
    count_parts,
    empty_pipeline,
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
from got_core.train.config import Sharding, StageConfig
from got_core.train.stage import Stage, check_predictions

GB = 1e9


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
    sampling = {
        kind: sampling_step(pipeline, config, edit=kind == "edit") for kind in ("text to image", "edit")
    }
    picture = encoding(pipeline, recipe.model.resolution)
    known: dict[str, _Counted] = {}
    stages = []
    for one in recipe.stages:
        stage = one.config
        # Stages mostly differ in rates and data alone: what they compute is then counted once.
        key = digest(
            [
                *(stage.batch_size, stage.lora_rank, stage.loss, stage.bf16, stage.gradient_checkpointing),
                repr(one.objective),
            ]
        )
        if key not in known:
            fresh = pipeline if not known else empty_pipeline(recipe.model)
            known[key] = _Counted.of(fresh, recipe, one, config)
        stages.append(_plan_stage(one.name, stage, known[key], picture, sampling["text to image"], config))
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
    other_bytes: int
    """Activations with gradient checkpointing turned the other way."""
    total: int
    trained: dict[str, int]
    frozen_autoencoder: int
    gathered: Gathered

    @classmethod
    def of(cls, pipeline: GoTPipeline, recipe: Recipe, one: Stage, config: BudgetConfig) -> _Counted:
        stage = one.config
        model = prepare_training(pipeline, stage, one.objective)

        def run(edit: bool, checkpointing: bool) -> Work:
            return training_step(
                pipeline, model, stage, recipe.model, config, edit=edit, checkpointing=checkpointing
            )

        chosen = stage.gradient_checkpointing
        return cls(
            work={"text to image": run(False, chosen), "edit": run(True, chosen)},
            other_bytes=run(True, not chosen).bytes,
            total=count(model.parameters()),
            trained=_trained(pipeline, model),
            frozen_autoencoder=count(model.vae.parameters()),
            gathered=gathered_parameters(model),
        )


def _trained(pipeline: GoTPipeline, model: GoTModel) -> dict[str, int]:
    counts = {
        name: count(part.parameters(), trained=True) for name, part in modules_by_part(pipeline).items()
    }
    assert sum(counts.values()) == count(model.parameters(), trained=True)
    return counts


def _plan_stage(
    name: str, stage: StageConfig, counted: _Counted, picture: Work, drawing: Work, config: BudgetConfig
) -> StagePlan:
    texts = sum(share for group, share in stage.mixture.items() if group.startswith("t2i"))
    samples = stage.batch_size
    passes = (
        texts * counted.work["text to image"].flops + (1 - texts) * counted.work["edit"].flops
    ) / samples
    # The picture, its reference and one canvas a box.
    encodings = (2 + config.boxes) * picture.flops
    flops = stage.samples_per_step * (passes + encodings)
    gpu = config.gpu
    hours = stage.steps * flops / (gpu.peak_tflops * 1e12 * gpu.utilisation) / 3600
    return StagePlan(
        name,
        stage.steps,
        stage.workers,
        stage.batch_size,
        stage.accumulation,
        flops,
        encodings / (passes + encodings),
        hours,
        hours * gpu.price_per_hour,
        tuple(_memory(stage, counted, picture, drawing, gpu)),
    )


def _memory(
    stage: StageConfig, counted: _Counted, picture: Work, drawing: Work, gpu: Accelerator
) -> Iterable[Memory]:
    trained = sum(counted.trained.values())
    state = 4 * (counted.total - counted.frozen_autoencoder) + (16 if stage.ema_decay else 12) * trained
    autoencoder = 4 * counted.frozen_autoencoder
    # Gradients are exchanged in the last pass only. Until then FSDP keeps them whole, cast to the type it
    # sums in; DDP keeps them beside its buffers.
    accumulated = 4 * trained if stage.accumulation > 1 and stage.workers > 1 else 0
    spread = (state // stage.workers, 4 * (counted.gathered.rest + 2 * counted.gathered.layer))
    ways: dict[Sharding, tuple[int, int]] = {"ddp": (state, 2 * trained), "fsdp": spread}
    for sharding in stage.shardings:
        share, gathered = ways[sharding]
        for checkpointing in (False, True):
            chosen = checkpointing == stage.gradient_checkpointing
            way = replace(stage, sharding=sharding, gradient_checkpointing=checkpointing)
            activations = counted.work["edit"].bytes if chosen else counted.other_bytes
            # With checkpointing, pictures are encoded one by one; otherwise a batch's pictures at once.
            encoded = picture.bytes * (1 if checkpointing else stage.batch_size)
            yield Memory(
                sharding,
                checkpointing,
                share + autoencoder,
                gathered if stage.bf16 else 2 * gathered,
                accumulated,
                max(activations, encoded),
                # The plan's pictures are drawn in 16 bits, a stage's in 32.
                2 * way.samples_at_once * drawing.bytes + (4 * counted.total if sharding == "fsdp" else 0),
                int(gpu.overhead_gb * GB),
                chosen and sharding == stage.sharding,
            )


# -- the page -----------------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def markdown(plan: TrainingPlan) -> str:
    """The plan as a page: parts, steps, memory, hours and cost."""
    gpu = plan.assumptions.gpu
    return "\n\n".join(
        [
            f"## Training plan of `{plan.recipe}`",
            parts_table(plan),
            steps_table(plan),
            memory_table(plan),
            cost_table(plan),
            f"Assumed: {gpu.name} with {gpu.memory_gb:g} GB at {gpu.utilisation:.0%} of {gpu.peak_tflops:g} "
            f"TFLOP/s and {gpu.price_per_hour:g} an hour; {plan.assumptions.prompt_tokens} prompt tokens, "
            f"{plan.assumptions.chain_tokens} chain tokens at most, {plan.assumptions.boxes} boxes a sample.",
        ]
    )


def parts_table(plan: TrainingPlan) -> str:
    """Parameters by part."""
    rows = [(part.name, f"{part.parameters:,}", f"{part.trained:,}") for part in plan.parts]
    total = (
        "all",
        f"{sum(part.parameters for part in plan.parts):,}",
        f"{sum(part.trained for part in plan.parts):,}",
    )
    return table(["part", "parameters", "trained (LoRA, whole copies, itself)"], [*rows, total])


def steps_table(plan: TrainingPlan) -> str:
    """Operations and shapes of one pass and of one sampling step."""
    rows = []
    for kind, work in plan.training.items():
        tokens, latents = work.shapes["input_ids"], work.shapes["clean"]
        rows.append(
            (
                f"training pass, {kind}",
                f"tokens {_shape(tokens)}, latents {_shape(latents)}",
                _flops(work.flops),
                f"U-Net {_flops(work.forward['U-Net'])}, other {_flops(work.forward['other'])}",
            )
        )
    for kind, work in plan.sampling.items():
        rows.append(
            (
                f"picture in {plan.inference_steps} steps, {kind}",
                f"pictures {_shape(work.shapes['pictures'])}",
                _flops(plan.sampling_flops(kind)),
                f"U-Net {_flops(work.forward['U-Net'])} a step, other {_flops(work.forward['other'])}",
            )
        )
    return table(["run", "shapes", "operations", "of which forward"], rows)


def memory_table(plan: TrainingPlan) -> str:
    """Memory per GPU; the recipe's own choice is marked."""
    limit = plan.assumptions.gpu.memory_gb * GB
    rows = []
    for stage in plan.stages:
        for one in stage.memory:
            numbers = (
                one.state, one.gathered, one.accumulated, one.activations,
                one.samples, one.overhead, one.total,
            )  # fmt: skip
            rows.append(
                (
                    f"{stage.name}, {stage.workers} x {stage.batch_size}",
                    one.sharding,
                    "yes" if one.checkpointing else "no",
                    *(f"{number / GB:.1f}" for number in numbers),
                    ("fits" if one.total <= limit else "**too much**") + (", chosen" if one.chosen else ""),
                )
            )
    header = ["stage", "sharding", "checkpointing", "state GB", "gathered", "accumulated", "activations"]
    return table([*header, "or samples", "overhead", "all", ""], rows)


def cost_table(plan: TrainingPlan) -> str:
    """Hours and cost of the stages."""
    rows = [
        (
            stage.name,
            f"{stage.steps:,} x {stage.workers * stage.batch_size * stage.accumulation}",
            _flops(stage.flops_per_step),
            f"{stage.encoding_share:.0%}",
            f"{stage.gpu_hours:,.1f}",
            f"{stage.hours:,.1f}",
            f"{stage.cost:,.0f}",
        )
        for stage in plan.stages
    ]
    hours, cost = (sum(getattr(stage, name) for stage in plan.stages) for name in ("gpu_hours", "cost"))
    rows.append(
        ("both", "", "", "", f"{hours:,.1f}", f"{sum(s.hours for s in plan.stages):,.1f}", f"{cost:,.0f}")
    )
    header = ["stage", "steps x samples", "operations a step", "encoding", "GPU hours", "hours", "cost"]
    return table(header, rows)


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _flops(value: float) -> str:
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9)):
        if value >= size:
            return f"{value / size:.1f} {unit}FLOP"
    return f"{value / 1e6:.1f} MFLOP"
