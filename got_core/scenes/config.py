"""The tasks and kinds that there are, the numbers of the embedded corpus, and those of the scene reader.

Not here: what can be in a scene (`world`), writing it (`corpus`), reading it (`reader`).
"""

from __future__ import annotations

from dataclasses import dataclass

from got_core.scenes.world import PLURALS, RGB

TASKS: tuple[str, ...] = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
"""GenEval's six tasks: the styles of prompts (`prompts` words them)."""

KINDS: tuple[str, ...] = ("add", "remove", "recolour", "replace", "move")
"""Kinds of edits (`edits` applies and words them)."""


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """How much of the world is written."""

    images: int = 4000
    """Pictures in the raw folder, spread evenly over the six prompt styles."""
    edits: int = 1500
    """Edit pairs of one step."""
    edit_kinds: tuple[str, ...] = KINDS
    """Kinds of these pairs, each as often as it stands here; a kind that stands twice is shown twice as
    often. Of several steps, kinds are drawn evenly."""
    multi_turn: float = 0.05
    """Pairs of two or three steps, written behind the others: as a share of their number, rounded down."""
    reasoning: float = 0.0
    """Pairs whose instruction needs reasoning ("remove the largest shape"), written behind all others: as a
    share of `edits`, rounded down. The classes of such instructions come equally often."""
    place_draws: int = 1
    """Boxes drawn for a new or moved object; the one that is most plainly where the words say is taken. With
    many, the same words mean the same place, which is sooner learned; with one, all places that suit."""
    seed: int = 1
    """Picture k depends on the world, the seed and k alone."""
    jpeg_share: float = 0.3
    """Share of the raw pictures written as JPEG (quality 90 to 95, 4:4:4); the rest and all edits are PNG."""
    folder_size: int = 1000
    """Pictures in one subfolder."""

    def __post_init__(self) -> None:
        counts = (self.images, self.edits, self.multi_turn, self.reasoning)
        if min(counts) < 0 or not 0 <= self.jpeg_share <= 1 or min(self.folder_size, self.place_draws) < 1:
            raise ValueError(
                "images, edits, multi_turn and reasoning are >= 0, jpeg_share in [0, 1], folder_size and "
                f"place_draws >= 1: got {self}"
            )
        if not self.edit_kinds or not set(self.edit_kinds) <= set(KINDS):
            raise ValueError(f"edit_kinds are one or more of {', '.join(KINDS)}: got {self.edit_kinds}")

    @property
    def pairs(self) -> int:
        """Edit pairs in all."""
        return self.named_pairs + int(self.edits * self.reasoning)

    @property
    def named_pairs(self) -> int:
        """Edit pairs whose instruction names its objects."""
        return self.edits + int(self.edits * self.multi_turn)


@dataclass(frozen=True, kw_only=True)
class ReaderConfig:
    """Limits of what counts as a scene."""

    shapes: tuple[str, ...] = tuple(PLURALS)
    """Shapes to tell apart."""
    colors: tuple[str, ...] = tuple(RGB)
    """Colours to tell apart."""
    work_side: int = 128
    """Larger pictures are reduced to this side before reading."""
    contrast: float = 16.0
    """CIELAB distance from the background at which a pixel belongs to an object."""
    min_area: int = 24
    """Pixels (at 64 x 64) below which a spot is noise."""
    split_spread: float = 22.0
    """CIELAB spread inside one piece above which it is split by colour."""
    max_border_outliers: float = 0.35
    """Refuse if more of the border than this is off the fitted background."""
    max_background_chroma: float = 22.0
    """Refuse if the background is a colour rather than a grey."""
    max_residual: float = 2.8
    """Refuse if the reading leaves more than this mean difference in levels."""
    max_color_distance: float = 28.0
    """Refuse if a piece's CIELAB distance from every colour name's value is larger."""
    max_objects: int = 12
    """Refuse if there are more pieces."""
    min_fit: float = 0.8
    """Refuse if a piece overlaps its best outline less than this."""


DEFAULT_READER = ReaderConfig()
