"""How a training plan reads: a page of tables in markdown.

Belongs here: words and units. Not here: the numbers (``plan``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from got_core.budget.config import BoxCounts
from got_core.budget.plan import GB, Line, TrainingPlan


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def markdown(plan: TrainingPlan) -> str:
    """The plan as a page: parts, steps, memory, hours and cost, and what they rest on."""
    return "\n\n".join(
        [
            f"## Training plan of `{plan.recipe}`",
            parts_table(plan),
            steps_table(plan),
            memory_table(plan),
            hours_page(plan),
        ]
    )


def hours_page(plan: TrainingPlan) -> str:
    """Hours and cost: as expected, by what takes them, as an interval, and what that rests on."""
    parts = (cost_table, lines_table, total_text, sensitivity_table, how_list, assumed_text)
    return "\n\n".join(part(plan) for part in parts)


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
    """Hours and cost of the stages as expected."""
    rows: list[Sequence[str]] = [
        (
            stage.name,
            f"{stage.steps:,} x {stage.workers * stage.batch_size * stage.accumulation}",
            _flops(stage.flops_per_step),
            f"{stage.encoding_share:.0%}",
            _number(stage.gpu_hours),
            _number(stage.hours),
            f"{stage.cost:,.0f}",
        )
        for stage in plan.stages
    ]
    sums = [sum(getattr(stage, name) for stage in plan.stages) for name in ("gpu_hours", "hours")]
    cost = sum(stage.cost for stage in plan.stages)
    rows.append(("all", "", "", "", *map(_number, sums), f"{cost:,.0f}"))
    header = ["stage", "steps x samples", "operations a step", "encoding", "GPU hours", "hours", "cost"]
    return table(header, rows)


def lines_table(plan: TrainingPlan) -> str:
    """GPU hours by what takes them: expected, with the interval; and from latents that were made ahead."""
    names = [line.name for line in plan.stages[0].lines]
    rows = [[name, *_cells([stage.lines[k] for stage in plan.stages])] for k, name in enumerate(names)]
    totals = [
        Line(
            name=stage.name,
            expected=stage.gpu_hours,
            favourable=stage.gpu_hours_favourable,
            unfavourable=stage.gpu_hours_unfavourable,
            from_latents=stage.gpu_hours_from_latents,
            how="",
        )
        for stage in plan.stages
    ]
    stages = [column for stage in plan.stages for column in (stage.name, "from latents")]
    return table(["GPU hours", *stages], [*rows, ["all", *_cells(totals)]])


def _cells(lines: Sequence[Line]) -> list[str]:
    cells = []
    for line in lines:
        ends = sorted([line.favourable, line.unfavourable])
        cells += [f"{_number(line.expected)} ({_number(ends[0])} to {_number(ends[1])})"]
        cells += [_number(line.from_latents)]
    return cells


def total_text(plan: TrainingPlan) -> str:
    """The interval of the total, and what latents would change."""
    (low, high), price = plan.gpu_hours, plan.assumptions.gpu.price_per_hour
    first, rows = plan.stages[0], plan.assumptions.rows
    made = first.latents_per_million
    ahead = f"{_number(made)} GPU hours a million samples of {first.name}"
    if rows is not None:
        ahead += f"; the manifest has {rows:,}"
    return (
        f"**{_number(low)} to {_number(high)} GPU hours, cost {low * price:,.0f} to {high * price:,.0f}**: "
        "with all that is assumed in favour, and against; so is the interval of each line. Making latents "
        f"ahead is not in their column: it takes {ahead}. It pays where samples are drawn more than once."
    )


def sensitivity_table(plan: TrainingPlan, shown: int = 5) -> str:
    """What matters most: the total where one assumption is another."""
    sets, rows = plan.assumptions, []
    for one in plan.sensitivity[:shown]:
        values = [
            _value(getattr(case, one.name)) for case in (sets.favourable, sets.expected, sets.unfavourable)
        ]
        rows.append((f"`{one.name}`", *values, f"{_number(one.favourable)} to {_number(one.unfavourable)}"))
    header = ["matters most", "in favour", "expected", "against", "GPU hours, all else as expected"]
    return table(header, rows)


def how_list(plan: TrainingPlan) -> str:
    """How the lines of the first stage are worked out."""
    first = plan.stages[0]
    lines = "\n".join(f"- {line.name}: {line.how}" for line in first.lines)
    return f"How, for {first.name} as expected:\n\n{lines}"


def assumed_text(plan: TrainingPlan) -> str:
    """The GPU, lengths, and what was measured."""
    sets, gpu = plan.assumptions, plan.assumptions.gpu
    boxes = (sets.expected.t2i_boxes.mean, sets.expected.edit_boxes.mean)
    text = (
        f"Assumed: {gpu.name} with {gpu.memory_gb:g} GB and {gpu.peak_tflops:g} TFLOP/s for "
        f"{gpu.price_per_hour:g} an hour, {sets.expected.utilisation:.0%} of it used; "
        f"{sets.prompt_tokens} prompt tokens, {sets.chain_tokens} chain tokens at most, "
        f"{boxes[0]:.3g} boxes a sample ({boxes[1]:.3g} of an edit)."
    )
    return f"{text} Measured: {sets.measured}." if sets.measured else text


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _flops(value: float) -> str:
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9)):
        if value >= size:
            return f"{value / size:.1f} {unit}FLOP"
    return f"{value / 1e6:.1f} MFLOP"


def _number(value: float) -> str:
    """Hours: whole from 100 up, else with a few digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2g}"


def _value(value: float | BoxCounts) -> str:
    return f"{value.mean:.3g} on average" if isinstance(value, BoxCounts) else f"{value:g}"
