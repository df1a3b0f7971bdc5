"""Plans of a model judged without any drawing, and its guidance grid.

Belongs here: from names to files. Not here: judging plans (`got_core.evaluate.apart`), the grid
(`got_core.evaluate.guidance_grid`), drawing and judging pictures (`score_steps`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from got_core.evaluate.guidance_grid.config import GuidanceGridConfig
from got_core.evaluate.guidance_grid.prompts import grid_prompts
from got_core.evaluate.published.apart import plans_of
from got_core.evaluate.suite import sampler_arguments
from got_core.inference.any_model import found_model
from got_core.inference.score_steps import Drawing, Setup, benchmark_of, model_drawer, opened_benchmark

if TYPE_CHECKING:
    from got_core.storage import Storage

PLANS, ROWS, FIGURES = "kept", "plans", "plans.json"
"""Names in a folder: the plans as written, one row each, and what they come to."""


def plan(name: str, model: str, out: Storage, setup: Setup, drawing: Drawing) -> dict[str, Any]:
    """Write a model's plan for each prompt of a benchmark, judge them, and write rows and figures to `out`.

    Nothing is drawn, and no network that judges is needed. Plans of the model that are there are not written
    again. Raises ValueError for an unknown benchmark before anything is loaded, for a model that writes no
    plans, and for a folder with the figures of another model; NothingApartError for a benchmark that says
    nothing about plans.
    """
    opened = opened_benchmark(benchmark_of(name), setup, networks=False)
    with found_model(model, setup.models) as found, model_drawer(found, setup, drawing) as drawer:
        _check_owner(out, name, found.weights_hash)
        made = plans_of(
            opened,
            drawer,
            out,
            prefix=PLANS,
            weights_hash=found.weights_hash,
            sampler=drawing.sampler,
            progress=lambda done, total: setup.report(f"{name}: {done} of {total} plans"),
        )
    about = {"benchmark": name, "model": found.name, "weights_hash": found.weights_hash}
    out.write_table(ROWS, made.rows)
    out.write_json(FIGURES, {**made.figures, **about})
    return {**made.figures, **about}


def _check_owner(out: Storage, name: str, weights_hash: str) -> None:
    """Raise ValueError where a folder holds the figures of another benchmark or of other weights."""
    if not out.exists(FIGURES):
        return
    owner = out.read_json(FIGURES)
    if (owner.get("benchmark"), owner.get("weights_hash")) != (name, weights_hash):
        raise ValueError(
            f"{out.url_of(FIGURES)} has the plans of {owner.get('model')} for {owner.get('benchmark')}, "
            "not of this model for this benchmark: give --out another folder"
        )


def guidance(
    config: GuidanceGridConfig, model: str, out: Storage, setup: Setup, drawing: Drawing
) -> dict[str, Any]:
    """Draw a model's guidance grid into a folder, and judge it where the benchmark's judge is there.

    What is there is not drawn again. Returns the grid's document with `model`. Raises ValueError for an
    unknown benchmark before anything is loaded, and for a model whose pictures do not depend on the scales.
    """
    from got_core.evaluate.guidance_grid.grid import draw_guidance_grid

    recipe = setup.recipe
    prompts = grid_prompts(config, recipe.world, recipe.evaluate, setup.benchmarks, device=drawing.device)
    with found_model(model, setup.models) as found, model_drawer(found, setup, drawing) as drawer:
        grid = draw_guidance_grid(
            drawer,
            prompts,
            config,
            out,
            found.weights_hash[:12],
            weights_hash=found.weights_hash,
            sampler=sampler_arguments(recipe.evaluate) | dict(drawing.sampler),
            progress=lambda done, total: setup.report(f"{prompts.name}: {done} of {total} pictures"),
        )
    return {**grid.document, "model": found.name, "place": out.url}
