"""What a GenEval detector is, and which of its detections need a colour.

Belongs here: the interface, and what follows from the rules for it. Not here: a detector (`mask2former`,
`saved`, `scene_reader`), or the verdict (`planning.geneval`).
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from got_core.evaluate.geneval.prompts import Sample
from got_core.evaluate.protocol import Network
from got_core.planning.geneval import Detection, GenEvalRules, keep_detections


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A picture that a detector is to read."""

    sample: Sample
    sha256: str | None
    """Of the picture's file; None where there is no picture at hand."""

    size: tuple[int, int] | None
    """Width and height in pixels, like `sha256`."""

    image: Callable[[], Image.Image]
    """Reads the picture."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a detector found in a picture."""

    detections: tuple[Detection, ...] = ()
    unscored: str | None = None
    """Why nothing can be said about the picture; it is then neither right nor wrong."""


@dataclass(frozen=True, kw_only=True)
class DetectorRecord:
    """What a protocol says about a detector."""

    suffix: str
    """Of the protocol's name: empty for the published detector, else such as `scene-reader`."""

    detector: Mapping[str, Any]
    networks: Mapping[str, Network]
    prompt_texts: Mapping[str, str]
    resize: Mapping[str, Any]


class Detector(typing.Protocol):
    """Something that finds objects in pictures, with colours where the prompt asks for one."""

    @property
    def keeps(self) -> bool:
        """Whether what it finds is worth keeping, because finding it again takes long."""
        ...

    @property
    def batch_size(self) -> int:
        """Pictures that it takes at a time."""
        ...

    @property
    def record(self) -> DetectorRecord:
        """For the protocol."""
        ...

    def check(self, classes: set[str], rules: GenEvalRules) -> None:
        """Raises DetectorError where it cannot be trusted, or does not know a class."""
        ...

    def detect(self, pictures: Sequence[Asked], rules: GenEvalRules) -> list[Found]:
        """What is in pictures of one size: at least all that the rules count."""
        ...


def detect_each(
    detector: Detector, batches: Iterable[Sequence[Asked]], rules: GenEvalRules
) -> Iterator[tuple[Sequence[Asked], list[Found]]]:
    """Each batch with what is in its pictures: one after another, or in any order where the detector has a
    method of this name, because it works on several at once (`cluster.RayDetector`)."""
    if own := getattr(detector, "detect_each", None):
        return own(batches, rules)
    return ((batch, detector.detect(batch, rules)) for batch in batches)


def colour_wanted(detections: Sequence[Detection], row: Mapping[str, Any], rules: GenEvalRules) -> list[int]:
    """Numbers of the detections whose colour decides: of each clause that names one, the best `count`."""
    number = {id(one): index for index, one in enumerate(detections)}
    kept = keep_detections(detections, row["tag"], rules)
    clauses = [clause for clause in row["include"] if "color" in clause]
    best = [one for clause in clauses for one in kept.get(clause["class"], [])[: clause["count"]]]
    return sorted({number[id(one)] for one in best})


def counted_detections(
    detections: Sequence[Detection], row: Mapping[str, Any], rules: GenEvalRules
) -> dict[str, list[Detection]]:
    """Detections that take part in the verdict, of the classes that the row speaks of, best first."""
    spoken = {clause["class"] for kind in ("include", "exclude") for clause in row.get(kind, ())}
    return keep_detections([one for one in detections if one.cls in spoken], row["tag"], rules)


def lacks_colour(counted: Mapping[str, Sequence[Detection]], row: Mapping[str, Any]) -> str | None:
    """Why a picture cannot be judged: a detection whose colour decides has none. None where all have."""
    for clause in row["include"]:
        kept = counted.get(clause["class"], [])[: clause["count"]]
        if "color" in clause and len(kept) == clause["count"] and any(one.color is None for one in kept):
            return f"a {clause['class']} was found, but its colour is not known"
    return None
