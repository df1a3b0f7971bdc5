"""The two annotation pipelines, step by step: images to chains, edit pairs to edit chains.

Each step is a table of its own, so that a step can be redone alone. Rows that failed in an earlier step
stay in that step's table and do not appear again.
"""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import time

import dagster as dg
import polars as pl

from got_assets.defs.annotate import figures
from got_assets.defs.annotate.annotator import annotate_step, good_rows, shard_annotator
from got_assets.defs.ingest.partitions import EDIT_SHARDS, IMAGE_SHARDS
from got_assets.pools import ANNOTATION
from got_assets.project import PROJECT, Project, code_version
from got_assets.reporting import column_schema, reason_counts, table_result
from got_assets.retries import retried
from got_core.annotate import schemas

_VERSION = (PROJECT.annotator_revision,)


@dg.asset(
    partitions_def=IMAGE_SHARDS,
    group_name="annotate",
    kinds={"polars"},
    owners=["team:data"],
    pool=ANNOTATION,
    code_version=code_version(4, *_VERSION),
    metadata=column_schema(schemas.CAPTIONS),
)
@retried
def captions(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    raw_images: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """A concise prompt and a detailed caption of every readable image, read from its pixels."""
    from got_core.annotate.t2i import caption_images

    return annotate_step(
        context,
        project,
        raw_images,
        lambda annotator, progress: caption_images(raw_images, project.reader(), annotator, progress),
        pictures=raw_images,
        details=lambda frame: {"pictures": figures.caption_grid(project, raw_images, frame)},
    )


@dg.asset(
    partitions_def=IMAGE_SHARDS,
    group_name="annotate",
    kinds={"polars"},
    owners=["team:data"],
    pool=ANNOTATION,
    code_version=code_version(3, *_VERSION),
    metadata=column_schema(schemas.ENTITIES),
)
@retried
def entities(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    captions: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """The phrases of each caption that name something which can be pointed at."""
    from got_core.annotate.t2i import extract_entities

    return annotate_step(
        context,
        project,
        captions,
        lambda annotator, progress: extract_entities(captions, annotator, progress),
        details=lambda frame: {"entities_per_image": figures.rounded(frame["entities"].list.len().mean())},
    )


@dg.asset(
    partitions_def=IMAGE_SHARDS,
    group_name="annotate",
    kinds={"polars"},
    owners=["team:data"],
    pool=ANNOTATION,
    code_version=code_version(4, *_VERSION),
    metadata=column_schema(schemas.BOXES),
)
@retried
def boxes(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    entities: pl.DataFrame,
    raw_images: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """A box for every phrase that the annotator finds in the image, in thousandths of width and height."""
    from got_core.annotate.t2i import ground_entities

    return annotate_step(
        context,
        project,
        entities,
        lambda annotator, progress: ground_entities(
            entities, raw_images, project.reader(), annotator, progress
        ),
        pictures=raw_images,
        requests_per_row=figures.rounded(entities["entities"].list.len().mean()),
        details=lambda frame: {
            "grounded_share": figures.grounded_share(frame),
            "pictures": figures.box_grid(project, raw_images, frame),
        },
    )


@dg.asset(
    partitions_def=IMAGE_SHARDS,
    group_name="annotate",
    kinds={"polars"},
    owners=["team:data"],
    code_version=code_version(2, *_VERSION),
    metadata=column_schema(schemas.T2I_CHAINS),
)
@retried
def t2i_chains(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    captions: pl.DataFrame,
    boxes: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """Generation chains: the caption with each phrase's box written behind it."""
    from got_core.annotate.t2i import assemble_chains

    started = time.monotonic()
    with shard_annotator(project, context.partition_key) as annotator:
        frame = assemble_chains(captions, boxes, annotator)
    reasons, details = reason_counts(frame), figures.chain_figures(frame)
    return table_result(frame, rows_in=good_rows(boxes), started=started, reasons=reasons, **details)


@dg.asset(
    partitions_def=EDIT_SHARDS,
    group_name="annotate",
    kinds={"polars"},
    owners=["team:data"],
    pool=ANNOTATION,
    code_version=code_version(5, *_VERSION),
    metadata=column_schema(schemas.EDIT_DESCRIPTIONS),
)
@retried
def edit_descriptions(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    edit_pairs: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """Of each pair: kind of edit, what it is about, both images described, the instruction reworded."""
    from got_core.annotate.edit import describe_edits

    return annotate_step(
        context,
        project,
        edit_pairs,
        lambda annotator, progress: describe_edits(edit_pairs, project.edit_reader(), annotator, progress),
        pictures=edit_pairs,
        details=lambda frame: {"tasks": reason_counts(frame, "task")},
    )


@dg.asset(
    partitions_def=EDIT_SHARDS,
    group_name="annotate",
    kinds={"polars"},
    owners=["team:data"],
    pool=ANNOTATION,
    code_version=code_version(5, *_VERSION),
    metadata=column_schema(schemas.EDIT_BOXES),
)
@retried
def edit_boxes(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    edit_pairs: pl.DataFrame,
    edit_descriptions: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """Where each edit happens: the box of the object in the source image, or of the new one in the target."""
    from got_core.annotate.edit import ground_edits

    return annotate_step(
        context,
        project,
        edit_descriptions,
        lambda annotator, progress: ground_edits(
            edit_pairs, edit_descriptions, project.edit_reader(), annotator, progress
        ),
        pictures=edit_pairs,
        details=lambda frame: {"pictures": figures.edit_grid(project, edit_pairs, frame)},
    )


@dg.asset(
    partitions_def=EDIT_SHARDS,
    group_name="annotate",
    kinds={"polars"},
    owners=["team:data"],
    pool=ANNOTATION,
    code_version=code_version(4, *_VERSION),
    metadata=column_schema(schemas.EDIT_CHAINS),
)
@retried
def edit_chains(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    edit_pairs: pl.DataFrame,
    edit_descriptions: pl.DataFrame,
    edit_boxes: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """Edit chains: source description, object, place, change and result, as a numbered list."""
    from got_core.annotate.edit import assemble_edit_chains

    return annotate_step(
        context,
        project,
        edit_boxes,
        lambda annotator, progress: assemble_edit_chains(
            edit_pairs, edit_descriptions, edit_boxes, annotator, progress
        ),
        details=figures.chain_figures,
    )
