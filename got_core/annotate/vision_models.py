"""What is known of vision models by their names: the unit of their boxes, the sizes of their pictures.

Belongs here: published families. Not here: settings, which win over this (`config`), resizing (`pictures`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

BoxUnit = Literal["thousandths", "pixels"]


@dataclass(frozen=True, kw_only=True)
class VisionModel:
    """A family of vision models.

    Its processor rounds both sides of a picture to multiples of `factor` (a patch's side times the number of
    patches that are merged along it), and scales one with fewer than `min_pixels` or more than `max_pixels`.
    """

    box_unit: BoxUnit
    """Boxes in thousandths of width and height, or in pixels of the picture behind the processor."""
    factor: int
    min_pixels: int
    max_pixels: int = 28 * 28 * 1280
    """The smallest limit in use: of transformers' Qwen2-VL processor where a checkpoint sets none."""


_FAMILIES = (
    # From model cards and the processors' files. Qwen3.5 and later see pictures without "VL" in their names.
    (r"qwen-?2[._-]?5-?(vl|omni)", VisionModel(box_unit="pixels", factor=28, min_pixels=56 * 56)),
    (r"qwen-?2-?vl|qvq", VisionModel(box_unit="thousandths", factor=28, min_pixels=56 * 56)),
    (
        r"qwen-?3-?(vl|omni)|qwen-?3[._][5-9]",
        VisionModel(box_unit="thousandths", factor=32, min_pixels=256 * 256),
    ),
)

UNKNOWN = VisionModel(box_unit="thousandths", factor=28, min_pixels=56 * 56)
"""What is sent to models that no family claims, once the unit of their boxes is set."""


def known_model(name: str) -> VisionModel | None:
    """The family of a model's name or folder, such as `Qwen/Qwen2.5-VL-7B-Instruct-AWQ`; None: not known.

    The last part of a path that names a family counts.
    """
    for part in reversed(re.split(r"[/\\:]", name.lower())):
        plain = re.sub(r"[\s_-]+", "-", part)
        for pattern, model in _FAMILIES:
            if re.search(pattern, plain):
                return model
    return None
