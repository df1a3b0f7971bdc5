"""Which published networks benchmarks measure pictures with, and how pictures are brought to their size.

Belongs here: networks and profiles as data. Not here: loading them (`networks`, `network_folders`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Resize:
    """How a picture is brought to a network's input: its shorter side to `shortest`, then the middle square,
    levels to [0, 1], minus `mean`, by `std`."""

    shortest: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    filter: str = "bicubic"

    def record(self) -> dict[str, Any]:
        """What a protocol holds of it; levels are with the network."""
        return {"shorter_side": self.shortest, "middle_square": self.crop, "filter": self.filter}


@dataclass(frozen=True, kw_only=True)
class PublishedNetwork:
    """One published network. Widths are not part of it: they are in the record of what was loaded."""

    name: str
    """Where it is published."""

    model_type: str
    """Of its `config.json`: `clip`, or `vit` for DINO."""

    patch: int
    image: int
    resize: Resize


_CLIP_LEVELS: dict[str, Any] = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}
_CLIP_RESIZE = Resize(shortest=224, crop=224, **_CLIP_LEVELS)
CLIP_B32 = PublishedNetwork(
    name="openai/clip-vit-base-patch32", model_type="clip", patch=32, image=224, resize=_CLIP_RESIZE
)
CLIP_L14 = PublishedNetwork(
    name="openai/clip-vit-large-patch14", model_type="clip", patch=14, image=224, resize=_CLIP_RESIZE
)
DINO_S16 = PublishedNetwork(
    name="facebook/dino-vits16",
    model_type="vit",
    patch=16,
    image=224,
    resize=Resize(shortest=256, crop=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
)
"""Its resize rule is DINO's own evaluation's and MagicBrush's, not the square one of its
`preprocessor_config.json`."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Networks that one set of figures is measured with."""

    name: str
    clip: PublishedNetwork
    dino: PublishedNetwork | None = None
    """None: there is no DINO figure."""


BASE = Profile(name="clip-vit-b32+dino-vits16", clip=CLIP_B32, dino=DINO_S16)
LARGE = Profile(name="clip-vit-l14", clip=CLIP_L14)
