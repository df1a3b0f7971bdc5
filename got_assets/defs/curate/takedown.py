"""Takedown as an asset, and its sensor. Ids are put on the list with `got data takedown`.

Belongs here: the thin shell. What is removed, and how: `got_core.curate.takedown`.
"""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import time

import dagster as dg
import polars as pl

from got_assets.defs.curate.applying import apply_takedowns
from got_assets.defs.ingest.assets import edit_pairs, raw_images
from got_assets.defs.ingest.partitions import EDIT_SHARDS, IMAGE_SHARDS
from got_assets.defs.lists.sources import names_for
from got_assets.event_log import inputs_tag
from got_assets.project import PROJECT, Project, code_version
from got_assets.reporting import Metadata, column_schema, markdown_table, table_result
from got_core.curate import schemas
from got_core.curate.takedown_lists import list_digest
from got_core.storage import Storage

MODEL_NAME = "got"
EVERY = 300
_NOT_FOUND = pl.col("item_id").is_null()


@dg.asset(
    deps=[raw_images, edit_pairs, *names_for("takedown_list")],
    group_name="curate",
    kinds={"polars"},
    owners=["team:data"],
    code_version=code_version(4, PROJECT.recipe.curate),
    metadata=column_schema(schemas.TAKEN_DOWN),
)
def taken_down(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> dg.MaterializeResult[pl.DataFrame]:
    """What the takedown list names, removed from all tables, with the model versions trained on it.

    Pictures that only look like what is named wait for a person, on a page with their thumbnails. A version
    whose manifests are not archived may have been trained on anything and is listed as unknown.
    """
    from got_core.curate.takedown import read_takedowns
    from got_core.curate.trained_on import versions_trained_on

    started, storage = time.monotonic(), project.storage
    tags = inputs_tag(context.instance, {"raw_images": IMAGE_SHARDS, "edit_pairs": EDIT_SHARDS})
    listed = read_takedowns(storage)
    done = apply_takedowns(project, context.instance, f"Dagster run {context.run.run_id[:8]}")
    ledger, removed, waiting = done.ledger, done.removed, done.waiting
    wanted = set(ledger["item_id"]) | {one for one in listed["id"] if len(one) == 64}
    versions = versions_trained_on(storage, wanted, project.settings.tracking_uri, MODEL_NAME)
    frame = taken_down_table(listed, ledger, versions)
    return table_result(
        frame,
        rows_in=frame.height,
        started=started,
        rejected=pl.lit(False),
        requests=listed.height,
        report=storage.url_of(done.report) if done.report else "nothing was left to do",
        rows_removed=markdown_table(["table", "rows removed now"], removed.items()),
        model_versions=versions_markdown(versions),
        not_found=markdown_table(["request"], [[one] for one in frame.filter(_NOT_FOUND)["request"]]),
        **_copies_metadata(storage, waiting),
        tags=tags,
    )


def taken_down_table(listed: pl.DataFrame, ledger: pl.DataFrame, versions: pl.DataFrame) -> pl.DataFrame:
    """TAKEN_DOWN: one row a request and item; a request that was not found has one row without an item."""
    by_item = (
        versions.select("version", pl.col("items").alias("item_id"))
        .explode("item_id")
        .drop_nulls("item_id")
        .group_by("item_id", maintain_order=True)
        .agg(pl.col("version").alias("versions"))
    )
    rows = listed.rename({"id": "request"}).join(ledger, on="request", how="left", maintain_order="left")
    named = rows.with_columns(key=pl.coalesce("item_id", "request"))
    joined = named.join(by_item, left_on="key", right_on="item_id", how="left", maintain_order="left")
    filled = joined.with_columns(pl.col("versions").fill_null(pl.lit([], dtype=pl.List(pl.String))))
    return filled.select(list(schemas.TAKEN_DOWN))


def _copies_metadata(storage: Storage, waiting: pl.DataFrame) -> Metadata:
    """The first pictures that wait for a person, and the page that shows them."""
    from got_core.corpus.members import shown_column
    from got_core.curate.takedown_lists import COPIES_PAGE

    shown = waiting.select("request", "item_id", "distance", "color", shown_column(pl.col("path"))).head(50)
    return {
        "copies_waiting": waiting.height,
        "copies": markdown_table(shown.columns, shown.iter_rows()),
        "copies_page": dg.MetadataValue.url(storage.url_of(COPIES_PAGE)) if waiting.height else "none",
    }


def versions_markdown(versions: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """Model versions as a small table."""
    rows = [
        (row["version"], ", ".join(row["aliases"]), len(row["items"]), "yes" if row["known"] else "NO")
        for row in versions.iter_rows(named=True)
    ]
    return markdown_table(["version", "aliases", "items trained on", "manifests archived"], rows)


@dg.sensor(target=dg.AssetSelection.assets("taken_down", "training_manifest"), minimum_interval_seconds=EVERY)
def watch_takedowns(
    context: dg.SensorEvaluationContext, project: dg.ResourceParam[Project]
) -> dg.RunRequest | dg.SkipReason:
    """Looks at the takedown list; a changed one is applied and a new manifest made. Off until switched on."""
    digest = list_digest(project.storage)
    if digest in (context.cursor, "unreadable"):
        return dg.SkipReason("the takedown list is as it was" if context.cursor else "no storage to look at")
    context.update_cursor(digest)
    return dg.RunRequest(run_key=f"takedown:{digest}")
