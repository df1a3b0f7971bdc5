"""A plan as a JSON document that a person or a program may change before it is drawn.

    {"prompt": "a photo of a red circle", "image": null,
     "chain": "a red circle (120,340),(380,600)",
     "boxes": [{"phrase": "a red circle", "box": [120, 340, 380, 600]}],
     "planned": "a red circle (120,340),(380,600)", "faults": [], "dropped": []}

Either `chain` or `boxes` may be changed: `planned` tells which one was. Belongs here: writing and reading the
document. Not here: the spelling of chains (`got_core.chain`), planning and drawing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from got_core.chain.boxes import LIMIT, Box
from got_core.chain.edits import move_box, replace_phrase
from got_core.chain.grammar import Chain, Dropped, parse
from got_core.local_files import write_local
from got_core.planning.any_prompt import faults_of


@dataclass(frozen=True, kw_only=True)
class PlanDocument:
    """What a plan's file says. The image is an absolute path."""

    chain: Chain
    prompt: str | None = None
    image: Path | None = None


def plan_document(
    chain: Chain,
    prompt: str,
    image: Path | None = None,
    dropped: Sequence[Dropped] = (),
    source: Image.Image | None = None,
) -> dict[str, Any]:
    """The document of a plan; `image`: the picture that it edits, which `source` is, `dropped`: what was
    written besides.

    `faults` is None where the prompt is of no style that can be checked.
    """
    faults = faults_of(chain, prompt, image is not None, dropped, source)
    return {
        "prompt": prompt,
        "image": None if image is None else str(image.absolute()),
        "chain": chain.to_data(),
        "boxes": _boxes(chain),
        "planned": chain.to_data(),
        "faults": None if faults is None else [str(fault) for fault in faults],
        "dropped": [{"text": one.text, "reason": one.reason} for one in dropped],
    }


def write_plan_file(document: dict[str, Any], path: Path) -> None:
    """Write a document, or where the name does not end in .json its chain alone. A file there is replaced."""
    text = json.dumps(document, indent=1, ensure_ascii=False) if path.suffix == ".json" else document["chain"]
    write_local(path, lambda file: file.write(f"{text}\n".encode()), exclusive=False)


def read_plan(text: str) -> PlanDocument:
    """A plan from the text of a file: such a document, or a chain alone in any of its spellings.

    Raises ValueError, naming the field, for what cannot be read.
    """
    if not text.strip():
        raise ValueError("it is empty; it has to hold a chain, or a document as `got plan --json` prints it")
    if not text.lstrip().startswith("{"):
        return PlanDocument(chain=parse(text.strip()))
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it begins like JSON and is none: {error}") from error
    image = _text(document, "image")
    return PlanDocument(
        chain=_changed_chain(document),
        prompt=_text(document, "prompt"),
        image=None if image is None else Path(image).absolute(),
    )


def _boxes(chain: Chain) -> list[dict[str, Any]]:
    return [
        {"phrase": one.phrase, "box": [one.box.x1, one.box.y1, one.box.x2, one.box.y2]} for one in chain.boxes
    ]


def _text(document: dict[str, Any], name: str) -> str | None:
    value = document.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"`{name}` must be a text")
    return value


def _changed_chain(document: dict[str, Any]) -> Chain:
    text = _text(document, "chain")
    if text is None:
        raise ValueError("`chain` is missing")
    chain, planned = parse(text), parse(_text(document, "planned") or text)
    boxes = document.get("boxes")
    if boxes is None or boxes in (_boxes(planned), _boxes(chain)):
        return chain
    if chain != planned:
        raise ValueError("both `chain` and `boxes` were changed and they disagree; delete `boxes`")
    return _with_boxes(chain, boxes)


def _with_boxes(chain: Chain, boxes: Any) -> Chain:
    """The chain with each box moved, and each phrase replaced, as the list says."""
    placed = chain.boxes
    if not isinstance(boxes, list) or len(boxes) != len(placed):
        raise ValueError(
            f"`boxes` must be a list of the chain's {len(placed)} boxes; to add or remove one, change "
            "`chain` and delete `boxes`"
        )
    for index, (entry, before) in enumerate(zip(boxes, placed, strict=True)):
        phrase = entry.get("phrase", before.phrase) if isinstance(entry, dict) else None
        if not isinstance(phrase, str):
            raise ValueError(f"`boxes[{index}]` must have a `phrase` and a `box`")
        box = _box(entry.get("box"), index)
        chain = chain if box == before.box else move_box(chain, index, box)
        chain = chain if phrase == before.phrase else replace_phrase(chain, index, phrase)
    return chain


def _box(corners: Any, index: int) -> Box:
    if not isinstance(corners, list) or len(corners) != 4:
        raise ValueError(f"`boxes[{index}].box` must be four whole numbers in 0..{LIMIT - 1}: x1, y1, x2, y2")
    try:
        return Box(*corners)
    except ValueError as error:
        raise ValueError(f"`boxes[{index}].box`: {error}") from error
