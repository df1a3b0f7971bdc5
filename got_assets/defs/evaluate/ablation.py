"""The ablation: models of their own, from the foundation models of the main graph, scored and compared.

Not part of `make run` nor of the retraining job: `make ablation` makes it.
"""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import time
from typing import Any

import dagster as dg
import polars as pl

from got_assets.clustered import clustered
from got_assets.defs.train.assets import model_result, training_run
from got_assets.pools import TRAINING
from got_assets.project import PROJECT, Project, code_version
from got_assets.reporting import column_schema, markdown_table, stored_image, table_result
from got_assets.scored import check_ablation
from got_core.ablation.schemas import TABLE, TRIALS

_RECIPE = PROJECT.recipe
PLOT = "ablation.png"


def ablation_foundation_asset() -> dg.AssetsDefinition:
    """The asset of the foundation models that know nothing of GoT, where the recipe asks for them."""

    @dg.asset(
        group_name="evaluate",
        kinds={"pytorch", "ray"},
        owners=["team:model"],
        pool=TRAINING,
        code_version=code_version(2, _RECIPE.model, _RECIPE.ablation.start_of(_RECIPE.foundation)),
    )
    @clustered
    def ablation_foundation(
        context: dg.AssetExecutionContext,
        project: dg.ResourceParam[Project],
        training_manifest: pl.DataFrame,
    ) -> dg.MaterializeResult[dict[str, Any]]:
        """What the ablation starts from in place of `foundation_models`: small parts that know language,
        where named objects are and how to draw from words, but no chains, canvases or sources, as the paper's
        published weights."""
        from got_core.ablation.trials import train_without_got

        check_ablation(project)
        started = time.monotonic()
        model = train_without_got(training_run(context, project, training_manifest))
        return model_result(project, model, started)

    return ablation_foundation


ablation_foundations = [ablation_foundation_asset()] if _RECIPE.ablation.without_got else []
START = "ablation_foundation" if ablation_foundations else "foundation_models"


@dg.asset(
    ins={"start": dg.AssetIn(START)},
    group_name="evaluate",
    kinds={"pytorch", "ray"},
    owners=["team:model"],
    code_version=code_version(
        4,
        _RECIPE.model,
        *(stage.identity() for stage in _RECIPE.stages),
        *(_RECIPE.ablation, _RECIPE.evaluate.measuring(), _RECIPE.world),
    ),
    metadata=column_schema(TRIALS),
)
@clustered
def ablation_runs(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    training_manifest: pl.DataFrame,
    start: dict[str, Any],
) -> dg.MaterializeResult[pl.DataFrame]:
    """Every row of the ablation, trained from the same foundation models with each seed and scored with
    `geneval/scenes`, and with `edits/scenes` where the recipe says so.

    Runs train side by side where there is room. A finished one is found, an interrupted one goes on.
    """
    from got_core.ablation.trials import run_trials

    check_ablation(project)
    started = time.monotonic()
    trials = run_trials(training_run(context, project, training_manifest), start)
    shown = trials.select("row", "seed", "overall", "plans_right", "edits", "steps", "cpu_seconds")
    return table_result(
        trials,
        rows_in=trials.height,
        started=started,
        rejected=pl.lit(False),
        runs=markdown_table(shown.columns, shown.iter_rows()),
        most_cpu_seconds=float(trials["cpu_seconds"].max()),  # type: ignore[arg-type]
    )


@dg.asset(
    group_name="evaluate",
    kinds={"polars"},
    owners=["team:model"],
    code_version=code_version(2),
    metadata=column_schema(TABLE),
)
def ablation(
    project: dg.ResourceParam[Project], ablation_runs: pl.DataFrame
) -> dg.MaterializeResult[pl.DataFrame]:
    """What chain, painted boxes and pretraining each add: mean and spread over the seeds, beside the paper's
    table."""
    from got_core.ablation.table import HEADER, plot, spelled, summarise

    started = time.monotonic()
    table = summarise(ablation_runs)
    project.storage.write_bytes(PLOT, plot(ablation_runs, table))
    return table_result(
        table,
        rows_in=table.height,
        started=started,
        rejected=pl.lit(False),
        table=markdown_table(HEADER, spelled(table)),
        plot=stored_image(project.storage, PLOT),
    )
