"""How a training plan reads: a page of tables in markdown, or JSON.

Belongs here: words and units. Not here: the numbers (``plan``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from got_core.budget.plan import GB, TrainingPlan


def json_text(plan: TrainingPlan) -> str:
    """Everything that is known of a plan, as JSON."""
    return json.dumps(plan.to_dict(), indent=1)


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
        ("all", "", "", "", f"{hours:,.1f}", f"{sum(s.hours for s in plan.stages):,.1f}", f"{cost:,.0f}")
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
