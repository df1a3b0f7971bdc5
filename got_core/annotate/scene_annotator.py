"""The annotator of the embedded corpus: it reads scenes from their pixels.

Belongs here: wording what the scene reader found. Not here: reading pixels (`got_core.scenes.reader`). Texts
are short and regular, so that a language model of a few million parameters can learn to write them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from PIL import Image

from got_core.annotate.annotator import AnnotationError, Annotator, Step
from got_core.annotate.scene_revision import SCENES, scene_revision
from got_core.chain.boxes import Box
from got_core.chain.edits import EditStep, write_edit_chain, write_multi_turn
from got_core.scenes.config import DEFAULT_READER, ReaderConfig
from got_core.scenes.edits import EditOp, parse_instruction, wordings
from got_core.scenes.prompts import applicable_prompts, article, parse_prompt
from got_core.scenes.reader import NotASceneError
from got_core.scenes.readings import READINGS, SeenObject, SeenScene, pixel_hash
from got_core.scenes.reasoning import resolve
from got_core.scenes.world import PLURALS, RGB

_ENTITY = re.compile(rf"\b(?:{'|'.join(RGB)}) (?:{'|'.join(PLURALS)})\b")
_PHRASE = re.compile(rf"(?:(?:an?|the) )?(?:({'|'.join(RGB)}) )?({'|'.join(PLURALS)})")


class SceneAnnotator:
    """Annotates scenes of plain shapes; every image question raises AnnotationError for a photograph.

    The reason is then `not_a_scene`; `no_objects` and `no_prompt` are scenes that no prompt style describes.
    """

    def __init__(self, config: ReaderConfig = DEFAULT_READER) -> None:
        self.config = config

    @property
    def revision(self) -> str:
        """Version of the wording and the reader's limits."""
        return scene_revision(self.config)

    def concise_prompt(self, image: Image.Image) -> str:
        """A GenEval style that is true of the scene; style, then wording, chosen by the pixels' hash."""
        reading = self._read(image)
        if not reading.objects:
            raise AnnotationError("no_objects", "the scene shows no object")
        prompts = applicable_prompts(reading.objects)
        if not prompts:
            raise AnnotationError("no_prompt", f"no prompt style describes {_listed(reading.objects)}")
        number = int(pixel_hash(image), 16)
        tags = list(dict.fromkeys(tag for tag, _ in prompts))
        number, pick = divmod(number, len(tags))
        wordings_of_tag = [prompt for tag, prompt in prompts if tag == tags[pick]]
        return wordings_of_tag[number % len(wordings_of_tag)]

    def detailed_caption(self, image: Image.Image, prompt: str) -> str:
        """`a red circle and a blue square on a grey background`: the prompt's objects first, in its order."""
        reading = self._read(image)
        if not reading.objects:
            raise AnnotationError("no_objects", "the scene shows no object")
        return _sentence(_prompt_order(reading.objects, prompt), reading.background)

    def extract_entities(self, caption: str) -> list[str]:
        """`red circle`, `blue square` ... in the caption's order."""
        found = _ENTITY.findall(caption)
        if not found:
            raise AnnotationError("no_entities", f"no shape with a colour in {caption[:80]!r}")
        return found

    def ground(self, image: Image.Image, phrase: str, occurrence: int = 0) -> Box | None:
        """Equal objects are counted from left to right, as in the caption."""
        matching = _named(self._read(image).objects, phrase)
        if not 0 <= occurrence < len(matching):
            return None
        return Box.from_pixels(matching[occurrence].box, image.width, image.height)

    def in_plain_words(self, image: Image.Image, instruction: str) -> str:
        """The instruction where it names its objects; else the standard wording of what it asks for in the
        image. AnnotationError `not_an_instruction`: it fits nothing, or more than one thing."""
        with suppress(ValueError):
            parse_instruction(instruction)
            return instruction
        objects = self._read(image).objects
        try:
            op = resolve(instruction, objects, image.size)
        except ValueError as error:
            raise AnnotationError("not_an_instruction", str(error)) from error
        return wordings(op)[0]

    def split_steps(self, instruction: str) -> list[str]:
        """`first ..., then ...` in its steps, each in the standard wording."""
        steps = _intent(instruction).steps
        return [wordings(op)[0] for op in steps] if len(steps) > 1 else [instruction]

    def parse_edit(self, instruction: str) -> tuple[str, list[str]]:
        """Task (add, remove, recolour, replace, move) and `[old, new]`, one name where there is only one."""
        op = _intent(instruction)
        if op.then:
            raise AnnotationError("several_steps", f"{instruction[:80]!r} is more than one edit")
        names = [op.phrase]
        if op.new_color or op.new_shape:
            names.append(f"{op.new_color or op.color} {op.new_shape or op.shape}")
        return op.kind, names

    def describe(self, image: Image.Image, mention: str) -> str:
        """The caption with the mentioned object first. AnnotationError `not_mentioned`: it is not there."""
        reading = self._read(image)
        first = _named(reading.objects, mention)[:1] if mention else []
        if mention and not first:
            raise AnnotationError(
                "not_mentioned", f"no {mention}: the scene shows {_listed(reading.objects)}"
            )
        rest = [item for item in reading.objects if item not in first]
        return _sentence([*first, *rest], reading.background)

    def describe_crop(self, image: Image.Image, box: Box) -> str:
        """`a red circle`: the object whose box overlaps most."""
        objects = self._read(image).objects
        overlaps = [box.iou(Box.from_pixels(item.box, image.width, image.height)) for item in objects]
        if not overlaps or max(overlaps) == 0:
            raise AnnotationError("empty_crop", f"no object at {box}")
        return _name(objects[overlaps.index(max(overlaps))])

    def rewrite(self, instruction: str) -> list[str]:
        """Three wordings, the standard one first."""
        return list(wordings(_intent(instruction)))[:3]

    def edit_chain(
        self,
        instruction: str,
        source_text: str,
        target_text: str,
        boxes: Sequence[Box],
        object: str,
        task: str,
    ) -> str:
        """Five numbered items; a move has two boxes, the old place in item 3 and the new one in item 4."""
        if len(boxes) != (2 if task == "move" else 1):
            raise AnnotationError("wrong_boxes", f"{len(boxes)} boxes for a {task} edit")
        named = object if task == "add" else re.sub(r"^an? ", "the ", object)
        change = _change(_intent(instruction), boxes)
        return write_edit_chain(source_text, named, boxes[0], change, target_text).to_data()

    def multi_turn_chain(self, source_text: str, target_text: str, steps: Sequence[Step]) -> str:
        """Source, one item a step, result; the new place of a move stands in the change."""
        items = []
        for step in steps:
            named = article(step.entity) if step.task == "add" else f"the {step.entity}"
            change = _change(_intent(step.instruction), step.boxes)
            items.append(EditStep(named, step.boxes[:1], change))
        return write_multi_turn(source_text, items, target_text).to_data()

    def _read(self, image: Image.Image) -> SeenScene:
        try:
            return READINGS.of(image, self.config)
        except NotASceneError as error:
            raise AnnotationError("not_a_scene", str(error).removeprefix("not a scene: ")) from error


def make_annotator(name: str | None) -> Annotator:
    """The annotator of that name. Raises ValueError for None and for an unknown name, with the known ones."""
    if name == SCENES:
        return SceneAnnotator()
    problem = f"unknown annotator {name!r}" if name else "no annotator is configured"
    raise ValueError(
        f"{problem}: set GOT_ANNOTATOR=scenes (reads the embedded corpus' scenes, no photographs)"
    )


def _name(item: SeenObject) -> str:
    return article(f"{item.color} {item.shape}")


def _listed(objects: Sequence[SeenObject]) -> str:
    """`a red circle, a blue square and a blue square`."""
    names = [_name(item) for item in objects]
    if len(names) < 2:
        return names[0] if names else "nothing"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _sentence(objects: Sequence[SeenObject], background: str) -> str:
    ground = article(f"{background} background")
    return f"{_listed(objects)} on {ground}" if objects else ground


def _named(objects: Sequence[SeenObject], phrase: str) -> list[SeenObject]:
    """Objects that a phrase such as `the red circle` or `circle` can mean."""
    match = _PHRASE.fullmatch(phrase.strip().lower())
    if match is None:
        return []
    color, shape = match.groups()
    return [item for item in objects if item.shape == shape and color in (None, item.color)]


def _prompt_order(objects: Sequence[SeenObject], prompt: str) -> list[SeenObject]:
    """Objects that the prompt asks for, in its order, then the others; reading order if it does not fit."""
    try:
        clauses: list[dict[str, Any]] = parse_prompt(prompt)["include"]
    except ValueError:
        return list(objects)
    # In a position prompt the metadata names the target first, the sentence names it last.
    clauses = sorted(clauses, key=lambda clause: "position" not in clause)
    chosen: list[SeenObject] = []
    for clause in clauses:
        fitting = [o for o in objects if o not in chosen and _fits(o, clause)]
        if len(fitting) < clause["count"]:
            return list(objects)
        chosen += fitting[: clause["count"]]
    return chosen + [item for item in objects if item not in chosen]


def _fits(item: SeenObject, clause: dict[str, Any]) -> bool:
    return item.shape == clause["class"] and clause.get("color", item.color) == item.color


def _intent(instruction: str) -> EditOp:
    try:
        return parse_instruction(instruction)
    except ValueError as error:
        raise AnnotationError("not_an_instruction", str(error)) from error


def _change(op: EditOp, boxes: Sequence[Box]) -> str:
    """Item 4 of an edit chain."""
    if op.kind == "recolour":
        return f"change it to {op.new_color}"
    if op.kind == "replace":
        return f"replace it with {article(f'{op.new_color} {op.new_shape}')}"
    if op.kind == "move":
        return f"move it to {boxes[1]}"
    return f"{op.kind} it"
