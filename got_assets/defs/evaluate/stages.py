"""What each stage of the training added: its models on the same requests, a few in every run of the graph."""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import time
from typing import Any

import dagster as dg

from got_assets.clustered import clustered
from got_assets.project import PROJECT, Project, code_version
from got_assets.reporting import document_hash, document_result, log_progress, markdown_table, stored_image

_RECIPE = PROJECT.recipe
_REQUESTS = _RECIPE.evaluate.stage_requests
_SCORED = [key for key, name in _RECIPE.evaluate.assets.items() if name in _REQUESTS]
STAGES = {"foundation": "foundation_models", **{one.title: one.asset for one in _RECIPE.stages}}
"""Assets of the models by what a stage is called, in the order of training."""
PLOT, GRID = "stage_scores.png", "stage_pictures.png"


def stage_asset() -> dg.AssetsDefinition:
    """The asset that compares the models of all stages."""

    @dg.asset(
        # After the benchmarks of the last model, whose pictures are taken from there.
        ins={name: dg.AssetIn(name) for name in (*STAGES.values(), *_SCORED)},
        group_name="evaluate",
        kinds={"pytorch"},
        owners=["team:model"],
        code_version=code_version(
            1, _RECIPE.evaluate.measuring(), _RECIPE.evaluate.stage_images, _RECIPE.world
        ),
    )
    @clustered
    def stage_scores(
        project: dg.ResourceParam[Project], **models: dict[str, Any]
    ) -> dg.MaterializeResult[dict[str, Any]]:
        """The foundation alone, and the model of each stage: right plans, right pictures, and right pictures
        from the same right plans, of text to image and of edits.

        A few requests of each task (`EvaluateConfig.stage_images`), the first ones of the benchmarks; `got
        score stages` does the same with many. Pictures that are there are not drawn again.
        """
        return _scored(project, {title: models[asset] for title, asset in STAGES.items()})

    return stage_scores


stage_assets = [stage_asset()] if _SCORED else []


def _scored(project: Project, references: dict[str, dict[str, Any]]) -> dg.MaterializeResult[dict[str, Any]]:
    from got_core.evaluate.benchmarks import benchmarks_named
    from got_core.evaluate.stages.figures import HEADER, spelled, stage_figures
    from got_core.evaluate.stages.grid import stage_grid
    from got_core.evaluate.stages.models import stage_model
    from got_core.evaluate.stages.plot import stage_plot
    from got_core.evaluate.stages.scoring import stage_rows

    started, recipe, storage = time.monotonic(), project.recipe, project.storage
    seed = recipe.stages[0].config.seed
    models = [
        stage_model(title, reference, storage, recipe.model, seed) for title, reference in references.items()
    ]
    what = (benchmarks_named(list(_REQUESTS)), recipe.world, recipe.evaluate, storage)
    rows = stage_rows(models, *what, per_task=_REQUESTS, progress=log_progress)
    document = {
        **stage_figures(rows),
        "models": {one.title: one.weights_hash for one in models},
        "rows": rows.to_dict(as_series=False),
    }
    storage.write_bytes(PLOT, stage_plot(document))
    storage.write_bytes(GRID, stage_grid(models, *what))
    tables: dict[str, Any] = {
        name.replace("/", "_"): markdown_table(HEADER, spelled(one))
        for name, one in document["benchmarks"].items()
    }
    return document_result(
        document,
        version=document_hash(document),
        started=started,
        pictures_judged=rows.height,
        plot=stored_image(storage, PLOT),
        pictures=stored_image(storage, GRID),
        **tables,
    )
