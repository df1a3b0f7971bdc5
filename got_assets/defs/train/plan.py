"""What the recipe's training will need, before anything is trained. Reads no data."""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import json
import time
from typing import Any

import dagster as dg

from got_assets.project import PROJECT, Project, code_version
from got_assets.reporting import document_hash, document_result
from got_core.budget.config import Accelerator, BudgetConfig

_RECIPE = PROJECT.recipe
_GPU = Accelerator()


class PlanConfig(dg.Config):
    """The GPU that is to be used, and what an hour of it costs."""

    gpu: str = _GPU.name
    memory_gb: float = _GPU.memory_gb
    peak_tflops: float = _GPU.peak_tflops
    utilisation: float = _GPU.utilisation
    price_per_hour: float = _GPU.price_per_hour

    def budget(self) -> BudgetConfig:
        """The assumptions of a plan."""
        given = self.model_dump()
        return BudgetConfig(gpu=Accelerator(name=given.pop("gpu"), **given))


@dg.asset(
    group_name="train",
    kinds={"pytorch"},
    owners=["team:model"],
    code_version=code_version(3, _RECIPE.model, *(stage.version() for stage in _RECIPE.stages)),
)
def training_plan(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project], config: PlanConfig
) -> dg.MaterializeResult[dict[str, Any]]:
    """Parameters, memory a GPU, operations, GPU hours and cost of the recipe's stages, worked out from
    shapes.

    The real model and its joint loss are run without memory and without data; GPU and price are
    configuration of the run.
    """
    from got_core.budget.page import cost_table, memory_table, parts_table, steps_table
    from got_core.budget.plan import make_plan

    started = time.monotonic()
    plan = make_plan(project.recipe, config.budget())
    # What a reader of the stored document gets: lists, not tuples.
    document = json.loads(json.dumps(plan.to_dict()))
    return document_result(
        document,
        version=document_hash(document),
        started=started,
        parameters=sum(part.parameters for part in plan.parts),
        trained=sum(part.trained for part in plan.parts),
        gpu_hours=sum(stage.gpu_hours for stage in plan.stages),
        cost=sum(stage.cost for stage in plan.stages),
        parts=dg.MetadataValue.md(parts_table(plan)),
        runs=dg.MetadataValue.md(steps_table(plan)),
        memory=dg.MetadataValue.md(memory_table(plan)),
        hours_and_cost=dg.MetadataValue.md(cost_table(plan)),
    )
