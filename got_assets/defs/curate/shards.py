"""Training shards: the accepted rows of a shard with their pictures, as WebDataset tars with an index."""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from got_assets.defs.ingest.partitions import EDIT_SHARDS, IMAGE_SHARDS
from got_assets.defs.lists.sources import names_for
from got_assets.project import PROJECT, Project, code_version
from got_assets.reporting import column_schema, log_progress, reason_counts, table_result
from got_assets.retries import retried
from got_core.corpus.schemas import SHARD_INDEX

if TYPE_CHECKING:
    from got_core.corpus.reader import ImageReader
    from got_core.curate.rules import Kind

Tables = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]

_REPACKED = ("repacked",) if PROJECT.settings.repack_tars else ()


@dg.asset(
    partitions_def=IMAGE_SHARDS,
    group_name="curate",
    kinds={"polars", "file"},
    owners=["team:data"],
    deps=names_for("image_takedowns", "image_verdicts"),
    code_version=code_version(2, PROJECT.recipe.curate, *_REPACKED),
    metadata=column_schema(SHARD_INDEX),
)
@retried
def t2i_training_shards(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    t2i_selection: pl.DataFrame,
    t2i_chains: pl.DataFrame,
    raw_images: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """The shard's accepted text-to-image samples as WebDataset tars; the table says where each one lies.

    A tar holds a fixed number of samples: picture and JSON with prompt, chain, ids, source and licence. What
    is there already is not written again, nor are pictures of tars given as input: training reads them where
    they lie (`GOT_REPACK_TARS` writes them again).
    """
    tables = (t2i_selection, t2i_chains, raw_images)
    return _packed(project, context.partition_key, "t2i", tables, project.reader())


@dg.asset(
    partitions_def=EDIT_SHARDS,
    group_name="curate",
    kinds={"polars", "file"},
    owners=["team:data"],
    deps=names_for("edit_takedowns", "edit_verdicts"),
    code_version=code_version(2, PROJECT.recipe.curate),
    metadata=column_schema(SHARD_INDEX),
)
@retried
def edit_training_shards(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    edit_selection: pl.DataFrame,
    edit_chains: pl.DataFrame,
    edit_pairs: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """The shard's accepted edits as WebDataset tars: source, target and JSON with all wordings and the chain.

    The table says where each sample lies. What is there already is not written again.
    """
    tables = (edit_selection, edit_chains, edit_pairs)
    return _packed(project, context.partition_key, "edit", tables, project.edit_reader())


def _packed(
    project: Project, shard: str, kind: "Kind", tables: Tables, reader: "ImageReader"
) -> dg.MaterializeResult[pl.DataFrame]:
    """Write the tars of one shard, without what is on the takedown list."""
    from got_core.curate.training_shards import TarConfig, write_training_shards

    started, storage = time.monotonic(), project.storage
    rows = _manifest_rows(project, shard, kind, tables)
    index = write_training_shards(
        storage,
        shard,
        rows,
        {kind: reader},
        TarConfig(repack=project.settings.repack_tars),
        progress=_progress_logger(shard),
        io_threads=project.settings.io_threads,
    )
    return table_result(
        index,
        rows_in=rows.height,
        started=started,
        tars=index["tar"].drop_nulls().n_unique(),
        read_in_place=index.filter(pl.col("tar").is_null() & pl.col("error").is_null()).height,
        bytes=int(index["size"].sum() or 0),
        reasons=reason_counts(index),
        licences=reason_counts(index.with_columns(pl.col("licence").fill_null("not stated")), "licence"),
    )


def _manifest_rows(project: Project, shard: str, kind: "Kind", tables: Tables) -> pl.DataFrame:
    """The MANIFEST of one shard by itself, its chains as reviewers have corrected them."""
    from got_core.curate.manifest import assemble
    from got_core.curate.review import corrected, load_verdicts
    from got_core.curate.takedown import removal_of

    selection, chains, ingested = tables
    one = {shard: (selection, corrected(chains, load_verdicts(project.storage)), ingested)}
    t2i, edits = (one, {}) if kind == "t2i" else ({}, one)
    return assemble(t2i, edits, project.recipe.curate, removal_of(project.storage)).manifest


def _progress_logger(shard: str) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done % 10_000 < 1000 or done == total:
            log_progress(f"{shard}: {done} of {total} samples in tars")

    return progress
