"""What the recipe's training will need, before anything is annotated or trained.

Reads no data but where ingested pictures come from: whether the mixtures of all stages can be drawn.
"""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import json
import time
from typing import Any

import dagster as dg
import polars as pl

from got_assets.defs.ingest.assets import edit_pairs, raw_images
from got_assets.defs.ingest.partitions import EDIT_SHARDS, IMAGE_SHARDS
from got_assets.io import value_name
from got_assets.project import PROJECT, Project, code_version
from got_assets.reporting import document_hash, document_result, markdown_table
from got_assets.staleness import inputs_tag
from got_core.budget.config import Accelerator, BudgetConfig

_RECIPE = PROJECT.recipe
_GPU = Accelerator()
_INGESTED = {"raw_images": (IMAGE_SHARDS, "t2i"), "edit_pairs": (EDIT_SHARDS, "edit")}
"""Shards of an ingested table, and the kind of samples that its rows become."""


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
    deps=[raw_images, edit_pairs],
    group_name="train",
    kinds={"pytorch"},
    owners=["team:model"],
    code_version=code_version(3, _RECIPE.model, *(stage.version() for stage in _RECIPE.stages)),
)
def training_plan(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project], config: PlanConfig
) -> dg.MaterializeResult[dict[str, Any]]:
    """Parameters, memory a GPU, operations, GPU hours and cost of the recipe's stages, worked out from
    shapes; and what their mixtures would draw.

    The real model and its joint loss are run without memory and without data; GPU and price are
    configuration of the run. A mixture that names a source which no ingested picture has is an error, before
    annotation is paid for.
    """
    from got_core.budget.page import cost_table, memory_table, parts_table, steps_table
    from got_core.budget.plan import make_plan

    started = time.monotonic()
    tags = inputs_tag(context.instance, {asset: shards for asset, (shards, _) in _INGESTED.items()})
    mixtures = mixtures_page(context.instance, project)
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
        mixtures=mixtures,
        tags=tags,
    )


def mixtures_page(instance: dg.DagsterInstance, project: Project) -> dg.MarkdownMetadataValue:
    """What each stage would draw if every ingested image and pair were annotated and accepted.

    Raises one ValueError where a mixture does not go with what is ingested. Chains of imported sets may state
    sources of their own: the manifest tells.
    """
    from got_core.train.mixture import HEADER, INGESTED, mixture_table, resolve_stages

    sources = _ingested(instance, project)
    if sources.is_empty():
        return dg.MetadataValue.md("not resolved yet: nothing is ingested")
    try:
        resolved = resolve_stages(project.recipe, sources, INGESTED)
    except ValueError as error:
        if project.settings.chains_imported:
            return dg.MetadataValue.md(f"not resolved yet: {error}")
        raise
    header = [*HEADER]
    header[header.index("rows")] = "rows at most"
    return markdown_table(header, mixture_table(resolved))


def _ingested(instance: dg.DagsterInstance, project: Project) -> pl.DataFrame:
    """Sources of all good rows that are ingested so far."""
    from got_core.train.mixture import counted, ingested_sources

    storage, tables = project.storage, []
    for asset, (partitions, kind) in _INGESTED.items():
        shards = partitions.get_partition_keys(dynamic_partitions_store=instance)
        names = [value_name(asset, shard) for shard in shards]
        there = [name for name in names if storage.exists(f"{name}.parquet")]
        tables += [ingested_sources(storage.scan_table(name), kind) for name in there]
    return counted(tables)
