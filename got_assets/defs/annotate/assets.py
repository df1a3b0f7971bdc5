"""The two annotation pipelines, step by step: images to chains, edit pairs to edit chains.

Each step is a table of its own, so that a step can be redone alone. Rows that failed in an earlier step
stay in that step's table and do not appear again.
"""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import time
from collections.abc import Sequence
from typing import Any

import dagster as dg
import polars as pl

from got_assets.defs.annotate.annotator import announced, asked, progress_of, shard_annotator
from got_assets.defs.ingest.partitions import EDIT_SHARDS, IMAGE_SHARDS
from got_assets.project import PROJECT, Project, code_version
from got_assets.reporting import column_schema, grid, reason_counts, spread, table_result
from got_core.annotate import schemas

_VERSION = (PROJECT.annotator_revision,)


def _good(frame: pl.DataFrame) -> int:
    return frame.height - frame["error"].count()


@dg.asset(
    partitions_def=IMAGE_SHARDS,
    group_name="annotate",
    kinds={"polars"},
    owners=["team:data"],
    code_version=code_version(4, *_VERSION),
    metadata=column_schema(schemas.CAPTIONS),
)
def captions(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    raw_images: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """A concise prompt and a detailed caption of every readable image, read from its pixels."""
    from got_core.annotate.t2i import caption_images

    started = time.monotonic()
    shard, rows = context.partition_key, _good(raw_images)
    expected = announced(project, "captions", rows, raw_images)
    with shard_annotator(project, shard) as annotator:
        frame = caption_images(raw_images, project.reader(), annotator, progress_of("captions", shard))
    return table_result(
        frame,
        rows_in=rows,
        started=started,
        reasons=reason_counts(frame),
        pictures=_picture_grid(project, raw_images, frame, "prompt"),
        **expected,
        **asked(frame, annotator),
    )


@dg.asset(
    partitions_def=IMAGE_SHARDS,
    group_name="annotate",
    kinds={"polars"},
    owners=["team:data"],
    code_version=code_version(3, *_VERSION),
    metadata=column_schema(schemas.ENTITIES),
)
def entities(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    captions: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """The phrases of each caption that name something which can be pointed at."""
    from got_core.annotate.t2i import extract_entities

    started = time.monotonic()
    shard, rows = context.partition_key, _good(captions)
    expected = announced(project, "entities", rows)
    with shard_annotator(project, shard) as annotator:
        frame = extract_entities(captions, annotator, progress_of("entities", shard))
    per_image = frame["entities"].list.len().mean() if frame.height else None
    return table_result(
        frame,
        rows_in=rows,
        started=started,
        reasons=reason_counts(frame),
        entities_per_image=_number(per_image),
        **expected,
        **asked(frame, annotator),
    )


@dg.asset(
    partitions_def=IMAGE_SHARDS,
    group_name="annotate",
    kinds={"polars"},
    owners=["team:data"],
    code_version=code_version(4, *_VERSION),
    metadata=column_schema(schemas.BOXES),
)
def boxes(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    entities: pl.DataFrame,
    raw_images: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """A box for every phrase that the annotator finds in the image, in thousandths of width and height."""
    from got_core.annotate.t2i import ground_entities

    started = time.monotonic()
    shard, rows = context.partition_key, _good(entities)
    names = entities["entities"].list.len().mean()
    expected = announced(project, "boxes", rows, raw_images, _number(names))
    with shard_annotator(project, shard) as annotator:
        frame = ground_entities(
            entities, raw_images, project.reader(), annotator, progress_of("boxes", shard)
        )
    return table_result(
        frame,
        rows_in=rows,
        started=started,
        reasons=reason_counts(frame),
        grounded_share=_number(_grounded_share(frame)),
        pictures=_box_grid(project, raw_images, frame),
        **expected,
        **asked(frame, annotator),
    )


@dg.asset(
    partitions_def=IMAGE_SHARDS,
    group_name="annotate",
    kinds={"polars"},
    owners=["team:data"],
    code_version=code_version(2, *_VERSION),
    metadata=column_schema(schemas.T2I_CHAINS),
)
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
    return table_result(
        frame, rows_in=_good(boxes), started=started, reasons=reason_counts(frame), **_chain_figures(frame)
    )


@dg.asset(
    partitions_def=EDIT_SHARDS,
    group_name="annotate",
    kinds={"polars"},
    owners=["team:data"],
    code_version=code_version(5, *_VERSION),
    metadata=column_schema(schemas.EDIT_DESCRIPTIONS),
)
def edit_descriptions(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    edit_pairs: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """Of each pair: kind of edit, what it is about, both images described, the instruction reworded."""
    from got_core.annotate.edit import describe_edits

    started = time.monotonic()
    shard, rows = context.partition_key, _good(edit_pairs)
    expected = announced(project, "edit_descriptions", rows, edit_pairs)
    with shard_annotator(project, shard) as annotator:
        frame = describe_edits(
            edit_pairs, project.edit_reader(), annotator, progress_of("edit_descriptions", shard)
        )
    return table_result(
        frame,
        rows_in=rows,
        started=started,
        reasons=reason_counts(frame),
        tasks=reason_counts(frame, "task"),
        **expected,
        **asked(frame, annotator),
    )


@dg.asset(
    partitions_def=EDIT_SHARDS,
    group_name="annotate",
    kinds={"polars"},
    owners=["team:data"],
    code_version=code_version(5, *_VERSION),
    metadata=column_schema(schemas.EDIT_BOXES),
)
def edit_boxes(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    edit_pairs: pl.DataFrame,
    edit_descriptions: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """Where each edit happens: the box of the object in the source image, or of the new one in the target."""
    from got_core.annotate.edit import ground_edits

    started = time.monotonic()
    shard, rows = context.partition_key, _good(edit_descriptions)
    expected = announced(project, "edit_boxes", rows, edit_pairs)
    with shard_annotator(project, shard) as annotator:
        frame = ground_edits(
            edit_pairs, edit_descriptions, project.edit_reader(), annotator, progress_of("edit_boxes", shard)
        )
    return table_result(
        frame,
        rows_in=rows,
        started=started,
        reasons=reason_counts(frame),
        pictures=_edit_grid(project, edit_pairs, frame),
        **expected,
        **asked(frame, annotator),
    )


@dg.asset(
    partitions_def=EDIT_SHARDS,
    group_name="annotate",
    kinds={"polars"},
    owners=["team:data"],
    code_version=code_version(4, *_VERSION),
    metadata=column_schema(schemas.EDIT_CHAINS),
)
def edit_chains(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    edit_pairs: pl.DataFrame,
    edit_descriptions: pl.DataFrame,
    edit_boxes: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """Edit chains: source description, object, place, change and result, as a numbered list."""
    from got_core.annotate.edit import assemble_edit_chains

    started = time.monotonic()
    shard, rows = context.partition_key, _good(edit_boxes)
    expected = announced(project, "edit_chains", rows)
    with shard_annotator(project, shard) as annotator:
        frame = assemble_edit_chains(
            edit_pairs, edit_descriptions, edit_boxes, annotator, progress_of("edit_chains", shard)
        )
    return table_result(
        frame,
        rows_in=rows,
        started=started,
        reasons=reason_counts(frame),
        **_chain_figures(frame),
        **expected,
        **asked(frame, annotator),
    )


# What the pages show


def _number(value: Any) -> float:
    return round(float(value), 4) if value is not None else 0.0


def _grounded_share(frame: pl.DataFrame) -> float | None:
    found = frame["boxes"].explode().drop_nulls()
    return found.struct.field("x1").is_not_null().mean() if len(found) else None  # type: ignore[return-value]


def _chain_figures(frame: pl.DataFrame) -> dict[str, Any]:
    good = frame.filter(pl.col("error").is_null())
    examples = "\n".join(f"- {text}" for text in good["chain"].head(5))
    return {
        "boxes_per_chain": _number(good["boxes"].mean() if good.height else None),
        "characters_per_chain": _number(good["chain"].str.len_chars().mean() if good.height else None),
        "examples": dg.MetadataValue.md(examples or "none"),
    }


def _picture_grid(
    project: Project, raw: pl.DataFrame, frame: pl.DataFrame, text: str
) -> dg.MarkdownMetadataValue:
    from got_core.figures.grids import GridItem

    reader, rows = project.reader(), spread(frame).join(raw.select("image_id", "path"), on="image_id")
    return grid([GridItem(reader.open(row["path"]), row[text]) for row in rows.iter_rows(named=True)])


def _box_grid(project: Project, raw: pl.DataFrame, frame: pl.DataFrame) -> dg.MarkdownMetadataValue:
    from got_core.figures.grids import GridItem

    reader, rows = project.reader(), spread(frame).join(raw.select("image_id", "path"), on="image_id")
    return grid(
        [
            GridItem(reader.open(row["path"]), boxes=_outlines(row["boxes"]))
            for row in rows.iter_rows(named=True)
        ]
    )


def _edit_grid(project: Project, pairs: pl.DataFrame, frame: pl.DataFrame) -> dg.MarkdownMetadataValue:
    from got_core.figures.grids import GridItem

    columns = pairs.select("pair_id", "source_path", "target_path", "instruction")
    reader, items = project.edit_reader(), []
    for row in spread(frame, 8).join(columns, on="pair_id").iter_rows(named=True):
        outlines = _outlines(row["boxes"])
        items.append(GridItem(reader.open(row["source_path"]), row["instruction"], outlines))
        items.append(GridItem(reader.open(row["target_path"]), "", outlines, note="target"))
    return grid(items)


def _outlines(
    boxes: Sequence[dict[str, Any]],
) -> tuple[tuple[tuple[float, float, float, float], str], ...]:
    from got_core.chain.palette import palette_color

    found = [box for box in boxes if box["x1"] is not None]
    return tuple(
        ((box["x1"] / 1000, box["y1"] / 1000, box["x2"] / 1000, box["y2"] / 1000), palette_color(index))
        for index, box in enumerate(found)
    )
