"""Raw files become tables: one row a distinct file, quarantined rows with their reason. Nothing is decoded
twice later on for identity; nothing but paths, ids and sizes leaves this group."""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import time
from collections import Counter

import dagster as dg
import polars as pl

from got_assets.defs.ingest.partitions import EDIT_SHARDS, IMAGE_SHARDS
from got_assets.event_log import TO_RETRY
from got_assets.pools import DECODING
from got_assets.project import PROJECT, Project, code_version
from got_assets.reporting import (
    Metadata,
    column_schema,
    grid,
    markdown_table,
    reason_counts,
    spread,
    table_result,
)
from got_assets.retries import retried
from got_assets.shown import Picture
from got_core.corpus import schemas


@dg.asset(
    partitions_def=IMAGE_SHARDS,
    group_name="ingest",
    kinds={"polars", "file"},
    owners=["team:data"],
    pool=DECODING,
    code_version=code_version(3, PROJECT.recipe.ingest),
    metadata=column_schema(schemas.RAW_IMAGES),
)
@retried
def raw_images(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> dg.MaterializeResult[pl.DataFrame]:
    """The images of one shard of the raw folder (or bucket prefix, tars, parquet files, tables of URLs), one
    row for each distinct picture. What is no picture by its name is in no row: `passed_over` tells its kinds.

    An image is named by the SHA-256 of its bytes. Exact duplicates fold into one row that lists all paths,
    near duplicates (perceptual hash) are marked, and whatever cannot be read is quarantined: the row
    stays, with its reason. Pictures of plain tars are read where they lie; others that are no plain files
    are kept in the storage. A further run of the shard asks again only for those URLs that failed.
    """
    from got_core.corpus.ingest import ingest_images
    from got_core.curate.takedown import refused_at_ingest

    started, passed = time.monotonic(), Counter[str]()
    shard, url = context.partition_key, project.settings.raw_url
    options = project.settings.fs_options(url)
    frame = ingest_images(
        project.storage, url, shard, project.recipe.ingest, fs_options=options, passed_over=passed,
        refused=refused_at_ingest(project.storage),
    )  # fmt: skip
    rows_in = int(frame["paths"].list.len().sum())
    return table_result(frame, rows_in=rows_in, started=started, **_image_metadata(project, frame, passed))


def _image_metadata(project: Project, frame: pl.DataFrame, passed: Counter[str]) -> Metadata:
    from got_core.corpus.ingest import count_to_retry

    return {
        TO_RETRY: count_to_retry(frame),
        "near_duplicates": frame["near_duplicate_of"].count(),
        "bytes": int(frame["bytes"].sum() or 0),
        "reasons": reason_counts(frame),
        "passed_over": _passed_over(project, passed),
        "pictures": _raw_grid(project, frame),
    }


def _passed_over(project: Project, of_shard: Counter[str]) -> dg.MarkdownMetadataValue:
    """What is no input: in the shard's own archives, and where all inputs were listed."""
    from got_core.corpus.shards import passed_over

    listed = Counter(passed_over(project.storage))
    places = (("this shard", of_shard), ("listing of all inputs", listed))
    rows = [(where, kind, count) for where, counts in places for kind, count in counts.most_common()]
    return markdown_table(["where", "kind", "files"], rows)


def _raw_grid(project: Project, frame: pl.DataFrame) -> Picture | str:
    from got_core.corpus.members import shown
    from got_core.figures.grids import GridItem

    reader, chosen = project.reader(), spread(frame)
    return grid(
        [GridItem(reader.open(row["path"]), shown(row["path"])) for row in chosen.iter_rows(named=True)]
    )


@dg.asset(
    partitions_def=EDIT_SHARDS,
    group_name="ingest",
    kinds={"polars", "file"},
    owners=["team:data"],
    pool=DECODING,
    code_version=code_version(5, PROJECT.recipe.ingest),
    metadata=column_schema(schemas.EDIT_PAIRS),
)
@retried
def edit_pairs(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> dg.MaterializeResult[pl.DataFrame]:
    """The edit pairs of one shard of the pair table: a source image, a target image and an instruction.

    Both images pass the same limits as `raw_images`; a pair with a bad image is quarantined as a whole.
    """
    from got_core.corpus.ingest import ingest_edit_pairs
    from got_core.corpus.shards import read_shard
    from got_core.curate.takedown import refused_at_ingest

    started = time.monotonic()
    shard, url = context.partition_key, project.edits_url
    options = project.settings.fs_options(url)
    frame = ingest_edit_pairs(
        project.storage, url, shard, project.recipe.ingest, fs_options=options,
        refused=refused_at_ingest(project.storage),
    )  # fmt: skip
    return table_result(
        frame,
        rows_in=int(read_shard(project.storage, shard)["rows"].sum()),
        started=started,
        reasons=reason_counts(frame),
        pictures=_pair_grid(project, frame),
    )


def _pair_grid(project: Project, frame: pl.DataFrame) -> Picture | str:
    from got_core.figures.grids import GridItem

    reader, items = project.edit_reader(), []
    for row in spread(frame, 8).iter_rows(named=True):
        items.append(GridItem(reader.open(row["source_path"]), row["instruction"]))
        items.append(GridItem(reader.open(row["target_path"]), "", note="target"))
    return grid(items)
