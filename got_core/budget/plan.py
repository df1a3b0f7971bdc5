"""A training plan: what a recipe's stages take in memory, hours and money.

Belongs here: a plan's form, and how it is put together from ``measure``, ``memory`` and ``hours``. Not here:
assumptions (``config``) and how a plan reads (``page``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from got_core.budget.config import Assumptions, BudgetConfig
from got_core.budget.hours import GB, Clock, Facts, picture_flops, reads_latents
from got_core.budget.measure import (
    KINDS,
    Counted,
    Part,
    Work,
    count_parts,
    sampling_step,
    way_of_computing,
)
from got_core.budget.memory import Memory, memory_of
from got_core.model.pipeline import GoTPipeline
from got_core.recipes import Recipe
from got_core.train.config import StageConfig
from got_core.train.mixture import group_kind
from got_core.train.sizes import empty_pipeline
from got_core.train.stage import check_predictions

__all__ = ["GB", "Line", "Memory", "Sensitivity", "StagePlan", "TrainingPlan", "make_plan"]

MILLION = 1_000_000


@dataclass(frozen=True)
class Line:
    """GPU hours of one thing that takes time in a stage."""

    name: str
    expected: float
    favourable: float
    unfavourable: float
    from_latents: float
    """As expected, where samples are read as latents that were made ahead."""
    how: str
    """How what is expected is worked out."""


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
    """Share of the autoencoder in ``flops_per_step``: it sees each picture anew every time, unless the stage
    reads latents."""
    gpu_hours: float
    """As expected; all lines together."""
    gpu_hours_favourable: float
    gpu_hours_unfavourable: float
    gpu_hours_from_latents: float
    """As expected, without making the latents."""
    latents_per_million: float
    """GPU hours, as expected, of encoding what a million of its samples hold once."""
    cost: float
    """Of what is expected."""
    lines: tuple[Line, ...]
    memory: tuple[Memory, ...]

    @property
    def hours(self) -> float:
        """By the clock, all workers at once."""
        return self.gpu_hours / self.workers


@dataclass(frozen=True)
class Sensitivity:
    """GPU hours of all stages where one assumption is another and all others are as expected."""

    name: str
    favourable: float
    unfavourable: float

    @property
    def width(self) -> float:
        """How much depends on it."""
        return abs(self.unfavourable - self.favourable)


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
    sensitivity: tuple[Sensitivity, ...]
    """By assumption, what matters most first."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        low, high = self.gpu_hours
        return asdict(self) | {"gpu_hours": {"favourable": low, "unfavourable": high}}

    @property
    def gpu_hours(self) -> tuple[float, float]:
        """Of all stages, from the favourable assumptions to the unfavourable ones."""
        return (
            sum(stage.gpu_hours_favourable for stage in self.stages),
            sum(stage.gpu_hours_unfavourable for stage in self.stages),
        )

    def sampling_flops(self, kind: str) -> float:
        """Operations of drawing one picture, without writing its chain."""
        return picture_flops(self.sampling[kind], self.inference_steps)


# -- making the plan ----------------------------------------------------------------------------------


def make_plan(
    recipe: Recipe, config: BudgetConfig | None = None, edits: Mapping[str, float] | None = None
) -> TrainingPlan:
    """The plan of a recipe. Takes seconds and no memory to speak of, at any size; needs no data.

    ``edits``: share of the draws that edit, by stage, where the data decides it; else the recipe's.

    Raises ValueError for a recipe whose stages do not predict what its model draws with, or spread a model
    over groups that their workers cannot form.
    """
    config = config or BudgetConfig()
    check_predictions(recipe.model.scheduler.prediction, recipe.stages)
    _check_groups(recipe)
    pipeline = empty_pipeline(recipe.model)
    totals = count_parts(pipeline)
    sampling = {kind: sampling_step(pipeline, config, edit=edit) for kind, edit in KINDS.items()}
    facts = [
        Facts(
            stage=one.config,
            model=recipe.model,
            edits=(edits or {}).get(one.name, _share_of_edits(one.config)),
            counted=counted,
            parameters=sum(totals.values()),
            drawing=sampling["text to image"],
            chain_tokens=min(config.chain_tokens, recipe.model.max_new_tokens),
            rows=config.rows,
            decoders=_decoders(one.config, config),
        )
        for one, counted in zip(recipe.stages, _counted(recipe, pipeline, config), strict=True)
    ]
    first = facts[0].counted
    return TrainingPlan(
        recipe.name,
        config,
        tuple(Part(name, total, first.trained[name]) for name, total in totals.items()),
        tuple(_plan_stage(one.name, known, config) for one, known in zip(recipe.stages, facts, strict=True)),
        first.work,
        sampling,
        recipe.model.inference_steps,
        _sensitivity(facts, config),
    )


def _check_groups(recipe: Recipe) -> None:
    for one in recipe.stages:
        workers, within = one.config.workers, one.config.shard_within
        if one.config.sharding == "fsdp" and within and workers % within:
            raise ValueError(
                f"stage {one.name!r}: shard_within {within} does not divide the {workers} workers: set it to "
                "0 or to one of their divisors"
            )


def _counted(recipe: Recipe, pipeline: GoTPipeline, config: BudgetConfig) -> Iterator[Counted]:
    """Of each stage; ``pipeline`` is an empty one, used up by the first."""
    known: dict[tuple[Any, ...], Counted] = {}
    for one in recipe.stages:
        key = way_of_computing(one)
        if key not in known:
            fresh = empty_pipeline(recipe.model) if known else pipeline
            known[key] = Counted.of(fresh, recipe.model, one, config)
        yield known[key]


def _share_of_edits(stage: StageConfig) -> float:
    return sum(share for name, share in stage.mixture.items() if group_kind(name) != "t2i")


def _decoders(stage: StageConfig, config: BudgetConfig) -> int | None:
    """Of a worker, where they are not assumed."""
    return config.expected.decoders if "decoders" in config.known else stage.decoders or None


def _plan_stage(name: str, facts: Facts, config: BudgetConfig) -> StagePlan:
    stage, layout = facts.stage, facts.stage.layout()
    clocks = _clocks(facts, config)
    expected = clocks["expected"]
    passes, encodings = expected.flops_of_a_pass()
    totals = {case: clock.total() for case, clock in clocks.items()}
    return StagePlan(
        name,
        stage.steps,
        layout.workers,
        layout.batch_size,
        layout.accumulation,
        layout.workers * layout.accumulation * (passes + encodings),
        encodings / (passes + encodings),
        totals["expected"],
        totals["favourable"],
        totals["unfavourable"],
        totals["from_latents"],
        expected.latents_ahead(MILLION),
        totals["expected"] * config.gpu.price_per_hour,
        _lines(clocks),
        tuple(memory_of(facts, config.gpu)),
    )


def _clocks(facts: Facts, config: BudgetConfig) -> dict[str, Clock]:
    cases = {name: getattr(config, name) for name in ("expected", "favourable", "unfavourable")}
    latents = reads_latents(facts.stage)
    clocks = {name: Clock(facts, assumed, config.gpu, latents=latents) for name, assumed in cases.items()}
    return clocks | {"from_latents": Clock(facts, config.expected, config.gpu, latents=True)}


def _lines(clocks: dict[str, Clock]) -> tuple[Line, ...]:
    lines = {case: clock.lines() for case, clock in clocks.items()}
    hours = {
        case: {name: clocks[case].gpu_hours(line.seconds) for name, line in found.items()}
        for case, found in lines.items()
    }
    return tuple(
        Line(name=name, how=line.how, **{case: hours[case][name] for case in hours})
        for name, line in lines["expected"].items()
    )


def _sensitivity(facts: Sequence[Facts], config: BudgetConfig) -> tuple[Sensitivity, ...]:
    """Of each assumption that is not the same in all three sets."""

    def hours(assumed: Assumptions) -> float:
        clocks = (Clock(one, assumed, config.gpu, latents=reads_latents(one.stage)) for one in facts)
        return sum(clock.total() for clock in clocks)

    found = []
    for one in fields(Assumptions):
        low, high = (getattr(case, one.name) for case in (config.favourable, config.unfavourable))
        if low != high:
            ends = [hours(replace(config.expected, **{one.name: value})) for value in (low, high)]
            found.append(Sensitivity(one.name, *ends))
    return tuple(sorted(found, key=lambda one: -one.width))
