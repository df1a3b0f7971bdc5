"""Text-to-image annotation: prompt and caption, entities, boxes, chain (GoT paper, section 4).

Each step reads tables and gives one. Rows that failed upstream stay out, those that fail here say why.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from got_core.annotate.annotator import AnnotationError, Annotator, boxes_of
from got_core.annotate.rows import Progress, Reader, Row, annotate_rows, joined, short_hash
from got_core.annotate.schemas import BOXES, CAPTIONS, ENTITIES, T2I_CHAINS
from got_core.chain.boxes import Box
from got_core.chain.grammar import Boxed, Chain, Text


def caption_images(
    raw: pl.DataFrame, reader: Reader, annotator: Annotator, progress: Progress | None = None
) -> pl.DataFrame:
    """Concise prompt and detailed caption of each readable image: CAPTIONS."""
    revision = annotator.revision

    def answer(row: Row) -> Row:
        image = reader(row["path"])
        prompt = annotator.concise_prompt(image)
        return {"prompt": prompt, "caption": annotator.detailed_caption(image, prompt), "annotator": revision}

    return annotate_rows(raw, "image_id", answer, CAPTIONS, progress, annotator)


def extract_entities(
    captions: pl.DataFrame, annotator: Annotator, progress: Progress | None = None
) -> pl.DataFrame:
    """Groundable object names of each caption: ENTITIES."""

    def answer(row: Row) -> Row:
        return {"entities": annotator.extract_entities(row["caption"])}

    return annotate_rows(captions, "image_id", answer, ENTITIES, progress, annotator)


def ground_entities(
    entities: pl.DataFrame,
    raw: pl.DataFrame,
    reader: Reader,
    annotator: Annotator,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """A box for each entity, null corners where it was not found: BOXES."""

    def answer(row: Row) -> Row:
        image = reader(row["path"])
        places = [(phrase, row["entities"][:k].count(phrase)) for k, phrase in enumerate(row["entities"])]
        boxes = boxes_of(annotator, image, places)
        return {"boxes": [grounded(*place, box) for place, box in zip(places, boxes, strict=True)]}

    table = joined(entities, raw, "image_id", "path")
    return annotate_rows(table, "image_id", answer, BOXES, progress, annotator)


def assemble_chains(captions: pl.DataFrame, boxes: pl.DataFrame, annotator: Annotator) -> pl.DataFrame:
    """Chains: each box after its phrase in the caption: T2I_CHAINS.

    A name that did not ground stays plain text. A chain without any box is still written; curation judges it.
    """

    def answer(row: Row) -> Row:
        chain_id = short_hash(row["image_id"], row["annotator"], row["prompt"])
        found = [box for box in row["boxes"] if box["x1"] is not None]
        columns = {
            "chain_id": chain_id,
            "prompt": row["prompt"],
            "caption": row["caption"],
            "phrases": [box["phrase"] for box in found],
        }
        try:
            chain = write_t2i_chain(
                row["caption"], [(b["phrase"], b["occurrence"], box_of(b)) for b in found]
            )
        except ValueError as error:  # ChainError among them
            return columns | {"error": f"not_a_chain: {error}", "reason": "not_a_chain"}
        return columns | {"chain": chain.to_data(), "boxes": len(chain.boxes)}

    table = joined(boxes, captions, "image_id", "prompt", "caption", "annotator")
    return annotate_rows(table, "image_id", answer, T2I_CHAINS)


def write_t2i_chain(caption: str, placed: Sequence[tuple[str, int, Box]]) -> Chain:
    """The caption with each box written after its phrase's occurrence-th mention (whole words, from 0).

    A phrase that the caption does not hold is left out. Raises ChainError where the caption is no running
    text (it holds markers or coordinates).
    """
    spots: dict[int, Box] = {}
    for phrase, occurrence, box in placed:
        end = _mention_end(caption, phrase, occurrence)
        if end is not None:
            spots.setdefault(end, box)
    parts: list[Text | Boxed] = []
    start = 0
    for end, box in sorted(spots.items()):
        parts += [Text(caption[start:end] + " "), Boxed(box)]
        start = end
    return Chain((*parts, Text(caption[start:])))


def grounded(phrase: str, occurrence: int, box: Box | None) -> Row:
    """One row of a `boxes` column."""
    corners = (box.x1, box.y1, box.x2, box.y2) if box else (None,) * 4
    return {
        "phrase": phrase,
        "occurrence": occurrence,
        **dict(zip(("x1", "y1", "x2", "y2"), corners, strict=True)),
    }


def box_of(row: Row) -> Box:
    """The box of a row of a `boxes` column. Raises AnnotationError where it is not one."""
    try:
        return Box(row["x1"], row["y1"], row["x2"], row["y2"])
    except ValueError as error:
        raise AnnotationError("bad_box", str(error)) from error


def _mention_end(caption: str, phrase: str, occurrence: int) -> int | None:
    """Where the phrase's occurrence-th mention ends; mentions inside longer words do not count."""
    start = 0
    while phrase and (at := caption.find(phrase, start)) >= 0:
        start = at + len(phrase)
        inside = caption[at - 1 : at].isalnum() or caption[start : start + 1].isalnum()
        if inside:
            continue
        if occurrence == 0:
            return start
        occurrence -= 1
    return None
