"""How long a run of the whole graph takes on this machine, said at its start and compared at its end.

    seconds of a phase = units of the recipe x seconds a unit here x cost

Units are steps, pictures, or 1. How long one takes here is measured (`got_core.budget.pace`). The cost of a
phase, how many times the measured work goes into one of its units, is what a whole run took on some machine;
it is kept by recipe in `run_costs.json`, which `got bench bench_run_costs` writes.

Belongs here: units, costs, estimate and record of a run. Not here: measuring phases (`meter`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from got_assets.meter import Meter
from got_assets.project import Project
from got_core.evaluate.config import SCENE_ASSETS
from got_core.recipes import Recipe
from got_core.scenes.config import TASKS

COSTS = Path(__file__).with_name("run_costs.json")
RECORD = "run_times.json"
"""In the home: what the first whole run took."""
FOUNDATION = "foundation_models"
RENDERED, READ = "picture rendered", "picture read"
"""What `got_core.budget.pace` measures beside steps of stages, by their assets."""

Units = dict[str, tuple[str, float]]
"""By phase: whose time is measured, and how many of it there are."""


def units_of(recipe: Recipe, *, trained: bool) -> Units:
    """How much a run of the recipe does; `trained`: whether its foundation models are, or else are taken."""
    pictures = recipe.corpus.images + 2 * recipe.corpus.pairs
    first, last = recipe.stages[0].asset, recipe.stages[-1].asset
    foundation: Units = {FOUNDATION: (first, _foundation_steps(recipe))} if trained else {}
    drawn = _pictures_drawn(recipe)
    return {
        "rendering": (RENDERED, pictures),
        "ingestion": (READ, pictures),
        "annotation": (READ, pictures),
        **foundation,
        **{stage.asset: (stage.asset, stage.config.steps) for stage in recipe.stages},
        **{asset: (last, drawn[asset]) for asset in recipe.evaluate.assets if asset in drawn},
    }


def _foundation_steps(recipe: Recipe) -> float:
    names = [one.name for one in fields(recipe.foundation) if one.name.endswith("_steps")]
    return float(sum(getattr(recipe.foundation, name) for name in names))


def _pictures_drawn(recipe: Recipe) -> dict[str, float]:
    config = recipe.evaluate
    counts = {
        "geneval/scenes": len(TASKS) * config.images_per_task * (1 + (config.repair == "both")),
        "edits/scenes": config.edit_images * (1 + (config.keep_outside == "both")),
        "reason_edit/scenes": config.reason_images,
    }
    seeds = len(config.sampling_seeds)
    return {asset: float(seeds * counts[name]) for asset, name in SCENE_ASSETS.items() if name in counts}


def costs_of(seconds: Mapping[str, float], units: Units, pace: Mapping[str, float]) -> dict[str, float]:
    """The cost of each phase that took so many seconds, where a unit took those of `pace`; what has no units
    counts as one picture read."""
    found = {}
    for phase, took in seconds.items():
        probe, count = units.get(phase, (READ, 1.0))
        if count:
            found[phase] = took / (count * pace[probe])
    return found


def estimate(units: Units, pace: Mapping[str, float], costs: Mapping[str, float]) -> dict[str, float] | None:
    """Seconds by phase; None where the cost of something that the run does is not known."""
    if any(count and phase not in costs for phase, (_, count) in units.items()):
        return None
    found = {}
    for phase, cost in costs.items():
        probe, count = units.get(phase, (READ, 1.0))
        found[phase] = cost * count * pace[probe]
    return found


def known_costs(recipe: str, path: Path = COSTS) -> dict[str, float] | None:
    """Costs of a recipe's phases; None where nobody has measured them."""
    if not path.is_file():
        return None
    one = json.loads(path.read_text()).get(recipe)
    return one["costs"] if one else None


def write_costs(
    recipe: str, costs: Mapping[str, float], about: Mapping[str, Any], path: Path = COSTS
) -> None:
    """Put a recipe's costs into the file, with what is to be known about how they were measured."""
    known = json.loads(path.read_text()) if path.is_file() else {}
    known[recipe] = {**about, "costs": {name: float(f"{cost:.4g}") for name, cost in costs.items()}}
    path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


# ---------------------------------------------------------------- in a run


def trains_foundation(project: Project) -> bool:
    """Whether foundation models are trained here, not taken from somewhere."""
    settings = project.settings
    return not (settings.weights or settings.published or settings.foundation_folder(project.recipe.model))


def begins(project: Project) -> bool:
    """Whether a whole run on rendered scenes and this machine lies ahead, not a rest of one."""
    settings = project.settings
    elsewhere = settings.own_images or settings.ray_address or settings.annotator_name != "scenes"
    return not elsewhere and not project.storage.exists(f"{FOUNDATION}.json")


def say_estimate(project: Project, say: Any) -> float | None:
    """Measure the machine and say how long the run takes; its seconds. None where costs are not known."""
    costs = known_costs(project.recipe.name)
    if costs is None:
        return None
    from got_core.budget.pace import pace

    units = units_of(project.recipe, trained=trains_foundation(project))
    found = estimate(units, pace(project.recipe), costs)
    if found is None:
        return None
    long = sorted(found.items(), key=lambda one: -one[1])[:4]
    parts = ", ".join(f"{phase} {seconds:.0f}" for phase, seconds in long)
    total = sum(found.values())
    say(f"this machine will take about {total / 60:.0f} minutes (seconds: {parts})")
    return total


def write_record(project: Project, meter: Meter) -> None:
    """Keep what a whole run took, for `got bench bench_run_costs`."""
    record = {
        "recipe": project.recipe.name,
        "cores": meter.cores,
        "units": units_of(project.recipe, trained=trains_foundation(project)),
        "seconds": {one.name: one.seconds for one in meter.phases.values()},
        "cpu_seconds": {one.name: one.cpu_seconds for one in meter.phases.values()},
    }
    path = project.settings.home / RECORD
    path.write_text(json.dumps(record, indent=1) + "\n")
