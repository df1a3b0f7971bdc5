"""Edit annotation: parse, describe, ground, rewrite, chain (GoT paper, section 4 and its appendix).

Each step reads tables and gives one. Rows that failed upstream stay out, those that fail here say why.
"""

from __future__ import annotations

import polars as pl

from got_core.annotate.annotator import AnnotationError, Annotator
from got_core.annotate.rows import Progress, Reader, Row, annotate_rows, joined, short_hash
from got_core.annotate.schemas import EDIT_BOXES, EDIT_CHAINS, EDIT_DESCRIPTIONS
from got_core.annotate.t2i import box_of, grounded
from got_core.chain.boxes import WHOLE
from got_core.chain.edits import read_edit_chain
from got_core.chain.grammar import parse

WHOLE_IMAGE_TASKS = ("style", "environment")
"""Edits of the whole image: their box is the whole frame."""


def describe_edits(
    pairs: pl.DataFrame, reader: Reader, annotator: Annotator, progress: Progress | None = None
) -> pl.DataFrame:
    """Task, entities, both images in words, and other wordings of the instruction: EDIT_DESCRIPTIONS.

    The source description mentions the object that is edited (except where it is added), the target
    description the object that results (except where it is removed).
    """

    def answer(row: Row) -> Row:
        instruction = row["instruction"]
        task, entities = annotator.parse_edit(instruction)
        if not entities:
            raise AnnotationError("no_entities", f"no object in {instruction[:80]!r}")
        whole = task in WHOLE_IMAGE_TASKS
        before = "" if whole or task == "add" else entities[0]
        after = "" if whole or task == "remove" else entities[-1]
        return {
            "task": task,
            "entities": entities,
            "source_text": annotator.describe(reader(row["source_path"]), before),
            "target_text": annotator.describe(reader(row["target_path"]), after),
            "instructions": list(dict.fromkeys([instruction, *annotator.rewrite(instruction)])),
        }

    return annotate_rows(pairs, "pair_id", answer, EDIT_DESCRIPTIONS, progress)


def ground_edits(
    pairs: pl.DataFrame,
    descriptions: pl.DataFrame,
    reader: Reader,
    annotator: Annotator,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """The area of each edit, and what it shows: EDIT_BOXES.

    Source image for remove, replace and attribute edits, target image for add, the whole frame for style and
    environment; a move has two boxes, the old place in the source and the new one in the target.
    """

    def answer(row: Row) -> Row:
        task, entity = row["task"], row["entities"][0]
        if task in WHOLE_IMAGE_TASKS:
            return {"boxes": [{"image": "source", **grounded(entity, 0, WHOLE)}], "object_text": entity}
        boxes = []
        for side in _grounded_sides(task):
            box = annotator.ground(reader(row[f"{side}_path"]), entity)
            if box is None:
                raise AnnotationError("not_grounded", f"{entity!r} was not found in the {side} image")
            boxes.append({"image": side, **grounded(entity, 0, box)})
        first = boxes[0]
        shown = annotator.describe_crop(reader(row[f"{first['image']}_path"]), box_of(first))
        return {"boxes": boxes, "object_text": shown}

    table = joined(descriptions, pairs, "pair_id", "source_path", "target_path")
    return annotate_rows(table, "pair_id", answer, EDIT_BOXES, progress)


def assemble_edit_chains(
    pairs: pl.DataFrame, descriptions: pl.DataFrame, boxes: pl.DataFrame, annotator: Annotator
) -> pl.DataFrame:
    """Edit chains, each read back before it is accepted: EDIT_CHAINS."""
    revision = annotator.revision

    def answer(row: Row) -> Row:
        said = {
            "chain_id": short_hash(row["pair_id"], revision, row["instruction"]),
            "instruction": row["instruction"],
            "instructions": row["instructions"],
        }
        try:
            return said | _written(row, annotator)
        except AnnotationError as error:
            return said | {"error": str(error), "reason": error.reason}
        except ValueError as error:  # ChainError among them
            return said | {"error": f"not_a_chain: {error}", "reason": "not_a_chain"}

    table = joined(boxes, pairs, "pair_id", "instruction")
    table = joined(table, descriptions, "pair_id", "task", "source_text", "target_text", "instructions")
    return annotate_rows(table, "pair_id", answer, EDIT_CHAINS)


def _grounded_sides(task: str) -> tuple[str, ...]:
    if task == "add":
        return ("target",)
    return ("source", "target") if task == "move" else ("source",)


def _written(row: Row, annotator: Annotator) -> Row:
    text = annotator.edit_chain(
        row["instruction"],
        row["source_text"],
        row["target_text"],
        [box_of(box) for box in row["boxes"]],
        row["object_text"],
        row["task"],
    )
    chain = parse(text, "data")
    read_edit_chain(chain)
    return {"chain": text, "boxes": len(chain.boxes)}
