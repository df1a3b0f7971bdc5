"""Both pipelines over one shard, step by step, and what has to hold of their tables."""

from __future__ import annotations

import polars as pl

from got_core.annotate import edit, schemas, t2i
from got_core.annotate.annotator import Annotator
from got_core.corpus.schemas import check_schema
from tests.got_core.annotate.scenes_on_hand import Pictures

Tables = dict[str, pl.DataFrame]
_MODEL_COLUMNS = ("captions", "entities", "boxes", "edit_descriptions", "edit_boxes", "edit_chains")


def annotate(images: pl.DataFrame, pairs: pl.DataFrame, pictures: Pictures, annotator: Annotator) -> Tables:
    """The tables of all steps."""
    captions = t2i.caption_images(images, pictures, annotator)
    entities = t2i.extract_entities(captions, annotator)
    boxes = t2i.ground_entities(entities, images, pictures, annotator)
    chains = t2i.assemble_chains(captions, boxes, annotator)
    descriptions = edit.describe_edits(pairs, pictures, annotator)
    places = edit.ground_edits(pairs, descriptions, pictures, annotator)
    edits = edit.assemble_edit_chains(pairs, descriptions, places, annotator)
    named = {"captions": captions, "entities": entities, "boxes": boxes, "t2i_chains": chains}
    return named | {"edit_descriptions": descriptions, "edit_boxes": places, "edit_chains": edits}


def check_none_lost(tables: Tables, images: pl.DataFrame, pairs: pl.DataFrame) -> None:
    """Every row is in the table of each step that it reached, in order: annotated, or with its reason."""
    paths = {
        "image_id": (images, ("captions", "entities", "boxes", "t2i_chains")),
        "pair_id": (pairs, ("edit_descriptions", "edit_boxes", "edit_chains")),
    }
    for key, (going_in, steps) in paths.items():
        for name in steps:
            table = tables[name]
            check_schema(table, getattr(schemas, name.upper()), name)
            assert table[key].to_list() == going_in[key].to_list(), name
            going_in = table.filter(pl.col("error").is_null())
    for name in _MODEL_COLUMNS:
        bad = tables[name].filter(pl.col("reason") == "bad_reply")
        assert bad["raw_reply"].null_count() == 0, name
        assert (tables[name]["tokens_in"] > 0).all(), name
