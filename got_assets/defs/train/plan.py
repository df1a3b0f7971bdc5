"""What the recipe's training will need, before anything is annotated or trained.

Reads no pictures: where ingested ones come from, whether the mixtures of all stages can be drawn, how large
files are, and how many boxes chains have that are there already.
"""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import dagster as dg
import polars as pl
from pydantic import TypeAdapter

from got_assets.clustered import elsewhere
from got_assets.defs.ingest.assets import edit_pairs, raw_images
from got_assets.defs.ingest.partitions import EDIT_SHARDS, IMAGE_SHARDS
from got_assets.event_log import inputs_tag
from got_assets.names import value_name
from got_assets.project import PROJECT, Project, code_version
from got_assets.reporting import document_hash, document_result, markdown_table
from got_assets.scored import check_benchmarks
from got_core.budget.config import Accelerator, BudgetConfig
from got_core.figures.markdown import markdown_text

_RECIPE = PROJECT.recipe
_GPU = Accelerator()
_INGESTED = {"raw_images": (IMAGE_SHARDS, "t2i"), "edit_pairs": (EDIT_SHARDS, "edit")}
"""Shards of an ingested table, and the kind of samples that its rows become."""


_CHAINS = {"t2i_chains": (IMAGE_SHARDS, "t2i"), "edit_chains": (EDIT_SHARDS, "edit")}
"""The same of a table of annotated chains."""
_MANIFEST = "training_manifest"


class PlanConfig(dg.Config):
    """The GPU that is to be used, what an hour of it costs, and rates that are known of the cluster."""

    gpu: str = _GPU.name
    memory_gb: float = _GPU.memory_gb
    peak_tflops: float = _GPU.peak_tflops
    price_per_hour: float = _GPU.price_per_hour
    utilisation: float | None = None
    link_gb: float | None = None
    read_gb: float | None = None
    write_gb: float | None = None
    decoders: int | None = None

    def budget(self) -> BudgetConfig:
        """The assumptions of a plan; a rate that is given is one that is known (see ``Assumptions``)."""
        gpu = Accelerator(
            name=self.gpu,
            memory_gb=self.memory_gb,
            peak_tflops=self.peak_tflops,
            price_per_hour=self.price_per_hour,
        )
        rates = ("utilisation", "link_gb", "read_gb", "write_gb", "decoders")
        known = {name: value for name in rates if (value := getattr(self, name)) is not None}
        return BudgetConfig(gpu=gpu).knowing(known)


class _Mixtures(NamedTuple):
    page: dg.MarkdownMetadataValue
    edits: dict[str, float]
    """Share of edits by stage, where the mixtures are resolved."""


@dg.asset(
    deps=[raw_images, edit_pairs],
    group_name="train",
    kinds={"pytorch"},
    owners=["team:model"],
    code_version=code_version(4, _RECIPE.model, *(stage.whole() for stage in _RECIPE.stages)),
)
def training_plan(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project], config: PlanConfig
) -> dg.MaterializeResult[dict[str, Any]]:
    """Parameters, memory a GPU, operations, GPU hours and cost of the recipe's stages, worked out from
    shapes; and what their mixtures would draw.

    The real model and its joint loss are run without memory and without data; GPU, price and rates are
    configuration of the run. Boxes a sample and sizes of files are those of the data, as far as it is there
    when the plan is made. A mixture that names a source which no ingested picture has is an error, before
    annotation is paid for, and so are benchmarks that cannot score its models.
    """
    started = time.monotonic()
    check_benchmarks(project)
    tags = inputs_tag(context.instance, {asset: shards for asset, (shards, _) in _INGESTED.items()})
    mixtures = resolved_mixtures(context.instance, project)
    budget = _measured(config.budget(), context.instance, project)
    known = {"budget": TypeAdapter(BudgetConfig).dump_python(budget, mode="json"), "edits": mixtures.edits}
    made = elsewhere(worked_out, project, known)
    document = made["document"]
    return document_result(
        document,
        version=document_hash(document),
        started=started,
        **made["figures"],
        **{name: dg.MetadataValue.md(text) for name, text in made["pages"].items()},
        mixtures=mixtures.page,
        tags=tags,
    )


def worked_out(project: Project, known: dict[str, Any]) -> dict[str, Any]:
    """The plan as a document, its sums and its pages, from a budget and from the shares of edits by stage.

    Needs torch, for the shapes, and nothing of Dagster: it may run in another process than the step.
    """
    from got_core.budget import page
    from got_core.budget.plan import make_plan

    budget = TypeAdapter(BudgetConfig).validate_python(known["budget"])
    plan = make_plan(project.recipe, budget, known["edits"])
    low, high = plan.gpu_hours
    figures = {
        "parameters": sum(part.parameters for part in plan.parts),
        "trained": sum(part.trained for part in plan.parts),
        "gpu_hours": sum(stage.gpu_hours for stage in plan.stages),
        "gpu_hours_favourable": low,
        "gpu_hours_unfavourable": high,
        "cost": sum(stage.cost for stage in plan.stages),
    }
    pages = {
        "parts": page.parts_table(plan),
        "runs": page.steps_table(plan),
        "memory": page.memory_table(plan),
        "hours_and_cost": page.hours_page(plan),
    }
    # What a reader of the stored document gets: lists, not tuples.
    document = json.loads(json.dumps(plan.to_dict()))
    return {"document": document, "figures": figures, "pages": pages}


def _measured(budget: BudgetConfig, instance: dg.DagsterInstance, project: Project) -> BudgetConfig:
    """The assumptions with what the stored data says of boxes and files."""
    from got_core.budget.data import known_of, pictures_of

    boxes, notes, rows = _boxes(instance, project)
    pictures = [pictures_of(table) for table in _stored(instance, project, "raw_images", IMAGE_SHARDS)]
    sums = {name: sum(one[name] for one in pictures) for name in ("pictures", "pixels", "bytes")}
    known = known_of(boxes, sums, project.recipe.model.resolution)
    if "bytes_per_pixel" in known:
        notes.append(f"files of {sums['pictures']:,.0f} ingested images")
    return replace(budget.knowing(known), rows=rows, measured="; ".join(notes))


def _boxes(
    instance: dg.DagsterInstance, project: Project
) -> tuple[dict[str, pl.DataFrame], list[str], int | None]:
    """Boxes by kind of the manifest, else of annotated chains; a note of it; and rows of the manifest."""
    from got_core.budget.data import boxes_by_kind, boxes_of_chains

    if project.storage.exists(f"{_MANIFEST}.parquet"):
        boxes = boxes_by_kind(project.storage.scan_table(_MANIFEST))
        rows = sum(int(table["rows"].sum()) for table in boxes.values())
        return boxes, [f"boxes of the training manifest's {rows:,} samples"], rows
    chains: dict[str, list[pl.DataFrame]] = {}
    for asset, (shards, kind) in _CHAINS.items():
        tables = [boxes_of_chains(table) for table in _stored(instance, project, asset, shards)]
        chains[kind] = [table for table in tables if not table.is_empty()]
    boxes = {kind: pl.concat(tables) for kind, tables in chains.items() if tables}
    return boxes, [f"boxes of annotated chains ({', '.join(boxes)})"] if boxes else [], None


def _stored(
    instance: dg.DagsterInstance, project: Project, asset: str, shards: dg.DynamicPartitionsDefinition
) -> Iterator[pl.LazyFrame]:
    """Tables of an asset's shards that are there."""
    for shard in shards.get_partition_keys(dynamic_partitions_store=instance):
        name = value_name(asset, shard)
        if project.storage.exists(f"{name}.parquet"):
            yield project.storage.scan_table(name)


def resolved_mixtures(instance: dg.DagsterInstance, project: Project) -> _Mixtures:
    """What each stage would draw if every ingested image and pair were annotated and accepted.

    Raises one ValueError where a mixture does not go with what is ingested. Chains of imported sets may state
    sources of their own: the manifest tells.
    """
    from got_core.train.mixture import HEADER, INGESTED, group_kind, mixture_table, resolve_stages

    sources = _ingested(instance, project)
    if sources.is_empty():
        return _Mixtures(dg.MetadataValue.md("not resolved yet: nothing is ingested"), {})
    try:
        resolved = resolve_stages(project.recipe, sources, INGESTED)
    except ValueError as error:
        if project.settings.chains_imported:
            return _Mixtures(dg.MetadataValue.md(f"not resolved yet: {markdown_text(str(error))}"), {})
        raise
    header = [*HEADER]
    header[header.index("rows")] = "rows at most"
    edits = {
        stage: sum(group.share for group in groups if group_kind(group.name) != "t2i")
        for stage, groups in resolved.items()
    }
    return _Mixtures(markdown_table(header, mixture_table(resolved)), edits)


def _ingested(instance: dg.DagsterInstance, project: Project) -> pl.DataFrame:
    """Sources of all good rows that are ingested so far."""
    from got_core.train.mixture import counted, ingested_sources

    tables = [
        ingested_sources(table, kind)
        for asset, (shards, kind) in _INGESTED.items()
        for table in _stored(instance, project, asset, shards)
    ]
    return counted(tables)
