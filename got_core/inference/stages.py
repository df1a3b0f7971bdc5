"""What each stage of a run added, with as many pictures as a claim needs.

Belongs here: from the models that a home holds to files. Not here: drawing, judging and figures
(`got_core.evaluate.stages`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from got_core.evaluate.benchmarks import benchmarks_named
from got_core.evaluate.protocol import protocol_figures
from got_core.evaluate.stages.figures import stage_figures
from got_core.evaluate.stages.grid import stage_grid
from got_core.evaluate.stages.models import StageModel, stage_model
from got_core.evaluate.stages.plot import stage_plot
from got_core.evaluate.stages.scoring import stage_rows

if TYPE_CHECKING:
    from got_core.recipes import Recipe
    from got_core.storage import Storage

ROWS, FIGURES, PLOT, GRID = "stages", "stages.json", "stages.png", "stages-pictures.png"
"""Names in a folder: a row for each model and picture, what they come to, and two pictures."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is drawn. Raises ValueError for less than one of anything."""

    images_per_task: int = 100
    """Prompts of each of the six tasks of `geneval/scenes`."""

    edits: int = 600
    """Edits of `edits/scenes`, over all kinds."""

    sampling_seeds: int = 3
    """How often each is drawn, with noise of its own."""

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")


def run_models(recipe: Recipe, storage: Storage) -> list[StageModel]:
    """The foundation and the model of each stage, as they were made last.

    Raises FileNotFoundError, which names it, where the storage has no model of a stage.
    """
    assets = {"foundation": "foundation_models", **{one.title: one.asset for one in recipe.stages}}
    if missing := [name for name in assets.values() if not storage.exists(f"{name}.json")]:
        raise FileNotFoundError(
            f"{storage.url} has no {' and no '.join(missing)} yet: make them with `got run` in this home"
        )
    seed = recipe.stages[0].config.seed
    return [
        stage_model(title, storage.read_json(f"{asset}.json"), storage, recipe.model, seed)
        for title, asset in assets.items()
    ]


def score_stages(
    recipe: Recipe,
    storage: Storage,
    out: Storage,
    size: Size,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Draw and judge for all models of a home's run, and write rows, figures, plot and pictures to `out`.

    `storage`: of the home. Pictures are kept in `out` and are not drawn again. Returns the figures. Raises
    ValueError for a recipe of photographs, and as `run_models`.
    """
    if not recipe.draws_scenes:
        raise ValueError(recipe.no_scenes("stages are compared by geneval/scenes and edits/scenes"))
    config = dataclasses.replace(
        recipe.evaluate,
        images_per_task=size.images_per_task,
        edit_images=size.edits,
        sampling_seeds=tuple(range(size.sampling_seeds)),
        repair="off",
        keep_outside="off",
    )
    models, benchmarks = run_models(recipe, storage), benchmarks_named([])
    what = (benchmarks, recipe.world, config, out)
    rows = stage_rows(models, *what, progress=report)
    protocols = {one.name: protocol_figures(one.protocol(recipe.world, config)) for one in benchmarks}
    document = {
        **stage_figures(rows),
        "models": {one.title: one.weights_hash for one in models},
        "protocols": {name: one["protocol_record"] for name, one in protocols.items()},
    }
    out.write_table(ROWS, rows)
    out.write_bytes(PLOT, stage_plot(document))
    out.write_bytes(GRID, stage_grid(models, *what))
    out.write_json(FIGURES, document)
    return document


def files(out: Storage) -> Mapping[str, str]:
    """What was written, by what it is."""
    return {
        "figures": out.url_of(FIGURES),
        "plot": out.url_of(PLOT),
        "pictures": out.url_of(GRID),
        "rows": out.url_of(f"{ROWS}.parquet"),
    }
