"""A sheet of pictures for evidence: a row for each sample.

Belongs here: which pictures stand in a row, and with which boxes. Not here: laying them out
(`got_core.evaluate.why.pictures`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from got_core.corpus.decode import ImageError
from got_core.evaluate.why.evidence import Shown
from got_core.evaluate.why.neighbours import Neighbour
from got_core.evaluate.why.pictures import Panel, found_outlines, sheet
from got_core.evaluate.why.text import plain
from got_core.store_faults import StoreUnavailableError

if TYPE_CHECKING:
    from got_core.corpus.reader import ImageReader


def sheet_of(shown: Sequence[Shown], readers: Mapping[str, ImageReader]) -> bytes:
    """A PNG: source and true result of edits, the picture with planned and with found boxes, and the nearest
    training pictures. `readers`: what opens those, by kind. Raises ValueError where there is no picture."""
    return sheet([[*_own(one), *_near(one, readers)] for one in shown])


def _own(shown: Shown) -> Iterator[Panel]:
    one = shown.evidence
    correct = {"right": True, "wrong": False}.get(one.verdict.state)
    if shown.source is not None and shown.source.image is not None:
        yield Panel(data=shown.source.image, caption="source, true plan", boxes=shown.source.true_boxes)
    if shown.picture is not None:
        planned = [(box.box.to_pixels(1, 1), box.color) for box in shown.chain.boxes] if shown.chain else []
        caption = f"{plain(one.address)}: {plain(one.prompt or '')}"
        yield Panel(data=shown.picture, caption=caption, boxes=planned, correct=correct, note="planned boxes")
        if one.found is not None:
            boxes = found_outlines(one.found, shown.picture.size)
            yield Panel(
                data=shown.picture, caption=plain(one.verdict.reason or ""), boxes=boxes, correct=correct,
                note="found boxes",
            )  # fmt: skip
    if shown.source is not None and shown.source.target is not None:
        yield Panel(data=shown.source.target, caption="a right result")


def _near(shown: Shown, readers: Mapping[str, ImageReader]) -> Iterator[Panel]:
    for one in shown.evidence.training.neighbours:
        if one.path is None or one.kind not in readers:
            continue
        try:
            image = readers[one.kind].open(one.path)
        except (ImageError, OSError, StoreUnavailableError):  # gone, or its store: the text says so
            continue
        yield Panel(data=image, caption=plain(_prompt(one)), note=f"training, {one.distance} bits")


def _prompt(one: Neighbour) -> str:
    return next((note.prompt for note in one.annotations if note.prompt), one.image_id[:12])
