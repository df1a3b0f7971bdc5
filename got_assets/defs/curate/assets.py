"""Which rows are good enough to train on. Selections are ids and reasons; the rows stay where they are."""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import time
from collections.abc import Mapping

import dagster as dg
import polars as pl

from got_assets.defs.annotate.assets import edit_chains, t2i_chains
from got_assets.defs.ingest.assets import edit_pairs, raw_images
from got_assets.defs.ingest.partitions import EDIT_SHARDS, IMAGE_SHARDS
from got_assets.io import ShardTables
from got_assets.project import PROJECT, Project, code_version
from got_assets.reporting import column_schema, markdown_table, reason_counts, table_result
from got_assets.staleness import inputs_tag
from got_core.curate import schemas

IMAGE_INPUTS = ("t2i_selection", "t2i_chains", "raw_images")
EDIT_INPUTS = ("edit_selection", "edit_chains", "edit_pairs")
_REJECTED = ~pl.col("accepted")


@dg.asset(
    partitions_def=IMAGE_SHARDS,
    group_name="curate",
    kinds={"polars"},
    owners=["team:data"],
    code_version=code_version(1, PROJECT.recipe.curate),
    metadata=column_schema(schemas.SELECTION),
)
def t2i_selection(
    project: dg.ResourceParam[Project], t2i_chains: pl.DataFrame, raw_images: pl.DataFrame
) -> dg.MaterializeResult[pl.DataFrame]:
    """Verdict on every text-to-image chain of a shard; a rejected one names the first rule against it."""
    from got_core.curate.rules import select_t2i

    started = time.monotonic()
    frame = select_t2i(t2i_chains, raw_images, project.recipe.curate)
    rules = reason_counts(frame, "rule")
    return table_result(frame, rows_in=t2i_chains.height, started=started, rejected=_REJECTED, rules=rules)


@dg.asset(
    partitions_def=EDIT_SHARDS,
    group_name="curate",
    kinds={"polars"},
    owners=["team:data"],
    code_version=code_version(1, PROJECT.recipe.curate),
    metadata=column_schema(schemas.SELECTION),
)
def edit_selection(
    project: dg.ResourceParam[Project], edit_chains: pl.DataFrame, edit_pairs: pl.DataFrame
) -> dg.MaterializeResult[pl.DataFrame]:
    """Verdict on every edit chain of a shard; a rejected one names the first rule that rejected it."""
    from got_core.curate.rules import select_edits

    started = time.monotonic()
    frame = select_edits(edit_chains, edit_pairs, project.recipe.curate)
    rules = reason_counts(frame, "rule")
    return table_result(frame, rows_in=edit_chains.height, started=started, rejected=_REJECTED, rules=rules)


@dg.asset(
    deps=[t2i_selection, t2i_chains, raw_images, edit_selection, edit_chains, edit_pairs],
    group_name="curate",
    kinds={"polars"},
    owners=["team:data"],
    code_version=code_version(1, PROJECT.recipe.curate, PROJECT.recipe.ingest),
    metadata=column_schema(schemas.MANIFEST),
)
def training_manifest(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> dg.MaterializeResult[pl.DataFrame]:
    """The explicit list of samples that training reads: the accepted rows of the accepted shards.

    A shard that is missing a step or has too many quarantined rows is left out by name and stops nothing
    else. Samples are sorted by id and appear once, however many shards hold the same image.
    """
    from got_core.curate.manifest import build_manifest

    started = time.monotonic()
    inputs = dict.fromkeys(IMAGE_INPUTS, IMAGE_SHARDS) | dict.fromkeys(EDIT_INPUTS, EDIT_SHARDS)
    tags = inputs_tag(context.instance, inputs)
    images, image_notes = _accepted(context, project, IMAGE_SHARDS, IMAGE_INPUTS)
    edits, edit_notes = _accepted(context, project, EDIT_SHARDS, EDIT_INPUTS)
    frame = build_manifest(images, edits)
    notes = {**image_notes, **edit_notes}
    selected = sum(int(tables[0]["accepted"].sum()) for tables in [*images.values(), *edits.values()])
    return table_result(
        frame,
        rows_in=selected,
        started=started,
        rejected=pl.lit(False),
        shards_used=len(images) + len(edits),
        shards_left_out=len(notes),
        left_out=markdown_table(["shard", "why"], notes.items()),
        kinds=reason_counts(frame, "kind"),
        tags=tags,
    )


Tables = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]


def _accepted(
    context: dg.AssetExecutionContext,
    project: Project,
    partitions: dg.DynamicPartitionsDefinition,
    assets: tuple[str, str, str],
) -> tuple[Mapping[str, Tables], dict[str, str]]:
    """Tables of each accepted shard, and why each other one is left out. `assets` ends with the ingested."""
    from got_core.curate.verdict import shard_verdict

    shards = sorted(context.instance.get_dynamic_partitions(str(partitions.name)))
    stored = [ShardTables(project.storage, asset, shards) for asset in assets]
    accepted: dict[str, Tables] = {}
    left_out: dict[str, str] = {}
    for shard in shards:
        missing = [asset for asset, tables in zip(assets, stored, strict=True) if shard not in tables]
        if missing:
            left_out[shard] = f"no {', no '.join(missing)}"
            continue
        selection, chains, source = (tables[shard] for tables in stored)
        passed, _, text = shard_verdict({assets[2]: source}, project.recipe.ingest.max_error_share)
        if passed:
            passed, _, text = shard_verdict({assets[1]: chains}, project.recipe.curate.max_error_share)
        if passed and not _fit_together(selection, chains, source):
            passed, text = (
                False,
                "its tables do not fit together: a step above was made again and stopped there",
            )
        if passed:
            accepted[shard] = (selection, chains, source)
        else:
            left_out[shard] = text
    return accepted, left_out


def _fit_together(selection: pl.DataFrame, chains: pl.DataFrame, source: pl.DataFrame) -> bool:
    """Whether every accepted chain, and the image or pair that it is about, is still in the tables."""
    chosen = selection.filter(pl.col("accepted"))
    good = source.filter(pl.col("error").is_null())
    item = "pair_id" if "pair_id" in source.columns else "image_id"
    return bool(
        chosen["chain_id"].is_in(chains["chain_id"].implode()).all()
        and chosen["item_id"].is_in(good[item].implode()).all()
    )
