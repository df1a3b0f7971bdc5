"""Chains of imported data sets in place of annotation: what `GOT_ANNOTATOR=imported` puts into the graph.

The two assets have the names of those in `assets`, which are not loaded then. Importing itself is a command:
`got data import`.
"""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import time

import dagster as dg
import polars as pl

from got_assets.defs.ingest.partitions import EDIT_SHARDS, IMAGE_SHARDS
from got_assets.defs.lists.sources import names_for
from got_assets.project import Project, code_version
from got_assets.reporting import Metadata, column_schema, reason_counts, table_result
from got_assets.retries import retried
from got_core.annotate import schemas


@dg.asset(
    partitions_def=IMAGE_SHARDS,
    group_name="annotate",
    kinds={"polars"},
    owners=["team:data"],
    deps=names_for("imported_image_chains"),
    code_version=code_version(2),
    metadata=column_schema(schemas.T2I_CHAINS),
)
@retried
def t2i_chains(
    project: dg.ResourceParam[Project], raw_images: pl.DataFrame
) -> dg.MaterializeResult[pl.DataFrame]:
    """Imported generation chains of the shard's images; an image without one says so."""
    return _imported(project, raw_images)


@dg.asset(
    partitions_def=EDIT_SHARDS,
    group_name="annotate",
    kinds={"polars"},
    owners=["team:data"],
    deps=names_for("imported_edit_chains"),
    code_version=code_version(2),
    metadata=column_schema(schemas.EDIT_CHAINS),
)
@retried
def edit_chains(
    project: dg.ResourceParam[Project], edit_pairs: pl.DataFrame
) -> dg.MaterializeResult[pl.DataFrame]:
    """Imported edit chains of the shard's pairs; a pair without one says so."""
    return _imported(project, edit_pairs)


def _imported(project: Project, ingested: pl.DataFrame) -> dg.MaterializeResult[pl.DataFrame]:
    from got_core.exchange.parts import shard_chains

    started = time.monotonic()
    frame = shard_chains(project.storage, ingested)
    shown: Metadata = {"sources": reason_counts(frame, "source"), "licences": reason_counts(frame, "licence")}
    return table_result(frame, rows_in=frame.height, started=started, reasons=reason_counts(frame), **shown)
