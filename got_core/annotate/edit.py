"""Edit annotation: parse, describe, ground, rewrite, chain (GoT paper, section 4 and its appendix).

Each step reads tables and gives one. Rows that failed upstream stay out, those that fail here say why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import polars as pl

from got_core.annotate.annotator import AnnotationError, Annotator, Step, boxes_of
from got_core.annotate.rows import Progress, Reader, Row, annotate_rows, joined, short_hash
from got_core.annotate.schemas import EDIT_BOXES, EDIT_CHAINS, EDIT_DESCRIPTIONS
from got_core.annotate.t2i import box_of, grounded
from got_core.chain.boxes import WHOLE, Box
from got_core.chain.edits import read_edit_chain
from got_core.chain.grammar import parse

WHOLE_IMAGE_TASKS = ("style", "environment")
"""Edits of the whole image: their box is the whole frame."""
MULTI_TURN = "multi_turn"
"""Task of an instruction that asks for several edits, one after the other."""


def describe_edits(
    pairs: pl.DataFrame, reader: Reader, annotator: Annotator, progress: Progress | None = None
) -> pl.DataFrame:
    """Task, entities, both images in words, and other wordings of the instruction: EDIT_DESCRIPTIONS.

    The source description mentions the object that is edited (except where it is added), the target
    description the object that results (except where it is removed); of several steps, the first step's
    object and the last step's. An instruction that needs reasoning has no other wordings; its steps are
    those of its plain words.
    """

    def answer(row: Row) -> Row:
        instruction, in_plain_words = row["instruction"], getattr(annotator, "in_plain_words", None)
        source = reader(row["source_path"]) if in_plain_words else None
        plain = in_plain_words(source, instruction) if in_plain_words else instruction
        steps = [_parsed(step, annotator) for step in annotator.split_steps(plain)]
        first, last = steps[0], steps[-1]
        before = "" if first["task"] in (*WHOLE_IMAGE_TASKS, "add") else first["entities"][0]
        after = "" if last["task"] in (*WHOLE_IMAGE_TASKS, "remove") else last["entities"][-1]
        others = annotator.rewrite(instruction) if plain == instruction else []
        return {
            "task": MULTI_TURN if len(steps) > 1 else first["task"],
            "entities": list(dict.fromkeys(name for step in steps for name in step["entities"])),
            "steps": steps,
            "source_text": annotator.describe(source or reader(row["source_path"]), before),
            "target_text": annotator.describe(reader(row["target_path"]), after),
            "instructions": list(dict.fromkeys([instruction, *others])),
        }

    return annotate_rows(pairs, "pair_id", answer, EDIT_DESCRIPTIONS, progress, annotator)


def ground_edits(
    pairs: pl.DataFrame,
    descriptions: pl.DataFrame,
    reader: Reader,
    annotator: Annotator,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """The area of each edit, and what it shows: EDIT_BOXES.

    Source image for remove, replace and attribute edits, target image for add, the whole frame for style and
    environment; a move has two boxes, the old place in the source and the new one in the target. In edits of
    several steps an object is followed through them: its box is the one that it has by then.
    """

    def answer(row: Row) -> Row:
        known: dict[tuple[str, str], Box | None] = {}
        for side, phrases in _several(row["steps"]).items():
            boxes = boxes_of(annotator, reader(row[f"{side}_path"]), [(phrase, 0) for phrase in phrases])
            known |= {(side, phrase): box for phrase, box in zip(phrases, boxes, strict=True)}

        def find(side: str, phrase: str) -> Box:
            if (side, phrase) not in known:
                known[side, phrase] = annotator.ground(reader(row[f"{side}_path"]), phrase)
            box = known[side, phrase]
            if box is None:
                raise AnnotationError("not_grounded", f"{phrase!r} was not found in the {side} image")
            return box

        placed = [
            {"image": side, "step": index, **grounded(phrase, 0, box)}
            for index, side, phrase, box in follow_steps(row["steps"], find)
        ]
        first = placed[0]
        if row["steps"][0]["task"] in WHOLE_IMAGE_TASKS:
            return {"boxes": placed, "object_text": first["phrase"]}
        shown = annotator.describe_crop(reader(row[f"{first['image']}_path"]), box_of(first))
        return {"boxes": placed, "object_text": shown}

    table = joined(descriptions, pairs, "pair_id", "source_path", "target_path")
    return annotate_rows(table, "pair_id", answer, EDIT_BOXES, progress, annotator)


def assemble_edit_chains(
    pairs: pl.DataFrame,
    descriptions: pl.DataFrame,
    boxes: pl.DataFrame,
    annotator: Annotator,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Edit chains, each read back before it is accepted: EDIT_CHAINS."""
    revision = annotator.revision

    def answer(row: Row) -> Row:
        columns = {
            "chain_id": short_hash(row["pair_id"], revision, row["instruction"]),
            "instruction": row["instruction"],
            "instructions": row["instructions"],
        }
        try:
            return columns | _chain_columns(row, annotator)
        except AnnotationError as error:
            return columns | {"error": str(error), "reason": error.reason, "raw_reply": error.raw}
        except ValueError as error:  # ChainError among them
            return columns | {"error": f"not_a_chain: {error}", "reason": "not_a_chain"}

    table = joined(boxes, pairs, "pair_id", "instruction")
    wanted = ("task", "steps", "source_text", "target_text", "instructions")
    table = joined(table, descriptions, "pair_id", *wanted)
    return annotate_rows(table, "pair_id", answer, EDIT_CHAINS, progress, annotator)


def follow_steps(
    steps: Sequence[Row], find: Callable[[str, str], Box]
) -> Iterator[tuple[int, str, str, Box]]:
    """Step, image, phrase and box of everything that the steps (`task`, `entities`) of an edit act on.

    `find` gives the box of a phrase in the `source` or `target` image, or raises. Objects that no earlier
    step touched are where the source shows them; placed ones where the target shows them, under the name that
    they have in the end. Raises AnnotationError where a step needs a place that neither image shows, or an
    object that is gone.
    """
    known: dict[str, tuple[str, Box] | None] = {}
    for index, step in enumerate(steps):
        task, old, new = step["task"], step["entities"][0], step["entities"][-1]
        if task in WHOLE_IMAGE_TASKS:
            yield index, "source", old, WHOLE
            continue
        place = None
        if task != "add":
            place = known[old] if old in known else ("source", find("source", old))
            if place is None:
                raise AnnotationError("object_gone", f"step {index + 1} needs {old!r}, which is gone by then")
            known[old] = None
            yield index, place[0], old, place[1]
        if task in ("add", "move"):
            place = "target", find("target", _final_name(new, steps[index + 1 :], index))
            yield index, place[0], new, place[1]
        if task != "remove":
            known[new] = place
    if len(steps) > 1:
        for name in (name for name, place in known.items() if place):
            find("target", name)


def _several(steps: Sequence[Row]) -> dict[str, list[str]]:
    """Phrases to find in the `source` and the `target` image, of an image in which there are several."""
    wanted: dict[str, dict[str, None]] = {"source": {}, "target": {}}

    def note(side: str, phrase: str) -> Box:
        wanted[side][phrase] = None
        return WHOLE

    with suppress(AnnotationError):  # it is raised when the steps are followed
        for _ in follow_steps(steps, note):
            pass
    return {side: [*phrases] for side, phrases in wanted.items() if len(phrases) > 1}


def _final_name(name: str, later: Sequence[Row], index: int) -> str:
    """What an object placed in step `index` is called in the end, if it stays where it was put."""
    for step in later:
        if step["task"] == "add" or step["entities"][0] != name:
            continue
        if step["task"] in ("move", "remove"):
            raise AnnotationError(
                "place_between", f"{name!r} does not stay where step {index + 1} puts it: no image shows that"
            )
        name = step["entities"][-1]
    return name


def _parsed(step: str, annotator: Annotator) -> Row:
    task, entities = annotator.parse_edit(step)
    if not entities:
        raise AnnotationError("no_entities", f"no object in {step[:80]!r}")
    return {"instruction": step, "task": task, "entities": entities}


def _chain_columns(row: Row, annotator: Annotator) -> Row:
    write = _multi_turn_text if row["task"] == MULTI_TURN else _single_turn_text
    text = write(row, annotator)
    chain = parse(text, "data")
    found, expected = len(read_edit_chain(chain).steps), len(row["steps"])
    if row["task"] == MULTI_TURN and found != expected:
        raise AnnotationError("wrong_steps", f"the chain has {found} steps, the instruction {expected}")
    return {"chain": text, "boxes": len(chain.boxes)}


def _single_turn_text(row: Row, annotator: Annotator) -> str:
    boxes = [box_of(box) for box in row["boxes"]]
    (step,) = row["steps"]
    return annotator.edit_chain(
        step["instruction"], row["source_text"], row["target_text"], boxes, row["object_text"], row["task"]
    )


def _multi_turn_text(row: Row, annotator: Annotator) -> str:
    steps = []
    for index, step in enumerate(row["steps"]):
        boxes = tuple(box_of(box) for box in row["boxes"] if box["step"] == index)
        steps.append(Step(step["instruction"], step["task"], step["entities"][0], boxes))
    return annotator.multi_turn_chain(row["source_text"], row["target_text"], steps)
