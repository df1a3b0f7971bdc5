"""Review of the data: pages of random rows, people's verdicts, statistics beside the published ones."""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import time
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from got_assets.defs.curate.assets import benchmark_of
from got_assets.defs.ingest.partitions import EDIT_SHARDS, IMAGE_SHARDS
from got_assets.defs.lists.sources import names_for
from got_assets.project import PROJECT, Project, code_version
from got_assets.reporting import (
    column_schema,
    document_hash,
    document_result,
    markdown_table,
    reason_counts,
    stored_image,
    table_result,
)
from got_assets.retries import retried
from got_core.curate.review_schemas import STATISTICS, VERDICTS

if TYPE_CHECKING:
    from got_core.corpus.reader import ImageReader
    from got_core.curate.gallery import Card
    from got_core.curate.rules import Kind

DRAWN = 24
"""Rows of a page."""


@dg.asset(
    group_name="curate",
    kinds={"polars"},
    owners=["team:data"],
    deps=names_for("review_files"),
    code_version=code_version(2),
    metadata=column_schema(VERDICTS),
)
@retried
def review_verdicts(project: dg.ResourceParam[Project]) -> dg.MaterializeResult[pl.DataFrame]:
    """The verdicts of reviewers on chains: accept, reject or correct, with name and time.

    Verdicts come from files that a gallery page saves; `got data review FILE`
    records them. One that cannot be used keeps its row with the reason.
    """
    from got_core.curate.review import latest, load_verdicts

    started = time.monotonic()
    frame = load_verdicts(project.storage)
    return table_result(
        frame,
        rows_in=frame.height,
        started=started,
        verdicts=reason_counts(latest(frame), "verdict"),
        reviewers=reason_counts(frame, "reviewer"),
        reasons=reason_counts(frame),
    )


@dg.asset(
    partitions_def=IMAGE_SHARDS,
    group_name="curate",
    kinds={"html"},
    owners=["team:data"],
    deps=names_for("image_takedowns", "image_verdicts", "image_contamination"),
    code_version=code_version(3, PROJECT.recipe.curate),
)
@retried
def t2i_gallery(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    t2i_selection: pl.DataFrame,
    t2i_chains: pl.DataFrame,
    raw_images: pl.DataFrame,
) -> dg.MaterializeResult[dict]:
    """A page of random text-to-image rows of the shard: picture with boxes, chain, and what each rule says.

    Its form saves verdicts for the review queue.
    """
    tables = (t2i_selection, t2i_chains, raw_images)
    return _gallery(project, "t2i_gallery", context.partition_key, "t2i", tables, project.reader())


@dg.asset(
    partitions_def=EDIT_SHARDS,
    group_name="curate",
    kinds={"html"},
    owners=["team:data"],
    deps=names_for("edit_takedowns", "edit_verdicts", "edit_contamination"),
    code_version=code_version(3, PROJECT.recipe.curate),
)
@retried
def edit_gallery(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    edit_selection: pl.DataFrame,
    edit_chains: pl.DataFrame,
    edit_pairs: pl.DataFrame,
) -> dg.MaterializeResult[dict]:
    """A page of random edits of the shard: source and target side by side with boxes, chain, each rule.

    Its form saves verdicts for the review queue.
    """
    tables = (edit_selection, edit_chains, edit_pairs)
    return _gallery(project, "edit_gallery", context.partition_key, "edit", tables, project.edit_reader())


@dg.asset(
    group_name="curate",
    kinds={"polars"},
    owners=["team:data"],
    code_version=code_version(1),
    metadata=column_schema(STATISTICS),
)
@retried
def data_statistics(
    project: dg.ResourceParam[Project], training_manifest: pl.DataFrame
) -> dg.MaterializeResult[pl.DataFrame]:
    """Prompt length, chain length and boxes a chain of what is trained on, beside the published averages.

    Where the paper gives no number, or none that is known here, the table says so.
    """
    from got_core.curate.statistics import statistics, statistics_plot

    started = time.monotonic()
    frame = statistics(training_manifest)
    plot = "data_statistics.png"
    project.storage.write_bytes(plot, statistics_plot(training_manifest))
    shown = frame.select("kind", "source", "quantity", "rows", pl.col("mean").round(1), "published")
    return table_result(
        frame,
        rows_in=frame.height,
        started=started,
        rejected=pl.lit(False),
        samples=training_manifest.height,
        figures=markdown_table(shown.columns, shown.iter_rows()),
        plot=stored_image(project.storage, plot),
    )


Tables = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]


def _gallery(
    project: Project, folder: str, shard: str, kind: "Kind", tables: Tables, reader: "ImageReader"
) -> dg.MaterializeResult[dict]:
    """Draw rows, and store the page beside the document of what is on it."""
    from got_core.curate.gallery import gallery_page, shown_ids
    from got_core.curate.review import corrected, load_verdicts, review_queue
    from got_core.curate.rules import rule_counts
    from got_core.curate.takedown import removal_of

    started, storage, name = time.monotonic(), project.storage, f"{folder}/{shard}.html"
    removal = removal_of(storage)
    selection, chains, ingested = (table.filter(~removal.concerns(table)) for table in tables)
    chains = corrected(chains, load_verdicts(storage))
    queue = review_queue(selection, chains, shard, DRAWN)
    cards = _cards(project, shard, kind, queue, chains, ingested, reader)
    accepted, rejected = int(selection["accepted"].sum()), rule_counts(selection)
    counts = {"rows": selection.height, "accepted": accepted, **rejected}
    title = f"{shard}: {len(cards)} of {selection.height} rows, drawn at random"
    storage.write_bytes(name, gallery_page(cards, title, counts).encode())
    document = {"shard": shard, "drawn": queue["chain_id"].to_list(), "items": shown_ids(queue, ingested)}
    return document_result(
        document,
        version=document_hash({**document, "counts": counts}),
        started=started,
        page=dg.MetadataValue.url(storage.url_of(name)),
        rows_drawn=len(cards),
        rows_of_shard=selection.height,
        rows_accepted=accepted,
        rules=markdown_table(["rule", "rows"], rejected.items()),
    )


def _cards(
    project: Project,
    shard: str,
    kind: "Kind",
    queue: pl.DataFrame,
    chains: pl.DataFrame,
    ingested: pl.DataFrame,
    reader: "ImageReader",
) -> list["Card"]:
    """The drawn rows with every rule against them, by what the selection measured of their pictures."""
    from got_core.curate.gallery import make_cards
    from got_core.curate.rules import active_rules, all_hits
    from got_core.curate.signals import stored_signals

    config, signals = project.recipe.curate, stored_signals(project.storage, shard)
    benchmark = benchmark_of(project)
    hits = all_hits(chains, ingested, config, kind=kind, signals=signals, benchmark=benchmark)
    return make_cards(queue, ingested, reader, active_rules(config, kind), hits, chains)
