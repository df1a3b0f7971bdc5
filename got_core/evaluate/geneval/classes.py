"""Names of the 80 classes that GenEval's detector knows, in the order of its labels.

Belongs here: COCO's classes under GenEval's names, and other spellings of them. Not here: which classes a
list of prompts asks for (`prompts`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

CLASSES = tuple(
    """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant,
    stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe,
    backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat,
    baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl,
    banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch,
    potted plant, bed, dining table, toilet, tv, laptop, computer mouse, tv remote, computer keyboard,
    cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
    hair drier, toothbrush""".replace("\n    ", " ").split(", ")
)
"""In the order of COCO's labels without gaps; three have names of GenEval's own."""

SPELLINGS: Mapping[str, str] = {
    "mouse": "computer mouse",
    "remote": "tv remote",
    "keyboard": "computer keyboard",
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
    "hair dryer": "hair drier",
    "doughnut": "donut",
}
"""COCO's own names, and those of older copies of its list, to GenEval's."""


@lru_cache(4096)
def geneval_name(label: str) -> str:
    """A detector's label under GenEval's name; itself where it has no other."""
    plain = label.strip().replace("_", " ")
    return SPELLINGS.get(plain, plain)


def unlike_labels(labels: Mapping[int, str]) -> list[str]:
    """Where a detector's labels are not COCO's 80 in their order, in words; empty if they are."""
    faults = [
        f"label {number} is {labels.get(number)!r} instead of {name!r}"
        for number, name in enumerate(CLASSES)
        if number not in labels or geneval_name(labels[number]) != name
    ]
    extra = sorted(set(labels) - set(range(len(CLASSES))))
    return faults + [f"label {number} ({labels[number]!r}) is one too many" for number in extra]
